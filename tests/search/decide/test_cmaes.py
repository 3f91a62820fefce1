"""CMA-ES whose whole memory is the study's trials."""

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search.decide.cmaes import GENERATION
from search.decide.samplers import SAMPLERS, check, for_space
from search.problem.space import DEFAULT_SPACE, Space
from tests.search.decide.test_samplers import _search, _space, _study


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


def test_cmaes_refuses_what_it_cannot_search() -> None:
    with pytest.raises(ValueError, match="int and float fields that all trials have"):
        check("cmaes", _space('norm = {type = "categorical", choices = ["rmsnorm", "layernorm"]}'), has_front=False)
    for sampler in ("cmaes", "gp"):
        with pytest.raises(ValueError, match="objective has two"):
            check(sampler, _space(DEFAULT_SPACE), has_front=True)
    with pytest.raises(ValueError, match="more than one value"):
        check("gp", _space('num_heads = {type = "int", low = 3, high = 3}'), has_front=False)
    for sampler in SAMPLERS:
        check(sampler, _space(DEFAULT_SPACE), has_front=False)
