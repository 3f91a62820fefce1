"""What candidates cost and predict: measured on their files, once, and kept where that can be."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble import budget
from ensemble.candidates import measure as measure_module
from ensemble.candidates.measure import COSTS, PROBS, keeping_roots, measure
from ensemble.candidates.opening import open_pool, open_pools
from ensemble.tflite import export, latency
from ensemble.tflite.latency import Target
from tests.ensemble.candidates.test_opening import other_trials, twice
from tests.ensemble.conftest import change_fields, claim_other_data
from tests.ensemble.tflite.test_export import predict
from trainer.common.errors import StorageError
from trainer.common.storage import Remote
from trainer.model.classifier import SignClassifier
from trainer.rundir import RunDir
from trainer.studydir import Folder


def torch_probs(run: RunDir, raws: list[np.ndarray]) -> np.ndarray:
    """What the trial's model gives each sequence."""
    model = SignClassifier(run.read_config().model)
    model.load_state_dict(run.read_weights())
    return np.stack([predict(model, raw) for raw in raws])


def test_candidates_are_selected_by_what_their_own_file_predicts(copy: Path):
    whole = open_pool(copy)
    priced = measure(whole, ["float32", "float16", "int8"], Target())
    pool = priced.pool
    sizes, parameters = priced.costs_of("size"), priced.costs_of("parameters")
    assert [candidate.precision for candidate in pool.candidates] == 4 * ["float32", "float16", "int8"]
    for larger, smaller in ((0, 1), (1, 2)):
        assert (sizes[smaller::3] < 0.8 * sizes[larger::3]).all()
        assert (parameters[smaller::3] == parameters[larger::3]).all()
    raws = list(whole.raw_sequences(range(len(whole.validation.labels))))
    for candidate, probs in zip(pool.candidates, pool.val_probs, strict=True):
        assert candidate.val_accuracy == np.mean(probs.argmax(axis=1) == whole.validation.labels)
        if candidate.precision == "float32":
            np.testing.assert_array_equal(probs, candidate.run.read_val_probs())
        else:
            expected = torch_probs(candidate.run, raws)
            assert np.mean(probs.argmax(axis=1) == expected.argmax(axis=1)) >= 0.9
            assert 0 < np.abs(probs - expected).max() < (2e-3 if candidate.precision == "float16" else 0.1)


@pytest.mark.parametrize("change", [lambda study: change_fields(study / "study.json", data="gone"), claim_other_data])
def test_without_its_dataset_a_study_has_no_int8_candidates(
    copy: Path, change: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
):
    change(copy)
    pool = measure(open_pool(copy), ["float16", "int8"], Target()).pool
    assert {candidate.precision for candidate in pool.candidates} == {"float16"}
    assert "packed dataset" in pool.left_out["0000 int8"]
    for candidate, probs in zip(pool.candidates, pool.val_probs, strict=True):
        np.testing.assert_array_equal(probs, candidate.run.read_val_probs())
    assert "4 files cannot be run; as their precision is close" in capsys.readouterr().out


@pytest.mark.parametrize("data", ["there", "gone"])
def test_weights_that_overflow_are_left_out(copy: Path, data: str):
    """Of a model that predicts the same: its linear units are larger, and what they are multiplied by is smaller."""
    run = RunDir(copy / "trials" / "0001")
    weights = run.read_weights()
    gate, up = weights["blocks.0.gate_up.weight"].chunk(2)
    changed = {
        "blocks.0.gate_up.weight": torch.cat([gate, up * 2**20]),
        "blocks.0.down.weight": weights["blocks.0.down.weight"] / 2**20,
    }
    run.write_weights(weights | changed)
    run.write_result(run.read_result())
    whole = open_pool(copy)
    pool = measure(dataclasses.replace(whole, data=whole.data if data == "there" else data), ["float16"], Target()).pool
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0002", "0003"]
    assert pool.left_out["0001"].startswith("weights.safetensors: weights too large for float16")


def test_a_file_that_predicts_too_little_of_what_its_trial_does_is_left_out(
    copy: Path, monkeypatch: pytest.MonkeyPatch
):
    coarse = dataclasses.replace(export.PRECISIONS["int8"], largest_deviation=0.037)
    monkeypatch.setitem(export.PRECISIONS, "int8", coarse)
    pool = measure(open_pool(copy), ["float16", "int8"], Target()).pool
    left_out = {name: reason for name, reason in pool.left_out.items() if name != "0004"}
    assert 0 < len(left_out) < 4
    assert len(pool.candidates) == 8 - len(left_out)
    for name, reason in left_out.items():
        assert name.endswith(" int8")
        assert re.fullmatch(
            r"its int8 file does not predict what the trial does \(they deviate by .*e-02, .* 4e-02\)", reason
        )


