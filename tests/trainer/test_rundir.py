import dataclasses
import errno
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.rundir import EpochMetrics, Result, RunDir

RESULT = Result(
    val_accuracy=0.75,
    val_log_loss=0.9,
    epochs=2,
    num_parameters=123,
    seconds=4.5,
    precision="float32",
    device="cpu",
    data_fingerprint="ab12",
)


def metrics(epoch: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        train_loss=1 / 3 + epoch,
        val_accuracy=0.5,
        val_log_loss=1.25,
        learning_rate=1e-4,
        seconds=0.1,
        sequences_per_second=100.0,
    )


def test_everything_written_reads_back(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "deep" / "run")
    config = TrainConfig(learning_rate=3e-4).replace(num_heads=3)
    weights = {"a": torch.randn(3, 2), "b": torch.randn(4).bfloat16(), "c": torch.randn(6).view(2, 3).T}
    probs = np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32)
    run.write_config(config)
    run.append_metrics(metrics(1))
    run.append_metrics(metrics(2))
    run.write_checkpoint({"model.a": weights["a"]}, {"epochs": 2, "seconds": 0.1 + 0.2})
    run.write_weights(weights)
    run.write_val_probs(probs)
    assert not run.is_done
    run.write_result(RESULT)

    assert run.is_done
    assert run.read_config() == config
    assert run.read_metrics() == [metrics(1), metrics(2)]
    checkpoint = run.read_checkpoint()
    assert checkpoint is not None
    assert torch.equal(checkpoint[0]["model.a"], weights["a"])
    assert checkpoint[1] == {"epochs": 2, "seconds": 0.1 + 0.2}
    read = run.read_weights()
    assert {name: tensor.dtype for name, tensor in read.items()} == dict.fromkeys("abc", torch.float32)
    assert all(torch.equal(read[name], weights[name].float()) for name in weights)
    assert run.read_val_probs().dtype == np.float16
    np.testing.assert_array_equal(run.read_val_probs(), probs)
    assert run.read_result() == RESULT
    run.remove_checkpoint()
    assert run.read_checkpoint() is None


def test_formats_are_open_ones(tmp_path: Path) -> None:
    """Others read the directory without this package: JSON, npy and safetensors under the names of the design."""
    run = RunDir(tmp_path)
    run.write_config(TrainConfig())
    run.append_metrics(metrics(1))
    run.write_weights({"a": torch.ones(2)})
    run.write_val_probs(np.eye(2))
    run.write_result(RESULT)
    assert json.loads((tmp_path / "config.json").read_text())["model"]["num_heads"] == 2
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == dataclasses.asdict(metrics(1))
    assert safetensors.torch.load_file(tmp_path / "weights.safetensors")["a"].tolist() == [1, 1]
    assert np.load(tmp_path / "val_probs.npy", allow_pickle=False).tolist() == [[1, 0], [0, 1]]
    assert json.loads((tmp_path / "done.json").read_text())["val_accuracy"] == 0.75


WRITERS: dict[str, Callable[[RunDir], None]] = {
    "config.json": lambda run: run.write_config(TrainConfig()),
    "checkpoint.safetensors": lambda run: run.write_checkpoint({"a": torch.zeros(5)}, {"epochs": 1}),
    "weights.safetensors": lambda run: run.write_weights({"a": torch.zeros(5)}),
    "val_probs.npy": lambda run: run.write_val_probs(np.zeros((2, 2))),
    "done.json": lambda run: run.write_result(RESULT),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_replaced_whole_or_not_at_all(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path)
    WRITERS[name](run)
    (tmp_path / name).write_bytes(b"the former content")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        WRITERS[name](run)
    assert (tmp_path / name).read_bytes() == b"the former content"
    assert [path.name for path in tmp_path.iterdir()] == [name]


READERS: dict[str, Callable[[RunDir], Any]] = {
    "config.json": RunDir.read_config,
    "metrics.jsonl": RunDir.read_metrics,
    "checkpoint.safetensors": RunDir.read_checkpoint,
    "weights.safetensors": RunDir.read_weights,
    "val_probs.npy": RunDir.read_val_probs,
    "done.json": RunDir.read_result,
}
BROKEN = {
    "empty": b"",
    "noise": bytes(range(256)) + b"\n",
    "a list": b"[1, 2]\n",
    "wrong fields": b'{"wrong": 1}\n',
    "nested": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("name", READERS)
def test_a_broken_file_is_named(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BROKEN[kind])
    if (name, kind) == ("metrics.jsonl", "empty"):
        assert RunDir(tmp_path).read_metrics() == []
        return
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        READERS[name](RunDir(tmp_path))


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "weights.safetensors", "val_probs.npy"])
def test_a_truncated_file_is_named(name: str, tmp_path: Path) -> None:
    WRITERS[name](RunDir(tmp_path))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) - 3])
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        READERS[name](RunDir(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "val_probs.npy", "done.json"])
def test_an_absent_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        READERS[name](RunDir(tmp_path))


