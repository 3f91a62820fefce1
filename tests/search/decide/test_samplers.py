"""The samplers on their own: what they draw, from spaces of every kind."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from search.decide.cmaes import GENERATION
from search.decide.samplers import SAMPLERS, check, default_sampler, for_space
from search.decide.unit_cube import at, share_of
from search.decide.wrapping import SeededSampler, WholeSampler
from search.problem.objective import Objective
from search.problem.space import DEFAULT_SPACE, Space
from trainer.config import TrainConfig

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


def test_tpe_draws_what_optunas_own_draws() -> None:
    space = _space(DEFAULT_SPACE + 'norm = {type = "categorical", choices = ["rmsnorm", "layernorm"]}')

    def whole(seed: int) -> BaseSampler:
        return WholeSampler(TPESampler(seed=seed, multivariate=True, constant_liar=True), space, seed)

    optunas = optuna.create_study(sampler=SeededSampler(whole, 3), direction="maximize")
    drawn = _search(_study("tpe", space, seed=3), space, 24, pending=2)
    assert drawn == _search(optunas, space, 24, pending=2)


def test_qmc_covers_the_space_evenly_whatever_came_of_the_trials() -> None:
    space = _space('dropout = {type = "float", low = 0.0, high = 0.8}\nnum_layers = {type = "int", low = 1, high = 4}')
    study = _study("qmc", space)
    configs = _search(study, space, 16)
    assert sorted(int(config.model.dropout * 20) for config in configs) == list(range(16))
    assert sorted(config.model.num_layers for config in configs) == sorted([1, 2, 3, 4] * 4)


def test_cmaes_keeps_no_optimizer_in_the_study_and_counts_its_generations() -> None:
    space = _space(DEFAULT_SPACE)
    study = _study("cmaes", space)
    _search(study, space, 24)
    attributes = [trial.system_attrs for trial in study.trials]
    assert all(set(its) <= {GENERATION} for its in attributes)
    assert [its[GENERATION] for its in attributes] == [0] * 8 + [1] * 8 + [2] * 8


def test_cmaes_draws_what_it_would_if_the_study_was_opened_anew() -> None:
    space = _space(DEFAULT_SPACE)
    kept = for_space("cmaes", space, 0)
    trials: list[FrozenTrial] = []
    for number in range(40):
        study, same = (optuna.create_study(sampler=sampler, direction="maximize") for sampler in (kept, _new(space)))
        for opened in (study, same):
            opened.add_trials(trials)
        trial = study.ask(space.distributions)
        assert trial.params == same.ask(space.distributions).params
        study.tell(trial, -trial.params["dropout"])
        trials = study.get_trials()
        if number == 30:  # it waited, and went on
            trials[17].value = -2.0


def _new(space: Space) -> BaseSampler:
    return for_space("cmaes", space, 0)


def test_cmaes_is_the_default_where_it_follows_most() -> None:
    assert default_sampler(_space(DEFAULT_SPACE), Objective()) == "cmaes"
    norm = 'norm = {type = "categorical", choices = ["rmsnorm", "layernorm"]}'
    assert default_sampler(_space(f"{DEFAULT_SPACE}\n{norm}"), Objective()) == "cmaes"
    conditional = DEFAULT_SPACE + 'weight_decay = {type = "float", low = 0, high = 1, when = {num_layers = 2}}'
    alone = 'num_heads = {type = "int", low = 3, high = 3}'
    for text in (norm, alone, f"{alone}\n{norm}", conditional, CONDITIONAL):
        assert default_sampler(_space(text), Objective()) == "tpe"
    assert default_sampler(_space(DEFAULT_SPACE), Objective("accuracy,params")) == "tpe"


def test_cmaes_refuses_what_it_cannot_search() -> None:
    with pytest.raises(ValueError, match="int and float fields that all trials have"):
        check("cmaes", _space('norm = {type = "categorical", choices = ["rmsnorm", "layernorm"]}'), has_front=False)
    with pytest.raises(ValueError, match="objective has two"):
        check("cmaes", _space(DEFAULT_SPACE), has_front=True)
    for sampler in SAMPLERS:
        check(sampler, _space(DEFAULT_SPACE), has_front=False)


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (CategoricalDistribution(["a", "b", "c"]), ["a", "b", "c"]),
        (IntDistribution(1, 4), [1, 2, 3, 4]),
        (IntDistribution(2, 8, step=3), [2, 5, 8]),
        (IntDistribution(1, 64, log=True), [1, 2, 8, 64]),
        (FloatDistribution(0.0, 1.0, step=0.25), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (FloatDistribution(-1.0, 3.0), [-1.0, 0.5, 3.0]),
        (FloatDistribution(1e-4, 1e-2, log=True), [1e-4, 1e-3, 1e-2]),
        (FloatDistribution(0.5, 0.5), [0.5]),
    ],
)
def test_values_and_shares_of_a_range_belong_together(distribution: BaseDistribution, values: list[Any]) -> None:
    shares = [share_of(distribution, value) for value in values]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert [at(distribution, share) for share in shares] == pytest.approx(values) or values[0] == "a"
    for share in np.linspace(0, 1, 33).tolist():
        value = at(distribution, share)
        assert distribution._contains(distribution.to_internal_repr(value))
        assert at(distribution, share_of(distribution, value)) == pytest.approx(value) or isinstance(value, str)


def test_a_cube_is_drawn_evenly_from_every_range() -> None:
    shares = (np.arange(1000) + 0.5) / 1000
    for distribution in (IntDistribution(1, 4), CategoricalDistribution([1, 2, 3, 4])):
        drawn = [at(distribution, float(share)) for share in shares]
        assert [drawn.count(value) for value in (1, 2, 3, 4)] == [250] * 4
