"""The samplers by the names that a search can ask for, made reproducible.

Only names and factories: Optuna is imported when a sampler is made, so that a command's help need not wait for it. To
add a sampler of Optuna's, or one of your own with its interface, register it:

    SAMPLERS["nsga2"] = lambda space, study_seed: lambda seed: NSGAIISampler(seed=seed)
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from search.problem.objective import Objective
    from search.problem.space import Space

_OfTrial = Callable[[int], "BaseSampler"]
_OfStudy = Callable[["Space", int], _OfTrial]


def _tpe(space: "Space", _: int) -> _OfTrial:
    from search.decide.tpe import WholeTpe, grouped_tpe

    return grouped_tpe if space.is_conditional else functools.partial(WholeTpe, space)


def _gp(_space: "Space", _seed: int) -> _OfTrial:
    from optuna.samplers import GPSampler

    return lambda seed: GPSampler(seed=seed, warn_independent_sampling=False)


def _cmaes(space: "Space", _: int) -> _OfTrial:
    from search.decide.cmaes import CmaEsSampler, Evolution

    return functools.partial(CmaEsSampler, Evolution(space))


def _qmc(space: "Space", study_seed: int) -> _OfTrial:
    from search.decide.qmc import QmcSampler

    return functools.partial(QmcSampler, space, study_seed)


def _random(_space: "Space", _seed: int) -> _OfTrial:
    from optuna.samplers import RandomSampler

    return lambda seed: RandomSampler(seed=seed)


# TPE and CMA-ES learn from the trials stopped early too; GP, as Optuna has it, from finished ones alone.
SAMPLERS: Final[dict[str, _OfStudy]] = {"tpe": _tpe, "gp": _gp, "cmaes": _cmaes, "qmc": _qmc, "random": _random}
"""By name: from a study's space and seed to what makes a sampler for each trial from a seed of its own."""


def check(name: str, space: "Space", has_front: bool) -> None:
    """Raise ValueError if the sampler of this name cannot search a space, or a Pareto front where that is asked for."""
    if name == "cmaes":
        from search.decide.cmaes import evolving

        evolving(space)
        if has_front:
            raise ValueError("it follows one value, and the objective has two")


def default_sampler(space: "Space", objective: "Objective") -> str:
    """The name of the sampler that suits a space and an objective.

    CMA-ES, as it finds more in the same epochs (tests.bench.search: five numbers and one choice, accuracy); TPE where
    CMA-ES would leave much to chance, with conditions or more choices than numbers, and for two values.
    """
    from optuna.distributions import CategoricalDistribution

    searched = [item for item in space.distributions.values() if not item.single()]
    numbers = sum(not isinstance(item, CategoricalDistribution) for item in searched)
    is_followed = not space.is_conditional and numbers > 0 and numbers >= len(searched) / 2
    return "tpe" if not is_followed or objective.has_front else "cmaes"


def for_space(name: str, space: "Space", seed: int) -> "BaseSampler":
    """The sampler of this name for a study over a space. Raises ValueError if it cannot search such a space."""
    from search.decide.wrapping import SeededSampler, WholeSampler

    of_trial = SAMPLERS[name](space, seed)
    return SeededSampler(lambda its_seed: WholeSampler(of_trial(its_seed), space, its_seed), seed)
