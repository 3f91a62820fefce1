"""A generated sign dataset in the contest's own layout, so that it goes through the same door as the real one.

trainer.synthetic.motion says what is generated, and how it resembles the real data.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from trainer.common.console import console, track
from trainer.common.errors import UserError
from trainer.common.fields import to_count
from trainer.common.files import atomic_path, require_folder, to_path, write_json
from trainer.common.strict import MOST_INT, parse_json, read_text
from trainer.data.contest import SIGN_MAP, TRAIN_CSV, Entry
from trainer.data.landmark_files import INDICES, TYPES
from trainer.landmarks import NUM_ROWS
from trainer.synthetic.motion import make_block, make_participants, make_signs

REQUEST: Final = "synthesis.json"
VERSION: Final = 1  # of what is generated: another version is another dataset
SEQUENCES_PER_BLOCK: Final = 100
FIRST_SEQUENCE_ID: Final = 1_000_000_000

_ROW_ID_ENDS: Final = pa.array([f"{kind}-{index}" for kind, index in zip(TYPES, INDICES, strict=True)])
_TYPES: Final = pa.array(TYPES.tolist())
_INDICES: Final = pa.array(INDICES, pa.int16())
_STEPS: Final = np.array([2**12, 2**12, 2**8], np.float32)  # coordinates are rounded, so that the files stay small


def synthesize(
    out: Path | str, *, num_signs: int = 20, num_participants: int = 12, repeats: int = 8, seed: int = 0
) -> None:
    """Write num_signs x num_participants x repeats sequences into ``out``, in the contest's layout.

    train.csv comes last: without it the folder is unfinished, and the same request finishes it. A folder that the
    same request finished is left as it is. Raises UserError if ``out`` holds anything else or a number is too small.
    The same arguments give the same landmarks.

    Example::

        synthesize("results/data/signs", num_signs=20, num_participants=12, repeats=8)
    """
    out = to_path(out, "out")
    require_folder(out, "out")
    num_signs, num_participants = to_count(num_signs, "num_signs"), to_count(num_participants, "num_participants")
    repeats, seed = to_count(repeats, "repeats"), to_count(seed, "seed", least=0, most=MOST_INT - 1)
    request = {"version": VERSION, "signs": num_signs, "participants": num_participants, "repeats": repeats}
    request["seed"] = seed
    try:
        if _is_finished(out, request):
            console.print(f"{out}: already generated", soft_wrap=True, markup=False)
            return
        write_json(out / REQUEST, request)
        _write(out, np.random.default_rng([VERSION, seed]), num_signs, num_participants, repeats)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error


def _is_finished(out: Path, request: dict[str, int]) -> bool:
    try:
        same = parse_json(read_text(out / REQUEST)) == request
    except (FileNotFoundError, ValueError):
        same = not out.exists() or not any(out.iterdir())
    if not same:
        raise UserError(f"{out}: already holds something else; choose another folder, or remove it")
    return (out / TRAIN_CSV).exists()


def _write(out: Path, rng: np.random.Generator, num_signs: int, num_participants: int, repeats: int) -> None:
    names = [f"sign{number:03}" for number in range(num_signs)]
    write_json(out / SIGN_MAP, {name: label for label, name in enumerate(names)})
    written = _write_sequences(out, rng, names, num_participants, repeats)
    with contextlib.closing(track(written, num_signs * num_participants * repeats, "generating")) as tracked:
        entries = list(tracked)
    order = rng.permutation(len(entries))
    columns = dict(zip(Entry._fields, zip(*(entries[index] for index in order), strict=True), strict=True))
    with atomic_path(out / TRAIN_CSV) as temporary:
        pyarrow.csv.write_csv(pa.table(columns), temporary, pyarrow.csv.WriteOptions(quoting_style="needed"))


def _write_sequences(
    out: Path, rng: np.random.Generator, names: list[str], num_participants: int, repeats: int
) -> Iterator[Entry]:
    """Generate and write every sequence, in the order of participants and repetitions."""
    signs = make_signs(rng, len(names))
    labels = np.tile(np.arange(len(names)), repeats)
    ids = itertools.count(FIRST_SEQUENCE_ID)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for who in make_participants(rng, signs, num_participants):
            folder = f"train_landmark_files/{who.participant_id}"
            (out / folder).mkdir(parents=True, exist_ok=True)
            for first in range(0, len(labels), SEQUENCES_PER_BLOCK):
                block = make_block(rng, who, labels[first : first + SEQUENCES_PER_BLOCK])
                entries = [
                    Entry(f"{folder}/{sequence_id}.parquet", who.participant_id, sequence_id, names[label])
                    for label, sequence_id in zip(block.labels, ids, strict=False)
                ]
                paths = [out / entry.path for entry in entries]
                list(pool.map(write_landmarks, paths, block.first_frame_numbers, block.sequences()))
                yield from entries


def write_landmarks(path: Path, first_frame_number: int, landmarks: np.ndarray) -> None:
    """Write one sequence [n, 543, 3], NaN where missing, as the contest has it: seven columns, 543 rows a frame."""
    numbers = pa.array(
        np.repeat(np.arange(first_frame_number, first_frame_number + len(landmarks)), NUM_ROWS), pa.int16()
    )
    rows = pa.array(np.tile(np.arange(NUM_ROWS), len(landmarks)))
    values = (np.round(landmarks * _STEPS) / _STEPS).astype(np.float64).reshape(-1, 3)
    columns = {
        "frame": numbers,
        "row_id": pc.binary_join_element_wise(numbers.cast(pa.string()), _ROW_ID_ENDS.take(rows), "-"),
        "type": _TYPES.take(rows),
        "landmark_index": _INDICES.take(rows),
        **{axis: pa.array(values[:, index], from_pandas=True) for index, axis in enumerate("xyz")},
    }
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
