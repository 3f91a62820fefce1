"""What tests.bench.search is played on: stand-ins for training, in which a trial costs nothing.

"hartmann3-good" and the like are functions of tests.bench.hartmann, "branin" and the like, which are played only where
they are named, of tests.bench.landscapes. "recorded" and "wide" replay tables of real
trainings (tests.bench.curves): what a surrogate expects of a configuration (tests.bench.surrogate), plus what it takes
for chance in one of the recorded trainings nearby, its whole curve. So trials scatter and curves cross as real ones do.

Chance depends on the seed and on a trial's number, not on who asks: searches of one seed share their luck.
"""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from search.decide.qmc import sobol
from search.decide.unit_cube import share_of
from search.problem.space import Space
from tests.bench.curves import EPOCHS, RECORDINGS, Curves, Recording
from tests.bench.hartmann import Hartmann
from tests.bench.landscapes import LANDSCAPES, Landscape
from tests.bench.surrogate import Surrogate
from trainer.common.files import sha256
from trainer.config import TrainConfig

NEAR: Final = 16  # recorded trainings, one of which lends its luck
# Fields of TrainConfig that stand for a Hartmann function's coordinates: from 0 to 1, and the recipe sets none of them.
COORDINATES: Final = (
    "final_learning_rate_ratio",
    "mirror_probability",
    "next_frame_frequency",
    "time_stretch",
    "scale",
    "group_shift",
)
# Modelled seconds of an epoch on one core. Measured for 27 epochs (720 sequences of 16 frames, batches of 64): 3 s with
# 1 head x 1 layer (80,000 parameters), 8 s with 1 x 3 (210,000), 5 s with 2 x 1 (290,000), 12 s with 2 x 2 (550,000).
EPOCH_SECONDS: Final = 0.05
SECONDS_PER_PARAMETER: Final = 0.75e-6


@dataclass(frozen=True)
class Training:
    """One trial's, to its end."""

    accuracies: np.ndarray
    """float64 [EPOCHS], as they would be observed"""
    worth: float
    """What its configuration reaches on average at the end, without luck"""
    epoch_seconds: float | None
    """Modelled; None where a model has no size"""


class Problem(ABC):
    """One of them."""

    name: str
    fingerprint: str
    """Changes with all that outcomes depend on"""
    space: Space
    optimum: float
    """The largest worth"""
    shows_regret: bool
    """Whether tables show regret, or worth: the optimum of a surrogate is only the best that was found"""
    mean_epoch_seconds: float | None
    """Of a configuration drawn at random"""

    @abstractmethod
    def train(self, params: dict[str, Any], seed: int, number: int) -> Training:
        """How the trial of this number goes in a search of this seed."""

    def regret(self, worth: float) -> float:
        """How much a worth lacks, as a share of the optimum."""
        return (self.optimum - worth) / self.optimum

    def point(self, params: dict[str, Any]) -> np.ndarray:
        """Where a configuration stands in the unit cube: float64 [D]."""
        return np.array([share_of(item, params[name]) for name, item in self.space.distributions.items()])


class FunctionProblem(Problem):
    """A function whose optimum is known."""

    mean_epoch_seconds = None
    shows_regret = True

    def __init__(self, name: str, function: Hartmann | Landscape) -> None:
        self.name, self.fingerprint, self.function = name, "1", function
        lines = (f'{name} = {{type = "float", low = 0.0, high = 1.0}}' for name in COORDINATES[: function.dimensions])
        self.space = Space.parse("\n".join(lines), TrainConfig(epochs=EPOCHS), name)
        self.optimum = function.optimum

    def train(self, params: dict[str, Any], seed: int, number: int) -> Training:
        point = self.point(params)
        values = self.function.train(point, np.random.default_rng((seed, number)))
        return Training(values, float(self.function.expected(point)[-1]), None)


class Replay(Problem):
    """Stands in for training: what the recorded configurations tell of any other."""

    shows_regret = False

    def __init__(self, name: str, recording: Recording) -> None:
        self.name, self.fingerprint = name, sha256(recording.path)[:8]
        self.space, self._recording = recording.space, recording
        self._curves = Curves.read(recording.path)
        self.mean_epoch_seconds = float(np.mean(epoch_seconds(self._curves.parameters)))

    @functools.cached_property
    def surrogate(self) -> Surrogate:
        """Fitted to the table."""
        points = np.array([self.point(params) for params in self._curves.params])
        return Surrogate.fit(points, np.nan_to_num(self._curves.accuracies))

    @functools.cached_property
    def _chances(self) -> np.ndarray:
        """What is not expected of each recorded training: float64 [N, EPOCHS]."""
        return self.surrogate.curves - self.surrogate.predict(self.surrogate.points)

    @functools.cached_property
    def optimum(self) -> float:  # type: ignore[override]
        """The best of many points: there is no saying what the best of all is."""
        return float(self.final(sobol(len(self.space.distributions), 0)).max())

    def final(self, points: np.ndarray) -> np.ndarray:
        """Expected final accuracies float64 [N] of points [N, D]."""
        parts = np.array_split(points, max(1, len(points) // 1024))
        return np.concatenate([self.surrogate.predict(part)[:, -1] for part in parts])

    @property
    def luck(self) -> float:
        """Standard deviation of one training's final accuracy about what is expected of its configuration."""
        return float(self._chances[:, -1].std())

    def train(self, params: dict[str, Any], seed: int, number: int) -> Training:
        place = self.point(params)
        expected = self.surrogate.predict(place[None])[0]
        near = self.surrogate.nearest(place, NEAR)
        luck = self._chances[np.random.default_rng((seed, number)).choice(near)]
        seconds = float(epoch_seconds(np.array(self._recording.size(params))))
        return Training(np.clip(expected + luck, 0.0, 1.0), float(expected[-1]), seconds)


def epoch_seconds(parameters: np.ndarray) -> np.ndarray:
    """Modelled seconds of one epoch of models of so many parameters."""
    return EPOCH_SECONDS + SECONDS_PER_PARAMETER * parameters


# (bias, noise) of mf-prior-bench's presets
HARTMANNS: Final = {
    f"hartmann{dimensions}-{kind}": Hartmann(dimensions, *preset)
    for dimensions in (3, 6)
    for kind, preset in (("good", (2.5, 2.0)), ("bad", (3.5, 4.0)))
}
PROBLEMS: Final = (*HARTMANNS, *RECORDINGS)
CHOSEN_ON: Final = ("hartmann3-good", "hartmann6-bad", "recorded", "wide")
"""Defaults are chosen on these, and on other seeds; figures on the others say what the choice is worth elsewhere."""


@functools.cache
def problem(name: str) -> Problem:
    """By its name, one of PROBLEMS or LANDSCAPES."""
    if name in RECORDINGS:
        return Replay(name, RECORDINGS[name])
    return FunctionProblem(name, LANDSCAPES[name] if name in LANDSCAPES else HARTMANNS[name])
