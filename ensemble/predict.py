"""What a submission makes of sequences: the five likeliest signs of each parquet file.

    python -m ensemble.predict results/STUDY/ensemble/submission.zip FILE.parquet...

Takes a submission.zip or a .tflite file, and landmark files in the contest's layout. Needs neither torch nor
TensorFlow.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape
from rich.table import Table

from ensemble import submission
from ensemble.runtime import Model
from trainer import cli
from trainer.cli import UserError, console
from trainer.landmarks import NUM_ROWS

LIKELIEST: Final = 5
_COORDINATES: Final = ("x", "y", "z")


def read_landmarks(path: Path) -> np.ndarray:
    """Raw landmarks of a contest's parquet file: float32 [n, 543, 3], NaN where missing.

    Reads the coordinates alone, as the contest does: rows are taken to be in its order. Raises UserError if the
    file cannot be read, lacks a column, or is not whole frames.
    """
    try:
        table = pq.read_table(path, columns=list(_COORDINATES))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; give landmark files of the contest") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({_first_line(error)}); give landmark files of the contest") from error
    if missing := set(_COORDINATES) - set(table.column_names):
        raise UserError(f"{path}: the column {min(missing)!r} is missing; give landmark files of the contest")
    if len(table) == 0 or len(table) % NUM_ROWS:
        raise UserError(f"{path}: {len(table)} rows are not whole frames of {NUM_ROWS} landmarks")
    points = np.stack([table[name].to_numpy().astype(np.float32) for name in _COORDINATES], axis=1)
    return points.reshape(-1, NUM_ROWS, 3)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def predict(model: Model, label_names: list[str] | None, path: Path) -> list[tuple[str, float]]:
    """The likeliest signs of a file with their probabilities, likeliest first; without names, their indices."""
    probs = model(read_landmarks(path))
    return [
        (label_names[i] if label_names else str(i), float(probs[i]))
        for i in np.argsort(-probs, kind="stable")[:LIKELIEST]
    ]


def main() -> None:
    parser = cli.Parser(
        prog="python -m ensemble.predict", description="The five likeliest signs of each landmark file."
    )
    parser.add_argument("model", type=Path, metavar="submission.zip", help="or a .tflite file")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.parquet", help="landmarks in the contest's layout")
    arguments = parser.parse_args()
    content = submission.read(arguments.model)
    try:
        model = Model(content)
    except UserError as error:
        raise UserError(f"{arguments.model}: {error}") from error
    label_names = submission.read_labels(content)
    predictions = ((path, predict(model, label_names, path)) for path in arguments.files)
    if not console.is_terminal:
        for path, signs in predictions:
            print(path, *_texts(signs), sep="\t")
        return
    table = Table("file", "likeliest signs", show_lines=True)
    for path, signs in predictions:
        first, *others = (escape(text.replace(" ", "\N{NO-BREAK SPACE}")) for text in _texts(signs))
        table.add_row(escape(path.name), "   ".join([f"[bold]{first}[/]", *others]))
    console.print(table)


def _texts(signs: list[tuple[str, float]]) -> list[str]:
    return [f"{name} {prob:.3f}" for name, prob in signs]


if __name__ == "__main__":
    cli.run(main)
