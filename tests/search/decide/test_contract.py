"""Optuna's own suites for samplers, on ours: seeded for each trial, as a study uses them."""

from collections.abc import Callable
from typing import Any

import pytest
from optuna.samplers import BaseSampler, TPESampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase

from search.decide.samplers import SAMPLERS
from search.decide.wrapping import SeededSampler
from search.problem.space import Space
from trainer.config import TrainConfig

OWN_SPACE = """\
dropout = {type = "float", low = 0.0, high = 0.4}
mixup_alpha = {type = "float", low = 0.0, high = 1.0}
"""


def _sampler(name: str) -> Callable[..., BaseSampler]:
    def make(**_: Any) -> BaseSampler:
        return SeededSampler(of_trial, seed=0)

    def of_trial(seed: int) -> Any:
        sampler = SAMPLERS[name](Space.parse(OWN_SPACE, TrainConfig()), 0)(seed)
        if isinstance(sampler, TPESampler):  # draws the first ten at random, unless told otherwise as here
            sampler._n_startup_trials = 0
        return sampler

    return make


class TestEverySampler(BasicSamplerTestCase):
    @pytest.fixture(params=["tpe", "gp", "cmaes", "qmc", "random"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[..., BaseSampler]:
        return _sampler(request.param)


class TestSamplersOfWholePoints(RelativeSamplerTestCase):
    """GP and CMA-ES are left out: they model the fields of their space only, and this suite draws others."""

    @pytest.fixture(params=["tpe", "qmc"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[..., BaseSampler]:
        return _sampler(request.param)
