import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ensemble import latency
from ensemble import measure as measure_module
from ensemble.latency import Target
from ensemble.measure import COSTS, measure
from ensemble.pool import open_pool, open_pools
from tests.ensemble.conftest import NUM_FOLDS
from tests.ensemble.test_tflite import predict
from trainer.cli import UserError
from trainer.dataset import PackedDataset
from trainer.model import SignClassifier
from trainer.normalize import normalize, select
from trainer.rundir import RunDir


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(study, tmp_path / "copy")


def test_reads_a_study(study: Path, packed: PackedDataset):
    pool = open_pool(study)
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0001", "0002", "0003"]
    assert pool.label_names == packed.sign_names
    assert sorted(set(pool.participants)) == packed.folds(NUM_FOLDS)[0].tolist()
    assert "no done.json" in pool.left_out["0004"]
    for probs, candidate in zip(pool.val_probs, pool.candidates, strict=True):
        assert isinstance(probs, np.memmap)
        assert probs.shape == (len(packed.split(NUM_FOLDS, 0)[1]), packed.num_signs)
        assert candidate.val_accuracy == np.mean(probs.argmax(axis=1) == pool.labels)


def break_probs(run: RunDir) -> None:
    run.write_val_probs(np.ones_like(run.read_val_probs()))


def break_with_nan(run: RunDir) -> None:
    probs = run.read_val_probs().copy()
    probs[5] = np.nan
    run.write_val_probs(probs)


BREAKS = {
    "config.json": lambda run: (run.path / "config.json").write_text("{"),
    "done.json": lambda run: (run.path / "done.json").write_text('{"epochs": 1}'),
    "val_probs.npy: shape": lambda run: run.write_val_probs(run.read_val_probs()[:3]),
    "val_probs.npy: cannot be read": lambda run: (run.path / "val_probs.npy").write_bytes(b"nonsense"),
    "rows that are no probabilities": break_probs,
    "no probabilities": break_with_nan,
    "weights.safetensors: cannot be read": lambda run: (run.path / "weights.safetensors").unlink(),
    "not a classifier's": lambda run: run.write_weights({}),
}


@pytest.mark.parametrize("reason", list(BREAKS))
def test_a_broken_trial_is_left_out_with_its_reason(copy: Path, reason: str):
    BREAKS[reason](RunDir(copy / "trials" / "0001"))
    pool, _, costs = measure(open_pool(copy), ["float16"], Target())
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0002", "0003"]
    assert len(costs) == 3
    assert reason in pool.left_out["0001"]
    assert str(copy) not in pool.left_out["0001"]


def torch_probs(run: RunDir, raws: list[np.ndarray]) -> np.ndarray:
    """What the trial's model gives each sequence: the study's own val_probs are made up."""
    model = SignClassifier(run.read_config().model)
    model.load_state_dict(run.read_weights())
    return np.stack([predict(model, raw) for raw in raws])


def test_candidates_are_selected_by_what_their_own_file_predicts(copy: Path):
    whole = open_pool(copy)
    pool, _, costs = measure(whole, ["float32", "float16", "int8"], Target())
    assert [candidate.precision for candidate in pool.candidates] == 4 * ["float32", "float16", "int8"]
    for larger, smaller in ((0, 1), (1, 2)):
        assert (costs[smaller::3, 1] < 0.8 * costs[larger::3, 1]).all()
        assert (costs[smaller::3, 0] == costs[larger::3, 0]).all()
    raws = list(whole.raw_sequences(range(len(whole.labels))))
    for candidate, probs in zip(pool.candidates, pool.val_probs, strict=True):
        assert candidate.val_accuracy == np.mean(probs.argmax(axis=1) == whole.labels)
        if candidate.precision == "float32":
            np.testing.assert_array_equal(probs, candidate.run.read_val_probs())
        else:
            expected = torch_probs(candidate.run, raws)
            assert np.mean(probs.argmax(axis=1) == expected.argmax(axis=1)) >= 0.9
            assert 0 < np.abs(probs - expected).max() < (1e-3 if candidate.precision == "float16" else 0.1)