class Exploit:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", READERS)
def test_nothing_is_unpickled(name: str, tmp_path: Path) -> None:
    proof, path = tmp_path / "unpickled", tmp_path / name
    if name == "val_probs.npy":
        np.save(path, np.array([Exploit(proof)], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Exploit(proof)) + b"\n")
    with pytest.raises(UserError):
        READERS[name](RunDir(tmp_path))
    assert not proof.exists()


def test_a_half_written_metrics_line_is_left_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for epoch in (1, 2, 3):
        run.append_metrics(metrics(epoch))
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    last_line = whole.rindex(b"\n", 0, -1) + 1
    for end in (last_line, last_line + 1, len(whole) - 1):
        (tmp_path / "metrics.jsonl").write_bytes(whole[:end])
        assert run.read_metrics() == [metrics(1), metrics(2)]
    run.keep_metrics(1)
    run.append_metrics(metrics(2))
    assert run.read_metrics() == [metrics(1), metrics(2)]


def test_a_broken_metrics_line_before_the_last_is_an_error(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.append_metrics(metrics(1))
    content = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(content[:40] + "\n" + content)
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        run.read_metrics()


def changed(run: RunDir, name: str, field: str, value: str) -> None:
    """Put another value into the first line of a JSON file that has the field."""
    path = run.path / name
    path.write_text(re.sub(rf'"{field}": [^,\n}}]+', f'"{field}": {value}', path.read_text(), count=1))


WRONG_VALUES = [
    ("metrics.jsonl", "epoch", '"1"', "line 1: epoch: must be a whole number, not '1'"),
    ("metrics.jsonl", "epoch", "0", "line 1: epoch: must be at least 1, not 0"),
    ("metrics.jsonl", "seconds", "NaN", "line 1: NaN is no finite number"),
    ("metrics.jsonl", "val_accuracy", "1.5", "line 1: val_accuracy: must be between 0 and 1, not 1.5"),
    ("done.json", "num_parameters", "[]", "num_parameters: must be a whole number, not a list"),
    ("done.json", "num_parameters", "-3", "num_parameters: must be at least 1, not -3"),
    ("done.json", "val_log_loss", "1e400", r"cannot be read \(1e400 is no finite number\)"),
    ("done.json", "seconds", "true", "seconds: must be a number, not true"),
    ("done.json", "device", "null", "device: must be text, not null"),
    ("config.json", "num_heads", '"2"', "num_heads: must be of type int, not '2'"),
    ("config.json", "epochs", "9" * 30, r"cannot be read \(9+ does not fit into 64 bits\)"),
    ("config.json", "model", '3, "x": {"y": 1,', "model: must be an object of the model's fields, not 3"),
]


@pytest.mark.parametrize(("name", "field", "value", "words"), WRONG_VALUES)
def test_a_value_of_another_type_or_range_is_named(
    name: str, field: str, value: str, words: str, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    if name == "metrics.jsonl":
        run.append_metrics(metrics(1))
    else:
        WRITERS[name](run)
    changed(run, name, field, value)
    with pytest.raises(UserError, match=rf"{re.escape(name)}: {words}.*; bring the file back as it was written"):
        READERS[name](run)


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunDir(tmp_path).append_metrics(dataclasses.replace(metrics(1), train_loss=float("nan")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunDir(tmp_path).write_result(dataclasses.replace(RESULT, val_log_loss=float("inf")))
    assert not RunDir(tmp_path).is_done


def test_a_run_claims_no_folder_of_something_else(tmp_path: Path) -> None:
    RunDir(tmp_path / "new").require_own()
    (tmp_path / "metrics.jsonl").touch()
    RunDir(tmp_path).require_own()
    (tmp_path / "train.csv").touch()
    with pytest.raises(UserError, match=r"holds something else \(train\.csv\); choose another directory"):
        RunDir(tmp_path).require_own()


def test_a_result_is_of_the_last_epoch(tmp_path: Path):
    run, config = RunDir(tmp_path), TrainConfig(epochs=3)
    result = dataclasses.replace(RESULT, epochs=3, val_accuracy=0.5, val_log_loss=1.25)
    run.require_own_result(config, result)
    for epoch in (1, 2, 3):
        run.append_metrics(metrics(epoch))
    run.require_own_result(config, result)
    with pytest.raises(UserError, match=r"done.json: epochs: 3, but config.json has 4; bring the file back"):
        run.require_own_result(config.replace(epochs=4), result)
    with pytest.raises(UserError, match=r"done.json: val_accuracy: 0.6000, but metrics.jsonl has 0.5000; bring"):
        run.require_own_result(config, dataclasses.replace(result, val_accuracy=0.6))
    with pytest.raises(UserError, match=r"done.json: val_log_loss: 1.3000, but metrics.jsonl has 1.2500; bring"):
        run.require_own_result(config, dataclasses.replace(result, val_log_loss=1.3))


def test_a_checkpoint_that_was_damaged_is_not_gone_on_from(tmp_path: Path):
    run, tensors = RunDir(tmp_path), {"b": torch.arange(4.0), "a": torch.ones(2, 2, dtype=torch.bfloat16)}
    run.write_checkpoint(tensors, {"epochs": 3})
    kept = run.read_checkpoint()
    assert kept is not None
    assert kept[1] == {"epochs": 3}
    path = tmp_path / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"checkpoint.safetensors: cannot be read \(it was damaged or changed .*remove it"
    ):
        run.read_checkpoint()
    path.write_bytes(path.read_bytes().replace(b'epochs\\": 3', b'epochs\\": 2'))
    with pytest.raises(UserError, match="damaged or changed"):
        run.read_checkpoint()


def test_a_finished_run_knows_its_files(tmp_path: Path):
    run = RunDir(tmp_path)
    run.write_config(TrainConfig())
    run.write_weights({"a": torch.ones(2)})
    run.write_result(RESULT)
    run.require_unchanged()
    assert run.read_result() == RESULT
    run.write_config(TrainConfig(seed=1))
    with pytest.raises(UserError, match=r"config.json: is not the file that the training left"):
        run.require_unchanged()
    run.write_config(TrainConfig())
    run.require_unchanged()
    run.write_val_probs(np.full((1, 2), 0.5))
    with pytest.raises(UserError, match=r"val_probs.npy: is not the file"):
        run.require_unchanged()


def test_weights_are_float32_however_they_are_stored(tmp_path: Path):
    safetensors.torch.save_file({"a": torch.ones(2, dtype=torch.float16)}, tmp_path / "weights.safetensors")
    assert RunDir(tmp_path).read_weights()["a"].dtype == torch.float32
    safetensors.torch.save_file({"a": torch.ones(2, dtype=torch.int8)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"weights.safetensors: a: holds torch.int8, not floating point numbers"):
        RunDir(tmp_path).read_weights()


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "weights.safetensors"])
def test_a_full_disk_is_an_error_of_the_file_also_where_a_library_writes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as failure:
        WRITERS[name](RunDir(tmp_path))
    assert (failure.value.errno, failure.value.filename) == (errno.ENOSPC, str(tmp_path / name))
    assert not list(tmp_path.iterdir())
