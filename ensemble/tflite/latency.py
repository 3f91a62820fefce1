"""Milliseconds a sequence on LiteRT, warm, over lengths like the validation set's.

Timed as the contest counts it: a call goes from raw landmarks to probabilities. As sequences differ in length, each
call also resizes the input and plans memory again. The contest limits the mean, which is also what adds up over
members; the median and the 95th percentile are for the reader.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from ensemble.tflite.runtime import Model
from trainer.common.errors import UserError
from trainer.common.fields import shown
from trainer.common.strict import check_type
from trainer.data import dataset
from trainer.landmarks import NUM_ROWS

LENGTHS: Final = 32  # lengths timed, spread evenly over the distribution
MOST_THREADS: Final = 256  # LiteRT crashes with very many
LEAST_SCALE, MOST_SCALE = 1e-3, 1e3
ROUNDS: Final = 5  # times that each is timed


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds a sequence."""

    mean: float
    median: float
    p95: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ms a sequence on average ({self.median:.2f} median, {self.p95:.2f} 95th percentile)"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The machine that the file is for, as seen from this one.

    Raises UserError if a field is out of its range.
    """

    threads: int = 1
    """Threads that LiteRT may use, 1 to 256"""
    latency_scale: float = 1.0
    """How many times longer the target takes than this machine; 0.001 to 1000"""

    def __post_init__(self) -> None:
        threads: Any = self.threads
        if not isinstance(threads, int) or not 1 <= self.threads <= MOST_THREADS:
            raise UserError(f"must be from 1 to {MOST_THREADS}, not {shown(self.threads)}", field="threads")
        scale: Any = self.latency_scale
        if not isinstance(scale, int | float):
            check_type("latency_scale", scale, float)
        if not LEAST_SCALE <= self.latency_scale <= MOST_SCALE:
            raise UserError(
                f"must be from {LEAST_SCALE:g} to {MOST_SCALE:g}, not {self.latency_scale:g}", field="latency_scale"
            )

    def __str__(self) -> str:
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        slower = "" if self.latency_scale == 1 else f", times {self.latency_scale:g} for the target"
        return f"LiteRT, {threads}, {machine()}{slower}"

    def measure(self, content: bytes, lengths: Sequence[int]) -> Latency:
        """Time a .tflite file here, and scale what it takes."""
        here = measure(content, lengths, threads=self.threads)
        return Latency(
            mean=self.latency_scale * here.mean,
            median=self.latency_scale * here.median,
            p95=self.latency_scale * here.p95,
        )


def typical_lengths(lengths: np.ndarray) -> list[int]:
    """LENGTHS lengths that stand for the given ones: quantiles, evenly spaced, in a fixed random order."""
    chosen = dataset.typical_lengths(lengths, LENGTHS)
    return [int(length) for length in np.random.default_rng(0).permutation(chosen)]


def measure(content: bytes, lengths: Sequence[int], rounds: int = ROUNDS, threads: int = 1) -> Latency:
    """Time a .tflite file on random landmarks of each length; of a length's rounds the fastest counts,
    because what other processes add is not the model's."""
    model = Model(content, threads)
    frames = np.random.default_rng(0).random((max(lengths), NUM_ROWS, 3), dtype=np.float32)
    for length in lengths:  # warm: caches, and the runtime's memory grown to its largest
        model(frames[:length])
    times = np.empty((rounds, len(lengths)))
    for turn in range(rounds):
        for i, length in enumerate(lengths):
            began = perf_counter()
            model(frames[:length])
            times[turn, i] = perf_counter() - began
    milliseconds = 1e3 * times.min(axis=0)
    return Latency(
        mean=float(milliseconds.mean()),
        median=float(np.median(milliseconds)),
        p95=float(np.quantile(milliseconds, 0.95)),
    )


def machine() -> str:
    """Name of the processor, for the reader of a measurement."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
