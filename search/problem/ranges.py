"""What one field of a space file may be: its ranges, each with the condition under which it holds, checked.

search.problem.space reads the file with these and puts them together.
"""

import difflib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from trainer.common.errors import FieldError
from trainer.common.fields import shorten
from trainer.common.strict import described, is_number
from trainer.config import ModelConfig, TrainConfig

_KEYS: Final = {
    "int": {"type", "low", "high", "log", "step", "when"},
    "float": {"type", "low", "high", "log", "step", "when"},
    "categorical": {"type", "choices", "when"},
}
_NOT_SEARCHED: Final = {
    "num_signs": "the dataset decides it",
    "model": "name its fields instead, such as num_heads",
    "all_participants": "nobody would be left to compare trials on; it is an option of search.refit",
}
_FIELDS: Final = sorted(
    {item.name for kind in (ModelConfig, TrainConfig) for item in fields(kind)} - _NOT_SEARCHED.keys()
)

MOST_STEPS: Final = 10**9  # of a range; Optuna counts them
MOST_CHECKED: Final = 100  # values of a range
MOST_CHOICES: Final = 1000
_HEADER: Final = re.compile(r"""\s*\[{1,2}[\w\s"'.-]+\]{1,2}\s*(#.*)?$""")  # of a TOML table


class Fault(Exception):
    """What is wrong with one of a file's fields, for search.problem.space to say where."""

    def __init__(self, name: str, message: str, index: int = 0) -> None:
        """``index`` counts the ranges of the field."""
        super().__init__(message)
        self.name, self.message, self.index = name, message, index


@dataclass(frozen=True)
class Range:
    """Where a field's value is drawn from, if its condition holds."""

    field: str
    param: str
    """Its name in the study: the field's, or with several ranges the field's and the condition"""
    distribution: BaseDistribution
    when: dict[str, tuple[Any, ...]]
    """By parent field, the values of which it must have one; empty: always"""

    def holds(self, base: TrainConfig, values: Mapping[str, Any]) -> bool:
        """Whether the condition holds where fields have these values, and the others those of ``base``."""
        return all(
            _is_among(values[parent] if parent in values else field_value(base, parent), among)
            for parent, among in self.when.items()
        )


def check_name(name: str) -> None:
    """Raise Fault if a field of this name cannot be in a space."""
    if name in _NOT_SEARCHED:
        raise Fault(name, f"cannot be set here; {_NOT_SEARCHED[name]}")
    if name not in _FIELDS:
        raise Fault(name if name.isprintable() else repr(name), f"not a field of TrainConfig; {_hint(name, _FIELDS)}")


def field_value(config: TrainConfig, name: str) -> Any:
    """Of a field of the training or of the model."""
    return getattr(config if hasattr(config, name) else config.model, name)


