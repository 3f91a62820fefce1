"""What was finished is believed only if it can be made again."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from ensemble.candidates.full_data import FullData
from ensemble.candidates.kept import keep
from ensemble.candidates.measure import measure
from ensemble.candidates.opening import open_pool, open_pools
from ensemble.candidates.pool import Pool
from ensemble.candidates.reproduction import TrialFiles, deviation, reproducible, require_result
from ensemble.tflite.latency import Target
from tests.ensemble.conftest import change_fields, finish, flip_bit, random_classifier
from trainer.common.errors import DatasetChangedError, UserError
from trainer.data.dataset import PackedDataset
from trainer.rundir import RunDir
from trainer.studydir import StudyDir


def only_reproducible(pool: Pool, *caches: Path) -> Pool:
    """The pool without the trials that cannot be made again."""
    left_out = dict(pool.left_out)
    found = list(reproducible(pool, left_out, {pool.studies[0]: caches}))
    return pool.replace(candidates=[files.candidate for files in found], left_out=left_out)


def scale_weights(run: RunDir, factor: float) -> None:
    run.write_weights({name: tensor * factor for name, tensor in run.read_weights().items()})


def change_model(run: RunDir, **fields: object) -> None:
    about = json.loads((run.path / "config.json").read_text())
    change_fields(run.path / "config.json", model=about["model"] | fields)


def change_result(run: RunDir, **fields: object) -> None:
    change_fields(run.path / "done.json", **fields)


def store_weights_as(run: RunDir, dtype: torch.dtype) -> None:
    safetensors.torch.save_file(
        {name: tensor.to(dtype) for name, tensor in run.read_weights().items()}, run.path / "weights.safetensors"
    )


def take_probs_of(run: RunDir, other: str, *files: str) -> None:
    for name in ("val_probs.npy", *files):
        shutil.copy(run.path.parent / other / name, run.path / name)


def swap_rows(run: RunDir) -> None:
    run.write_val_probs(run.read_val_probs()[::-1])


def save_probs(run: RunDir, change: Callable[[np.ndarray], np.ndarray]) -> None:
    probs = change(run.read_val_probs().astype(np.float32))
    np.save(run.path / "val_probs.npy", probs)


def save_archive(run: RunDir) -> None:
    probs = np.array(run.read_val_probs())
    with (run.path / "val_probs.npy").open("wb") as file:
        np.savez(file, probs=probs)


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


PREDICT = "its weights do not predict what val_probs.npy says"
CHANGES: dict[str, tuple[Callable[[RunDir], object], str]] = {
    "weights zero": (lambda run: scale_weights(run, 0), PREDICT),
    "weights larger": (lambda run: scale_weights(run, 1.05), PREDICT),
    "weights NaN": (lambda run: scale_weights(run, float("nan")), "weights.safetensors: .* not finite"),
    "weights whole numbers": (lambda run: store_weights_as(run, torch.int32), "weights.safetensors: .* torch.int32"),
    "rotary off": (lambda run: change_model(run, rotary=False), PREDICT),
    "weights a pipe": (lambda run: make_pipe(run.path / "weights.safetensors"), "weights.safetensors: .*is a pipe"),
    "probs a pipe": (lambda run: make_pipe(run.path / "val_probs.npy"), "val_probs.npy: .*is a pipe"),
    "config a pipe": (lambda run: make_pipe(run.path / "config.json"), "config.json: .*not a file"),
    "parameters": (
        lambda run: change_result(run, num_parameters=5),
        "done.json: num_parameters: 5, but",
    ),
    "another fold": (
        lambda run: change_fields(run.path / "config.json", fold=3),
        "config.json: fold: 3 of 5, but the study's is 0 of 5",
    ),
    "pooling": (lambda run: change_model(run, pooling="mean"), "weights.safetensors: not a classifier's of"),
    "heads": (lambda run: change_model(run, num_heads=2), "weights.safetensors: not a classifier's of"),
    "norm": (lambda run: change_model(run, norm="layernorm"), "weights.safetensors: not a classifier's of"),
    "landmarks": (lambda run: change_model(run, landmarks="hands"), "weights.safetensors: not a classifier's of"),
    "another's probs": (lambda run: take_probs_of(run, "0003"), "done.json: val_accuracy: .* val_probs.npy gives"),
    "another's probs and result": (
        lambda run: take_probs_of(run, "0003", "done.json"),
        "done.json: num_parameters: 273798, but the weights have 208134",
    ),
    "probs of other rows": (swap_rows, "done.json: val_"),
    "probs negative": (
        lambda run: save_probs(run, lambda x: np.hstack([x[:, :1] + 3, x[:, 1:] - 3 / (x.shape[1] - 1)])),
        "val_probs.npy: rows that are no probabilities",
    ),
    "probs level": (lambda run: save_probs(run, lambda x: np.full_like(x, 1 / x.shape[1])), "done.json: val_"),
    "probs whole numbers": (
        lambda run: save_probs(run, lambda x: x.round().astype(np.int32)),
        "val_probs.npy: must hold",
    ),
    "probs an archive": (save_archive, "val_probs.npy: .*not one array"),
    "another accuracy": (
        lambda run: change_fields(run.path / "done.json", val_accuracy=0.99),
        "done.json: val_accuracy",
    ),
    "another log loss": (
        lambda run: change_fields(run.path / "done.json", val_log_loss=0.2),
        "done.json: val_log_loss",
    ),
    "another dataset": (
        lambda run: change_result(run, data_fingerprint="0"),
        "done.json: data_fingerprint: is another",
    ),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_trial_that_cannot_be_made_again_is_left_out_by_name(copy: Path, change: str):
    act, reason = CHANGES[change]
    act(RunDir(copy / "trials" / "0001"))
    pool = only_reproducible(open_pool(copy))
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0002", "0003"]
    assert set(pool.left_out) == {"0001", "0004"}
    assert re.match(reason, pool.left_out["0001"]), pool.left_out["0001"]


def test_weights_stored_in_another_type_are_read_if_they_predict_the_same(copy: Path):
    store_weights_as(RunDir(copy / "trials" / "0001"), torch.float64)
    store_weights_as(RunDir(copy / "trials" / "0002"), torch.bfloat16)
    pool = only_reproducible(open_pool(copy))
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0001", "0003"]
    assert {tensor.dtype for tensor in pool.candidates[1].run.read_weights().values()} == {torch.float32}
    assert pool.left_out["0002"].startswith(PREDICT)


def test_predictions_of_floats_in_full_are_as_good(copy: Path):
    run = RunDir(copy / "trials" / "0001")
    save_probs(run, lambda probs: probs)
    pool = only_reproducible(open_pool(copy))
    assert pool.left_out["0001"].startswith("val_probs.npy: is not the file that the training left")
    change_fields(run.path / "done.json", sha256=run.hashes())
    assert len(only_reproducible(open_pool(copy)).candidates) == 4


def test_predictions_that_were_swapped_where_no_sequence_is_run_are_left_out(
    copy: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ensemble.candidates.reproduction.SEQUENCES", 2)
    run = RunDir(copy / "trials" / "0001")
    probs = np.array(run.read_val_probs())
    labels = open_pool(copy).validation.labels
    first = next(row for row in range(1, len(labels)) if labels[row] == labels[row + 1])  # the accuracy stays
    probs[[first, first + 1]] = probs[[first + 1, first]]
    np.save(run.path / "val_probs.npy", probs)
    assert only_reproducible(open_pool(copy)).left_out["0001"].startswith("val_probs.npy: is not the file that")


def test_without_the_dataset_only_trials_whose_files_are_unchanged_are_believed(copy: Path):
    scale_weights(RunDir(copy / "trials" / "0001"), 0)
    change_fields(copy / "trials" / "0002" / "done.json", sha256={})
    change_model(RunDir(copy / "trials" / "0003"), rotary=False)
    pool = only_reproducible(dataclasses.replace(open_pool(copy), data="gone"))
    assert [candidate.name for candidate in pool.candidates] == ["0000"]
    gone = "; the packed dataset that would tell whether it is whole is gone"
    assert pool.left_out["0001"] == f"weights.safetensors: is not the file that the training left{gone}"
    assert pool.left_out["0002"].startswith("done.json: sha256: has no hashes of the other files")
    assert pool.left_out["0003"] == f"config.json: is not the file that the training left{gone}"


def test_names_of_signs_must_be_the_datasets(copy: Path, packed: PackedDataset):
    """Or the file would call each sign by another's name."""
    change_fields(copy / "study.json", label_names=packed.sign_names[::-1])
    table = pq.read_table(copy / "validation.parquet")
    pq.write_table(table.drop_columns(["sign"]), copy / "validation.parquet")  # as of an earlier version
    with pytest.raises(UserError, match=r"study.json: label_names: are not the signs of .*packed"):
        only_reproducible(open_pool(copy))


