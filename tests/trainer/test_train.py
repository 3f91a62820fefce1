"""The command that trains: its options, what it prints, and that a killed run goes on."""

import importlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.trainer.learning.test_loop import CHANGES, outcome
from trainer.common import cli
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.learning.loop import train
from trainer.rundir import RunDir


def command(data: Path, out: Path, config: TrainConfig) -> list[str]:
    values = {**config.to_json(), **config.to_json()["model"]}
    options = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        elif name not in ("model", "num_signs") and value is not None:
            options.append(f"--{option}={value}")
    program = [sys.executable, "-m", "trainer.train", f"--data={data}", f"--out={out}"]
    return [*program, "--device=cpu", "--threads=1", *options]


def test_a_killed_run_goes_on_bitwise(dataset: PackedDataset, config: TrainConfig, tmp_path: Path) -> None:
    """SIGKILL in the middle of an epoch, then the same command again; it prints its table by epoch."""
    config = config.replace(epochs=5, steps_per_epoch=60)
    killed, undisturbed = RunDir(tmp_path / "killed"), RunDir(tmp_path / "undisturbed")
    program = command(dataset.path, killed.path, config)
    with subprocess.Popen(program, stdout=subprocess.DEVNULL) as process:
        while not (killed.path / "checkpoint.safetensors").exists():
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not killed.is_done
    assert 1 <= len(killed.read_metrics()) < config.epochs

    done = len(killed.read_metrics())
    title, *table = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    assert title.split() == ["epoch", "train", "loss", "val", "accuracy", "val", "log", "loss", "seq/s", "seconds"]
    epochs = [int(line.split()[0]) for line in table if line.split()[0].isdigit()]
    assert epochs in (list(range(done + 1, 6)), list(range(done, 6)))  # killed between metrics and checkpoint: again
    assert "on the held-out participants" in " ".join(table[len(epochs) :])

    train(config, dataset, undisturbed)
    assert outcome(killed) == outcome(undisturbed)


def run_main(monkeypatch: pytest.MonkeyPatch, *options: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["trainer.train", *map(str, options)])
    with pytest.raises(SystemExit) as exit_:
        cli.run(importlib.import_module("trainer.train").main)
    return exit_.value.code


def test_every_field_is_an_option(
    dataset: PackedDataset, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the command line is in the run's configuration; "--no-rotary" and its like turn a field off."""
    config = config.replace(**CHANGES | {"epochs": 1, "steps_per_epoch": 1})
    assert run_main(monkeypatch, *command(dataset.path, tmp_path, config)[3:]) == 0
    assert RunDir(tmp_path).read_config() == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-heads", "0"], "--num-heads: must be"),
        (["--num-heads", "two"], "--num-heads"),
        (["--no-such-option", "1"], "--no-such-option"),
        (["--precision", "float64"], "--precision: 'float64' is not one of auto, float32, bfloat16"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--num-folds", "40"], ": 5 participants cannot be dealt into 40 folds; choose 2 to 5"),
        (["--device", "no-such-device"], "--device: no-such-device: there is no such device; on this machine use cpu"),
        (["--threads", "0"], "--threads"),
        (["--learning-rate", "1e30", "--steps-per-epoch", "5"], "try a lower --learning-rate"),
    ],
)
def test_bad_options_exit_2_without_a_traceback(
    options: list[str],
    message: str,
    dataset: PackedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = ["--num-heads", 1, "--num-layers", 1, "--epochs", 1, "--device", "cpu"]
    code = run_main(monkeypatch, "--data", dataset.path, "--out", tmp_path, *small, *options)
    printed = capsys.readouterr()
    assert code == 2
    assert message in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_finished_run_says_that_nothing_was_trained(
    dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--num-heads", 1, "--num-layers", 1, "--epochs", 1, "--device", "cpu", "--all-participants"]
    assert run_main(monkeypatch, "--data", dataset.path, "--out", tmp_path, *small) == 0
    first = capsys.readouterr().out.splitlines()
    assert run_main(monkeypatch, "--data", dataset.path, "--out", tmp_path, *small) == 0
    assert len(first) == 3  # heading, epoch, result
    assert "on participants that it was trained on" in first[-1]
    again = "this run was finished before: nothing was trained; choose another --out to train anew"
    assert capsys.readouterr().out.splitlines() == [first[-1], again]
