"""What configurations cost beside each other, and how much that weighs."""

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from search.decide.cost import BESIDE, Costs, heat
from search.decide.observed import Observed
from search.problem.space import DEFAULT_SPACE, SMALL_SPACE, Space
from tests.search.decide.test_samplers import CONDITIONAL, _space
from tests.search.studies import open_study
from trainer.config import ModelConfig, TrainConfig
from trainer.model.classifier import SignClassifier


def _parameters(num_heads: int, num_layers: int) -> int:
    model = SignClassifier(ModelConfig(num_heads=num_heads, num_layers=num_layers))
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("text", [DEFAULT_SPACE, CONDITIONAL])
def test_the_cost_of_shares_is_the_size_of_their_model(text: str) -> None:
    space = _space(text)
    observed = Observed(space)
    shares = observed.settled(np.random.default_rng(0).random((50, len(observed.coordinates.distributions))))
    found = Costs(space, observed).of_shares(shares)
    for cost, row in zip(found, shares, strict=True):
        model = space.config(observed.params(row)).model
        size = _parameters(model.num_heads, model.num_layers)
        assert cost == pytest.approx(np.log(size + BESIDE))
    assert len(set(found)) > 1


def test_the_cost_of_a_trial_is_that_of_its_shares() -> None:
    space = _space(DEFAULT_SPACE)
    observed = Observed(space)
    shares = observed.settled(np.random.default_rng(1).random((5, len(observed.coordinates.distributions))))
    trials = [
        create_trial(state=TrialState.PRUNED, params=observed.params(row), distributions=space.distributions)
        for row in shares
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    costs = Costs(space, observed)
    np.testing.assert_allclose(costs.of_trials(trials), costs.of_shares(shares))


def test_where_no_parameter_changes_the_model_all_cost_the_same() -> None:
    space = _space('dropout = {type = "float", low = 0.0, high = 0.4}')
    assert Costs(space, Observed(space)).of_shares(np.array([[0.1], [0.9]])).tolist() == [0.0, 0.0]


def test_costs_weigh_less_with_every_trial_that_begins(tmp_path: Path) -> None:
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=3))
    study = open_study(tmp_path, space, trials=4)
    weights = [heat(study._study)]
    for _ in range(4):
        assert study.ask() is not None
        weights.append(heat(study._study))
    assert weights == [1.0, 0.75, 0.5, 0.25, 0.0]
    study.close()
    longer = open_study(tmp_path, space, trials=16)
    assert heat(longer._study) == 0.75
    longer.close()


def test_a_study_that_does_not_say_how_many_trials_are_asked_for_weighs_costs_in_full() -> None:
    study = optuna.create_study()
    study.ask()
    assert heat(study) == 1.0


@pytest.mark.parametrize(
    ("text", "max_params", "differ"),
    [
        (DEFAULT_SPACE, None, True),
        (DEFAULT_SPACE, 2_000_000, False),
        (SMALL_SPACE, None, False),
        ('num_layers = {type = "int", low = 1, high = 4}', None, False),
        ('dropout = {type = "float", low = 0.0, high = 0.4}', None, False),
    ],
)
def test_costs_weigh_where_they_differ_twelvefold(text: str, max_params: int | None, differ: bool) -> None:
    space = _space(text)
    space = space if max_params is None else space.limited(max_params)
    assert Costs(space, Observed(space)).differ == differ
