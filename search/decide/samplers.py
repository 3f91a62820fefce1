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


def _gp(space: "Space", study_seed: int) -> _OfTrial:
    from search.decide.gp import GpSampler

    return functools.partial(GpSampler, space, study_seed)


def _cmaes(space: "Space", _: int) -> _OfTrial:
    from search.decide.cmaes import CmaEsSampler, Evolution

    return functools.partial(CmaEsSampler, Evolution(space))


def _qmc(space: "Space", study_seed: int) -> _OfTrial:
    from search.decide.qmc import QmcSampler

    return functools.partial(QmcSampler, space, study_seed)


def _random(_space: "Space", _seed: int) -> _OfTrial:
    from optuna.samplers import RandomSampler

    return lambda seed: RandomSampler(seed=seed)


# All of them learn from the trials stopped early too; GP from every epoch of each.
SAMPLERS: Final[dict[str, _OfStudy]] = {"tpe": _tpe, "gp": _gp, "cmaes": _cmaes, "qmc": _qmc, "random": _random}
"""By name: from a study's space and seed to what makes a sampler for each trial from a seed of its own."""


def check(name: str, space: "Space", has_front: bool) -> None:
    """Raise ValueError if the sampler of this name cannot search a space, or a Pareto front where that is asked for."""
    if name == "cmaes":
        from search.decide.cmaes import evolving

        evolving(space)
    if name == "gp" and not _is_searched(space):
        raise ValueError("it searches fields of more than one value, and this space has none")
    if name in ("cmaes", "gp") and has_front:
        raise ValueError("it follows one value, and the objective has two")


def default_sampler(space: "Space", objective: "Objective") -> str:
    """The name of the sampler that suits a space and an objective.

    The Gaussian process, as it finds more in the same epochs (tests.bench.search); TPE for two values, or where nothing
    is left to find.
    """
    return "gp" if _is_searched(space) and not objective.has_front else "tpe"


def _is_searched(space: "Space") -> bool:
    return not all(item.single() for item in space.distributions.values())


def for_space(name: str, space: "Space", seed: int) -> "BaseSampler":
    """The sampler of this name for a study over a space. Raises ValueError if it cannot search such a space."""
    from search.decide.wrapping import SeededSampler, WholeSampler

    of_trial = SAMPLERS[name](space, seed)
    return SeededSampler(lambda its_seed: WholeSampler(of_trial(its_seed), space, its_seed), seed)
