"""What a study's ensemble, or its best trial, predicted for the sequences that were held out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from search.record.request import Request
from search.record.trials import Row
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.rundir import CONFIG, DONE, VAL_PROBS
from trainer.studydir import TRIALS, VALIDATION, StudyDir
from trainer.validation import Validation

_ROUNDING: Final = 0.01  # of a sum of float16 probabilities
Member = tuple[str, int]
"""A trial's name as selection.json has it, and how often it counts"""


@dataclass(frozen=True)
class Predictions:
    """Probabilities of held-out sequences by the members of an ensemble, or by one trial."""

    of: str
    """Whose they are, such as "trial 7" """
    remarks: tuple[str, ...]
    """What else is to be known of them, in sentences"""
    signs: Sequence[str]
    held_out: Validation
    members: tuple[np.ndarray, ...]
    """float16 [N, signs] each"""
    counts: tuple[int, ...]


class _Reader:
    """Reads the predictions of a study's trials."""

    def __init__(self, study: StudyDir, request: Request, fetch: Callable[[str], None]) -> None:
        self._study, self._fetch = study, fetch
        self.num_signs = len(request.label_names)
        fetch(VALIDATION)
        self.held_out = study.read_validation(self.num_signs, request.validation_sha256)
        self._configs: dict[int, TrainConfig] = {}

    def of_trial(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """A trial's probs [n, signs], and the places of its sequences; None if these are all that are held out.

        Where the folds are held out in turn, the trainings of the same configuration and seed complete each other.
        """
        if self.held_out.folds is None:
            return self._read(number, len(self.held_out.labels)), None
        folds, configs = self.held_out.folds, self._all_configs()
        if number not in configs:
            raise UserError(f"{TRIALS}/{number:04d}/{CONFIG}: there is no such file")
        own = configs[number]
        parts = {other.fold: its for its, other in configs.items() if other.replace(fold=own.fold) == own}
        parts[own.fold] = number
        complete = set(np.unique(folds).tolist()) <= parts.keys()
        places = np.arange(len(folds)) if complete else np.flatnonzero(folds == own.fold)
        probs = np.empty((len(folds), self.num_signs), np.float16)
        for fold in parts if complete else [own.fold]:
            rows = np.flatnonzero(folds == fold)
            probs[rows] = self._read(parts[fold], len(rows))
        return probs[places], None if complete else places

    def _all_configs(self) -> dict[int, TrainConfig]:
        """Of the finished trials, by number."""
        if not self._configs:
            runs = [run for run in self._study.trials() if run.is_done]
            self._configs = {int(run.path.name): run.read_config() for run in runs}
        return self._configs

    def _read(self, number: int, rows: int) -> np.ndarray:
        run = self._study.trial(number)
        where = f"{TRIALS}/{run.path.name}"
        self._fetch(f"{where}/{VAL_PROBS}")
        if not (run.path / VAL_PROBS).exists():
            raise UserError(f"{where}/{VAL_PROBS}: there is no such file")
        probs = run.read_val_probs()
        if (run.path / DONE).exists():
            run.require_own_val_probs()
        if probs.shape != (rows, self.num_signs):
            expected = f"[{rows}, {self.num_signs}] as {VALIDATION} says"
            raise UserError(f"{where}/{VAL_PROBS}: shape {list(probs.shape)}, not {expected}")
        if not (np.abs(probs.sum(axis=1, dtype=np.float32) - 1) < _ROUNDING).all() or (probs < 0).any():
            raise UserError(f"{where}/{VAL_PROBS}: holds rows that are no probabilities")
        return probs


def read_predictions(
    study: StudyDir,
    request: Request,
    best: Row | None,
    selected: Sequence[dict[str, Any]] = (),
    fetch: Callable[[str], None] = lambda _: None,
) -> Predictions:
    """Of the ``selected`` members of an ensemble, or where none are, of the ``best`` trial.

    ``fetch`` is told the name of each file in the study before it is read. Raises UserError with the reason if there
    are none, or files are missing or broken.
    """
    members: list[Member] = [(item["trial"], item["count"]) for item in selected]
    remarks = []
    if members and all(name.isdecimal() for name, _ in members):
        of = "the ensemble" if len(members) > 1 else f"the ensemble, which is trial {int(members[0][0])} alone"
    elif best is None:
        raise UserError("no trial is complete yet")
    else:
        if members:
            remarks.append("The members of the ensemble are trials of several studies: it is judged where it was made.")
        of, members = f"trial {best.number}, the best of those that are complete", [(str(best.number), 1)]
    reader = _Reader(study, request, fetch)
    found = [reader.of_trial(int(name)) for name, _ in members]
    held_out, folds = reader.held_out, reader.held_out.folds
    places = [rows for _, rows in found if rows is not None]
    if len(places) == 1 == len(found):
        held_out = held_out.at(places[0])
        remarks.append("It is judged on its own fold: its configuration was not trained with every other one held out.")
    elif places:
        raise UserError("a member of the ensemble was not trained with every fold held out")
    elif folds is not None:
        remarks.append("Each sequence is predicted by the training that its fold was held out of.")
    return Predictions(
        of=of,
        remarks=tuple(remarks),
        signs=request.label_names,
        held_out=held_out,
        members=tuple(probs for probs, _ in found),
        counts=tuple(count for _, count in members),
    )
