"""Trials are read from the database as Optuna itself reads them."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy import event

from search.record.reading import read_all
from search.record.storage import connect

RANGES = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "layers": IntDistribution(1, 9, step=2),
    "norm": CategoricalDistribution(["rmsnorm", None, 3, True]),
}


@pytest.mark.parametrize("directions", [[StudyDirection.MAXIMIZE], [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]])
def test_trials_of_all_kinds_are_what_optuna_reads(tmp_path: Path, directions: list[StudyDirection]) -> None:
    storage = connect(f"sqlite:///{tmp_path / 'study.db'}")
    optuna.create_study(storage=storage, study_name="other").add_trial(create_trial(value=1.0))
    study = optuna.create_study(storage=storage, study_name="own", directions=directions)
    for number in range(3):
        trial = study.ask(RANGES if number else {"layers": RANGES["layers"]})
        for step, value in ((9, 0.5), (1, float("inf")), (2, float("-inf"))):
            storage.set_trial_intermediate_value(trial._trial_id, step, value)
        trial.set_user_attr("seconds", 1.5 + number)
        trial.set_user_attr("reason", {"text": "ü", "more": [None, 1]})
        storage.set_trial_system_attr(trial._trial_id, "halving:waits", {"epoch": 3})
        if number == 0:
            study.tell(trial, state=TrialState.FAIL)
        elif number == 1:
            study.tell(trial, [float("inf"), -2.0][: len(directions)])
    study.enqueue_trial({"layers": 5})
    trials, broken = read_all(storage, study._study_id)
    assert len(trials) == 4
    assert broken == {}
    assert trials == storage.get_all_trials(study._study_id)
    for read, known in zip(trials, storage.get_all_trials(study._study_id), strict=True):
        assert list(read.params.items()) == list(known.params.items())
        assert read._trial_id == known._trial_id
        read._validate()


def test_however_many_trials_there_are_six_questions_are_asked(tmp_path: Path) -> None:
    storage = connect(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage, study_name="own")
    study.add_trials([create_trial(value=1.0, params={"layers": 1}, distributions={"layers": RANGES["layers"]})] * 30)
    asked: list[str] = []
    event.listen(storage.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    trials, broken = read_all(storage, study._study_id)
    assert len(asked) == 6
    assert broken == {}
    assert len({id(trial.distributions["layers"]) for trial in trials}) == 1
