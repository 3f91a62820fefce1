"""What a submission makes of sequences: the five likeliest signs of each parquet file.

    python -m ensemble.predict results/STUDY/ensemble/submission.zip FILE.parquet...
    python -m ensemble.predict results/STUDY/ensemble/submission.zip asl-signs --out predictions.csv

Takes a submission.zip or a .tflite file, and landmark files in the contest's layout or folders of them. Of a folder
with a train.csv the files are those it lists, and accuracy is printed. --out writes one line a file: path,
sequence_id, sign, probability. Files that cannot be read are named at the end. Needs neither torch nor TensorFlow.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape
from rich.table import Table

from ensemble.tflite import submission
from ensemble.tflite.runtime import Model
from trainer.common import cli
from trainer.common.console import console, for_tables, track
from trainer.common.errors import UserError
from trainer.common.files import atomic_path, require_writable
from trainer.landmarks import NUM_ROWS

LIKELIEST: Final = 5
MOST_FAULTS: Final = 50  # that are named one by one
COLUMNS: Final = ("path", "sequence_id", "sign", "probability")
TRAIN_CSV: Final = "train.csv"
_COORDINATES: Final = ("x", "y", "z")


class Source(NamedTuple):
    """A landmark file, and what is known of it."""

    path: Path
    sequence_id: str
    sign: str | None
    """The true one, where a train.csv tells it"""


@dataclass(frozen=True)
class Prediction:
    """The likeliest signs of a file with their probabilities, likeliest first."""

    source: Source
    signs: list[tuple[str, float]]


def read_landmarks(path: Path) -> np.ndarray:
    """Raw landmarks of a contest's parquet file: float32 [n, 543, 3], NaN where missing.

    Reads the coordinates alone, as the contest does: rows are taken to be in its order. Raises UserError if the
    file cannot be read, lacks a column, or is not whole frames.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for name in _COORDINATES:
                if (times := names.count(name)) != 1:
                    what = "is missing" if times == 0 else f"is there {times} times"
                    raise UserError(f"{path}: the column {name!r} {what}; give landmark files of the contest")
            table = file.read(list(_COORDINATES))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; give landmark files of the contest") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({_first_line(error)}); give landmark files of the contest") from error
    if len(table) == 0 or len(table) % NUM_ROWS:
        raise UserError(f"{path}: {len(table)} rows are not whole frames of {NUM_ROWS} landmarks")
    try:
        points = np.stack([table[name].to_numpy().astype(np.float32) for name in _COORDINATES], axis=1)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: coordinates that are not numbers ({_first_line(error)})") from error
    return points.reshape(-1, NUM_ROWS, 3)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Files as they are; of each folder those that its train.csv lists, or else all parquet files in it.

    Raises UserError for a folder without any, or with a train.csv that cannot be read.
    """
    found: list[Source] = []
    for path in paths:
        if not path.is_dir():
            found.append(Source(path, path.stem, None))
            continue
        of_folder = list(_listed(path)) if (path / TRAIN_CSV).exists() else _files_in(path)
        if not of_folder:
            raise UserError(f"{path}: holds no parquet files; give landmark files of the contest, or its folder")
        found += of_folder
    return found


def _files_in(folder: Path) -> list[Source]:
    found = (Path(place) / name for place, _, names in os.walk(folder, followlinks=True) for name in names)
    return [Source(path, path.stem, None) for path in sorted(found) if path.suffix == ".parquet"]


def _listed(folder: Path) -> Iterator[Source]:
    try:
        with (folder / TRAIN_CSV).open(newline="") as file:
            for line in csv.DictReader(file):
                yield Source(folder / line["path"], line["sequence_id"], line["sign"])
    except KeyError as error:
        raise UserError(f"{folder / TRAIN_CSV}: no column {error}; it must be the contest's") from error
    except (TypeError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{folder / TRAIN_CSV}: cannot be read ({_first_line(error)})") from error


def predict(model: Model, label_names: list[str] | None, source: Source) -> Prediction:
    """Of one file; without names, signs are called by their indices. Raises UserError if the file cannot be read, or
    the model does not give it one probability a sign."""
    landmarks = read_landmarks(source.path)
    try:
        probs = model(landmarks)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{source.path}: the model does not run on it ({_first_line(error)})") from error
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
    """One line a file, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for prediction in predictions:
            sign, probability = prediction.signs[0]
            writer.writerow((prediction.source.path, prediction.source.sequence_id, sign, f"{probability:.6f}"))