def with_fixed(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The base with these values, which are checked together. Raises Fault."""
    try:
        return base.replace(**values)
    except FieldError as error:
        if error.field is not None and error.field in values:
            raise Fault(error.field, error.message) from error
        raise Fault(next(iter(values)), str(error)) from error


def read_ranges(name: str, value: Any, base: TrainConfig, rotated: bool = False) -> tuple[Range, ...]:
    """The ranges of one searched field as its TOML gives them, each checked on its own. Raises Fault.

    Trials may hold out different folds only where these are ``rotated``.
    """
    if name == "num_folds" or (name == "fold" and not rotated):
        raise Fault(name, "must be one value for all trials, or their accuracies could not be compared")
    tables = [value] if isinstance(value, dict) else value
    if not any(isinstance(table, dict) for table in tables):
        raise Fault(name, 'is a list without ranges; for choices write {type = "categorical", choices = [...]}')
    has_value = not isinstance(tables[-1], dict)  # for where no condition holds
    if has_value:
        tables = tables[:-1]
    found: list[Range] = []
    for index, table in enumerate(tables):
        try:
            if not isinstance(table, dict):
                raise ValueError("only the last of several ranges may be a plain value")
            when = _when(table.get("when", {}))
            if has_value and not when:
                raise ValueError("holds always: the plain value after it never would; give it a `when`")
            param = name if len(tables) == 1 else f"{name}@{_describe(when)}"
            found.append(Range(name, param, _distribution(name, table, base), when))
            if any(_covers(earlier.when, when) for earlier in found[:-1]):
                raise ValueError("never holds: wherever it would, a range before it does; put the narrower one first")
        except ValueError as error:
            raise Fault(name, str(error), index) from error
    return tuple(found)


def order(searched: Mapping[str, tuple[Range, ...]], base: TrainConfig) -> dict[str, tuple[Range, ...]]:
    """The fields with parents before those that depend on them, else as they were.

    Raises Fault for a condition on a field that is not searched, on a value that it never has, or on itself in the end.
    """
    for name, items in searched.items():
        for index, item in enumerate(items):
            for parent, values in item.when.items():
                try:
                    check_name(parent)
                    _check_condition(parent, values, searched, base)
                except (Fault, ValueError) as error:
                    message = f"when {parent}: {error.message}" if isinstance(error, Fault) else f"when: {error}"
                    raise Fault(name, message, index) from error
    ordered: dict[str, tuple[Range, ...]] = {}
    while len(ordered) < len(searched):
        ready = {
            name: items
            for name, items in searched.items()
            if name not in ordered and all(parent in ordered for item in items for parent in item.when)
        }
        if not ready:
            stuck = [name for name in searched if name not in ordered]
            raise Fault(stuck[0], f"depends on itself, by way of the conditions of {', '.join(stuck)}")
        name = next(iter(ready))
        ordered[name] = ready[name]
    return ordered


def allows(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value can be drawn."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return _is_among(value, choices)
        case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=step):
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                return False
            return step is None or math.isclose((value - low) / step, round((value - low) / step), abs_tol=1e-9)
    return False


def line_of(fault: Fault, text: str) -> int:
    """Line, from 1, on which a top-level key or its table begins; with several ranges, on which the faulty one does."""
    key = rf"""["']?{re.escape(fault.name)}["']?\s*"""
    bare = re.compile(rf"\s*{key}[.=]")
    header = re.compile(rf"\s*(\[\[\s*{key}\]\]|\[\s*{key}[\].])")
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines, start=1) if _HEADER.match(line)), len(lines) + 1)
    heads = [
        number
        for number, line in enumerate(lines, start=1)
        if header.match(line) or (number < first and bare.match(line))  # later ones are keys of a table
    ]
    if not heads:
        return 1
    start = lines[heads[0] - 1]
    if start.lstrip().startswith("[["):
        tables = [number for number in heads if lines[number - 1].lstrip().startswith("[[")]
        return tables[fault.index]
    return heads[0] if header.match(start) else _line_of_range(lines, heads[0], fault.index)


def _line_of_range(lines: Sequence[str], start: int, index: int) -> int:
    """Line of a range in the list that begins on line ``start``; that one itself where it has no such range."""
    depth, count = 0, 0
    for number, line in enumerate(lines[start - 1 :], start=start):
        for character in line.partition("#")[0]:
            if character == "{" and depth <= 1:
                if count == index:
                    return number
                count += 1
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(character, 0)
        if depth == 0:
            break
    return start


def _when(table: Any) -> dict[str, tuple[Any, ...]]:
    """A condition as TOML has it: by field, a value or a list of values."""
    if not isinstance(table, dict) or any(isinstance(value, dict) or value == [] for value in table.values()):
        raise ValueError('when must name values of other fields, such as {optimizer = "adamw", num_layers = [2, 3]}')
    return {name: tuple(value) if isinstance(value, list) else (value,) for name, value in table.items()}


def _covers(wide: Mapping[str, Sequence[Any]], narrow: Mapping[str, Sequence[Any]]) -> bool:
    """Whether one condition holds wherever another does."""
    return all(
        parent in narrow and all(_is_among(value, values) for value in narrow[parent])
        for parent, values in wide.items()
    )


def _describe(when: Mapping[str, Sequence[Any]]) -> str:
    return ",".join(f"{name}={'|'.join(map(str, values))}" for name, values in when.items()) or "else"


