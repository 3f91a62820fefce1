"""Mutations: how a valid file is made another one, and the words for it.

A mutation is a function of a path and two numbers, ``where`` and ``what``, taken modulo what there is to choose from.
It changes the file in place and returns words for what it did. So an input is a few numbers, which Hypothesis draws and
shrinks, and the same numbers always make the same input.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

Mutation = Callable[[Path, int, int], str]
Item = TypeVar("Item")

LARGEST: Final = 2**16
"""``where`` and ``what`` are below it"""


class DoesNotApply(Exception):
    """The file is not there, or not what the mutation changes, such as after an earlier mutation."""


class Mutations(dict[str, Mutation]):
    """Mutations of one format by their names."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def add(self, mutation: Mutation) -> Mutation:
        """A decorator: the mutation under its function's name, which refuses files that are not there."""

        def mutate(path: Path, where: int, what: int) -> str:
            if not path.is_file():
                raise DoesNotApply
            return mutation(path, where, what)

        self[f"{self._kind}:{mutation.__name__}"] = mutate
        return mutation


def pick(items: Iterable[Item], number: int) -> Item:
    """One of the items; DoesNotApply if there is none."""
    choices = list(items)
    if not choices:
        raise DoesNotApply
    return choices[number % len(choices)]


def brief(text: object, most: int = 60) -> str:
    """A text short enough for a line."""
    shown = str(text).encode("ascii", "backslashreplace").decode()
    return shown if len(shown) <= most else f"{shown[:most]}... ({len(shown):,} characters)"
