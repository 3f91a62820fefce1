"""The contest's evaluator, on files that keep its contract and on files that break one clause each."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble.ship import contract
from ensemble.ship.contract import (
    FEW_LENGTHS,
    LENGTH_QUANTILES,
    LONGEST,
    Check,
    check,
    check_limits,
    contest_lengths,
    to_table,
)
from ensemble.tflite import latency
from ensemble.tflite.graph import Graph, Tensor
from ensemble.tflite.latency import Target
from tests.ensemble.conftest import NUM_SIGNS, written
from trainer.landmarks import NUM_ROWS


def broken(checks: list[Check]) -> list[tuple[str, str]]:
    return [(item.clause, item.found) for item in checks if not item.holds]


def sums(graph: Graph, inputs: Tensor) -> Tensor:
    """float32 [3]: not a number as soon as anything is missing."""
    return graph.reshape(graph.reduce("SUM", graph.reduce("SUM", inputs, 0), 1), 3)


def file(outputs: Callable[[Graph, Tensor], Tensor], shape: tuple[int, ...] = (-1, NUM_ROWS, 3), **names: str) -> bytes:
    graph = Graph()
    inputs = graph.input("inputs", shape)
    return graph.to_bytes({names.get("input", "inputs"): inputs}, {"outputs": outputs(graph, inputs)}, "a test")


def test_a_good_file_keeps_every_clause(small_model: bytes, tmp_path: Path):
    checks = check(written(tmp_path, small_model), NUM_SIGNS)
    assert len(checks) == 8
    assert broken(checks) == []
    (tmp_path / "model.tflite").write_bytes(small_model)
    assert broken(check(tmp_path / "model.tflite", NUM_SIGNS)) == []


def test_how_long_the_lengths_take_is_told_from_one_in_the_middle(small_model: bytes, monkeypatch: pytest.MonkeyPatch):
    times = iter([10.0, 10.5])
    monkeypatch.setattr(contract, "perf_counter", lambda: next(times))
    assert contract.expected_seconds(small_model, range(1, 31)) == 15
    assert contract.expected_seconds(b"no model", range(1, 31)) is None


def test_a_crowded_zip(small_model: bytes, tmp_path: Path):
    path = written(tmp_path, small_model)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "")
    assert broken(check(path, NUM_SIGNS)) == [("the zip holds model.tflite alone", "model.tflite, notes.txt")]


def test_another_number_of_signs(small_model: bytes, tmp_path: Path):
    found = broken(check(written(tmp_path, small_model), 250))
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


def test_lengths_of_every_submission_reach_past_the_longest_that_models_see():
    assert {1, 512, 513, LONGEST} <= set(FEW_LENGTHS)


def test_size_and_time_are_held_against_the_limits(monkeypatch: pytest.MonkeyPatch):
    timed = latency.Latency(mean=50.5, median=1, p95=1)
    monkeypatch.setattr(latency, "measure", lambda *_, **__: timed)
    assert broken(check_limits(b"", Target())) == []
    found = dict(broken(check_limits(bytes(40_000_001), Target(latency_scale=2))))
    assert found == {"at most 40MB": "40MB", "at most 100ms a sequence on average": "101.00ms"}


def test_the_table_has_a_line_per_clause():
    table = to_table([Check("a [clause]", "so it does", True), Check("another", "it does not", False)])
    assert list(table.columns[0].cells) == ["[green]holds[/]", "[bold red]broken[/]"]
    assert next(iter(table.columns[1].cells)) == r"a \[clause]"
