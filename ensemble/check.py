"""The contest's evaluator, played on a submission.zip before it is uploaded: one line a clause of the contract.

    python -m ensemble.check results/STUDY/ensemble/submission.zip

Takes any submission.zip, whatever made it. Size and time are held against the contest's limits; the time is this
machine's, over lengths like the contest's (--threads and --latency-scale as in ensemble.select).
"""

import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from ensemble.budget import CONTEST, FORMATS, Budget
from ensemble.tflite import latency, submission
from ensemble.tflite.latency import Target
from ensemble.tflite.runtime import INPUT, INPUT_SHAPE, OUTPUT, SIGNATURE, Model
from ensemble.tflite.submission import MODEL
from trainer.common import cli
from trainer.common.console import console, for_tables, track
from trainer.common.errors import UserError
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
    """Hold a submission.zip, or a .tflite file, against the contract: its layout, its signature, and its outputs for
    sequences of these lengths and for such as lack the face, the hands or everything.

    Raises UserError if the file cannot be read. Size and time are in ``check_limits``.
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


def check_limits(content: bytes, target: Target) -> list[Check]:
    """Hold a .tflite file against the contest's limits of size and of time a sequence, on average over its lengths."""
    limits = Budget.parse(CONTEST)
    size, milliseconds = (FORMATS[name](getattr(limits, name)) for name in ("size", "latency"))
    try:
        mean = target.measure(content, contest_lengths()).mean
        found = f"{mean:.2f}ms"
    except (RuntimeError, ValueError) as error:
        mean, found = math.inf, f"does not run ({str(error).splitlines()[0]})"
    return [
        Check(f"at most {size}", FORMATS["size"](len(content)), len(content) <= limits.size),
        Check(f"at most {milliseconds} a sequence on average", found, mean <= limits.latency),
    ]


def contest_lengths() -> list[int]:
    """Lengths in frames that stand for the contest's."""
    return latency.typical_lengths(lengths_at(np.linspace(0, 1, 10_001)))


def lengths_at(shares: np.ndarray) -> np.ndarray:
    """Frames that so large a share of the contest's sequences has at most, log-linear between the quantiles that are
    known: float64 of the same shape, whole numbers."""
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
        return f"does not run ({str(error).splitlines()[0]})"
    if output.shape != (num_signs,) or output.dtype != np.float32:
        return f"{output.dtype}{list(output.shape)}"
    return "" if np.isfinite(output).all() else "a value that is not finite"


def _to_table(checks: Sequence[Check]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "clause", "found"):
        table.add_column(name, overflow="fold")
    for item in checks:
        mark = "[green]holds[/]" if item.holds else "[bold red]broken[/]"
        table.add_row(mark, escape(item.clause), escape(item.found))
    return table


def main() -> None:
    parser = cli.Parser("ensemble.check", description="Play the contest's evaluator on a submission.")
    parser.add_argument("path", type=Path, metavar="submission.zip", help="or a .tflite file")
    latency.add_options(parser)
    arguments = parser.parse_args()
    content = submission.read(arguments.path)
    labels = submission.read_labels(content)
    lengths = range(1, LONGEST + 1)
    checks = check(
        arguments.path,
        CONTEST_SIGNS if labels is None else len(labels),
        track(lengths, len(lengths), "running every length"),
    )
    if any(item.clause == RUNS and item.holds for item in checks):
        target = Target(threads=arguments.threads, scale=arguments.latency_scale)
        checks += check_limits(content, target)
        console.print(f"timed on {target}", soft_wrap=True)
    for_tables().print(_to_table(checks))
    if labels is not None and len(labels) != CONTEST_SIGNS:
        console.print(
            f"[yellow]held against the {len(labels)} signs whose names the file holds; the contest has "
            f"{CONTEST_SIGNS}, and takes no other number[/]",
            soft_wrap=True,
        )
    if broken := sum(not item.holds for item in checks):
        raise UserError(f"{arguments.path}: breaks {broken} of {len(checks)} clauses of the contest's contract")


if __name__ == "__main__":
    cli.run(main)
