"""Timing of files."""

import numpy as np
import pytest

from ensemble.tflite import latency
from ensemble.tflite.latency import Latency, Target
from trainer.common.errors import UserError


def test_latency_covers_the_distribution_of_lengths(small_model: bytes):
    lengths = np.array([5] * 90 + [400] * 10)
    typical = latency.typical_lengths(lengths)
    assert len(typical) == latency.LENGTHS
    assert abs(typical.count(400) / len(typical) - 0.1) < 0.02
    measured = latency.measure(small_model, typical, rounds=1)
    assert 0 < measured.median < measured.mean < measured.p95


def test_a_slower_target_takes_as_many_times_longer(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def measured(*_: object, threads: int) -> Latency:
        asked.append(threads)
        return Latency(mean=2.0, median=1.0, p95=4.0)

    monkeypatch.setattr(latency, "measure", measured)
    assert Target(threads=3, latency_scale=2.5).measure(b"", [1]) == Latency(mean=5.0, median=2.5, p95=10.0)
    assert asked == [3]
    assert str(Target(threads=3, latency_scale=2.5)).startswith("LiteRT, 3 threads, ")


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_threads_that_would_crash_litert_are_refused(threads: int):
    with pytest.raises(UserError, match=f"threads: must be from 1 to 256, not {threads}"):
        Target(threads=threads)


@pytest.mark.parametrize("scale", [0.0, 1e-320, -1.0, float("nan"), float("inf"), 1001.0])
def test_scales_are_positive_and_finite(scale: float):
    with pytest.raises(UserError, match=r"latency_scale: must be from 0\.001 to 1000"):
        Target(latency_scale=scale)
