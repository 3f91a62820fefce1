"""A study's outcome tells trials that are lost, run twice or changed. The studies come without Ray."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search.problem.space import Space
from tests.faults.outcome import Outcome, outcome_of
from tests.faults.searches import Ended, finished
from tests.outcomes import metrics_of, result_of
from tests.search.conftest import TINY_SPACE
from tests.search.studies import request_of
from trainer.config import TrainConfig
from trainer.rundir import VAL_PROBS, WEIGHTS
from trainer.studydir import StudyDir

TRIALS, EPOCHS = 3, 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three trials, all complete. Read only."""
    from search.decide.study import SearchStudy

    path = tmp_path_factory.mktemp("outcome") / "study"
    path.mkdir()
    space = Space.parse(TINY_SPACE, TrainConfig(epochs=EPOCHS))
    request = request_of(space, trials=TRIALS, sampler="random", pruner="none", recipe_points=False, name="study")
    request.write(StudyDir(path))
    deciding = SearchStudy(StudyDir(path), request)
    while (assignment := deciding.ask()) is not None:
        run = deciding.run_dir(assignment.number)
        for epoch in range(1, EPOCHS + 1):
            run.append_metrics(metrics_of(epoch, 0.5))
            deciding.report(assignment.number, metrics_of(epoch, 0.5))
        (run.path / WEIGHTS).write_bytes(b"weights")
        run.write_val_probs(np.full((2, 2), 0.5))
        result = result_of(EPOCHS, 0.5)
        run.write_result(result)
        deciding.complete(assignment.number, result)
    deciding.close()
    return path


def _again(study: Path) -> None:
    os.utime(study / "trials" / "0001" / "done.json", ns=(1, 1))


def _line_twice(study: Path) -> None:
    with (study / "trials" / "0001" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(vars(metrics_of(1, 0.5))) + "\n")


def _gone(study: Path) -> None:
    (study / "trials" / "0001" / "done.json").unlink()


def _other_weights(study: Path) -> None:
    (study / "trials" / "0001" / WEIGHTS).write_bytes(b"others")


def _other_probs(study: Path) -> None:
    (study / "trials" / "0001" / VAL_PROBS).write_bytes(b"others")


def _no_database(study: Path) -> None:
    (study / "study.db").write_bytes(b"nonsense")


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda _: None, {}),
        (_again, {"run_twice": 1}),
        (_line_twice, {"run_twice": 1}),
        (_gone, {"lost": 1}),
        (_other_weights, {"changed": 1}),
        (_other_probs, {"changed": 1}),
        (_no_database, {"unreadable": 1, "lost": TRIALS, "complete": 0}),
    ],
)
def test_harm_is_counted(harm: Callable[[Path], None], expected: dict[str, int], whole: Path, tmp_path: Path) -> None:
    study = shutil.copytree(whole, tmp_path / "study")
    before = finished(study)
    harm(study)
    found = outcome_of(study, TRIALS, EPOCHS, [before], finished(whole))
    assert found == Outcome(**{"trials": TRIALS, "complete": TRIALS, **expected})
    assert found.is_right == (not expected)


def test_a_study_with_fewer_trials_than_asked_for_has_lost_some(whole: Path) -> None:
    assert outcome_of(whole, TRIALS + 2, EPOCHS, []).lost == 2


@pytest.mark.parametrize(
    ("ended", "is_clean"),
    [
        (Ended(0, "table", ""), True),
        (Ended(0, "table", "a warning\n"), False),
        (Ended(2, "", "error: the disk is full\n"), True),
        (Ended(2, "", "error: the disk\nis full\n"), False),
        (Ended(1, "", "Traceback\n"), False),
        (Ended(-6, "", "*** SIGTERM received\n"), False),
    ],
)
def test_a_driver_ends_well_or_in_one_line(ended: Ended, is_clean: bool) -> None:
    assert ended.is_clean == is_clean
