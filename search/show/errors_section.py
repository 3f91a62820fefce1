"""What the models of a study get wrong, in a report: signs, people, confusions, sequences, and how sure they are."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from search.record.held_out import Predictions
from search.show import figures, html
from search.show.html import Line
from trainer.error_analysis import (
    Calibration,
    Confusion,
    Group,
    by_group,
    calibration,
    confusions,
    missed_by_all,
    mixed,
    taken_for,
)

TITLE: Final = "What it gets wrong"
MOST: Final = 20  # lines of each table
_MOST_NAMED: Final = 3  # signs that a sign is taken for
_MARGIN: Final = 0.02  # between confidence and accuracy, of a model that knows how sure it may be
_SIGN_NAMES: Final = ("sign", "sequences", "accuracy", "taken for")
_MISSED_NAMES: Final = ("sequence", "participant", "sign", "named", "probability")


def errors_section(predictions: Predictions | str) -> Iterator[str]:
    """The section; or, where there are no predictions, why not."""
    yield html.heading(TITLE)
    if isinstance(predictions, str):
        yield html.paragraph(predictions if predictions.endswith(".") else f"This cannot be told: {predictions}.")
        return
    labels, signs = predictions.held_out.labels, predictions.signs
    probs = mixed(predictions.members, predictions.counts)
    named = probs.argmax(axis=1)
    right = named == labels
    yield html.paragraph(
        f"Of {predictions.of}: {right.sum():,} of {len(labels):,} held-out sequences are named rightly, "
        f"{right.mean():.4f}. Probabilities are those that the trainings left, before weights are rounded."
    )
    for remark in predictions.remarks:
        yield html.paragraph(remark)
    pairs = confusions(labels, named)
    yield from _signs(by_group(right, labels), pairs, signs)
    yield html.side_by_side(
        [
            "".join(_confusions(pairs, signs)),
            "".join(
                _participants(by_group(right, predictions.held_out.participants), predictions.held_out.folds is None)
            ),
        ]
    )
    yield from _missed(predictions, probs, named)
    yield from _calibration(calibration(probs, labels))


def _signs(groups: list[Group], pairs: list[Confusion], signs: Sequence[str]) -> Iterator[str]:
    taken = taken_for(pairs)

    def lines(some: Iterable[Group]) -> Iterator[Line]:
        for group in some:
            others = taken.get(group.key, [])
            named = [f"{signs[pair.named]} ({pair.count})" for pair in others[:_MOST_NAMED]]
            more = [f"{len(others) - _MOST_NAMED} more"] if len(others) > _MOST_NAMED else []
            yield Line(
                (signs[group.key], str(group.count), f"{group.accuracy:.3f}", ", ".join([*named, *more])),
            )

    texts = frozenset({"sign", "taken for"})
    worst = [group for group in groups if group.right < group.count][:MOST]
    yield html.heading("Signs", level=3)
    if worst:
        yield html.table(_SIGN_NAMES, lines(worst), texts)
        yield html.paragraph(
            f"The {len(worst)} least accurate of {len(groups)} signs, and what they are taken for most often.",
            "caption",
        )
    else:
        yield html.paragraph(f"All sequences of all {len(groups)} signs are named rightly.")
    yield html.details(f"all {len(groups)} signs", html.table(_SIGN_NAMES, lines(groups), texts, searched=True))


def _confusions(pairs: list[Confusion], signs: Sequence[str]) -> Iterator[str]:
    yield html.heading("Confusions that cost most", level=3)
    if not pairs:
        yield html.paragraph("There are none.")
        return
    lines = [Line((signs[pair.true], signs[pair.named], str(pair.count))) for pair in pairs[:MOST]]
    yield html.table(("sign", "named", "sequences"), lines, frozenset({"sign", "named"}))
    shown, total = sum(pair.count for pair in pairs[:MOST]), sum(pair.count for pair in pairs)
    yield html.paragraph(f"{shown:,} of {total:,} errors.", "caption")


def _participants(groups: list[Group], of_one_fold: bool) -> Iterator[str]:
    yield html.heading("Participants", level=3)
    lines = [Line((str(group.key), str(group.count), f"{group.accuracy:.3f}")) for group in groups]
    names = ("participant", "sequences", "accuracy")
    yield html.table(names, lines[:MOST])
    if len(lines) > MOST:
        yield html.details(f"all {len(lines)} participants", html.table(names, lines))
    if of_one_fold:
        yield html.paragraph("Only these were held out; a refit with all folds holds out everybody in turn.", "caption")


def _missed(predictions: Predictions, probs: np.ndarray, named: np.ndarray) -> Iterator[str]:
    held_out, signs, members = predictions.held_out, predictions.signs, len(predictions.members)
    places = missed_by_all(predictions.members, held_out.labels)
    confidence = probs[places, named[places]]
    places = places[np.argsort(-confidence, kind="stable")]
    title = "Sequences that every member gets wrong" if members > 1 else "Sequences that it gets wrong most surely"
    yield html.heading(title, level=3)
    if not len(places):
        yield html.paragraph("There are none.")
        return
    lines = [
        Line(
            (
                *(str(held_out.sequence_ids[place]), str(held_out.participants[place])),
                *(signs[held_out.labels[place]], signs[named[place]], f"{probs[place, named[place]]:.3f}"),
            )
        )
        for place in places[:MOST]
    ]
    yield html.table(_MISSED_NAMES, lines, frozenset({"sign", "named"}))
    which = "The surest" if len(places) > MOST else "All, the surest first:"
    count = f"{len(lines)} of {len(places):,}" if len(places) > MOST else f"{len(places)}"
    hint = " Their labels may be wrong, or the recordings bad." if members > 1 else ""
    yield html.paragraph(f"{which} {count}.{hint}", "caption")


def _calibration(found: Calibration) -> Iterator[str]:
    yield html.heading("Calibration", level=3)
    yield html.figure(figures.reliability(found), "narrow")
    accuracy = float(np.nansum(found.counts * found.accuracy) / found.counts.sum())
    gap = found.mean_confidence - accuracy
    how = "about as sure as it is right" if abs(gap) < _MARGIN else "too sure" if gap > 0 else "not sure enough"
    yield html.paragraph(
        f"It is {how}: the named sign has a probability of {found.mean_confidence:.3f} on average, and is right in "
        f"{accuracy:.3f} of the sequences. The expected calibration error is {found.error:.3f}: how far accuracy and "
        f"probability are apart in {len(found.counts)} bins, on average over sequences (Guo et al. 2017)."
    )
