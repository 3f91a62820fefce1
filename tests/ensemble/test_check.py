"""The contest's evaluator, on files that keep its contract and on files that break one clause each."""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble.check import FEW_LENGTHS, LENGTH_QUANTILES, LONGEST, Check, check, contest_lengths, main
from ensemble.tflite import export, latency, submission
from ensemble.tflite.graph import Graph, Tensor
from tests.ensemble.conftest import random_classifier
from trainer.common.console import console
from trainer.common.errors import UserError
from trainer.config import ModelConfig
from trainer.landmarks import NUM_ROWS

NUM_SIGNS = 6


@pytest.fixture(scope="module")
def model() -> bytes:
    classifier = random_classifier(ModelConfig(num_heads=1, num_layers=1, num_signs=NUM_SIGNS))
    weights = {name: weight.numpy() for name, weight in classifier.state_dict().items()}
    return submission.with_labels(
        export.build([export.Member(classifier.config, weights)]), [f"sign{i}" for i in range(NUM_SIGNS)]
    )


def written(path: Path, model: bytes) -> Path:
    submission.write(path / "submission.zip", model)
    return path / "submission.zip"


def broken(checks: list[Check]) -> list[tuple[str, str]]:
    return [(item.clause, item.found) for item in checks if not item.holds]


def sums(graph: Graph, inputs: Tensor) -> Tensor:
    """float32 [3]: not a number as soon as anything is missing."""
    return graph.reshape(graph.reduce("SUM", graph.reduce("SUM", inputs, 0), 1), 3)


def file(outputs: Callable[[Graph, Tensor], Tensor], shape: tuple[int, ...] = (-1, NUM_ROWS, 3), **names: str) -> bytes:
    graph = Graph()
    inputs = graph.input("inputs", shape)
    return graph.to_bytes({names.get("input", "inputs"): inputs}, {"outputs": outputs(graph, inputs)}, "a test")


def test_a_good_file_keeps_every_clause(model: bytes, tmp_path: Path):
    checks = check(written(tmp_path, model), NUM_SIGNS)
    assert len(checks) == 8
    assert broken(checks) == []
    (tmp_path / "model.tflite").write_bytes(model)
    assert broken(check(tmp_path / "model.tflite", NUM_SIGNS)) == []


def test_a_crowded_zip(model: bytes, tmp_path: Path):
    path = written(tmp_path, model)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "")
    assert broken(check(path, NUM_SIGNS)) == [("the zip holds model.tflite alone", "model.tflite, notes.txt")]


def test_another_number_of_signs(model: bytes, tmp_path: Path):
    found = broken(check(written(tmp_path, model), 250))
    assert len(found) == 4
    assert all("[250]" in clause and f"float32[{NUM_SIGNS}]" in what for clause, what in found)


def test_outputs_that_are_not_numbers(tmp_path: Path):
    found = dict(broken(check(written(tmp_path, file(sums)), 3, lengths=[7, 8, 9])))
    assert found["gives float32 [3], all finite, for 3 lengths up to 9 frames"] == (
        "7 frames: a value that is not finite (and 2 more lengths)"
    )
    assert len(found) == 4


def test_another_signature(tmp_path: Path):
    found = broken(check(written(tmp_path, file(sums, input="frames")), 3))
    assert len(found) == 1
    assert "frames" in found[0][1]
    assert "not a TFLite file" in broken(check(written(tmp_path, b"nonsense"), 3))[0][1]


def test_a_length_that_cannot_change(tmp_path: Path):
    def first_frames(graph: Graph, inputs: Tensor) -> Tensor:
        nothing = graph.elementwise("MUL", inputs, graph.constant(np.zeros(1, np.float32)))
        return graph.reshape(graph.reduce("MEAN", graph.reshape(nothing, 21, NUM_ROWS * 3), 1), 21)

    found = dict(broken(check(written(tmp_path, file(first_frames, (21, NUM_ROWS, 3))), 21)))
    assert found["takes float32 [n, 543, 3]"] == "float32[21, 543, 3]"
    assert any("1 frames: does not run" in what for what in found.values())


@pytest.mark.parametrize(
    ("version", "says"),
    [("2.15.0", "from 2.15.0"), ("", "does not say from which on"), ("2.9-rc0", "does not say from which on")],
)
def test_a_newer_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, says: str):
    monkeypatch.setattr(Graph, "min_runtime_version", version)
    assert ("runs on TFLite 2.9.1", says) in broken(check(written(tmp_path, file(sums)), 3))


def test_contest_lengths_are_those_of_its_data():
    lengths = np.array(contest_lengths())
    for share, frames in LENGTH_QUANTILES[1:5]:
        assert np.quantile(lengths, share) == pytest.approx(frames, rel=0.2)
    assert 30 < lengths.mean() < 40  # of all it is 38


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["check", *map(str, arguments)])
    monkeypatch.setattr("ensemble.check.LONGEST", 30)
    monkeypatch.setattr(console, "width", 200)
    main()


def test_the_command(model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run(monkeypatch, written(tmp_path, model), "--latency-scale", "2.5", "--threads", "2")
    printed = capsys.readouterr().out
    assert f"gives float32 [{NUM_SIGNS}], all finite, for 30 lengths up to 30 frames" in printed
    assert "LiteRT, 2 threads" in printed
    assert "times 2.5 for the target" in printed
    assert f"the {NUM_SIGNS} signs whose names the file holds; the contest has 250" in printed
    assert "broken" not in printed


def test_the_command_holds_time_against_the_limit(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    timed = latency.Latency(mean=50.5, median=1, p95=1)
    monkeypatch.setattr(latency, "measure", lambda *_, **__: timed)
    run(monkeypatch, written(tmp_path, model))
    with pytest.raises(UserError, match="breaks 1 of 10 clauses"):
        run(monkeypatch, written(tmp_path, model), "--latency-scale", "2")
    assert "101.00ms" in capsys.readouterr().out


def test_the_command_holds_size_and_time_against_the_limits_whatever_else_is_broken(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = written(tmp_path, model)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "")
    with pytest.raises(UserError, match="breaks 1 of 10 clauses"):
        run(monkeypatch, path)
    assert "a sequence on average" in capsys.readouterr().out


@pytest.mark.parametrize("threads", ["0", "100000", "two"])
def test_threads_must_be_as_many_as_litert_can_have(monkeypatch: pytest.MonkeyPatch, threads: str):
    with pytest.raises(UserError, match="--threads"):
        run(monkeypatch, "submission.zip", f"--threads={threads}")


@pytest.mark.parametrize("scale", ["0", "-1", "inf", "nan", "fast", "1e308"])
def test_a_scale_must_be_a_positive_number(monkeypatch: pytest.MonkeyPatch, scale: str):
    with pytest.raises(UserError, match="--latency-scale"):
        run(monkeypatch, "submission.zip", f"--latency-scale={scale}")


def test_lengths_of_every_submission_reach_past_the_longest_that_models_see():
    assert {1, 512, 513, LONGEST} <= set(FEW_LENGTHS)
