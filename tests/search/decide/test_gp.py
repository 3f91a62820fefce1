"""The sampler that follows a Gaussian process over configurations and epochs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search.decide import gp
from search.decide.posterior import FEWEST
from search.decide.qmc import POINTS, sobol
from search.decide.samplers import for_space
from search.problem.space import DEFAULT_SPACE, Space
from tests.search.decide.test_samplers import CONDITIONAL, _search, _space, _study
from tests.search.studies import open_study
from trainer.config import ModelConfig, TrainConfig
from trainer.model.classifier import num_parameters

NUMBERS = """\
dropout = {type = "float", low = 0.0, high = 0.4}
mixup_alpha = {type = "float", low = 0.0, high = 1.0}
"""


def test_the_first_trials_are_the_middle_and_spread() -> None:
    space = _space(NUMBERS)
    study = _study("gp", space, seed=3)
    _search(study, space, FEWEST)
    found = [[trial.params["dropout"] / 0.4, trial.params["mixup_alpha"]] for trial in study.trials]
    np.testing.assert_allclose(found, [[0.5, 0.5], *sobol(2, 3)[: FEWEST - 1]])


def test_where_the_middle_does_not_fit_the_first_trial_is_one_that_does() -> None:
    space = _space('num_heads = {type = "int", low = 1, high = 8}').limited(1_000_000)
    study = _study("gp", space, seed=3)
    configs = _search(study, space, 3)
    assert max(num_parameters(config.model) for config in configs) <= 1_000_000


def test_the_first_trials_are_spread_over_the_cheaper_half() -> None:
    space = _space(DEFAULT_SPACE)
    drawn = np.random.default_rng(0).integers(1, 9, (400, 2)).tolist()
    sizes = [num_parameters(ModelConfig(num_heads=heads, num_layers=layers)) for heads, layers in drawn]
    study = _study("gp", space, seed=5)
    configs = _search(study, space, FEWEST)
    assert max(num_parameters(config.model) for config in configs) < np.quantile(sizes, 0.6)
    assert len({config.model.num_heads for config in configs}) >= 3


def test_of_a_search_of_few_trials_the_last_are_as_dear_as_any(tmp_path: Path) -> None:
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=3))
    sizes: list[list[int]] = []
    for seed in range(12):
        study = open_study(tmp_path / str(seed), space, trials=FEWEST, seed=seed, recipe_points=False)
        given = [study.ask() for _ in range(FEWEST)]
        sizes.append([num_parameters(its.config.model) for its in given if its is not None])
        study.close()
    first, last = np.array(sizes)[:, :2].max(), np.array(sizes)[:, -2:].max()
    assert np.shape(sizes) == (12, FEWEST)
    assert first < 8e6
    assert last > 1.5 * first


def test_what_is_as_good_is_proposed_where_it_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    space = _space('num_heads = {type = "int", low = 1, high = 8}\ndropout = {type = "float", low = 0.0, high = 0.4}')
    heads = []
    for weight in (gp.WEIGHT, 0.0):
        monkeypatch.setattr(gp, "WEIGHT", weight)
        configs = [_search(_study("gp", space, seed), space, 24)[FEWEST:] for seed in range(4)]
        heads.append(np.mean([config.model.num_heads for its in configs for config in its]))
    assert heads[0] < 3.5
    assert heads[0] < heads[1] - 0.8


def test_it_draws_what_it_would_if_the_study_was_opened_anew() -> None:
    space = _space(CONDITIONAL)
    kept = for_space("gp", space, 0)
    before = optuna.create_study(sampler=kept, direction="maximize")
    for number in range(24):
        anew = optuna.create_study(sampler=for_space("gp", space, 0), direction="maximize")
        anew.add_trials(before.get_trials())
        for name, value in before._storage.get_study_system_attrs(before._study_id).items():
            anew._storage.set_study_system_attr(anew._study_id, name, value)
        trial, same = before.ask(), anew.ask()
        assert space.suggest(trial) == space.suggest(same)
        trial.report(-abs(trial.params["num_layers"] - 2) + 0.01 * number, 1)
        before.tell(trial, state=TrialState.PRUNED)


def _told(space: Space, num_pending: int) -> tuple[optuna.Study, list[FrozenTrial]]:
    study = _study("gp", space)
    configs = _search(study, space, 40, pending=num_pending)
    assert len(configs) == 40
    return study, study.trials


def test_trials_that_run_are_not_proposed_again() -> None:
    space = _space(NUMBERS)
    _, trials = _told(space, num_pending=16)
    running = np.array([list(trial.params.values()) for trial in trials if trial.state == TrialState.RUNNING])
    assert len(running) == 16
    distances = np.linalg.norm((running[:, None] - running) / [0.4, 1.0], axis=-1) + np.eye(16)
    assert distances.min() > 1e-4


def test_no_configuration_is_tried_twice_while_there_are_others() -> None:
    space = _space('num_layers = {type = "int", low = 1, high = 5}\nnum_heads = {type = "int", low = 1, high = 4}')
    study = _study("gp", space)
    _search(study, space, 40)
    tried = [tuple(trial.params.values()) for trial in study.trials[FEWEST:20]]
    assert len(set(tried)) >= 10  # one in ten is drawn anywhere
    assert len({tuple(trial.params.values()) for trial in study.trials}) >= 17


def test_it_finds_an_optimum_in_few_trials() -> None:
    space = _space(NUMBERS)
    study = _study("gp", space)
    for _ in range(40):
        trial = study.ask()
        space.suggest(trial)
        loss = (trial.params["dropout"] / 0.4 - 0.7) ** 2 + (trial.params["mixup_alpha"] - 0.3) ** 2
        study.tell(trial, -loss)
    assert study.best_value > -2e-3


def test_a_model_over_the_limit_is_not_proposed() -> None:
    space = _space(DEFAULT_SPACE).limited(1_000_000)
    study = _study("gp", space)
    _search(study, space, 20)
    assert all(space.fits(trial.params) for trial in study.trials)


def test_where_few_points_fit_a_first_trial_is_drawn_once_all_of_them_were_looked_at() -> None:
    """Not as many draws as its number says: each takes long where hardly any fits."""
    space = _space('num_heads = {type = "int", low = 1, high = 64}\nnum_layers = {type = "int", low = 1, high = 64}')
    space = space.limited(num_parameters(space.shaped(space.smallest()).model))  # one shape of 4,096
    asked = 0

    class Counting(Space):
        def fits(self, params: Mapping[str, Any]) -> bool:
            nonlocal asked
            asked += 1
            return super().fits(params)

    counting = Counting(space.base, space.ranges, space.source, space.max_params)
    study = _study("gp", counting)
    _search(study, counting, 8)
    assert all(space.fits(trial.params) for trial in study.trials)
    assert asked < 8 * (2**POINTS + 20_000)