def _check_condition(
    parent: str, values: Sequence[Any], searched: Mapping[str, tuple[Range, ...]], base: TrainConfig
) -> None:
    """Raise ValueError if a parent never has one of the values that a condition asks for."""
    if parent not in searched:
        raise ValueError(
            f"{parent} has one value in this space, {field_value(base, parent)!r}, so there is nothing to depend on; "
            "search it too, or leave the condition out"
        )
    kinds = [item.distribution for item in searched[parent]]
    if any(isinstance(kind, FloatDistribution) and kind.step is None for kind in kinds):
        raise ValueError(f"{parent} is a range without steps, which has no values to name; give it a step or choices")
    usual = field_value(base, parent)
    may_be_usual = all(item.when for item in searched[parent])
    for value in values:
        if not any(allows(kind, value) for kind in kinds) and not (may_be_usual and _same(value, usual)):
            known = [*itertools.chain(*map(_values, kinds)), *([str(usual)] if may_be_usual else [])]
            raise ValueError(f"{parent} is never {described(value)}; {_hint(str(value), known)}")


def _values(distribution: BaseDistribution) -> list[str]:
    """For the reader of a message."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return [shorten(str(choice)) for choice in choices]
        case IntDistribution(low=low, high=high) | FloatDistribution(low=low, high=high):
            return [f"{low} to {high}"]
    return []


def _hint(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"it can be {', '.join(known)}"


def _same(one: Any, other: Any) -> bool:
    """Equal, and not 1 for true."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _is_among(value: Any, values: Sequence[Any]) -> bool:
    return any(_same(value, item) for item in values)


def _distribution(name: str, table: Mapping[str, Any], base: TrainConfig) -> BaseDistribution:
    """Make and check the distribution of one field. Raises ValueError saying what is wrong with it."""
    kind = table.get("type")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise ValueError(f"type must be int, float or categorical, not {described(kind)}")
    unknown = sorted(table.keys() - _KEYS[kind])
    if unknown:
        raise ValueError(f"unknown key {described(unknown[0])}; type {kind} takes {', '.join(sorted(_KEYS[kind]))}")
    if kind == "categorical":
        choices = table.get("choices")
        if not isinstance(choices, list) or not choices:
            raise ValueError("choices must be a list of at least one value")
        if len(choices) > MOST_CHOICES:
            raise ValueError(f"{len(choices):,} choices, and at most {MOST_CHOICES:,} can be searched")
        _check_values(name, choices, base)
        if twice := [value for index, value in enumerate(choices) if _is_among(value, choices[:index])]:
            raise ValueError(f"choices has {described(twice[0])} twice")
        return CategoricalDistribution(choices)
    low, high = _bounds(kind, table)
    _check_values(name, (low, high), base)
    log, step = table.get("log", False), table.get("step")
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, not {described(log)}")
    if log and step is not None and (kind == "float" or step != 1):
        raise ValueError("log and step cannot go together; leave one of them out")
    if log and low < (1 if kind == "int" else math.ulp(0.0)):
        above = "at least 1" if kind == "int" else "above 0"
        raise ValueError(f"with log, low must be {above}, not {low:g}; raise low, or leave log out")
    if kind == "int":
        step = 1 if step is None else step
        _check_values(name, range(low, high + 1, step)[:MOST_CHECKED], base)  # conv_kernel takes odd ones alone
        return IntDistribution(low, high, log=log, step=step)
    return FloatDistribution(low, high, log=log, step=step)


def _bounds(kind: str, table: Mapping[str, Any]) -> tuple[Any, Any]:
    numbers = (int,) if kind == "int" else (int, float)
    for key in ("low", "high", "step"):
        value = table.get(key)
        if value is None:
            if key == "step":
                continue
            raise ValueError(f"{key} is missing")
        if isinstance(value, bool) or not isinstance(value, numbers) or not is_number(value):
            raise ValueError(f"{key} must be {'an integer' if kind == 'int' else 'a number'}, not {described(value)}")
    low, high, step = table["low"], table["high"], table.get("step")
    if low > high:
        raise ValueError(f"empty range: low {low} is above high {high}")
    if step is not None and step <= 0:
        raise ValueError(f"step must be positive, not {step}")
    if step is not None and (high - low) / step > MOST_STEPS:
        raise ValueError(f"steps of {step} from {low} to {high} are too many; make the step larger, or leave it out")
    if step is not None and not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-9):
        last = low + step * math.floor((high - low) / step)
        raise ValueError(f"steps of {step} from {low} do not reach high {high}; make that {last:g}, or change the step")
    return (low, high) if kind == "int" else (float(low), float(high))


def _check_values(name: str, values: Sequence[Any], base: TrainConfig) -> None:
    """Raise ValueError if TrainConfig refuses one of them."""
    for value in values:
        base.replace(**{name: value})
