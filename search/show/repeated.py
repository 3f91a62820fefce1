"""Trials that repeat a configuration with another seed or fold, taken together."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from search.record.trials import REPEATED, Row

CAPTION: Final = (
    "means of each configuration's trials, which differ in seed or fold; those of a single trial are left out"
)


@dataclass(frozen=True)
class Configuration:
    """One that several complete trials have."""

    study: str | None
    trials: tuple[int, ...]
    """Their numbers"""
    params: dict[str, Any]
    """But for seed and fold"""
    val_accuracy: float
    """The mean"""
    lowest: float
    highest: float
    val_log_loss: float | None
    """The mean, where it is known of all"""


def configurations(rows: Sequence[Row]) -> list[Configuration]:
    """Configurations of which several complete trials are told, the most accurate in the mean first.

    Folds hold out other people, some of them harder to read: a single trial's accuracy says little beside one of
    another fold.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.state == "COMPLETE" and row.val_accuracy is not None:
            params = tuple((name, value) for name, value in row.params.items() if name not in REPEATED)
            groups.setdefault((row.study, params), []).append(row)
    found = [_together(study, dict(params), its) for (study, params), its in groups.items() if len(its) > 1]
    return sorted(found, key=lambda its: (-its.val_accuracy, its.trials))


def ranked(rows: Sequence[Row]) -> list[Row]:
    """As ``Row.rank``, but trials of one configuration stand together, where its mean stands.

    A fold whose people are easy to read would else lead the table, whatever the configuration.
    """
    places = {
        (its.study, number): (-its.val_accuracy, its.trials[0]) for its in configurations(rows) for number in its.trials
    }

    def key(row: Row) -> tuple[Any, ...]:
        state, worth, number = row.rank
        return state, *places.get((row.study, row.number), (worth, number)), number

    return sorted(rows, key=key)


def _together(study: str | None, params: dict[str, Any], rows: list[Row]) -> Configuration:
    accuracies = [row.val_accuracy or 0.0 for row in rows]
    losses = [row.val_log_loss for row in rows if row.val_log_loss is not None]
    return Configuration(
        study,
        tuple(sorted(row.number for row in rows)),
        params,
        fmean(accuracies),
        min(accuracies),
        max(accuracies),
        fmean(losses) if len(losses) == len(rows) else None,
    )