def to_line(prediction: Prediction) -> str:
    """The file and its signs, between tabs."""
    return "\t".join([str(prediction.source.path), *_texts(prediction)])


def to_table(predictions: Sequence[Prediction]) -> Table:
    table = Table("file", "likeliest signs", show_lines=True)
    for prediction in predictions:
        first, *others = (escape(text.replace(" ", "\N{NO-BREAK SPACE}")) for text in _texts(prediction))
        table.add_row(escape(prediction.source.path.name), "   ".join([f"[bold]{first}[/]", *others]))
    return table


def _texts(prediction: Prediction) -> list[str]:
    return [f"{name} {prob:.3f}" for name, prob in prediction.signs]


def accuracy(predictions: Sequence[Prediction], label_names: list[str] | None) -> str:
    """A line on those whose sign is known; empty if there are none. Signs that the model cannot name are told apart."""
    known = [prediction for prediction in predictions if prediction.source.sign is not None]
    if not known:
        return ""
    if label_names is None:
        return f"no accuracy: {TRAIN_CSV} tells signs by name, and the model does not hold its signs' names"
    named = [prediction for prediction in known if prediction.source.sign in label_names]
    right = sum(prediction.signs[0][0] == prediction.source.sign for prediction in named)
    if not named:
        return f"no accuracy: the model knows none of the {len(known):,} signs that {TRAIN_CSV} tells"
    parts = [f"accuracy {right / len(named):.4f}: {right:,} of {len(named):,} sequences whose sign {TRAIN_CSV} tells"]
    if others := len(known) - len(named):
        parts.append(f"signs that the model does not know: {others:,} more")
    return "; ".join([*parts, "people that it was trained on may be among them"])


def main() -> None:
    parser = cli.Parser("ensemble.predict", description="The five likeliest signs of each landmark file.")
    parser.add_argument("model", type=Path, metavar="submission.zip", help="or a .tflite file")
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="landmark files in the contest's layout, or its folder"
    )
    parser.add_argument(
        "--out", type=Path, metavar="CSV", help="write one line a file there, and print the accuracy alone"
    )
    arguments = parser.parse_args()
    if arguments.out is not None:
        if arguments.out.is_dir():
            raise UserError(f"--out {arguments.out}: is a folder; name a file in it, such as predictions.csv")
        require_writable("--out", arguments.out.parent)
    content = submission.read(arguments.model)
    try:
        model = Model(content)
    except UserError as error:
        raise UserError(f"{arguments.model}: {error}") from error
    label_names = submission.read_labels(content)
    sources = find_sources(arguments.paths)
    streams = arguments.out is None and not console.is_terminal
    predictions: list[Prediction] = []
    faults: list[str] = []
    try:
        for source in sources if streams else track(sources, len(sources), "predicting"):
            try:
                predictions.append(predict(model, label_names, source))
            except UserError as error:
                faults.append(str(error))
            else:
                if streams:
                    print(to_line(predictions[-1]))
    finally:  # interrupted too: what was predicted is not lost
        if arguments.out is not None and predictions:
            write_csv(arguments.out, predictions)
            console.print(f"wrote {arguments.out}: {len(predictions):,} sequences", soft_wrap=True, markup=False)
    if not streams and predictions and arguments.out is None:
        for_tables().print(to_table(predictions))
    if line := accuracy(predictions, label_names):
        console.print(line, soft_wrap=True)
    if faults:
        summary = [f"{len(faults):,} of {len(sources):,} files could not be used:"] if len(sources) > 1 else []
        more = [f"and {len(faults) - MOST_FAULTS:,} more"] if len(faults) > MOST_FAULTS else []
        raise UserError("\n  ".join(summary + faults[:MOST_FAULTS] + more))


if __name__ == "__main__":
    cli.run(main)
