"""The ablation's arithmetic, its files, and that it goes on where it was."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from trainer import ablate
from trainer.ablate import ROWS, Claim, Measured, Row
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.rundir import RunDir

BASE = np.array([0.80, 0.81, 0.82])


@pytest.mark.parametrize(
    ("claim", "shift", "verdict"),
    [
        (Claim.WORSE, [-0.02, -0.021, -0.019], "yes"),
        (Claim.WORSE, [0.02, 0.021, 0.019], "no"),
        (Claim.WORSE, [-0.02, 0.02, 0.001], "unclear"),
        (Claim.NO_BETTER, [0.02, 0.021, 0.019], "no"),
        (Claim.NO_BETTER, [0.01, -0.01, 0.001], "yes"),
        (Claim.UNSAID, [0.02, 0.021, 0.019], ""),
    ],
)
def test_a_verdict_needs_two_standard_errors(claim: Claim, shift: list[float], verdict: str) -> None:
    measured = Measured(Row("x", {}, claim), BASE + shift, BASE)
    assert measured.verdict == verdict
    assert measured.difference == pytest.approx(np.mean(shift))
    assert measured.error == pytest.approx(np.std(shift, ddof=1) / 3**0.5)


def test_one_seed_settles_nothing() -> None:
    assert Measured(Row("x", {}, Claim.NO_BETTER), BASE[:1], BASE[:1]).verdict == "unclear"


def test_one_seed_and_divergence_are_shown_without_nan() -> None:
    one = Measured(Row("x", {}, Claim.WORSE), BASE[:1] - 0.01, BASE[:1])
    assert "| x |  | 0.7900 |  | -1.00 | worse | unclear |" in ablate.to_markdown([one], "title", "command")
    gone = Measured(Row("x", {}, Claim.WORSE), BASE * float("nan"), BASE)
    text = ablate.to_markdown([gone], "title", "command")
    assert "| x |  | diverged |  |  | worse | unclear |" in text
    assert "| base |  | 0.8100 | 0.0200 |" in text


def test_every_row_is_one_change_that_the_configuration_accepts() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert TrainConfig().replace(**row.changes) != TrainConfig()


def test_unknown_rows_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"--rows: there is no row 'mixdown'; the rows are mixup, "):
        ablate._chosen("mixup,mixdown")


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
