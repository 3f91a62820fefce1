"""The search space: a TOML file -> a validated Space -> the TrainConfig of each trial.

    # any field of TrainConfig or of its model, by name: a range, a list of choices, or one value for all trials
    num_heads = {type = "int", low = 1, high = 8}
    learning_rate = {type = "float", low = 3e-5, high = 1e-3, log = true}
    precision = {type = "categorical", choices = ["float32", "bfloat16"]}
    batch_size = 64

Nothing else in this package makes a TrainConfig.
"""

import dataclasses
import functools
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import optuna
import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from trainer.cli import UserError
from trainer.config import ModelConfig, TrainConfig
from trainer.model import SignClassifier

DEFAULT_SPACE: Final = """\
num_heads = {type = "int", low = 1, high = 8}
num_layers = {type = "int", low = 2, high = 8}
dropout = {type = "float", low = 0.0, high = 0.4}
learning_rate = {type = "float", low = 3e-5, high = 1e-3, log = true}
mixup_alpha = {type = "float", low = 0.0, high = 1.0}
"""
SEED_POINTS: Final = tuple(  # the two models of the seed's write-up, tried first
    {"num_heads": heads, "num_layers": layers, "dropout": 0.1, "learning_rate": 1e-4, "mixup_alpha": 0.5}
    for heads, layers in ((2, 6), (6, 5))
)

_KEYS: Final = {
    "int": {"type", "low", "high", "log", "step"},
    "float": {"type", "low", "high", "log", "step"},
    "categorical": {"type", "choices"},
}
_NOT_SEARCHED: Final = {"num_signs": "the dataset decides it", "model": "name its fields instead, such as num_heads"}
_FIELDS: Final = sorted(
    {item.name for kind in (ModelConfig, TrainConfig) for item in dataclasses.fields(kind)} - _NOT_SEARCHED.keys()
)


def num_parameters(config: ModelConfig) -> int:
    """Parameters of a model of this shape, counted without allocating it."""
    return _num_parameters(dataclasses.replace(config, dropout=0.0))


@functools.cache
def _num_parameters(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in SignClassifier(config).parameters())


@dataclass(frozen=True)
class Space:
    """What is searched, and what every trial has in common."""

    base: TrainConfig
    """Every field's value where the search does not choose one"""
    distributions: dict[str, BaseDistribution]
    """Of the searched fields, by name"""
    source: dict[str, Any]
    """The parsed TOML"""

    @classmethod
    def read(cls, path: Path, base: TrainConfig) -> Self:
        """Read a TOML file. Raises UserError naming the file and the line at fault."""
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--space {path}: cannot be read ({error})") from error
        return cls.parse(text, base, where=str(path))

    @classmethod
    def parse(cls, text: str, base: TrainConfig, where: str = "default space") -> Self:
        """Parse TOML over ``base``. Raises UserError naming ``where`` and the line at fault."""
        try:
            source = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{where}: not TOML: {error}") from error
        return cls.from_source(source, base, where, text)

    @classmethod
    def from_source(cls, source: dict[str, Any], base: TrainConfig, where: str, text: str = "") -> Self:
        """Make a space of parsed TOML; ``text``, where there is one, tells the line of a fault."""
        if not any(isinstance(value, dict) for value in source.values()):
            example = 'num_heads = {type = "int", low = 1, high = 8}'
            raise UserError(f"{where}: nothing to search; add a line such as {example}")
        distributions: dict[str, BaseDistribution] = {}
        for name, value in source.items():
            try:
                _check_name(name)
                if isinstance(value, dict):
                    distributions[name] = _distribution(name, value, base)
                else:
                    base = base.replace(**{name: value})
            except ValueError as error:
                fault = str(error) if str(error).startswith(name) else f"{name}: {error}"
                raise UserError(f"{where}, line {_line_of(name, text)}: {fault}") from error
        return cls(base, distributions, source)

    def suggest(self, trial: optuna.trial.Trial) -> TrainConfig:
        """The configuration of a trial, drawn by the study's sampler; each trial trains with a seed of its own."""
        values = {name: _suggest(trial, name, kind) for name, kind in self.distributions.items()}
        if "seed" not in self.source:
            values["seed"] = self.base.seed + trial.number
        return self.base.replace(**values)

    def seed_points(self) -> list[dict[str, Any]]:
        """Parameters of the seed's configurations that lie in this space, without those that are not searched."""
        inside = (point for point in SEED_POINTS if all(self._allows(*item) for item in point.items()))
        points = [{name: value for name, value in point.items() if name in self.distributions} for point in inside]
        return [point for index, point in enumerate(points) if point and point not in points[:index]]

    def _allows(self, name: str, value: Any) -> bool:
        match self.distributions.get(name):
            case CategoricalDistribution(choices=choices):
                return value in choices
            case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=step):
                return low <= value <= high and (step is None or (value - low) % step == 0)
        flat = {**self.base.to_json(), **self.base.to_json()["model"]}
        return bool(flat[name] == value)


