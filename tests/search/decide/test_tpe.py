"""TPE over whole spaces."""

import optuna
from optuna.samplers import BaseSampler, TPESampler

from search.decide.wrapping import SeededSampler, WholeSampler
from search.problem.space import DEFAULT_SPACE
from tests.search.decide.test_samplers import _search, _space, _study


def test_tpe_draws_what_optunas_own_draws() -> None:
    space = _space(DEFAULT_SPACE + 'norm = {type = "categorical", choices = ["rmsnorm", "layernorm"]}')

    def whole(seed: int) -> BaseSampler:
        return WholeSampler(TPESampler(seed=seed, multivariate=True, constant_liar=True), space, seed)

    optunas = optuna.create_study(sampler=SeededSampler(whole, 3), direction="maximize")
    drawn = _search(_study("tpe", space, seed=3), space, 24, pending=2)
    assert drawn == _search(optunas, space, 24, pending=2)