@pytest.mark.parametrize("column", ["label", "length", "participant_id"])
def test_validation_sequences_must_be_the_datasets(copy: Path, column: str):
    table = pq.read_table(copy / "validation.parquet")
    place = table.column_names.index(column)
    order = np.argsort(table[column].to_numpy(), kind="stable")
    changed = table.set_column(place, column, table[column].take(order))
    pq.write_table(changed, copy / "validation.parquet")
    if column == "label":  # the trials' own results tell
        with pytest.raises(UserError, match=r"label_names: sign \d is .*, but validation.parquet calls it"):
            open_pool(copy)
    else:
        with pytest.raises(UserError, match=r"validation.parquet: (lengths|participants): are not those of .*packed"):
            only_reproducible(open_pool(copy))


def test_a_validation_sequence_that_the_dataset_has_not_is_no_reason_to_take_it_for_another(copy: Path):
    table = pq.read_table(copy / "validation.parquet")
    ids = table["sequence_id"].to_numpy().copy()
    ids[0] = 7
    place = table.column_names.index("sequence_id")
    pq.write_table(table.set_column(place, "sequence_id", pa.array(ids)), copy / "validation.parquet")
    with pytest.raises(UserError, match=r"validation.parquet: sequence_ids: are not those of .*packed; bring the file"):
        only_reproducible(open_pool(copy))
    change_fields(copy / "study.json", validation_sha256="0" * 64)
    with pytest.raises(UserError, match=r"validation.parquet: changed since the search wrote it; bring"):
        open_pool(copy)