@pytest.mark.parametrize("change", [{"data": "gone"}, {"data_fingerprint": "of another"}])
def test_without_its_dataset_a_study_has_no_int8_candidates(
    copy: Path, change: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    about = json.loads((copy / "study.json").read_text())
    (copy / "study.json").write_text(json.dumps(about | change))
    pool, _, _ = measure(open_pool(copy), ["float16", "int8"], Target())
    assert {candidate.precision for candidate in pool.candidates} == {"float16"}
    assert "packed dataset" in pool.left_out["0000 int8"]
    for candidate, probs in zip(pool.candidates, pool.val_probs, strict=True):
        np.testing.assert_array_equal(probs, candidate.run.read_val_probs())
    assert "selecting by what trials predicted, not by what their files do" in capsys.readouterr().out


def test_a_file_that_overflows_is_left_out(copy: Path):
    run = RunDir(copy / "trials" / "0001")
    run.write_weights({name: tensor * 1e6 for name, tensor in run.read_weights().items()})
    pool, _, _ = measure(open_pool(copy), ["float16"], Target())
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0002", "0003"]
    assert pool.left_out["0001"] == "its float16 file gives no numbers"


def test_kept_predictions_that_are_broken_are_made_anew(copy: Path):
    whole = [np.array(probs) for probs in measure(open_pool(copy), ["int8"], Target())[0].val_probs]
    kept = sorted((copy / measure_module.PROBS).iterdir())
    kept[0].write_bytes(b"")
    kept[1].write_bytes(b"nonsense")
    np.save(kept[2], np.load(kept[2])[1:])
    np.save(kept[3], np.full_like(np.load(kept[3]), np.nan))
    for found, probs in zip(measure(open_pool(copy), ["int8"], Target())[0].val_probs, whole, strict=True):
        np.testing.assert_array_equal(found, probs)


def test_raw_sequences_are_what_the_model_saw(study: Path, packed: PackedDataset):
    rows = packed.split(NUM_FOLDS, 0)[1]
    for row, raw in zip(rows, open_pool(study).raw_sequences(range(len(rows))), strict=True):
        np.testing.assert_allclose(normalize(select(raw)), packed.sequence(row), atol=1e-5)


def test_costs_are_measured_once(copy: Path, monkeypatch: pytest.MonkeyPatch):
    _, base, costs = measure(open_pool(copy), ["float16"], Target())
    assert costs.shape == (4, 4)
    assert (costs[:, :2] > 0).all()
    assert (costs[:, 2] >= 0).all()  # so small a model may take no longer than what all share, within noise
    assert base[2] > 0
    assert (costs[:, 3] == 1).all()
    assert base[3] == 0
    monkeypatch.setattr(latency, "measure", lambda *_, **__: pytest.fail("measured again"))
    _, base_again, costs_again = measure(open_pool(copy), ["float16"], Target())
    np.testing.assert_array_equal(costs_again, costs)
    np.testing.assert_array_equal(base_again, base)


def test_costs_are_measured_again_where_that_is_asked_for(copy: Path, monkeypatch: pytest.MonkeyPatch):
    for milliseconds in (14.0, 2.0):
        timed = latency.Latency(mean=milliseconds, median=1, p95=1)
        monkeypatch.setattr(latency, "measure", lambda *_, timed=timed, **__: timed)
        _, base, _ = measure(open_pool(copy), ["float16"], Target(), anew=True)
        assert base[2] == milliseconds
    _, base, _ = measure(open_pool(copy), ["float16"], Target())
    assert base[2] == 2.0
    assert len(json.loads((copy / COSTS).read_text())["settings"]) == 1


def test_costs_are_kept_apart_by_threads_and_scaled_afterwards(copy: Path, monkeypatch: pytest.MonkeyPatch):
    timed = []

    def measured(*_: object, threads: int, **__: object) -> latency.Latency:
        timed.append(threads)
        return latency.Latency(mean=len(timed), median=1, p95=1)

    monkeypatch.setattr(latency, "measure", measured)
    _, base, costs = measure(open_pool(copy), ["float16"], Target())
    _, base_of_two, _ = measure(open_pool(copy), ["float16"], Target(threads=2))
    assert timed == 5 * [1] + 5 * [2]  # four candidates, and what they share
    _, base_scaled, costs_scaled = measure(open_pool(copy), ["float16"], Target(scale=2.5))
    assert len(timed) == 10  # neither the scale nor another number of threads made the first ones be timed again
    assert (base[2], base_of_two[2], base_scaled[2]) == (1, 6, 2.5)
    np.testing.assert_allclose(costs_scaled[:, 2], 2.5 * costs[:, 2])
    np.testing.assert_array_equal(costs_scaled[:, [0, 1, 3]], costs[:, [0, 1, 3]])


def test_costs_of_another_machine_or_broken_ones_are_not_used(copy: Path, monkeypatch: pytest.MonkeyPatch):
    measure(open_pool(copy), ["float16"], Target())
    timed = []
    monkeypatch.setattr(
        latency, "measure", lambda *_, **__: timed.append(1) or latency.Latency(mean=1, median=1, p95=1)
    )
    content = json.loads((copy / COSTS).read_text())
    content["settings"][0]["setting"]["machine"] = "another"
    for text in (json.dumps(content), "{", "[]"):
        (copy / COSTS).write_text(text)
        timed.clear()
        measure(open_pool(copy), ["float16"], Target())
        assert len(timed) == 5  # four candidates, and what they share


def test_says_what_is_wrong_with_a_study(copy: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"holds no study \(no study.json\)"):
        open_pool(tmp_path)
    for run in (copy / "trials").iterdir():
        (run / "done.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"no trial can be used\n  0000: not finished"):
        open_pool(copy)
    (copy / "validation.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"validation.parquet: cannot be read"):
        open_pool(copy)
    for text, message in (
        ('{"label_names": []}', "the field 'data' is missing"),
        ('{"label_names": 3, "data": ""}', "the field 'label_names' is missing, or no list"),
        ('"study"', "must be an object"),
    ):
        (copy / "study.json").write_text(text)
        with pytest.raises(UserError, match=rf"study.json: {message}"):
            open_pool(copy)


@pytest.mark.parametrize("labels", [[6], [-1], [None], ["hello"], []])
def test_labels_must_be_signs_of_the_study(copy: Path, labels: list[object]):
    columns = {name: np.zeros(len(labels), int) for name in ("participant_id", "length", "sequence_id")}
    pq.write_table(pa.table({"label": labels, **columns}), copy / "validation.parquet")
    with pytest.raises(UserError, match=r"validation.parquet: "):
        open_pool(copy)


def twice(study: Path, folder: Path, change: Callable[[Path], object] = lambda _: None) -> list[tuple[str, Path]]:
    """A study, and its changed copy."""
    other = shutil.copytree(study, folder / "other")
    change(other)
    return [(str(study), study), (str(other), other)]


def other_trials(study: Path) -> None:
    """Predictions of its own for every trial."""
    for path in (study / "trials").iterdir():
        if (run := RunDir(path)).is_done:
            probs = run.read_val_probs().astype(np.float32)
            run.write_val_probs(0.9 * probs + 0.1 / probs.shape[1])


def test_a_copy_of_a_study_adds_no_candidates(study: Path, tmp_path: Path):
    pool = open_pools(twice(study, tmp_path))
    assert [candidate.name for candidate in pool.candidates] == [f"small/{number:04d}" for number in range(4)]
    assert pool.left_out["other/0002"] == "small holds the same trial"


def test_candidates_of_several_studies_are_one_pool(study: Path, tmp_path: Path):
    studies = twice(study, tmp_path, other_trials)
    pool = open_pools(studies)
    numbers = [f"{number:04d}" for number in range(4)]
    assert [candidate.name for candidate in pool.candidates] == [
        f"{of}/{n}" for of in ("small", "other") for n in numbers
    ]
    assert set(pool.left_out) == {"small/0004", "other/0004"}
    assert {candidate.study for candidate in pool.candidates} == {study, tmp_path / "other"}
    (tmp_path / "b").mkdir()
    of_one_name = [("a/small", study), ("b/small", shutil.copytree(studies[1][1], tmp_path / "b" / "small"))]
    assert open_pools(of_one_name).candidates[4].name == "b/small/0000"


def test_costs_of_several_studies_are_kept_in_each(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    studies = twice(copy, tmp_path, other_trials)
    measure(open_pools(studies), ["float16", "int8"], Target())
    monkeypatch.setattr(latency, "measure", lambda *_, **__: pytest.fail("measured again"))
    monkeypatch.setattr(measure_module, "_predict", lambda *_: pytest.fail("predicted again"))
    _, _, alone = measure(open_pool(copy), ["float16", "int8"], Target())
    assert len(alone) == 8
    assert len(list((tmp_path / "other" / "ensemble" / "val_probs").iterdir())) == 8


def test_what_is_measured_of_a_study_that_cannot_be_written_is_kept_elsewhere(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    measure(open_pool(copy), ["float16"], Target(), spare=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    known = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}

    def refuse(option: str, folder: Path) -> None:
        assert folder == copy / "ensemble"
        raise UserError(f"{option} {folder}: cannot be written to")

    monkeypatch.setattr(measure_module, "require_writable", refuse)
    measure(open_pool(copy), ["float16"], Target(), spare=tmp_path / "out")
    assert not (tmp_path / "out").exists()  # all of that is known
    _, base, costs = measure(open_pool(copy), ["float16", "int8"], Target(), spare=tmp_path / "out")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == known
    assert len(list((tmp_path / "out" / "copy" / measure_module.PROBS).iterdir())) == 4
    monkeypatch.setattr(latency, "measure", lambda *_, **__: pytest.fail("measured again"))
    monkeypatch.setattr(measure_module, "_predict", lambda *_: pytest.fail("predicted again"))
    _, base_again, costs_again = measure(open_pool(copy), ["float16", "int8"], Target(), spare=tmp_path / "out")
    np.testing.assert_array_equal(costs_again, costs)
    np.testing.assert_array_equal(base_again, base)


def change_about(study: Path, **fields: object) -> None:
    about = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps(about | fields))


def other_data(study: Path) -> None:
    change_about(study, data_fingerprint="another")


def other_signs(study: Path) -> None:
    change_about(study, label_names=open_pool(study).label_names[::-1])


def other_fold(study: Path) -> None:
    table = pq.read_table(study / "validation.parquet")
    for name in ("sequence_id", "participant_id"):
        table = table.set_column(table.column_names.index(name), name, pc.add(table[name], 1000))
    pq.write_table(table, study / "validation.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_data, "other: was searched on another packed dataset than .*small; only"),
        (other_signs, r"other: has other signs than .*small"),
        (other_fold, r"other: holds out other participants \(\d+, .*\) than .*small"),
    ],
)
def test_studies_must_be_validated_alike(study: Path, tmp_path: Path, change: Callable[[Path], object], message: str):
    with pytest.raises(UserError, match=message):
        open_pools(twice(study, tmp_path, change))


def test_a_study_is_not_taken_twice(study: Path):
    with pytest.raises(UserError, match="--results: the same study twice"):
        open_pools([("a", study), ("a/", study)])
