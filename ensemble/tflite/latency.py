"""Milliseconds a sequence on LiteRT, warm, over lengths like the validation set's.

Timed as the contest counts it: a call is everything from raw landmarks to probabilities, and as sequences differ in
length, resizing the input and planning memory anew is part of each. The contest's limit is on the mean, which is also
what adds up over members; the median and the 95th percentile are there to be looked at.
"""

import argparse
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from ensemble.tflite.runtime import Model
from trainer.common.fields import positive
from trainer.common.units import number
from trainer.landmarks import NUM_ROWS

LENGTHS: Final = 32  # lengths timed, spread evenly over the distribution
MOST_THREADS: Final = 256  # LiteRT crashes with very many
MOST_SCALE: Final = 1000.0
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
    """What runs the file in the end, as seen from this machine."""

    threads: int = 1
    scale: float = 1.0
    """How many times longer it takes than this machine does"""

    def __str__(self) -> str:
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        slower = "" if self.scale == 1 else f", times {self.scale:g} for the target"
        return f"LiteRT, {threads}, {machine()}{slower}"

    def measure(self, content: bytes, lengths: Sequence[int]) -> Latency:
        """Time a .tflite file here, and scale what it takes."""
        here = measure(content, lengths, threads=self.threads)
        return Latency(mean=self.scale * here.mean, median=self.scale * here.median, p95=self.scale * here.p95)


def add_options(parser: argparse.ArgumentParser) -> None:
    """--threads and --latency-scale: the fields of a Target."""
    parser.add_argument("--threads", type=_threads, default=1, help="that LiteRT may use (default: 1)")
    parser.add_argument(
        "--latency-scale",
        type=_factor,
        default=1.0,
        metavar="X",
        help="how many times longer the target takes than this machine, such as 2.5 (default: 1)",
    )


def _factor(text: str) -> float:
    value = number(text)
    if not 0 < value <= MOST_SCALE:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and up to {MOST_SCALE:g}, not {text}")
    return value


def _threads(text: str) -> int:
    if (threads := positive(text)) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"must be at most {MOST_THREADS}, not {text}")
    return threads


def typical_lengths(lengths: np.ndarray) -> list[int]:
    """LENGTHS lengths that stand for the given ones: quantiles, evenly spaced, in a fixed random order."""
    levels = (np.arange(LENGTHS) + 0.5) / LENGTHS
    chosen = np.quantile(lengths, levels, method="inverted_cdf").astype(int)
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