def _check_name(name: str) -> None:
    if name in _NOT_SEARCHED:
        raise ValueError(f"cannot be set here; {_NOT_SEARCHED[name]}")
    if name not in _FIELDS:
        raise ValueError(f"not a field of TrainConfig; the fields are {', '.join(_FIELDS)}")


def _distribution(name: str, table: Mapping[str, Any], base: TrainConfig) -> BaseDistribution:
    """Make and check the distribution of one field. Raises ValueError saying what is wrong with it."""
    if name in ("fold", "num_folds"):
        raise ValueError("must be one value for all trials, or their accuracies could not be compared")
    kind = table.get("type")
    if kind not in _KEYS:
        raise ValueError(f"type must be int, float or categorical, not {kind!r}")
    unknown = sorted(table.keys() - _KEYS[kind])
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; type {kind} takes {', '.join(sorted(_KEYS[kind]))}")
    if kind == "categorical":
        choices = table.get("choices")
        if not isinstance(choices, list) or not choices:
            raise ValueError("choices must be a list of at least one value")
        _check_values(name, choices, base)
        return CategoricalDistribution(choices)
    low, high = _bounds(kind, table)
    _check_values(name, (low, high), base)
    log, step = table.get("log", False), table.get("step")
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, not {log!r}")
    if kind == "int":
        return IntDistribution(low, high, log=log, step=1 if step is None else step)
    return FloatDistribution(low, high, log=log, step=step)


def _bounds(kind: str, table: Mapping[str, Any]) -> tuple[Any, Any]:
    numbers = (int,) if kind == "int" else (int, float)
    for key in ("low", "high", "step"):
        value = table.get(key)
        if value is None and key == "step":
            continue
        if isinstance(value, bool) or not isinstance(value, numbers) or not math.isfinite(value):
            raise ValueError(f"{key} must be {'an integer' if kind == 'int' else 'a number'}, not {value!r}")
    low, high, step = table["low"], table["high"], table.get("step")
    if low > high:
        raise ValueError(f"empty range: low {low} is above high {high}")
    if step is not None and step <= 0:
        raise ValueError(f"step must be positive, not {step!r}")
    return (low, high) if kind == "int" else (float(low), float(high))


def _check_values(name: str, values: Sequence[Any], base: TrainConfig) -> None:
    """Raise ValueError if TrainConfig refuses one of them."""
    for value in values:
        base.replace(**{name: value})


def _suggest(trial: optuna.trial.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
    raise TypeError(f"no such distribution: {distribution}")


def _line_of(name: str, text: str) -> int:
    """Line, from 1, on which a top-level key or its table begins."""
    pattern = re.compile(rf"""\s*\[?\s*["']?{re.escape(name)}["']?\s*[\].=]""")
    return next((number for number, line in enumerate(text.splitlines(), start=1) if pattern.match(line)), 1)