def test_files_that_were_changed_and_predict_the_same_are_used_and_named(copy: Path):
    run = RunDir(copy / "trials" / "0001")
    assert "sha256" in json.loads((run.path / "done.json").read_text())
    config = run.path / "config.json"
    config.write_text(config.read_text() + " \n")
    flip_bit(copy / "trials" / "0002" / "weights.safetensors", -10)
    pool = measure(open_pool(copy), ["float32"], Target()).pool
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0001", "0002", "0003"]
    left = "is not the file that the training left"
    assert pool.changed == {"0001": f"config.json: {left}", "0002": f"weights.safetensors: {left}"}


def test_weights_trained_on_all_participants_must_have_the_result_that_they_left(
    copy: Path, packed: PackedDataset, tmp_path: Path
):
    pool = open_pool(copy)
    candidate = pool.candidates[0]
    config = candidate.run.read_config().replace(all_participants=True)
    run = StudyDir(tmp_path / "all").trial(0)
    finish(run, config, random_classifier(config.model, seed=9), packed)
    full = FullData(tmp_path / "all").of(candidate)
    gone = dataclasses.replace(pool, data="gone")
    require_result(full, pool)
    require_result(full, gone)

    change_fields(run.path / "done.json", sha256=None)  # as of an earlier version
    require_result(full, pool)
    with pytest.raises(UserError, match=r"done.json: sha256: has no hashes"):
        require_result(full, gone)
    for factor in (0, 1.05):
        shutil.copy(run.path / "weights.safetensors", tmp_path / "kept")
        scale_weights(run, factor)
        run.write_result(run.read_result())  # as if nothing had been changed
        with pytest.raises(UserError, match=r"0000: its weights have an accuracy of .*done.json says"):
            require_result(full, pool)
        shutil.copy(tmp_path / "kept", run.path / "weights.safetensors")


