"""The options of a search: what each may be."""

from typing import get_args

import pytest

from search.options import ObjectiveName, SearchOptions
from search.problem.objective import Objective
from trainer.common.errors import UserError


def test_the_objectives_that_can_be_asked_for_are_those_there_are() -> None:
    for name in get_args(ObjectiveName):
        assert SearchOptions(objective=name).objective == name
        assert len(Objective(name).directions) == 1 + name.count(",")
    with pytest.raises(UserError, match="is not one of"):
        SearchOptions(objective="speed")  # type: ignore[arg-type]


def test_older_spellings_still_work() -> None:
    from trainer.common.cli import Parser

    options: SearchOptions = Parser("search.run", SearchOptions).parse(["--no-seed-points"])
    assert not options.recipe_points


def test_none_from_python_is_the_default() -> None:
    options = SearchOptions(seed=None, warm_start=None, objective=None)  # type: ignore[arg-type]
    assert options.warm_start == ()


def test_what_is_no_share_of_a_gpu_is_named() -> None:
    from trainer.common.cli import Parser

    with pytest.raises(UserError, match="--gpus-per-trial: must be a share of one GPU or a whole number, not abc"):
        Parser("search.run", SearchOptions).parse(["--gpus-per-trial", "abc"])
