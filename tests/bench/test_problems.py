"""The problems of tests.bench.search."""

from typing import Any, Final

import numpy as np
import pytest

from tests.bench.problems import CHOSEN_ON, COORDINATES, PROBLEMS, FunctionProblem, problem

PARAMS: Final[dict[str, Any]] = {  # of "recorded"
    "num_layers": 1,
    "dropout": 0.1,
    "learning_rate": 0.003,
    "mixup_alpha": 0.3,
    "time_stretch": 0.2,
    "pooling": "cls",
}


def test_half_of_the_problems_are_for_choosing() -> None:
    assert set(CHOSEN_ON) < set(PROBLEMS)


@pytest.mark.parametrize("name", ["hartmann3-bad", "hartmann6-good"])
def test_a_hartmann_function_is_searched_over_its_unit_cube(name: str) -> None:
    its = problem(name)
    assert isinstance(its, FunctionProblem)
    params = {field: 0.1 * (index + 1) for index, field in enumerate(its.space.distributions)}
    assert list(params) == list(COORDINATES[: its.function.dimensions])
    training = its.train(params, seed=1, number=2)
    assert training.worth == pytest.approx(its.function.expected(np.array(list(params.values())))[-1])
    assert training.accuracies[-1] == pytest.approx(training.worth)
    assert its.regret(its.optimum) == 0
    assert its.regret(0.75 * its.optimum) == pytest.approx(0.25)
    assert its.space.recipe_points() == []  # a search is given no point


@pytest.mark.parametrize("name", ["hartmann3-good", "recorded"])
def test_luck_is_of_the_seed_and_the_number_alone(name: str) -> None:
    its = problem(name)
    params = PARAMS if name == "recorded" else dict.fromkeys(its.space.distributions, 0.5)
    same, again, later, elsewhere = (its.train(params, *key).accuracies for key in ((3, 5), (3, 5), (3, 6), (4, 5)))
    assert (same == again).all()
    assert (same != later).any()
    assert (same != elsewhere).any()


def test_a_replayed_training_is_worth_what_is_expected_and_costs_by_its_size() -> None:
    its = problem("recorded")
    trainings = [its.train(PARAMS, 0, number) for number in range(100)]
    assert len({training.worth for training in trainings}) == 1
    finals = np.array([training.accuracies[-1] for training in trainings])
    assert 0.01 < finals.std() < 0.1
    assert abs(finals.mean() - trainings[0].worth) < 0.03
    larger = its.train({**PARAMS, "num_layers": 3}, 0, 0)
    assert trainings[0].epoch_seconds is not None
    assert larger.epoch_seconds is not None
    assert larger.epoch_seconds > 1.5 * trainings[0].epoch_seconds
