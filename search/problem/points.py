"""Configurations that the user asks for: fields and values -> parameters of a trial, whose others the sampler draws."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.problem.ranges import Range, allows
from search.problem.space import Space
from trainer.common.errors import FieldError, UserError
from trainer.common.fields import shorten, shown, suggestion
from trainer.model.classifier import num_parameters

_FIELD: Final = "try_"  # of SearchOptions


def to_points(space: Space, several: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``to_point`` of each. Of several, a message names the one that it is of."""
    points = []
    for given in several:
        try:
            points.append(to_point(space, given))
        except UserError as error:
            if len(several) == 1:
                raise
            words = shorten(",".join(f"{name}={value}" for name, value in given.items()))
            raise _fault(f"{words}: {error.message}") from error
    return points


def to_point(space: Space, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by their names in the study, of which values may be text, as on the command line.

    Raises UserError for a field that is not searched, or a value that it never has.
    """
    for name in given:
        if name not in space.ranges:
            near = suggestion(name, space.ranges.keys())
            raise _fault(f"{shorten(name)} is not searched in this study{near}; searched are {', '.join(space.ranges)}")
    values: dict[str, Any] = {}
    point: dict[str, Any] = {}
    for name, items in space.ranges.items():  # parents first
        if name in given:
            item = _range(space, name, items, values)
            values[name] = point[item.param] = _value(item, given[name])
    _require_model(space, point)
    return point


def _range(space: Space, name: str, items: tuple[Range, ...], values: Mapping[str, Any]) -> Range:
    """The range that a field is drawn from, where fields before it have these values."""
    parents = dict.fromkeys(parent for item in items for parent in item.when)
    for parent in parents:
        if parent in space.ranges and parent not in values:
            raise _fault(f"{name} depends on {parent}; name that too")
    found = next((item for item in items if item.holds(space.base, values)), None)
    if found is None:
        under = ", ".join(f"{parent}={values[parent]}" for parent in parents if parent in values)
        raise _fault(f"{name} is not searched where {under}")
    return found


def _value(item: Range, given: Any) -> Any:
    value = given.item() if hasattr(given, "item") else given  # of NumPy
    if isinstance(given, str):
        with contextlib.suppress(ValueError):
            match item.distribution:
                case CategoricalDistribution(choices=choices):
                    value = next((choice for choice in choices if _text(choice) == given), given)
                case IntDistribution():
                    value = int(given)
                case FloatDistribution():
                    value = float(given)
    if not allows(item.distribution, value):
        said = given if isinstance(given, str) and given.isprintable() and len(given) <= 40 else shown(given)
        raise _fault(f"{item.field}: {said} is not {described(item.distribution)}")
    match item.distribution:
        case IntDistribution():
            return int(value)
        case FloatDistribution():
            return float(value)
    return value


def _text(choice: Any) -> str:
    """How a choice is written in a space file."""
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def _require_model(space: Space, point: Mapping[str, Any]) -> None:
    """Raise UserError if fields contradict each other, or no model of these parameters is within the limit."""
    try:
        config = space.shaped({**space.smallest(), **point} if space.max_params is not None else point)
    except FieldError as error:
        raise _fault(str(error)) from error
    if space.max_params is not None and (size := num_parameters(config.model)) > space.max_params:
        limit = f"over the study's limit of {space.max_params / 1e6:.3f}M (max_params)"
        raise _fault(f"makes a model of at least {size / 1e6:.3f}M parameters, {limit}")


def described(distribution: BaseDistribution) -> str:
    """What may be drawn, in words.

    >>> described(IntDistribution(1, 8))
    'a whole number from 1 to 8'
    """
    match distribution:
        case CategoricalDistribution(choices=choices):
            return f"one of {', '.join(map(_text, choices))}"
        case IntDistribution(low=low, high=high, step=step):
            steps = f" in steps of {step}" if step != 1 else ""
            return f"a whole number from {low} to {high}{steps}"
        case FloatDistribution(low=low, high=high, step=step):
            steps = f" in steps of {step:g}" if step is not None else ""
            return f"a number from {low:g} to {high:g}{steps}"
    raise TypeError(f"no such distribution: {distribution}")


def described_space(space: Space) -> dict[str, str]:
    """What may be drawn of each parameter, by its name in the study."""
    return {
        name: described(distribution) + " (log)" * getattr(distribution, "log", False)
        for name, distribution in space.distributions.items()
    }


def _fault(message: str) -> UserError:
    return UserError(message, field=_FIELD)
