"""Quasi-random points."""

from tests.search.decide.test_samplers import _search, _space, _study


def test_qmc_covers_the_space_evenly_whatever_came_of_the_trials() -> None:
    space = _space('dropout = {type = "float", low = 0.0, high = 0.8}\nnum_layers = {type = "int", low = 1, high = 4}')
    study = _study("qmc", space)
    configs = _search(study, space, 16)
    assert sorted(int(config.model.dropout * 20) for config in configs) == list(range(16))
    assert sorted(config.model.num_layers for config in configs) == sorted([1, 2, 3, 4] * 4)
