"""Predictions for landmark files and folders of them: finding the files, running the model, showing what it names."""

import csv
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from rich.markup import escape
from rich.table import Table

from ensemble.tflite.runtime import Model
from trainer.common.errors import UserError, first_line
from trainer.common.fields import printable
from trainer.common.files import atomic_path
from trainer.data.contest import TRAIN_CSV, faults, read_train_csv
from trainer.data.landmark_files import read_raw
from trainer.error_analysis import by_group, confusions, taken_for

LIKELIEST: Final = 5
WORST: Final = 10  # signs whose accuracy is shown
_PLACES: Final = range(1, LIKELIEST + 1)
COLUMNS: Final = (
    *("path", "sequence_id", "sign", "probability", "true_sign"),
    *(f"{name}_{place}" for place in _PLACES for name in ("sign", "probability")),
)


class Source(NamedTuple):
    """A landmark file with its sequence's id and sign, where these are known."""

    path: Path
    sequence_id: str
    sign: str | None
    """The true sign, if a train.csv has it"""
    fault: str = ""
    """Why the line of train.csv cannot be used, if it cannot"""


@dataclass(frozen=True)
class Prediction:
    """The likeliest signs of a file with their probabilities, likeliest first."""

    source: Source
    signs: list[tuple[str, float]]


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """The files among ``paths``, and of each folder the files its train.csv lists, or without one all parquet files.

    Raises UserError for a folder without any, or with a train.csv that cannot be read.
    """
    found: list[Source] = []
    for path in paths:
        if not path.is_dir():
            found.append(Source(path, path.stem, None))
            continue
        if (path / TRAIN_CSV).exists():
            of_folder, what = _listed(path), f"{path / TRAIN_CSV}: lists no sequence"
        else:
            of_folder, what = _files_in(path), f"{path}: holds no parquet files"
        if not of_folder:
            raise UserError(f"{what}; give landmark files of the contest, or its folder")
        found += of_folder
    once: dict[tuple[Path, str], Source] = {}
    for source in found:  # paths that overlap name some twice
        once.setdefault((source.path.absolute(), source.fault), source)
    return list(once.values())


def _files_in(folder: Path) -> list[Source]:
    found = (Path(place) / name for place, _, names in os.walk(folder, followlinks=True) for name in names)
    return [Source(path, path.stem, None) for path in sorted(found) if path.suffix == ".parquet"]


def _listed(folder: Path) -> list[Source]:
    entries = read_train_csv(folder, needed=("path", "sequence_id", "sign"))
    wrong = faults(entries)
    return [
        Source(folder / entry.path, str(entry.sequence_id), entry.sign, wrong.get(place, ""))
        for place, entry in enumerate(entries)
    ]


def predict(model: Model, label_names: list[str] | None, source: Source) -> Prediction:
    """The likeliest signs of one file; without ``label_names`` signs are called by their indices.

    Raises UserError if the file cannot be read, or the model does not give one probability per sign.
    """
    if source.fault:
        raise UserError(f"{source.path}: {source.fault}; mend {TRAIN_CSV}")
    landmarks = read_raw(source.path)
    try:
        probs = model(landmarks)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{source.path}: the model does not run on it ({first_line(error)})") from error
    if probs.ndim != 1 or (label_names and len(probs) != len(label_names)):
        names = f", and the names of {len(label_names)} signs" if label_names else ""
        raise UserError(
            f"{source.path}: the model gives values of shape {list(probs.shape)}{names}; see ensemble.check"
        )
    if not np.isfinite(probs).all():
        raise UserError(f"{source.path}: the model gives values that are not finite")
    best = np.argsort(-probs, kind="stable")[:LIKELIEST]
    return Prediction(source, [(label_names[i] if label_names else str(i), float(probs[i])) for i in best])


def write_csv(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write one line per file; the CSV file appears whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for prediction in predictions:
            source = prediction.source
            cells = [(printable(sign), f"{probability:.6f}") for sign, probability in prediction.signs]
            cells += [("", "")] * (LIKELIEST - len(cells))
            begin = map(printable, (str(source.path), source.sequence_id))
            writer.writerow((*begin, *cells[0], printable(source.sign or ""), *itertools.chain(*cells)))


def to_line(prediction: Prediction) -> str:
    """The path of the file and its likeliest signs, separated by tabs."""
    return "\t".join([printable(str(prediction.source.path)), *_texts(prediction)])


def to_table(predictions: Sequence[Prediction]) -> Table:
    """One row per file, the likeliest sign in bold."""
    table = Table("file", "likeliest signs", show_lines=True)
    for prediction in predictions:
        first, *others = (escape(text.replace(" ", "\N{NO-BREAK SPACE}")) for text in _texts(prediction))
        table.add_row(escape(prediction.source.path.name), "   ".join([f"[bold]{first}[/]", *others]))
    return table


def _texts(prediction: Prediction) -> list[str]:
    return [f"{printable(name)} {prob:.3f}" for name, prob in prediction.signs]


def accuracy(predictions: Sequence[Prediction], label_names: list[str] | None) -> str:
    """A line about the accuracy on files whose sign is known; empty if there are none.

    Files whose sign the model does not know are counted apart.
    """
    known = [prediction for prediction in predictions if prediction.source.sign is not None]
    if not known:
        return ""
    if label_names is None:
        return f"no accuracy: {TRAIN_CSV} tells signs by name, and the model does not hold its signs' names"
    named = [prediction for prediction in known if prediction.source.sign in label_names]
    right = sum(prediction.signs[0][0] == prediction.source.sign for prediction in named)
    if not named:
        return (
            f"no accuracy: the model knows none of the signs that {TRAIN_CSV} tells of these {len(known):,} sequences"
        )
    parts = [f"accuracy {right / len(named):.4f}: {right:,} of {len(named):,} sequences whose sign {TRAIN_CSV} tells"]
    if others := len(known) - len(named):
        parts.append(f"signs that the model does not know: those of {others:,} more")
    return "; ".join([*parts, "people that it was trained on may be among them"])


def worst_signs(predictions: Sequence[Prediction], label_names: list[str] | None) -> Table | None:
    """The signs that are named wrongly most often, and what they are taken for; None if no error is known."""
    places = {name: label for label, name in enumerate(label_names or ())}
    known = [(prediction.source.sign or "", prediction.signs[0][0]) for prediction in predictions]
    pairs = [(places[true], places[named]) for true, named in known if true in places]
    labels, named = np.array(pairs, np.int64).reshape(-1, 2).T
    wrong = [group for group in by_group(labels == named, labels) if group.right < group.count]
    if label_names is None or not wrong:
        return None
    taken = taken_for(confusions(labels, named))
    title = f"the {min(WORST, len(wrong))} least accurate of {len(np.unique(labels))} signs"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("sign", "sequences", "accuracy", "most often taken for"):
        table.add_column(name, justify="right" if name in ("sequences", "accuracy") else "left")
    for group in wrong[:WORST]:
        most = taken[group.key][0]
        cells = (label_names[group.key], f"{group.count:,}", f"{group.accuracy:.3f}")
        other = f"{label_names[most.named]} ({most.count:,})"
        table.add_row(*(escape(printable(cell)) for cell in (*cells, other)))
    return table
