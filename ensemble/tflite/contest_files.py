"""Reads landmark files of the contest as its evaluator does: coordinates alone."""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.common.errors import UserError, first_line
from trainer.landmarks import NUM_ROWS

TRAIN_CSV: Final = "train.csv"
_COORDINATES: Final = ("x", "y", "z")


def read_raw(path: Path) -> np.ndarray:
    """Raw landmarks of a parquet file of the contest: float32 [n, 543, 3], NaN where missing.

    Reads the coordinates alone, as the contest does, and takes the rows to be in its order. Raises UserError if the
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
        raise UserError(f"{path}: cannot be read ({first_line(error)}); give landmark files of the contest") from error
    if len(table) == 0 or len(table) % NUM_ROWS:
        raise UserError(f"{path}: {len(table)} rows are not whole frames of {NUM_ROWS} landmarks")
    try:
        points = np.stack([table[name].to_numpy().astype(np.float32) for name in _COORDINATES], axis=1)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: coordinates that are not numbers ({first_line(error)})") from error
    return points.reshape(-1, NUM_ROWS, 3)
