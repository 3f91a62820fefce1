"""The search space: a TOML file -> a validated Space -> the TrainConfig of each trial.

    # any field of TrainConfig or of its model, by name: a range, a list of choices, or one value for all trials
    num_heads = {type = "int", low = 1, high = 8}
    optimizer = {type = "categorical", choices = ["lion", "adamw"]}
    batch_size = 64
    # searched only where another field has some value, or one of some; elsewhere it keeps its default
    weight_decay = {type = "float", low = 1e-3, high = 1.0, log = true, when = {optimizer = "adamw"}}
    # the first that holds; a last one without `when`, a range or a value, is for everything else
    learning_rate = [
        {type = "float", low = 1e-4, high = 1e-2, log = true, when = {optimizer = "adamw"}},
        {type = "float", low = 3e-5, high = 1e-3, log = true},
    ]

In the study, the ranges of a field that has several are parameters of their own, such as
`learning_rate@optimizer=adamw`.
"""

import itertools
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.problem.ranges import Fault, Range, allows, check_name, field_value, line_of, order, read_ranges, with_fixed
from trainer.common.errors import FieldError, UserError, first_line
from trainer.common.fields import to_count
from trainer.common.files import to_path
from trainer.common.strict import MOST_INT, check_type, read_text, reason_of
from trainer.config import TrainConfig
from trainer.model.classifier import num_parameters

DEFAULT_SPACE: Final = """\
num_heads = {type = "int", low = 1, high = 8}
num_layers = {type = "int", low = 2, high = 8}
dropout = {type = "float", low = 0.0, high = 0.4}
learning_rate = {type = "float", low = 3e-5, high = 1e-3, log = true}
mixup_alpha = {type = "float", low = 0.0, high = 1.0}
"""
FEW_SEQUENCES: Final = 1000
"""Fewer than this to train on, and the default space is SMALL_SPACE, with twice the epochs: small models, which may do
without learned positions (results/reference/small.md)"""
SMALL_SPACE: Final = """\
num_heads = {type = "int", low = 1, high = 4}
num_layers = {type = "int", low = 1, high = 6}
dropout = {type = "float", low = 0.0, high = 0.4}
learning_rate = {type = "float", low = 1e-4, high = 1e-3, log = true}
mixup_alpha = {type = "float", low = 0.0, high = 1.0}
learned_positions = {type = "categorical", choices = [true, false]}
"""
SMALL_START: Final = {
    **{"num_heads": 1, "num_layers": 4, "dropout": 0.1, "learning_rate": 3e-4, "mixup_alpha": 0.5},
    "learned_positions": False,
}
"""What a search of SMALL_SPACE tries beside the recipe's shapes"""
RECIPE: Final = tuple(  # the two models of the 26th-place solution, tried first
    {"num_heads": heads, "num_layers": layers, "dropout": 0.1, "learning_rate": 1e-4, "mixup_alpha": 0.5}
    for heads, layers in ((2, 6), (6, 5))
)
MOST_SHAPES: Final = 100_000
_SHAPE: Final = {
    *("num_heads", "num_layers", "max_frames", "landmarks", "norm", "learned_positions", "pooling"),
    *("motion", "distances", "hand_frame"),
}


