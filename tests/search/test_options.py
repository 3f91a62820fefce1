"""The options of a search: what each may be."""

import math
from pathlib import Path
from typing import Any, get_args

import pytest

from search.options import ObjectiveName, SearchOptions
from search.problem.objective import Objective
from trainer.common.errors import UserError
from trainer.data.dataset import PackedDataset


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


def test_configurations_to_try_are_given_as_text_or_as_dicts() -> None:
    from trainer.common.cli import Parser

    words = ["--try", "num-heads=3, dropout=0.2", "--try", "mixup_alpha=0"]
    options: SearchOptions = Parser("search.run", SearchOptions).parse(words)
    asked = ({"num_heads": "3", "dropout": "0.2"}, {"mixup_alpha": "0"})
    assert options.try_ == SearchOptions(try_=list(asked)).try_ == asked  # type: ignore[arg-type]
    assert SearchOptions(try_="dropout=0.2").try_ == ({"dropout": "0.2"},)  # type: ignore[arg-type]
    assert SearchOptions().try_ == SearchOptions(try_=None).try_ == ()  # type: ignore[arg-type]
    for text in ("dropout", "=3", "dropout=", "a=1,", "a=1,a=2"):
        with pytest.raises(UserError, match=r"--try: .*(sets no field; write for example|names a twice)"):
            Parser("search.run", SearchOptions).parse(["--try", text])
    for wrong in (3, {}, {1: 2}):
        with pytest.raises(UserError, match=r"^try_: must be values by the names of fields"):
            SearchOptions(try_=[wrong])  # type: ignore[arg-type]


def test_what_is_no_share_of_a_gpu_is_named() -> None:
    from trainer.common.cli import Parser

    with pytest.raises(UserError, match="--gpus-per-trial: must be a share of one GPU or a whole number, not abc"):
        Parser("search.run", SearchOptions).parse(["--gpus-per-trial", "abc"])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"trials": True}, "trials: must be a whole number of at least 1, not True"),
        ({"epochs": "3"}, "epochs: must be a whole number of at least 1, not '3'"),
        ({"seed": "1"}, "seed: must be a whole number or null, not '1'"),
        ({"seed": -1}, "seed: must be at least 0 and less than"),
        ({"trials": 10**9}, "trials: must be a whole number of at most 1,000,000, not 1000000000"),
        (
            {"workers": 10**5000},
            "workers: must be a whole number of at most 1,000,000, not a whole number of 16,610 bits",
        ),
        ({"time_budget": math.inf}, "time_budget: must be more than 0 seconds, and at most 3,155,760,000, not inf"),
        ({"time_budget": f"{10**30}h"}, "time_budget: '1000000000000000000000000000000h' is more than 100 years"),
        ({"gpus_per_trial": 1e99}, "gpus_per_trial: must be a share of one GPU or a whole number, not 1e"),
        ({"trials_per_gpu": 0}, "trials_per_gpu: must be a whole number of at least 1, not 0"),
        ({"trials_per_gpu": 4, "gpus_per_trial": 0.5}, "trials_per_gpu: says how many GPUs a trial has; leave out one"),
        ({"data": ""}, "data: must be a path, not ''"),
        ({"data": 5}, "data: must be a path, not 5"),
        ({"results": ["a"]}, r"results: must be a path, not \['a'\]"),
        ({"name": 3}, "name: must be text, not 3"),
        ({"storage": ""}, "storage: must not be empty"),
    ],
)
def test_values_of_another_type_are_named(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SearchOptions(**asked)


def test_a_dataset_stands_for_where_it_lies(packed: Path) -> None:
    dataset = PackedDataset.open(packed)
    assert SearchOptions(data=dataset).data == dataset.source  # type: ignore[arg-type]
    assert repr(dataset).startswith(f"PackedDataset('{dataset.source}': ")


def test_only_a_study_that_is_resumed_has_failed_trials_to_try_again() -> None:
    from trainer.common.cli import Parser

    parser = Parser("search.run", SearchOptions)
    with pytest.raises(UserError, match=r"^--retry-failed: a new study has no failed trials; .* \(--resume\)$"):
        parser.parse(["--retry-failed", "--name", "a"])
    assert parser.parse(["--retry-failed", "--resume", "--name", "a"]).retry_failed
