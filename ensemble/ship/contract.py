"""The contest's contract: what its evaluator asks of a submission.zip, one clause at a time.

Works on any submission.zip or .tflite file, whatever made it.
"""

import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from ensemble.budget import CONTEST, COSTS, Budget
from ensemble.tflite import latency, submission
from ensemble.tflite.latency import Target
from ensemble.tflite.runtime import INPUT, INPUT_SHAPE, OUTPUT, SIGNATURE, Model
from ensemble.tflite.submission import MODEL
from trainer.common.errors import UserError, first_line
from trainer.landmarks import FACE_ROWS, LEFT_HAND_ROWS, NUM_ROWS, RIGHT_HAND_ROWS

CONTEST_RUNTIME: Final = (2, 9, 1)
CONTEST_SIGNS: Final = 250
LONGEST: Final = 600  # frames; the contest's longest sequence has 537
RUNS: Final = f"runs, with signature {SIGNATURE}: {INPUT} -> {OUTPUT}"
FEW_LENGTHS: Final = (1, 2, 3, 21, 38, 139, 511, 512, 513, 537, LONGEST)
LENGTH_QUANTILES: Final = ((0, 2), (0.25, 11), (0.5, 21), (0.75, 43), (0.95, 139), (0.99, 224), (1, 537))
"""Share of the contest's 94,477 sequences that have at most so many frames"""


@dataclass(frozen=True)
class Check:
    """One clause of the contract."""

    clause: str
    found: str
    holds: bool


def check(path: Path, num_signs: int, lengths: Iterable[int] = FEW_LENGTHS) -> list[Check]:
    """Hold a submission.zip, or a .tflite file, against the contract.

    Checked are its layout, its signature, and its outputs: for a sequence of each of ``lengths`` frames, and for
    sequences without a face, without hands, and without any landmark. ``check_limits`` checks size and time. Raises
    UserError if the file cannot be read.

    >>> [item.clause for item in check(Path("submission.zip"), 250) if not item.holds]  # doctest: +SKIP
    []
    """
    content = submission.read(path)
    checks = []
    if path.suffix != ".tflite":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        checks.append(Check(f"the zip holds {MODEL} alone", ", ".join(names), names == [MODEL]))
    try:
        model = Model(content)
    except UserError as error:
        return [*checks, Check(RUNS, str(error), False)]
    version = submission.min_runtime_version(content)
    from_version = "does not say from which on" if version is None else f"from {'.'.join(map(str, version))}"
    takes = f"{model.input_dtype}{list(model.input_shape)}"
    return [
        *checks,
        Check(RUNS, "so it does", True),
        Check("runs on TFLite 2.9.1", from_version, version is not None and version <= CONTEST_RUNTIME),
        Check("takes float32 [n, 543, 3]", takes, takes == f"float32{list(INPUT_SHAPE)}"),
        *_check_outputs(model, num_signs, lengths),
    ]


def expected_seconds(content: bytes, lengths: Sequence[int]) -> float | None:
    """About how long a .tflite file takes for a sequence of each length in frames, from the middle one of them.

    None if it does not run.
    """
    frames = np.zeros((sorted(lengths)[len(lengths) // 2], NUM_ROWS, 3), dtype=np.float32)
    try:
        model = Model(content)
        model(frames)  # warm
        began = perf_counter()
        model(frames)
    except (UserError, RuntimeError, ValueError):
        return None
    return len(lengths) * (perf_counter() - began)


def check_limits(content: bytes, target: Target) -> list[Check]:
    """Hold the content of a .tflite file against the contest's limits: its size, and its mean time a sequence."""
    limits = Budget.parse(CONTEST)
    size, milliseconds = (COSTS[name].show(limits[name]) for name in ("size", "latency"))
    try:
        mean = target.measure(content, contest_lengths()).mean
        found = f"{mean:.2f}ms"
    except (RuntimeError, ValueError) as error:
        mean, found = math.inf, f"does not run ({first_line(error)})"
    return [
        Check(f"at most {size}", COSTS["size"].show(len(content)), len(content) <= limits["size"]),
        Check(f"at most {milliseconds} a sequence on average", found, mean <= limits["latency"]),
    ]


def contest_lengths() -> list[int]:
    """Lengths in frames, distributed like those of the contest's sequences."""
    return latency.typical_lengths(lengths_at(np.linspace(0, 1, 10_001)))


def lengths_at(shares: np.ndarray) -> np.ndarray:
    """Quantiles of the contest's lengths in frames, for shares from 0 to 1: float64 of the same shape, whole numbers.

    They are log-linear between the known quantiles.
    """
    known, frames = np.array(LENGTH_QUANTILES).T
    lengths: np.ndarray = np.exp(np.interp(shares, known, np.log(frames))).round()
    return lengths


def _check_outputs(model: Model, num_signs: int, lengths: Iterable[int]) -> Iterator[Check]:
    rng = np.random.default_rng(0)
    faults, count, longest = [], 0, 0
    for length in lengths:
        frames = rng.random((length, NUM_ROWS, 3), dtype=np.float32)
        frames[rng.random(length) < 0.5, LEFT_HAND_ROWS[0] : LEFT_HAND_ROWS[-1] + 1] = np.nan
        count, longest = count + 1, max(longest, length)
        if fault := _fault(model, frames, num_signs):
            faults.append(f"{length} frames: {fault}")
    kind = f"gives float32 [{num_signs}], all finite"
    found = faults[0] + f" (and {len(faults) - 1} more lengths)" * (len(faults) > 1) if faults else "so it does"
    yield Check(f"{kind}, for {count} lengths up to {longest} frames", found, not faults)
    missing: dict[str, list[Sequence[int]]] = {
        "without a face": [FACE_ROWS],
        "without hands": [LEFT_HAND_ROWS, RIGHT_HAND_ROWS],
        "all missing": [range(NUM_ROWS)],
    }
    for what, groups in missing.items():
        frames = rng.random((21, NUM_ROWS, 3), dtype=np.float32)
        for rows in groups:
            frames[:, list(rows)] = np.nan
        fault = _fault(model, frames, num_signs)
        yield Check(f"{kind}, for frames {what}", fault or "so it does", not fault)


def _fault(model: Model, frames: np.ndarray, num_signs: int) -> str:
    """What is wrong with the output for a sequence float32 [n, 543, 3]; empty if nothing is."""
    try:
        output = model(frames)
    except (RuntimeError, ValueError) as error:
        return f"does not run ({first_line(error)})"
    if output.shape != (num_signs,) or output.dtype != np.float32:
        return f"{output.dtype}{list(output.shape)}"
    return "" if np.isfinite(output).all() else "a value that is not finite"


def to_table(checks: Sequence[Check]) -> Table:
    """One line a clause: whether it holds, and what was found."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "clause", "found"):
        table.add_column(name, overflow="fold")
    for item in checks:
        mark = "[green]holds[/]" if item.holds else "[bold red]broken[/]"
        table.add_row(mark, escape(item.clause), escape(item.found))
    return table