def test_a_broken_training_on_all_participants_is_named_where_it_is_missing(
    copy: Path, packed: PackedDataset, tmp_path: Path
):
    first, second, *_ = open_pool(copy).candidates
    for number, candidate in enumerate((first, second)):
        config = candidate.run.read_config().replace(all_participants=True)
        finish(StudyDir(tmp_path / "all").trial(number), config, random_classifier(config.model), packed)
    (tmp_path / "all" / "trials" / "0000" / "config.json").write_text("[]")
    full_data = FullData(tmp_path / "all")
    assert full_data.of(second).run.path.name == "0001"
    with pytest.raises(UserError, match=r"no finished training of trial 0000's .* \(0000: config.json"):
        full_data.of(first)


def test_deviation():
    """Half of what is said beyond level signs is missing; one step of float16 is not counted."""
    kept = np.array([[0.75, 0.25], [0.25, 0.75]])
    step = float(np.spacing(np.float16(0.75)))
    assert deviation(kept, kept) == 0
    near = np.array([[0.75 + step, 0.25], [0.25 + step, 0.75]])  # float16 has twice as fine a step at 0.25
    assert deviation(near, kept) == pytest.approx((step / 2) / 0.5)
    assert deviation((kept + 0.5) / 2, kept) == pytest.approx(0.5, abs=2e-3)
    assert deviation(np.full((2, 2), 0.5), kept) == pytest.approx(1, abs=2e-3)
    assert np.isnan(deviation(np.full((2, 2), np.nan), kept))
    assert deviation(np.full((2, 2), 0.5), np.full((2, 2), 0.5)) == 0
    assert deviation(np.full((2, 2), 0.5), kept, told=5.0) == pytest.approx(0.1, abs=1e-3)


def test_a_packed_dataset_that_was_changed_ends_it_before_anything_is_chosen(copy: Path, packed: PackedDataset):
    moved = shutil.copytree(packed.path, copy / "packed")
    pool = dataclasses.replace(open_pool(copy), data=str(moved))
    frames = np.load(moved / "frames.npy")
    np.save(moved / "frames.npy", frames[::-1])
    with pytest.raises(DatasetChangedError, match=r"frames.npy"):
        only_reproducible(pool)


def test_the_longest_sequences_are_among_those_that_trials_are_run_on(copy: Path):
    """Only these tell by how many frames a model takes at most."""
    pool = open_pool(copy)
    lengths = pool.validation.lengths[pool.spread(4)]
    assert {lengths.min(), lengths.max()} == {pool.validation.lengths.min(), pool.validation.lengths.max()}
    assert len(pool.spread(10_000)) == len(pool.validation.lengths)


def test_a_dataset_is_hashed_once_a_selection(copy: Path, monkeypatch: pytest.MonkeyPatch):
    verified = []
    monkeypatch.setattr(PackedDataset, "verify", lambda self: verified.append(self.path))
    pool = open_pools([("a", copy)])
    measure(only_reproducible(pool), ["float16"], Target())
    assert len(verified) == 1
    assert pool.replace(data="gone").data == "gone"
    with pytest.raises(UserError, match="gone: not a packed dataset"):
        _ = pool.replace(data="gone").dataset


