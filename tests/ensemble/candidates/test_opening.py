import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ensemble.candidates.measure import measure
from ensemble.candidates.opening import open_pool, open_pools
from ensemble.candidates.pool import require_any
from ensemble.tflite.latency import Target
from tests.ensemble.conftest import NUM_FOLDS, change_fields, claim_other_data, finish
from trainer.common.errors import UserError
from trainer.common.files import sha256
from trainer.data.dataset import PackedDataset
from trainer.model.classifier import SignClassifier
from trainer.rundir import RunDir
from trainer.studydir import StudyDir


def test_reads_a_study(study: Path, packed: PackedDataset):
    pool = open_pool(study)
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0001", "0002", "0003"]
    assert pool.label_names == packed.sign_names
    assert sorted(set(pool.validation.participants)) == packed.folds(NUM_FOLDS)[0].tolist()
    assert "no done.json" in pool.left_out["0004"]
    for probs, candidate in zip(pool.val_probs, pool.candidates, strict=True):
        assert isinstance(probs, np.memmap)
        assert probs.shape == (len(packed.split(NUM_FOLDS, 0)[1]), packed.num_signs)
        assert candidate.val_accuracy == np.mean(probs.argmax(axis=1) == pool.validation.labels)


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
    priced = measure(open_pool(copy), ["float16"], Target())
    pool = priced.pool
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0002", "0003"]
    assert len(priced.costs) == 3
    assert reason in pool.left_out["0001"]
    assert str(copy) not in pool.left_out["0001"]


def test_says_what_is_wrong_with_a_study(copy: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"holds no study \(no study.json\)"):
        open_pool(tmp_path)
    for run in (copy / "trials").iterdir():
        (run / "done.json").unlink(missing_ok=True)
    again = rf"go on with: python -m search\.run --resume --name {copy.name} --results"
    with pytest.raises(UserError, match=rf"no trial can be used \(0000 0001 .*: not finished.* {again}"):
        open_pool(copy)
    with pytest.raises(UserError, match=r"results/s: no trial can be used, as none is complete; .* --name s$"):
        require_any([Path("results/s")], [], {})
    (copy / "validation.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"validation.parquet: cannot be read"):
        open_pool(copy)
    for text, message in (
        ('{"format_version": 1, "label_names": []}', "data: is missing"),
        ('{"format_version": 1, "label_names": 3, "data": ""}', "label_names: must be a list, each item text, not 3"),
        ('{"format_version": 9}', "format_version is 9, written by .*; this version reads 1"),
        ('"study"', "must hold a JSON object"),
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
    """Weights of its own for every trial, and what they predict."""
    dataset = open_pool(study).dataset
    for run in StudyDir(study).trials():
        if run.is_done:
            config = run.read_config()
            model = SignClassifier(config.model).eval()
            weights = run.read_weights()
            model.load_state_dict(weights | {"head.weight": 0.9 * weights["head.weight"]})
            finish(run, config, model, dataset)


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


def other_signs(study: Path) -> None:
    change_fields(study / "study.json", label_names=open_pool(study).label_names[::-1])
    table = pq.read_table(study / "validation.parquet")
    pq.write_table(table.drop_columns(["sign"]), study / "validation.parquet")


def other_fold(study: Path) -> None:
    table = pq.read_table(study / "validation.parquet")
    for name in ("sequence_id", "participant_id"):
        table = table.set_column(table.column_names.index(name), name, pc.add(table[name], 1000))
    pq.write_table(table, study / "validation.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (claim_other_data, "other: was searched on another packed dataset than .*small; only"),
        (other_signs, r"other: has other signs than .*small"),
        (other_fold, r"other: holds out other participants \(\d+, .*\) than .*small"),
    ],
)
def test_studies_must_be_validated_alike(study: Path, tmp_path: Path, change: Callable[[Path], object], message: str):
    with pytest.raises(UserError, match=message):
        open_pools(twice(study, tmp_path, change))


def test_a_study_is_not_taken_twice(study: Path):
    with pytest.raises(UserError, match="studies: the same study twice"):
        open_pools([("a", study), ("a/", study)])


@pytest.mark.parametrize("number", ["0000", "0002"])
def test_the_candidates_of_another_length_than_most_are_left_out(copy: Path, number: str):
    path = copy / "trials" / number / "config.json"
    change_fields(path, model=json.loads(path.read_text())["model"] | {"max_frames": 8})
    pool = open_pool(copy)
    assert pool.left_out[number] == "config.json: another max_frames than most candidates have"
    assert len(pool.candidates) == 3


def test_names_of_signs_must_be_those_of_the_validation_sequences(copy: Path):
    change_fields(copy / "study.json", label_names=open_pool(copy).label_names[::-1])
    with pytest.raises(UserError, match=r"study.json: label_names: sign \d is .*, but validation.parquet calls it"):
        open_pool(copy)


def test_a_trial_without_a_folder_and_one_of_a_number_beyond_are_left_out_by_name(copy: Path):
    change_fields(copy / "study.json", trials=5)
    shutil.copytree(copy / "trials" / "0001", copy / "trials" / "9999999999")
    shutil.move(copy / "trials" / "0002", copy / "elsewhere")
    (copy / "trials" / "0002").symlink_to("/nowhere")
    pool = open_pool(copy)
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0001", "0003"]
    assert pool.left_out["0002"] == "has no folder in trials: its files were removed"
    assert "not one of the 5 trials" in pool.left_out["9999999999"]


def test_a_trial_of_this_version_without_hashes_is_left_out(copy: Path):
    digest = sha256(copy / "validation.parquet")
    change_fields(copy / "study.json", validation_sha256=digest)
    assert len(open_pool(copy).candidates) == 4
    change_fields(copy / "trials" / "0001" / "done.json", sha256={})
    assert open_pool(copy).left_out["0001"].startswith("done.json: sha256: is missing; bring the file back")
