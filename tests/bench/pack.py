"""Packing speed against pandas, and how it grows with workers.

    python -m tests.bench.pack [--rounds 15] [--sequences 20000] [--workers 1,2]

Two ways from a file to the same normalised array, in turn, on one core: pandas.read_parquet(columns=["x", "y", "z"])
and numpy, and trainer.pack's, pyarrow of x, y and the two columns that tell the order of the rows. Every figure is the
median of the rounds, in processor seconds; a ratio is that of two sides in one round. Then the whole command, from a
folder of links to those files, with each number of workers. The files are the sample's byte-for-byte originals; where
there is no sample, generated ones written in the originals' encoding.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from trainer.common import cli
from trainer.common.console import console
from trainer.data.contest import SIGN_MAP, TRAIN_CSV
from trainer.data.landmark_files import read_landmarks
from trainer.data.normalize import normalize
from trainer.data.packing import pack
from trainer.data.positions import HEAD
from trainer.landmarks import ROWS
from trainer.synthetic.generate import synthesize

SAMPLE = Path(__file__).parents[3] / "shared" / "asl-signs-sample"


def by_pandas(path: Path) -> np.ndarray:
    """As the contest's own example reads a file, then what normalisation says, in numpy: float32 [n, 85, 2]."""
    table = pd.read_parquet(path, columns=["x", "y", "z"])
    points = table.to_numpy().reshape(-1, 543, 3)[:, ROWS, :2].astype(np.float32)
    return np.nan_to_num(points - np.nanmean(points[:, HEAD].reshape(-1, 2), axis=0))


def ours(path: Path) -> np.ndarray:
    return normalize(read_landmarks(path))


SIDES: dict[str, Callable[[Path], np.ndarray]] = {"pandas": by_pandas, "ours": ours}


def original_files(scratch: Path) -> tuple[list[Path], bool]:
    """Files in the originals' encoding, and whether they are originals."""
    if (SAMPLE / "provenance.csv").exists():
        with (SAMPLE / "provenance.csv").open() as file:
            return [SAMPLE / row["path"] for row in csv.DictReader(file) if row["source"] == "original_bytes"], True
    synthesize(scratch / "generated", num_signs=5, num_participants=6, repeats=1)
    rng = np.random.default_rng(0)
    paths = sorted((scratch / "generated").rglob("*.parquet"))
    for path in paths:
        table = pq.read_table(path)
        for index, axis in enumerate("xyz", start=4):
            values = (table[axis].to_numpy() + rng.normal(0, 1e-4, len(table))).astype(np.float32).astype(np.float64)
            table = table.set_column(index, axis, pa.array(values, from_pandas=True))
        pq.write_table(table, path, version="1.0", compression="snappy", max_rows_per_page=1_000_000)
    return paths, False


def per_core(files: list[Path], rounds: int) -> dict[str, np.ndarray]:
    """Processor seconds of each side in each round: float64 [rounds]. The sides take turns."""
    for path in files:
        for read in SIDES.values():
            np.testing.assert_allclose(read(path), by_pandas(path), atol=1e-6)  # and all are warm
    seconds = {name: np.zeros(rounds) for name in SIDES}
    for turn in range(rounds):
        for name, read in SIDES.items():
            began = time.process_time()
            for path in files:
                read(path)
            seconds[name][turn] = time.process_time() - began
    return seconds


def whole_command(files: list[Path], sequences: int, workers: int, scratch: Path) -> float:
    """Sequences a second of wall time of trainer.pack, start of the workers and checksums included."""
    source = scratch / "source"
    if not source.exists():
        once = scratch / "once"
        for folder in (source, once):
            folder.mkdir()
        for number, path in enumerate(files):
            (once / f"{number}.parquet").symlink_to(path)
        (source / SIGN_MAP).write_text(json.dumps({"sign": 0}))
        lines = ["path,participant_id,sequence_id,sign"]
        for number in range(sequences):
            again, which = divmod(number, len(files))
            if which == 0:
                (source / str(again)).symlink_to(once)
            lines.append(f"{again}/{which}.parquet,{number % 21},{number},sign")
        (source / TRAIN_CSV).write_text("\n".join(lines) + "\n")
    began = time.perf_counter()
    pack(source, scratch / f"packed-{workers}", workers=workers)
    return sequences / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pack", description="Packing speed against pandas.")
    parser.add_argument("--rounds", type=int, default=15, help="default %(default)s")
    parser.add_argument("--sequences", type=int, default=20_000, help="of the whole command; default %(default)s")
    cores = os.cpu_count() or 1
    default = ",".join(str(2**power) for power in range(cores.bit_length()))
    parser.add_argument("--workers", default=default, help="default %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        files, originals = original_files(scratch)
        kind = "original" if originals else "generated"
        if not originals:
            console.print(f"no sample at {SAMPLE}: generated files instead", soft_wrap=True)
        seconds = per_core(files, options.rounds)
        rates = {name: len(files) / median(taken) for name, taken in seconds.items()}
        ratios = {name: median(seconds["pandas"] / taken) for name, taken in seconds.items()}
        table = Table(title=f"{len(files)} {kind} files, sequences a second and core", title_justify="left")
        for heading in ("", "sequences/s", "ms each", "times pandas"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, rate in rates.items():
            table.add_row(name, f"{rate:,.0f}", f"{1000 / rate:.3f}", f"{ratios[name]:.2f}")
        console.print(table)
        counts = [int(count) for count in options.workers.split(",")]
        scaling = {count: whole_command(files, options.sequences, count, scratch) for count in counts}
        for count, rate in scaling.items():
            times = f", {rate / scaling[counts[0]]:.2f} times {counts[0]}" if count != counts[0] else ""
            console.print(f"trainer.pack with {count} workers: {rate:,.0f} sequences/s{times}")
    report = {
        "bench": "pack",
        "original_files": originals,
        "sequences_per_second_per_core": {name: round(rate, 1) for name, rate in rates.items()},
        "speedup": round(ratios["ours"], 2),
        "workers": {count: round(rate, 1) for count, rate in scaling.items()},
        "two_workers": round(scaling[2] / scaling[1], 2) if {1, 2} <= scaling.keys() else None,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
