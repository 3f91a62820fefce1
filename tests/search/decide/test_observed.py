"""What trials have come to, as observations."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.decide.curve_process import remaining
from search.decide.observed import Observed
from search.problem.space import Space
from tests.search.decide.test_samplers import CONDITIONAL
from trainer.config import TrainConfig

TEXT = """\
dropout = {type = "float", low = 0.0, high = 0.4}
norm = {type = "categorical", choices = ["rmsnorm", "layernorm"]}
num_layers = {type = "int", low = 3, high = 3}
"""


def _space(text: str = TEXT, epochs: int = 27) -> Space:
    return Space.parse(text, TrainConfig(epochs=epochs))


def _trial(space: Space, curve: list[float], state: TrialState = TrialState.PRUNED) -> FrozenTrial:
    params = {"dropout": 0.1, "norm": "layernorm", "num_layers": 3}
    values = dict(enumerate(curve, 1))
    return create_trial(
        state=state,
        value=curve[-1] if state == TrialState.COMPLETE else None,
        params=params,
        distributions=space.distributions,
        intermediate_values=values,
    )


def _numbered(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study.get_trials()


def test_epochs_are_averaged_over_spans_and_the_last_is_alone() -> None:
    space = _space()
    curve = [0.01 * epoch for epoch in range(1, 28)]
    trials = _numbered([_trial(space, curve[:4]), _trial(space, curve, TrialState.COMPLETE)])
    seen = Observed(space).read(trials, 1, most=100)
    assert seen.trainings.tolist() == [0] * 3 + [1] * 5
    assert seen.counts.tolist() == [1, 2, 1, 1, 2, 6, 17, 1]
    np.testing.assert_allclose(seen.values[:3], [0.01, 0.025, 0.04])
    np.testing.assert_allclose(seen.values[-2:], [0.01 * float(np.mean(range(10, 27))), 0.27])
    assert seen.remaining[:2].tolist() == [1.0, remaining(np.array([2.0, 3.0]), 27).mean()]
    assert seen.remaining[-1] == 0.0
    assert Observed(space).read(trials, -1, most=100).values[0] == -0.01


def test_a_failed_trial_counts_as_the_worst() -> None:
    space = _space(epochs=2)
    trials = _numbered([_trial(space, [0.5, 0.6], TrialState.COMPLETE), _trial(space, [0.9], TrialState.FAIL)])
    seen = Observed(space).read(trials, 1, most=100)
    assert seen.values.tolist() == [0.5, 0.6, 0.5]
    assert seen.remaining.tolist() == [1.0, 0.0, 0.0]


def test_of_too_many_those_stay_that_went_on_longest_and_the_best_of_these() -> None:
    space = _space()
    curves = [[0.1 * place] for place in range(5)] + [[0.0] * 4]
    seen = Observed(space).read(_numbered([_trial(space, curve) for curve in curves]), 1, most=5)
    assert seen.trainings.tolist() == [3, 4, 5, 5, 5]


def test_conditions_decide_which_parameters_a_configuration_has() -> None:
    observed = Observed(_space(CONDITIONAL))
    names = list(observed.coordinates.distributions)
    shares = np.full((2, len(names)), 0.9)
    shares[0, names.index("optimizer")], shares[1, names.index("optimizer")] = 0.1, 0.9
    lion, adamw = (observed.params(row) for row in shares)
    assert set(lion) == {"num_layers", "optimizer", "learning_rate@else"}
    assert set(adamw) == {"num_layers", "optimizer", "weight_decay", "learning_rate@optimizer=adamw"}
    settled = observed.settled(shares)
    assert settled[0, names.index("weight_decay")] == 0.5
    assert settled[1, names.index("weight_decay")] == 0.9
    assert observed.is_whole(lion)
    assert observed.is_whole(adamw)
    del adamw["weight_decay"]
    assert not observed.is_whole(adamw)
    assert not observed.is_whole({})


def test_a_trial_is_whole_once_it_has_all_its_parameters() -> None:
    space = _space()
    observed = Observed(space)
    (trial,) = _numbered([_trial(space, [0.1], TrialState.RUNNING)])
    whole, trial.params = trial.params, {"dropout": 0.1}
    assert observed.whole([trial]) == []
    trial.params = whole
    assert observed.whole([trial]) == [trial]


def test_what_is_the_same_in_all_is_given_but_not_searched() -> None:
    observed = Observed(_space())
    assert list(observed.coordinates.distributions) == ["dropout", "norm"]
    assert observed.params(np.array([0.25, 0.75])) == {"dropout": 0.1, "norm": "layernorm", "num_layers": 3}


def test_a_trial_is_read_again_once_it_has_gone_on() -> None:
    space = _space()
    observed = Observed(space)
    (trial,) = _numbered([_trial(space, [0.1], TrialState.RUNNING)])
    assert len(observed.read([trial], 1, most=9)) == 1
    trial.intermediate_values = {1: 0.1, 2: 0.2, 3: math.nan}
    assert observed.read([trial], 1, most=9).values.tolist() == pytest.approx([0.1, 0.2])
