"""The main job as a user does it, command by command, and its file against PyTorch."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from trainer.data.normalize import normalize, pick_landmarks
from trainer.model.classifier import SignClassifier
from trainer.rundir import RunDir

ROOT = Path(__file__).parents[2]
SPACE = """
num_heads = {type = "int", low = 1, high = 2}
learning_rate = {type = "float", low = 1e-4, high = 1e-3, log = true}
num_layers = 1
num_folds = 3
batch_size = 16
"""


def run(*arguments: str, cwd: Path) -> str:
    """A command's output; its errors are in the failure."""
    command = [sys.executable, "-m", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which synthesize, pack, search and select have been run."""
    work = tmp_path_factory.mktemp("work")
    (work / "space.toml").write_text(SPACE)
    run("trainer.synthesize", "signs", "--signs", "4", "--participants", "6", "--repeats", "3", cwd=work)
    run("trainer.pack", "signs", "packed", cwd=work)
    search = ("--trials", "2", "--data", "packed", "--name", "study", "--epochs", "2", "--no-seed-points")
    run("search.run", *search, "--space", "space.toml", "--pruner", "none", cwd=work)
    run("ensemble.select", "--budget", "--precision", "float32", "--results", "results/study", cwd=work)
    return work


def expected(work: Path, file: Path, study: str = "study", ships: str | None = None) -> np.ndarray:
    """What the selected members say of a file in PyTorch: the mean of their probabilities, by count.

    ``ships`` is the study whose weights were put in place of theirs.
    """
    raw = pd.read_parquet(file)[["x", "y", "z"]].to_numpy().reshape(-1, 543, 3)
    frames = normalize(pick_landmarks(raw))
    members = json.loads((work / "results" / study / "ensemble/selection.json").read_text())["members"]
    total, counts = np.zeros(4), 0
    for member in members:
        trial = RunDir(work / "results" / study / "trials" / member["trial"])
        if ships is not None:
            wanted = trial.read_config().replace(all_participants=True)
            others = map(RunDir, sorted((work / "results" / ships / "trials").iterdir()))
            (trial,) = [other for other in others if other.read_config() == wanted]
        model = SignClassifier(trial.read_config().model)
        model.load_state_dict(trial.read_weights())
        with torch.no_grad():
            probs = torch.softmax(model(torch.from_numpy(frames), np.array([len(frames)])), dim=-1)[0].numpy()
        total += member["count"] * probs
        counts += member["count"]
    return total / counts


def require_same(work: Path, study: str, ships: str | None = None) -> None:
    """That a study's submission says what PyTorch does."""
    from ai_edge_litert.interpreter import Interpreter

    with zipfile.ZipFile(work / "results" / study / "ensemble/submission.zip") as archive:
        assert archive.namelist() == ["model.tflite"]
        model = Interpreter(model_content=archive.read("model.tflite")).get_signature_runner("serving_default")
    files = sorted((work / "signs").rglob("*.parquet"))[::9]
    assert len(files) == 8
    for file in files:
        raw = pd.read_parquet(file)[["x", "y", "z"]].to_numpy(np.float32).reshape(-1, 543, 3)
        np.testing.assert_allclose(model(inputs=raw)["outputs"], expected(work, file, study, ships), atol=1e-4)


def test_the_submission_says_what_pytorch_says(work: Path) -> None:
    require_same(work, "study")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_selected_with_every_fold_ships_trained_on_everyone(work: Path) -> None:
    run("search.refit", "results/study", "--top", "2", "--seeds", "2", "--epochs", "2", "--folds", "all", cwd=work)
    select = (
        *["--budget", "2models", "--precision", "float32", "--prefer", "accuracy", "--results", "results/study-folds"],
    )
    told = run("ensemble.select", *select, cwd=work)
    selection = "results/study-folds/ensemble/selection.json"
    assert f"search.refit results/study-folds --ship-of {selection}, and this command again" in told
    assert "72 validation sequences, each of 3 folds in turn" in told
    require_same(work, "study-folds")
    before = json.loads((work / selection).read_text())
    run("search.refit", "results/study-folds", "--ship-of", selection, cwd=work)
    told = run("ensemble.select", *select, "--ship", "results/study-folds-ship", cwd=work)
    assert "the file holds the members' weights from training on all participants" in told
    after = json.loads((work / selection).read_text())
    assert [member["trial"] for member in after["members"]] == [member["trial"] for member in before["members"]]
    assert after["accuracy"] == before["accuracy"]
    assert after["sha256"] != before["sha256"]
    require_same(work, "study-folds", "study-folds-ship")


def test_predict_prints_the_likeliest_signs(work: Path) -> None:
    file = next(iter(sorted((work / "signs").rglob("*.parquet"))))
    name, *signs = run("ensemble.predict", "results/study/ensemble/submission.zip", str(file), cwd=work).split("\t")
    assert name == str(file)
    shown = [(sign.split()[0], float(sign.split()[1])) for sign in signs]
    probs = expected(work, file)
    order = np.argsort(-probs)
    assert [sign for sign, _ in shown] == [f"sign{index:03d}" for index in order]
    assert [prob for _, prob in shown] == pytest.approx(probs[order], abs=1e-3)


def test_the_study_opens_in_optuna_and_is_complete(work: Path) -> None:
    import optuna

    study = optuna.load_study(study_name="study", storage=f"sqlite:///{work}/results/study/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    assert [sorted(trial.intermediate_values) for trial in study.trials] == [[1, 2], [1, 2]]
    rows = pd.read_parquet(work / "results/study/trials.parquet")
    assert rows.set_index("number").loc[study.best_trial.number, "val_accuracy"] == study.best_value
    assert "accuracy" in run("search.table", "results/study", cwd=work)
