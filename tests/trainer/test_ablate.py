"""The command that measures the recipe's parts: its files, and that it goes on where it was."""

import importlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from trainer.common.errors import UserError
from trainer.data.dataset import PackedDataset
from trainer.learning.ablation import CHANGES
from trainer.rundir import RunDir

ablate = importlib.import_module("trainer.ablate")


def test_the_command_trains_every_row_once_and_goes_on(
    dataset: PackedDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["ablate", "--data", str(dataset.path), "--out", str(tmp_path), "--rows", "mirror", "--seeds", "2"]
    argv += ["--num-layers", "1", "--num-heads", "1", "--epochs", "1", "--device", "cpu", "--workers", "1"]
    argv += ["--num-folds", "2"]
    with mock.patch("sys.argv", argv):
        ablate.main()
    runs = {path.name: RunDir(path) for path in (tmp_path / "runs").iterdir()}
    assert set(runs) == {"base-0", "base-1", "mirror-0", "mirror-1"}
    for name, run in runs.items():
        config = run.read_config()
        assert (config.seed, config.fold) == (int(name[-1]),) * 2
        assert config.mirror_probability == (0.0 if name.startswith("mirror") else 0.5)
    written = (tmp_path / "ablation.md").read_text()
    mean = np.mean([runs[f"mirror-{seed}"].read_result().val_accuracy for seed in range(2)])
    assert f"| mirror | mirror_probability 0.0 | {mean:.4f} |" in written
    assert "python -m trainer.ablate --data" in written
    stamps = {name: (run.path / "done.json").stat().st_mtime_ns for name, run in runs.items()}
    with mock.patch("sys.argv", argv):
        ablate.main()
    assert stamps == {name: (run.path / "done.json").stat().st_mtime_ns for name, run in runs.items()}
    assert (tmp_path / "ablation.md").read_text() == written
    assert "mirror" in capsys.readouterr().out


def test_too_few_participants_are_refused_before_a_folder_is_taken(dataset: PackedDataset, tmp_path: Path) -> None:
    argv = ["ablate", "--data", str(dataset.path), "--out", str(tmp_path), "--num-folds", "99"]
    with (
        mock.patch("sys.argv", argv),
        pytest.raises(UserError, match=r"^--num-folds: .* cannot be dealt into 99 folds; choose 2 to"),
    ):
        ablate.main()
    assert not list(tmp_path.iterdir())


def test_the_help_lists_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch("sys.argv", ["ablate", "--help"]), pytest.raises(SystemExit):
        ablate.main()
    assert ",".join(row.name for row in CHANGES) in "".join(capsys.readouterr().out.split())