def test_a_dataset_that_cannot_be_reached_ends_it(copy: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def refuse(where: str) -> None:
        asked.append(where)
        raise StorageError(f"{where}: cannot be reached")

    monkeypatch.setattr("ensemble.candidates.pool.PackedDataset.open", refuse)
    with pytest.raises(StorageError, match="s3://b/data: cannot be reached"):
        measure(dataclasses.replace(open_pool(copy), data="s3://b/data"), ["float16", "int8"], Target())


@pytest.mark.parametrize(
    "change",
    [lambda x: x * np.nan, lambda x: x + 0.1, lambda x: x + np.float16(1e-3), lambda x: x[:, ::-1], lambda x: x[::-1]],
)
def test_kept_predictions_that_are_broken_are_made_anew(copy: Path, change: Callable[[np.ndarray], np.ndarray]):
    whole = [np.array(probs) for probs in measure(open_pool(copy), ["int8"], Target()).pool.val_probs]
    kept = sorted((copy / PROBS).glob("*.npy"))
    kept[0].write_bytes(b"")
    kept[1].write_bytes(b"nonsense")
    np.save(kept[2], np.load(kept[2])[1:])
    np.save(kept[3], change(np.load(kept[3])))
    for found, probs in zip(measure(open_pool(copy), ["int8"], Target()).pool.val_probs, whole, strict=True):
        np.testing.assert_array_equal(found, probs)


def test_costs_are_measured_once(copy: Path, monkeypatch: pytest.MonkeyPatch):
    priced = measure(open_pool(copy), ["float16"], Target())
    assert priced.costs.shape == (4, len(budget.COSTS))
    assert (priced.costs_of("parameters") > 0).all()
    assert (priced.costs_of("size") > 0).all()
    assert (
        priced.costs_of("latency") >= 0
    ).all()  # a small model may take no longer than the shared part, within noise
    assert priced.base["latency"] > 0
    assert (priced.costs_of("members") == 1).all()
    assert priced.base["members"] == 0
    monkeypatch.setattr(latency, "measure", lambda *_, **__: pytest.fail("measured again"))
    again = measure(open_pool(copy), ["float16"], Target())
    np.testing.assert_array_equal(again.costs, priced.costs)
    assert again.base == priced.base


def test_costs_are_measured_again_where_that_is_asked_for(copy: Path, monkeypatch: pytest.MonkeyPatch):
    for milliseconds in (14.0, 2.0):
        timed = latency.Latency(mean=milliseconds, median=1, p95=1)
        monkeypatch.setattr(latency, "measure", lambda *_, timed=timed, **__: timed)
        priced = measure(open_pool(copy), ["float16"], Target(), anew=True)
        assert priced.base["latency"] == milliseconds
    assert measure(open_pool(copy), ["float16"], Target()).base["latency"] == 2.0
    assert len(json.loads((copy / COSTS).read_text())["settings"]) == 1


def test_costs_are_kept_apart_by_threads_and_scaled_afterwards(copy: Path, monkeypatch: pytest.MonkeyPatch):
    timed = []

    def measured(*_: object, threads: int, **__: object) -> latency.Latency:
        timed.append(threads)
        return latency.Latency(mean=len(timed), median=1, p95=1)

    monkeypatch.setattr(latency, "measure", measured)
    one = measure(open_pool(copy), ["float16"], Target())
    two = measure(open_pool(copy), ["float16"], Target(threads=2))
    assert timed == 5 * [1] + 5 * [2]  # four candidates, and the shared part
    scaled = measure(open_pool(copy), ["float16"], Target(latency_scale=2.5))
    assert len(timed) == 10  # neither the scale nor another number of threads made the first ones be timed again
    assert [priced.base["latency"] for priced in (one, two, scaled)] == [1, 6, 2.5]
    np.testing.assert_allclose(scaled.costs_of("latency"), 2.5 * one.costs_of("latency"))
    for name in ("parameters", "size", "members"):
        np.testing.assert_array_equal(scaled.costs_of(name), one.costs_of(name))


def test_costs_of_another_machine_or_broken_ones_are_not_used(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    measure(open_pool(copy), ["float16"], Target())
    timed = []

    def measured(*_: object, **__: object) -> latency.Latency:
        timed.append(1)
        return latency.Latency(mean=1, median=1, p95=1)

    monkeypatch.setattr(latency, "measure", measured)
    content = json.loads((copy / COSTS).read_text())
    content["settings"][0]["setting"]["machine"] = "another"
    of_another = json.dumps(content)
    del content["settings"][0]["milliseconds"]
    broken = [json.dumps(content)]
    for value in (-1, 0, float("nan"), float("inf"), "x", [1], True, 1e308, 5e-324, 10**400):
        content["settings"][0] = json.loads((copy / COSTS).read_text())["settings"][0]
        content["settings"][0]["milliseconds"] = dict.fromkeys(content["settings"][0]["milliseconds"], value)
        broken.append(json.dumps(content))
    for text in (of_another, "{", "[]", '{"settings": 3}', '{"settings": [3]}', "[" * 100_000, *broken):
        (copy / COSTS).write_text(text)
        timed.clear()
        capsys.readouterr()
        priced = measure(open_pool(copy), ["float16"], Target())
        assert len(timed) == 5  # four candidates, and what they share
        assert priced.base["latency"] == 1
        said = re.search(r"copy/ensemble/costs.json: .* left out; .* \(remeasure has all", capsys.readouterr().out)
        assert (said is None) == (text == of_another)


def test_one_cached_time_that_no_file_takes_is_measured_again_alone(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    timed = []

    def measured(*_: object, **__: object) -> latency.Latency:
        timed.append(1)
        return latency.Latency(mean=1, median=1, p95=1)

    monkeypatch.setattr(latency, "measure", measured)
    measure(open_pool(copy), ["float16"], Target())
    for value in (0, -1.0, 1e308, 1e-300):
        content = json.loads((copy / COSTS).read_text())
        times = content["settings"][0]["milliseconds"]
        times[sorted(times)[0]] = value
        (copy / COSTS).write_text(json.dumps(content))
        timed.clear()
        measure(open_pool(copy), ["float16"], Target())
        assert len(timed) == 1
        assert (
            f"costs.json: milliseconds: {value:g} is no time that a file takes; 1 left out" in capsys.readouterr().out
        )


def test_costs_of_several_studies_are_kept_in_each(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    studies = twice(copy, tmp_path, other_trials)
    measure(open_pools(studies), ["float16", "int8"], Target())
    monkeypatch.setattr(latency, "measure", lambda *_, **__: pytest.fail("measured again"))
    monkeypatch.setattr(measure_module, "predict_all", lambda *_: pytest.fail("predicted again"))
    assert len(measure(open_pool(copy), ["float16", "int8"], Target()).costs) == 8
    assert len(list((tmp_path / "other" / "ensemble" / "val_probs").glob("*.npy"))) == 8


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_is_measured_of_a_study_that_cannot_be_written_is_kept_elsewhere(
    copy: Path, tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    folder = Folder.open(f"{scheme}{copy}")
    assert keeping_roots([folder], out) == {folder.path: folder.path}

    def refuse(*_: object) -> None:
        raise StorageError("cannot be written to")

    monkeypatch.setattr("trainer.studydir.require_writable", refuse)
    monkeypatch.setattr(Remote, "upload", refuse)
    assert keeping_roots([folder], None) == {folder.path: folder.path}  # it will be said
    roots = keeping_roots([folder], out)
    assert roots[folder.path].parent == out / "measured"
    measure(open_pool(folder.path), ["float16"], Target())
    known = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    priced = measure(open_pool(folder.path), ["float16", "int8"], Target(), roots=roots)
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == known
    assert len(list((roots[folder.path] / PROBS).glob("*.npy"))) == 4  # of int8; those of float16 were known
    monkeypatch.setattr(latency, "measure", lambda *_, **__: pytest.fail("measured again"))
    monkeypatch.setattr(measure_module, "predict_all", lambda *_: pytest.fail("predicted again"))
    again = measure(open_pool(folder.path), ["float16", "int8"], Target(), roots=roots)
    np.testing.assert_array_equal(again.costs, priced.costs)
    assert again.base == priced.base


def test_studies_of_one_name_are_kept_apart(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folders = [Folder.open(shutil.copytree(copy, tmp_path / name / "asl")) for name in ("a", "b")]
    monkeypatch.setattr(Folder, "can_write", lambda *_: False)
    assert len(set(keeping_roots(folders, tmp_path / "out").values())) == 2