def test_what_a_trials_weights_predict_is_kept_until_a_byte_that_it_comes_of_is_changed(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names, built, cache = ["0000", "0001", "0002", "0003"], [], tmp_path / "kept"

    def at(self: TrialFiles, precision: str, really: Callable[[TrialFiles, str], bytes] = TrialFiles.at) -> bytes:
        built.append(self.candidate.name)
        return really(self, precision)

    monkeypatch.setattr(TrialFiles, "at", at)

    def names_built(*caches: Path) -> list[str]:
        built.clear()
        assert [candidate.name for candidate in only_reproducible(open_pool(copy), *caches).candidates] == names
        return list(built)

    assert names_built(cache) == names
    assert names_built(cache) == []
    assert names_built(tmp_path / "own", cache) == []
    assert names_built() == names

    run = RunDir(copy / "trials" / "0001")
    changes: list[Callable[[], object]] = [
        lambda: scale_weights(run, 1 + 2**-20),
        lambda: change_fields(run.path / "config.json", seed=7),
        lambda: change_result(run, seconds=7.0),
        lambda: save_probs(run, lambda probs: probs),
    ]
    for change in changes:
        change()
        change_fields(run.path / "done.json", sha256=run.hashes())
        assert names_built(cache) == ["0001"]
        assert names_built(cache) == []
    monkeypatch.setattr("ensemble.candidates.reproduction.version", lambda _: "another")
    assert names_built(cache) == names
    monkeypatch.setattr("ensemble.candidates.reproduction.SEQUENCES", 20)
    assert names_built(cache) == names


@pytest.mark.parametrize("change", ["weights larger", "weights a pipe", "rotary off", "parameters", "probs a pipe"])
def test_a_trial_that_was_believed_is_left_out_once_it_is_changed(copy: Path, tmp_path: Path, change: str):
    cache = tmp_path / "kept"
    assert len(only_reproducible(open_pool(copy), cache).candidates) == 4
    act, reason = CHANGES[change]
    times = {path: path.stat() for path in (copy / "trials" / "0001").iterdir()}
    act(RunDir(copy / "trials" / "0001"))
    for path, was in times.items():
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))  # as if nothing had been touched
    pool = only_reproducible(open_pool(copy), cache)
    assert [candidate.name for candidate in pool.candidates] == ["0000", "0002", "0003"]
    assert re.match(reason, pool.left_out["0001"]), pool.left_out["0001"]


def test_kept_predictions_are_believed_no_more_than_new_ones(copy: Path, tmp_path: Path):
    """They are held against val_probs.npy, and broken ones are made again."""
    cache = tmp_path / "kept"
    only_reproducible(open_pool(copy), cache)
    paths = sorted(cache.iterdir())
    whole = {path: path.read_bytes() for path in paths}
    paths[0].write_bytes(b"nonsense")
    np.save(paths[1], np.load(paths[1])[1:])
    np.save(paths[2], np.load(paths[2]).astype(np.float16))
    paths[3].unlink()
    assert len(only_reproducible(open_pool(copy), cache).candidates) == 4
    assert {path: path.read_bytes() for path in sorted(cache.iterdir())} == whole
    paths[0].unlink()
    keep(cache, paths[0].stem.partition("-")[0], np.load(paths[1]))  # another trial's
    left_out = only_reproducible(open_pool(copy), cache).left_out
    assert [reason.startswith(PREDICT) for name, reason in left_out.items() if name != "0004"] == [True]


def test_predictions_of_a_trial_that_is_left_out_are_not_kept(copy: Path, tmp_path: Path):
    scale_weights(RunDir(copy / "trials" / "0001"), 0)
    for _ in range(2):
        assert len(only_reproducible(open_pool(copy), tmp_path / "kept").candidates) == 3
        assert len(list((tmp_path / "kept").iterdir())) == 3
