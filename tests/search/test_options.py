"""The options of a search: what each may be."""

import pytest

from search.options import SearchOptions
from search.problem.objective import OBJECTIVES
from trainer.common.errors import UserError


def test_the_objectives_that_can_be_asked_for_are_those_there_are() -> None:
    for name in OBJECTIVES:
        assert SearchOptions(objective=name).objective == name
    with pytest.raises(UserError, match="is not one of"):
        SearchOptions(objective="speed")  # type: ignore[arg-type]


def test_older_spellings_still_work() -> None:
    from trainer.common.cli import Parser

    options: SearchOptions = Parser("search.run", SearchOptions).parse(["--no-seed-points"])
    assert not options.recipe_points
