"""What was predicted for held-out sequences: of an ensemble, of a trial, of folds in turn, and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.record.held_out import Predictions, read_predictions
from search.record.request import Request
from search.record.trials import read_rows
from search.show.report_page import best_of
from tests.outcomes import result_of
from tests.search.show.pages import EPOCHS, write_predictions, write_study
from tests.trainer.conftest import NUM_SIGNS
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.studydir import StudyDir


def probs_of(*named: int) -> np.ndarray:
    """Sequences that are named as these labels, with probability 1."""
    return np.eye(NUM_SIGNS, dtype=np.float32)[list(named)]


@pytest.fixture
def study(tmp_path: Path, packed: Path) -> Path:
    """Three complete trials, the last of which is the best."""
    return write_study(tmp_path / "study", packed, ["COMPLETE"] * 3)


def read(directory: Path, selected: list[dict[str, Any]] | None = None) -> Predictions:
    study = StudyDir(directory)
    return read_predictions(study, Request.read(study), best_of(read_rows(directory)), selected or [])


def test_without_an_ensemble_it_is_the_best_trial(study: Path) -> None:
    write_predictions(study, {2: probs_of(0, 1, 1), 1: probs_of(1, 1, 1)})
    found = read(study)
    assert found.of == "trial 2, the best of those that are complete"
    assert found.held_out.labels.tolist() == [0, 1, 0]
    assert found.members[0].argmax(axis=1).tolist() == [0, 1, 1]
    assert (found.counts, found.remarks) == ((1,), ())


def test_an_ensembles_members_come_with_their_counts(study: Path) -> None:
    write_predictions(study, {0: probs_of(0, 0), 1: probs_of(1, 1)})
    found = read(study, [{"trial": "0001", "count": 3}, {"trial": "0000", "count": 1}])
    assert found.of == "the ensemble"
    assert found.counts == (3, 1)
    assert [probs.argmax(axis=1).tolist() for probs in found.members] == [[1, 1], [0, 0]]
    assert read(study, [{"trial": "0001", "count": 2}]).of == "the ensemble, which is trial 1 alone"


def test_an_ensemble_of_several_studies_is_judged_elsewhere(study: Path) -> None:
    write_predictions(study, {2: probs_of(0, 1)})
    found = read(study, [{"trial": "a/0001", "count": 1}, {"trial": "b/0001", "count": 1}])
    assert found.of.startswith("trial 2")
    assert "trials of several studies" in found.remarks[0]


def test_every_file_is_asked_for_before_it_is_read(study: Path) -> None:
    asked: list[str] = []

    def bring(name: str) -> None:
        if not asked:
            write_predictions(study, {2: probs_of(0, 1)})
        asked.append(name)

    opened = StudyDir(study)
    read_predictions(opened, Request.read(opened), best_of(read_rows(study)), fetch=bring)
    assert asked == ["validation.parquet", "trials/0002/val_probs.npy"]


@pytest.mark.parametrize(
    ("probs", "words"),
    [
        (None, r"^trials/0002/val_probs\.npy: there is no such file"),
        (probs_of(0), r"val_probs\.npy: shape \[1, .*\], not \[2, .*\] as validation\.parquet says"),
        (probs_of(0, 1) * 0.5, "rows that are no probabilities"),
        (np.full((2, NUM_SIGNS), np.nan), "rows that are no probabilities"),
    ],
)
def test_missing_and_broken_files_are_named(study: Path, probs: np.ndarray | None, words: str) -> None:
    with pytest.raises(UserError, match=r"validation\.parquet: there is no such file"):
        read(study)
    write_predictions(study, {1: probs_of(0, 1)})
    if probs is not None:
        StudyDir(study).trial(2).write_val_probs(probs)
    with pytest.raises(UserError, match=words):
        read(study)


def test_what_the_training_did_not_leave_is_refused(study: Path) -> None:
    best = best_of(read_rows(study))
    write_predictions(study, {2: probs_of(0, 1)})
    run = StudyDir(study).trial(2)
    run.write_config(TrainConfig())
    run.write_result(result_of(EPOCHS, 0.5))
    run.write_val_probs(probs_of(1, 1))
    opened = StudyDir(study)
    with pytest.raises(UserError, match="is not the file that the training left"):
        read_predictions(opened, Request.read(opened), best)


def test_without_a_complete_trial_there_are_none(tmp_path: Path, packed: Path) -> None:
    directory = write_study(tmp_path / "study", packed, ["PRUNED"])
    with pytest.raises(UserError, match="no trial is complete yet"):
        read(directory)


FOLDS = np.array([1, 0, 0, 1])


def _finish(directory: Path, trial: int, fold: int, seed: int = 0) -> None:
    run = StudyDir(directory).trial(trial)
    run.write_config(TrainConfig(epochs=EPOCHS, seed=seed, fold=fold))
    run.write_result(result_of(EPOCHS, 0.5))


def test_trainings_of_all_folds_complete_each_other(study: Path) -> None:
    best = best_of(read_rows(study))
    write_predictions(study, {0: probs_of(1, 0), 2: probs_of(2, 1), 1: probs_of(1, 1)}, FOLDS)
    _finish(study, 0, fold=0)
    _finish(study, 2, fold=1)
    _finish(study, 1, fold=0, seed=7)  # another seed is another model
    for selected in ([], [{"trial": "0000", "count": 1}]):
        opened = StudyDir(study)
        found = read_predictions(opened, Request.read(opened), best, selected)
        assert found.members[0].argmax(axis=1).tolist() == [2, 1, 0, 1]
        assert found.held_out.sequence_ids.tolist() == [10, 11, 12, 13]
        assert "by the training that its fold was held out of" in found.remarks[0]


def test_a_trial_without_the_other_folds_is_judged_on_its_own(study: Path) -> None:
    best = dataclasses.replace(read_rows(study)[0], number=1)
    write_predictions(study, {0: probs_of(1, 0), 1: probs_of(0, 1)}, FOLDS)
    _finish(study, 0, fold=0)
    _finish(study, 1, fold=1, seed=7)
    opened = StudyDir(study)
    found = read_predictions(opened, Request.read(opened), best)
    assert found.held_out.sequence_ids.tolist() == [10, 13]
    assert found.members[0].argmax(axis=1).tolist() == [0, 1]
    assert "judged on its own fold" in found.remarks[0]
    with pytest.raises(UserError, match="not trained with every fold"):
        read_predictions(opened, Request.read(opened), best, [{"trial": f"000{trial}", "count": 1} for trial in (0, 1)])
