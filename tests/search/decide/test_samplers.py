"""The samplers on their own: what they draw, from spaces of every kind."""

import numpy as np
import optuna
import pytest

from search.decide.samplers import SAMPLERS, default_sampler, for_space
from search.problem.objective import Objective
from search.problem.space import DEFAULT_SPACE, Space
from trainer.config import TrainConfig
from trainer.model.classifier import num_parameters

CONDITIONAL = """\
num_layers = {type = "int", low = 1, high = 4}
optimizer = {type = "categorical", choices = ["lion", "adamw"]}
weight_decay = {type = "float", low = 1e-3, high = 1.0, log = true, when = {optimizer = "adamw"}}
learning_rate = [
    {type = "float", low = 1e-3, high = 1e-2, log = true, when = {optimizer = "adamw"}},
    {type = "float", low = 3e-5, high = 3e-4, log = true},
]
"""


def _space(text: str) -> Space:
    return Space.parse(text, TrainConfig(epochs=4))


def _study(sampler: str, space: Space, seed: int = 0) -> optuna.Study:
    return optuna.create_study(sampler=for_space(sampler, space, seed), direction="maximize")


def _search(study: optuna.Study, space: Space, trials: int, pending: int = 0) -> list[TrainConfig]:
    """Configurations of trials that score by how near two layers and no dropout they are; some stay running."""
    configs, waiting = [], []
    for _ in range(trials):
        trial = study.ask()
        configs.append(space.suggest(trial))
        model = configs[-1].model
        waiting.append((trial, -abs(model.num_layers - 2) - model.dropout))
        if len(waiting) > pending:
            study.tell(*waiting.pop(0))
    return configs


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_conditional_fields_and_running_trials_are_no_trouble(sampler: str) -> None:
    space = _space(CONDITIONAL)
    study = _study(sampler, space)
    configs = _search(study, space, 16, pending=2)
    for config, trial in zip(configs, study.trials, strict=True):
        is_adamw = config.optimizer == "adamw"
        assert ("weight_decay" in trial.params) == is_adamw
        assert (config.learning_rate >= 1e-3) == is_adamw
    assert len({config.optimizer for config in configs}) == 2
    assert len({config.learning_rate for config in configs}) == 16


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_model_is_over_the_limit(sampler: str) -> None:
    space = _space(DEFAULT_SPACE).limited(2_000_000)
    study = _study(sampler, space)
    _search(study, space, 14)
    assert all(space.fits(trial.params) for trial in study.trials)
    assert len({trial.params["num_layers"] for trial in study.trials}) > 2


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_what_scored_well_is_tried_more(sampler: str) -> None:
    space = _space(DEFAULT_SPACE)
    study = _study(sampler, space)
    configs = _search(study, space, 24 if sampler == "gp" else 40)
    early, late = (np.mean([config.model.dropout for config in part]) for part in (configs[:10], configs[-10:]))
    assert late < 0.7 * early


def test_the_default_is_gp_for_one_value_if_there_is_something_to_find() -> None:
    norm = 'norm = {type = "categorical", choices = ["rmsnorm", "layernorm"]}'
    alone = 'num_heads = {type = "int", low = 3, high = 3}'
    for text in (DEFAULT_SPACE, norm, f"{alone}\n{norm}", CONDITIONAL):
        assert default_sampler(_space(text), Objective()) == "gp"
    assert default_sampler(_space(alone), Objective()) == "tpe"
    assert default_sampler(_space(DEFAULT_SPACE), Objective("accuracy,params")) == "tpe"


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("limit", [500_000, 1_000_000, 2_000_000])
def test_under_a_limit_no_configuration_is_tried_twice(sampler: str, limit: int) -> None:
    space = _space(DEFAULT_SPACE).limited(limit)
    study = _study(sampler, space, seed=9)
    configs = [config.replace(seed=0) for config in _search(study, space, 14, pending=14)]
    assert len(set(configs)) == 14
    assert all(num_parameters(config.model) <= limit for config in configs)
