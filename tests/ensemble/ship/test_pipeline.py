"""The whole way from studies to a submission, as Python has it."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ensemble
from ensemble.budget import Budget
from ensemble.candidates import reproduction
from ensemble.candidates.opening import open_pool
from ensemble.evaluation import frontier
from ensemble.ship import pipeline
from ensemble.ship.pipeline import select
from tests.ensemble.conftest import change_fields
from trainer.common.errors import UserError
from trainer.metrics import accuracy, log_loss
from trainer.rundir import RunDir
from trainer.studydir import StudyDir


@pytest.fixture(autouse=True)
def small_frontier(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes most of the time."""
    monkeypatch.setattr(frontier, "LEVELS", 1)


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(study, tmp_path / "results" / "small")


@dataclasses.dataclass
class Study:
    """What search.search returns has a path, too."""

    path: Path


def test_gives_a_submission_that_predicts_and_knows_what_it_is(
    copy: Path, tmp_path: Path, generated: Path, capsys: pytest.CaptureFixture[str]
):
    submission = select(Study(copy), "2models", precision="float16", out=tmp_path / "out")
    assert submission.path == tmp_path / "out" / "submission.zip"
    about = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert submission.members is not None
    assert list(submission.members["trial"]) == [member["trial"] for member in about["members"]]
    assert submission.cost is not None
    assert dict(submission.cost) == about["cost"]
    assert str(submission.budget) == "2models"
    assert submission.accuracy == about["accuracy"]["unseen_participants"]["ensemble"]
    probs = submission.predict(next(generated.rglob("*.parquet")))
    assert probs.sum() == pytest.approx(1, abs=1e-3)
    assert set(probs.index) == set(StudyDir(copy).read_request()["label_names"])
    printed = capsys.readouterr().out
    assert "members" not in printed.replace("measuring", "")
    assert "wrote" not in printed


@pytest.mark.parametrize("precision", [["float32"], ["float32", "int8"]])
def test_a_trial_whose_predictions_were_changed_where_no_sample_is_is_left_out_once_it_is_chosen(
    copy: Path, monkeypatch: pytest.MonkeyPatch, precision: list[str], capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(reproduction, "SEQUENCES", 4)
    pool, run = open_pool(copy), RunDir(copy / "trials" / "0001")
    probs, labels = np.array(run.read_val_probs(), np.float64), pool.validation.labels
    rest = np.setdiff1d(np.arange(len(labels)), pool.spread(4))
    probs[rest] = 0.02 / (probs.shape[1] - 1)
    probs[rest, labels[rest]] = 0.98
    run.write_val_probs(probs)
    told = run.read_val_probs()
    change_fields(
        run.path / "done.json",
        val_accuracy=accuracy(told, labels),
        val_log_loss=log_loss(told, labels),
        sha256=run.hashes(),
    )
    submission = select(copy, "2models", precision=precision)
    assert submission.members is not None
    assert "0001" not in list(submission.members["trial"])
    (reason,) = [why for name, why in _left_out(copy).items() if name == "0001"]
    assert "does not predict what it was selected by" in reason
    assert reason.endswith("which is in val_probs.npy")
    assert f"left out, {reason}: 0001" in capsys.readouterr().out.splitlines()


def test_what_cannot_be_written_is_told_before_anything_is_measured(copy: Path):
    (copy / "ensemble" / "frontier.parquet" / "x").mkdir(parents=True)
    with pytest.raises(UserError, match=r"out: .*frontier.parquet: is a folder, not a file; remove it"):
        select(copy)


def test_a_full_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"gone: cannot be written to \(No such .*make room there, or set TMPDIR to"):
        pipeline._require_contract(b"TFL3", 3)


def _left_out(study: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((study / "ensemble" / "selection.json").read_text())["left_out"]
    return found


def test_by_default_writes_into_the_study_under_the_contests_limits(copy: Path):
    submission = ensemble.select(str(copy), precision=["float16"])
    assert submission.path == copy / "ensemble" / "submission.zip"
    assert submission.budget == Budget.parse("40MB,100ms")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": "40"}, "budget: '40' is not a number with a unit"),
        ({"budget": 0}, "budget: must be text such as .*, a Budget or None, not 0"),
        ({"metric": "f1"}, "metric: must be of blend, accuracy, log_loss, not f1"),
        ({"precision": ["float32", "int4"]}, "precision: must be of float32, float16, int8, not float32, int4"),
        ({"precision": []}, "precision: must be of float32, float16, int8, not nothing"),
        ({"threads": 0}, "threads: must be from 1 to 256, not 0"),
        ({"latency_scale": float("nan")}, "latency_scale: must be from 0.001"),
        ({"ship": "nowhere"}, "ship: nowhere: there is no such folder; give a study made by"),
        ({"data": "nowhere"}, "data: nowhere: not a packed dataset"),
    ],
)
def test_errors_name_the_argument(copy: Path, arguments: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        select(copy, **arguments)  # type: ignore[arg-type]  # any of them


def test_several_studies_need_a_folder(copy: Path):
    with pytest.raises(UserError, match="out: these are 2 studies: say which folder to write to"):
        select([copy, Study(copy.parent / "other")])
    with pytest.raises(UserError, match="studies: must name a study"):
        select([])
