"""Configurations that a user asks for."""

from typing import Any

import numpy as np
import pytest

from search.problem.points import described_space, to_point, to_points
from search.problem.space import Space
from trainer.common.errors import UserError
from trainer.config import TrainConfig

SPACE = Space.parse(
    """
num_heads = {type = "int", low = 1, high = 8}
batch_size = {type = "int", low = 16, high = 64, step = 16}
dropout = {type = "float", low = 0.0, high = 0.4}
learned_positions = {type = "categorical", choices = [true, false]}
optimizer = {type = "categorical", choices = ["lion", "adamw"]}
weight_decay = {type = "float", low = 1e-3, high = 1.0, log = true, when = {optimizer = "adamw"}}
learning_rate = [
    {type = "float", low = 3e-4, high = 1e-2, log = true, when = {optimizer = "adamw"}},
    {type = "float", low = 3e-5, high = 1e-3, log = true},
]
""",
    TrainConfig(),
)


@pytest.mark.parametrize(
    ("given", "point"),
    [
        ({"num_heads": "3", "dropout": "0.2"}, {"num_heads": 3, "dropout": 0.2}),
        ({"num_heads": np.int64(8), "dropout": 0}, {"num_heads": 8, "dropout": 0.0}),
        ({"learned_positions": "false"}, {"learned_positions": False}),
        ({"learned_positions": True, "batch_size": "48"}, {"learned_positions": True, "batch_size": 48}),
        (
            {"learning_rate": "5e-3", "weight_decay": "0.5", "optimizer": "adamw"},
            {"optimizer": "adamw", "weight_decay": 0.5, "learning_rate@optimizer=adamw": 0.005},
        ),
        ({"learning_rate": "1e-4", "optimizer": "lion"}, {"optimizer": "lion", "learning_rate@else": 1e-4}),
    ],
)
def test_fields_become_parameters_by_their_names_in_the_study(given: dict[str, Any], point: dict[str, Any]) -> None:
    found = to_point(SPACE, given)
    assert found == point
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in point.items()}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_heads": "9"}, "num_heads: 9 is not a whole number from 1 to 8"),
        ({"num_heads": "2.5"}, "num_heads: 2.5 is not a whole number from 1 to 8"),
        ({"num_heads": True}, "num_heads: True is not a whole number from 1 to 8"),
        ({"batch_size": "20"}, "batch_size: 20 is not a whole number from 16 to 64 in steps of 16"),
        ({"dropout": "0.5"}, "dropout: 0.5 is not a number from 0 to 0.4"),
        ({"dropout": "nan"}, "dropout: nan is not a number from 0 to 0.4"),
        ({"dropout": None}, "dropout: None is not a number from 0 to 0.4"),
        ({"optimizer": "sgd"}, "optimizer: sgd is not one of lion, adamw"),
        ({"learned_positions": "1"}, "learned_positions: 1 is not one of true, false"),
        (
            {"dropuot": "0.1"},
            r"dropuot is not searched in this study; did you mean dropout\?; searched are num_heads",
        ),
        ({"learning_rate": "1e-4"}, "learning_rate depends on optimizer; name that too"),
        ({"weight_decay": "0.5", "optimizer": "lion"}, "weight_decay is not searched where optimizer=lion"),
        ({"learning_rate": "1e-4", "optimizer": "adamw"}, "learning_rate: 1e-4 is not a number from 0.0003 to 0.01"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_what_can(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=f"^try_: {words}"):
        to_point(SPACE, given)


def test_a_model_over_the_limit_is_refused_by_the_smallest_that_it_may_be() -> None:
    space = Space.parse('num_heads = {type = "int", low = 1, high = 8}', TrainConfig()).limited(2_000_000)
    assert to_point(space, {"num_heads": 2}) == {"num_heads": 2}
    words = r"makes a model of at least 2\.934M parameters, over the study's limit of 2\.000M \(max_params\)"
    with pytest.raises(UserError, match=words):
        to_point(space, {"num_heads": 3})


def test_a_space_is_described_in_words() -> None:
    words = described_space(SPACE)
    assert words["num_heads"] == "a whole number from 1 to 8"
    assert words["learning_rate@optimizer=adamw"] == "a number from 0.0003 to 0.01 (log)"
    assert words["learned_positions"] == "one of true, false"


def test_of_several_configurations_the_one_that_cannot_be_is_named() -> None:
    good = {"num_heads": "1"}
    assert to_points(SPACE, [good, good]) == [to_point(SPACE, good)] * 2
    with pytest.raises(UserError, match=r"try_: num_heads=99,dropout=0: num_heads: 99 is not a whole number"):
        to_points(SPACE, [good, {"num_heads": "99", "dropout": "0"}])