def by_field(params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters as the study has them -> by the names of the fields that they set."""
    return {name.partition("@")[0]: value for name, value in params.items()}


@dataclass(frozen=True)
class Space:
    """What is searched, and what every trial has in common.

    >>> space = Space.parse('dropout = {type = "float", low = 0.0, high = 0.4}', TrainConfig())
    >>> list(space.ranges)
    ['dropout']
    """

    base: TrainConfig
    """Every field's value where the search does not choose one"""
    ranges: dict[str, tuple[Range, ...]]
    """Of each searched field, parents first; what is drawn from is the first whose condition holds"""
    source: dict[str, Any]
    """The parsed TOML"""
    max_params: int | None = None
    """Configurations of more parameters than this are not in the space"""

    @classmethod
    def read(cls, path: Path, base: TrainConfig) -> Self:
        """Read a TOML file. Raises UserError naming the file and the line at fault."""
        path = to_path(path, "path")
        try:
            text = read_text(path)
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no such file", field="space") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({reason_of(error)})", field="space") from error
        return cls.parse(text, base, where=str(path))

    @classmethod
    def parse(cls, text: str, base: TrainConfig, where: str = "space") -> Self:
        """Parse TOML over ``base``. Raises UserError naming ``where`` and the line at fault."""
        check_type("text", text, str)
        check_type("where", where, str)
        try:
            source = tomllib.loads(text)
        except RecursionError as error:
            raise UserError(f"{where}: not TOML: nested too deeply") from error
        except ValueError as error:  # also of a number of thousands of digits
            raise UserError(f"{where}: not TOML: {first_line(error)}") from error
        return cls.from_source(source, base, where, text)

    @classmethod
    def from_source(
        cls, source: dict[str, Any], base: TrainConfig, where: str, text: str = "", rotated: bool = False
    ) -> Self:
        """Make a space of parsed TOML; ``text``, where there is one, tells the line of a fault.

        Where folds are ``rotated``, each configuration is trained with all of them, and trials differ in ``fold``.
        """
        check_type("source", source, dict)
        check_type("base", base, TrainConfig)
        try:
            for name in source:
                check_type("source", name, str)
                check_name(name)
            searched = {name: value for name, value in source.items() if isinstance(value, dict | list)}
            fixed = {name: value for name, value in source.items() if name not in searched}
            for name, value in searched.items():
                if isinstance(value, list) and value and not isinstance(value[-1], dict):
                    fixed[name] = value[-1]  # for where no condition holds
            base = with_fixed(base, fixed)
            found = {name: read_ranges(name, value, base, rotated) for name, value in searched.items()}
            ranges = order(found, base)
        except Fault as fault:
            message = fault.message if fault.message.startswith(fault.name) else f"{fault.name}: {fault.message}"
            line = f", line {line_of(fault, text)}" if text else ""
            raise UserError(f"{where}{line}: {message}") from fault
        if not ranges:
            example = 'num_heads = {type = "int", low = 1, high = 8}'
            raise UserError(f"{where}: nothing to search; add a line such as {example}")
        return cls(base, ranges, source)

    def limited(self, max_params: int) -> Self:
        """The same without configurations of more parameters. Raises FieldError if there is none left."""
        max_params = to_count(max_params, "max_params", most=MOST_INT)
        model = self.shaped(self.smallest()).model
        if (least := num_parameters(model)) > max_params:
            raise FieldError(
                f"even the smallest model of the space, num_heads {model.num_heads} and num_layers {model.num_layers}, "
                f"has {least / 1e6:.3f}M parameters",
                field="max_params",
            )
        return replace(self, max_params=max_params)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Of all parameters that a trial may have, by their names in the study."""
        return {item.param: item.distribution for items in self.ranges.values() for item in items}

    @property
    def is_conditional(self) -> bool:
        """Whether what is searched depends on what was drawn."""
        return any(item.when for items in self.ranges.values() for item in items)

    def values(self, field: str) -> list[Any]:
        """The least and the largest that a field may be, or its choices, or the one value that it has.

        >>> Space.parse('batch_size = {type = "int", low = 16, high = 64}', TrainConfig()).values("batch_size")
        [16, 64]
        """
        found: list[Any] = []
        items = self.ranges.get(field, ())
        for item in items:
            match item.distribution:
                case CategoricalDistribution(choices=choices):
                    found += choices
                case IntDistribution(low=low, high=high) | FloatDistribution(low=low, high=high):
                    found += [low, high]
        return found if any(not item.when for item in items) else [*found, field_value(self.base, field)]

    def draw(self, choose: Callable[[Range], Any]) -> dict[str, Any]:
        """A value for each field that is searched under the values drawn before it, by the name of the field."""
        values: dict[str, Any] = {}
        for name, items in self.ranges.items():
            item = next((item for item in items if item.holds(self.base, values)), None)
            if item is not None:
                values[name] = choose(item)
        return values

    def config(self, params: Mapping[str, Any]) -> TrainConfig:
        """The configuration with these parameters, by their names in the study; its seed is that of ``base``."""
        return self.base.replace(**self.draw(lambda item: params[item.param]))

    def suggest(self, trial: optuna.trial.Trial) -> TrainConfig:
        """The configuration of a trial, drawn by the study's sampler; each trial trains with a seed of its own."""
        return self._of_trial(trial.number, self.draw(lambda item: _suggest(trial, item.param, item.distribution)))

    def config_of(self, trial: optuna.trial.FrozenTrial) -> TrainConfig:
        """The configuration of a trial that has all of its parameters."""
        return self._of_trial(trial.number, self.draw(lambda item: trial.params[item.param]))

    def config_with(self, number: int, choose: Callable[[Range], Any]) -> TrainConfig:
        """The configuration of a trial of this number, with a value from ``choose`` for what is searched."""
        return self._of_trial(number, self.draw(choose))

    def _of_trial(self, number: int, values: dict[str, Any]) -> TrainConfig:
        if "seed" not in self.source:
            values["seed"] = self.base.seed + number
        return self.base.replace(**values)

    def fits(self, params: Mapping[str, Any]) -> bool:
        """Whether the model with these parameters is no larger than ``max_params``."""
        return self.max_params is None or num_parameters(self.config(params).model) <= self.max_params

    def recipe_points(self) -> list[dict[str, Any]]:
        """Parameters of the recipe's configurations that lie in this space, without those that are not searched.

        Where learned positions are searched, also of the one for few sequences.
        """
        known = [*RECIPE, SMALL_START] if "learned_positions" in self.ranges else RECIPE
        placed = [self._place(point) for point in known]
        points = [point for point in placed if isinstance(point, dict) and point]
        return [point for index, point in enumerate(points) if point not in points[:index]]

    def recipe_points_left_out(self) -> str:
        """Which of the recipe's configurations do not lie in this space, and why; empty if all do."""
        reasons: dict[str, list[str]] = {}
        for point in RECIPE:
            if isinstance(reason := self._place(point), str):
                reasons.setdefault(reason, []).append(f"{point['num_heads']} heads x {point['num_layers']} layers")
        return "; ".join(f"{' and '.join(names)}: {reason}" for reason, names in reasons.items())

    def _place(self, point: Mapping[str, Any]) -> dict[str, Any] | str:
        """Parameters of one of the recipe's configurations, or why it does not lie in this space.

        A field that the recipe does not mention, but on which others depend, has its default.
        """
        parents = {parent for items in self.ranges.values() for item in items for parent in item.when}
        wanted = {name: field_value(self.base, name) for name in parents} | dict(point)
        params = {}

        def choose(item: Range) -> Any:
            if item.field in wanted:
                params[item.param] = wanted[item.field]
            return wanted.get(item.field)

        values = {**{name: field_value(self.base, name) for name in point}, **self.draw(choose)}
        for name, value in params.items():
            if not allows(self.distributions[name], value):
                return f"{name} is never {value} in this space"
        for name, value in point.items():
            if values[name] != value:
                return f"{name} is {values[name]} in this space, not {value}"
        size = num_parameters(self.base.replace(**point).model)
        if self.max_params is not None and size > self.max_params:
            return f"its {size / 1e6:.2f}M parameters are over the limit"
        return params

    def smallest(self) -> dict[str, Any]:
        """The smallest model's shape: those of its parameters that decide it, and that these depend on.

        Raises ValueError if that takes looking at more than MOST_SHAPES.
        """
        names = set(_SHAPE & self.ranges.keys())
        while parents := {parent for name in names for item in self.ranges[name] for parent in item.when} - names:
            names |= parents
        items = [item for name, items in self.ranges.items() if name in names for item in items]
        extremes = [self._extremes(item) for item in items]
        if (count := math.prod(map(len, extremes))) > MOST_SHAPES:
            raise ValueError(f"the space has too many conditions on the model's shape to look at ({count:,} shapes)")
        shapes = (
            {item.param: value for item, value in zip(items, way, strict=True)} for way in itertools.product(*extremes)
        )
        return min(shapes, key=lambda shape: num_parameters(self.shaped(shape).model))

    def _extremes(self, item: Range) -> list[Any]:
        """Of a range, what the smallest model may have: the least number, any other choice, and what conditions ask."""
        others = itertools.chain(*self.ranges.values())
        asked = [value for other in others for value in other.when.get(item.field, ())]
        if not isinstance(item.distribution, CategoricalDistribution):
            low = cast(IntDistribution, item.distribution).low
            return list(dict.fromkeys([low, *(value for value in asked if allows(item.distribution, value))]))
        choices: tuple[Any, ...] = item.distribution.choices
        free = [value for value in choices if value not in asked]
        if free and item.field not in _SHAPE:
            free = free[:1]  # stands for all that no condition asks for
        elif free and not isinstance(free[0], bool | str):
            free = [min(free)]
        return [value for value in choices if value in asked or value in free]

    def shaped(self, params: Mapping[str, Any]) -> TrainConfig:
        """The configuration with some of the parameters, and the other searched fields as in ``base``."""
        return self.base.replace(**self.draw(lambda item: params.get(item.param, field_value(self.base, item.field))))


def _suggest(trial: optuna.trial.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
    raise TypeError(f"no such distribution: {distribution}")
