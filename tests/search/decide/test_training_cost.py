"""What an epoch of a configuration costs."""

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from search.decide.coordinates import Coordinates
from search.decide.posterior import Posterior
from search.decide.training_cost import FEWEST, TrainingCost, known
from search.problem.space import DEFAULT_SPACE, Space
from tests.search.decide.test_samplers import _space, _study
from trainer.config import TrainConfig
from trainer.model.classifier import num_parameters

SPACE = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=9))


def _points(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Configurations [N, F] of the default space, and logarithms of seconds that grow with their parameters."""
    coordinates, rng = Coordinates(SPACE.distributions), np.random.default_rng(seed)
    shares = coordinates.snapped(rng.random((count, len(SPACE.distributions))))
    sizes = [num_parameters(SPACE.config(coordinates.params(row)).model) for row in shares]
    return coordinates.points(shares), np.log(0.05 + 0.75e-6 * np.array(sizes))


def test_it_learns_what_sizes_cost_from_few_trainings() -> None:
    points, logarithms = _points(30)
    noisy = logarithms + np.random.default_rng(1).normal(size=30) * 0.1
    others, expected = _points(200, seed=2)
    found = TrainingCost(points, noisy.tolist()).predict(others)
    assert np.corrcoef(found, expected)[0, 1] > 0.9
    assert np.abs(found - expected).mean() < 0.4


def test_what_differs_by_chance_alone_is_nearly_level() -> None:
    points, _ = _points(30)
    noise = np.random.default_rng(1).normal(size=30) * 0.05
    assert np.ptp(TrainingCost(points, noise.tolist()).predict(_points(200, seed=2)[0])) < 0.15


@pytest.mark.parametrize(
    ("state", "attributes", "values", "expected"),
    [
        (TrialState.PRUNED, {"seconds": 12.0}, {1: 0.1, 3: 0.2}, np.log(4.0)),
        (TrialState.RUNNING, {"seconds": 12.0}, {1: 0.1, 3: 0.2}, None),
        (TrialState.FAIL, {"seconds": 12.0}, {1: 0.1}, None),
        (TrialState.PRUNED, {}, {1: 0.1}, None),
        (TrialState.PRUNED, {"seconds": 0.0}, {1: 0.1}, None),
        (TrialState.PRUNED, {"seconds": 1.0}, {}, None),
    ],
)
def test_trainings_that_ended_well_or_are_paused_tell(
    state: TrialState, attributes: dict[str, float], values: dict[int, float], expected: float | None
) -> None:
    assert known(create_trial(state=state, user_attrs=attributes, intermediate_values=values)) == expected


def test_too_few_trainings_tell_nothing() -> None:
    space = _space('dropout = {type = "float", low = 0.0, high = 0.4}')
    study, posterior = optuna.create_study(direction="maximize"), Posterior(space)
    for number in range(FEWEST):
        assert posterior.cost(study.trials) is None
        params = {"dropout": 0.05 * number}
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params=params,
                distributions=space.distributions,
                intermediate_values={1: 0.5},
                user_attrs={"seconds": 1.0},
            )
        )
    assert posterior.cost(study.trials) is not None


def test_of_configurations_that_promise_as_much_the_cheaper_are_tried() -> None:
    space = _space('num_heads = {type = "int", low = 1, high = 8}\ndropout = {type = "float", low = 0.0, high = 0.4}')
    heads = {}
    for cost in (0.0, 1.0):
        study = _study("gp", space)
        for _ in range(40):
            trial = study.ask()
            space.suggest(trial)
            trial.report(-((trial.params["dropout"] - 0.1) ** 2), 1)
            trial.set_user_attr("seconds", float(np.exp(cost * trial.params["num_heads"])))
            study.tell(trial, state=TrialState.PRUNED)
        heads[cost] = np.mean([trial.params["num_heads"] for trial in study.trials[FEWEST:]])
    assert heads[1.0] < heads[0.0] - 1
