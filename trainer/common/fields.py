"""How a command's options are written down: as the fields of a dataclass, with their docstrings for help."""

import ast
import dataclasses
import difflib
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trainer.common.credentials import take
from trainer.common.errors import UserError

MOST: Final = 1_000_000  # of whatever is counted
MOST_THREADS: Final = 1024
LONGEST: Final = 40  # characters of a value that errors show
LONGEST_NAME: Final = 255  # bytes of a file's or folder's name
_LONGER_THAN_NAMES: Final = re.compile(r"[^\s/]{256,}")  # no file has such a name, and no error needs to show it
_CONTROLS: Final = re.compile(r"\n(?!  )|[^\n\x20-\x7e\xa0-\U0010ffff]|[\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Option:
    """How a field is given on the command line, beyond what its type says."""

    parse: Callable[[str], Any] | None = None
    """Reads one value; raises ValueError with what is wrong and what to write instead."""
    choices: Collection[str] | None = None
    metavar: str | None = None
    group: str = "options"
    """Heading of the help page under which it stands."""
    positional: bool = False
    alone: str | None = None
    """What the option means without a value."""
    repeated: bool = False
    """Given again, it adds a value."""
    hidden: bool = False
    """Left out of the help."""
    aliases: tuple[str, ...] = ()
    """Older names, not shown."""
    fields_of: tuple[type, ...] = ()
    """Dataclasses, each field of which is an option of its own; those that are given become a dict."""
    without: frozenset[str] = frozenset()
    """Fields of those that are left out."""


def option(default: Any = dataclasses.MISSING, **how: Any) -> Any:
    """A field of a dataclass of options, with the fields of ``Option``; required if it has no default."""
    metadata = {"option": Option(**how)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def field_docs(kind: type) -> dict[str, str]:
    """The docstring beneath each field of a dataclass, in one line, by the field's name.

    They are read from the source, as Python throws them away.
    """
    docs: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(node, ast.ClassDef)
        for item, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(below, ast.Expr):
                docs[item.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return docs


def positive(text: str, most: int = MOST) -> int:
    """Read a whole number from 1 to ``most``. Raises ValueError.

    >>> positive("3")
    3
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    check_count(value, text, most)
    return value


def without_keys(where: str, field: str | None = None) -> str:
    """A path or URI as it may be kept and shown; this process remembers the keys that were in it.

    Raises UserError, with ``field``, if they cannot be told from the rest, or if the URI has one slash or none.
    """
    try:
        return take(where)
    except ValueError as error:
        raise UserError(str(error), field=field) from None


def to_place(value: Any, field: str) -> str:
    """A path or URI as Python's users give one, without its keys (``without_keys``).

    Raises UserError with ``field`` for what is none, such as a number or nothing but spaces, and for longer names than
    file systems take.
    """
    place = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(place, str) or not place.strip() or "\0" in place:
        raise UserError(f"must be a path, not {shown(value)}", field=field)
    longest = longest_name(place)
    if longest > LONGEST_NAME:
        rule = f"longer than the {LONGEST_NAME} that file systems allow; choose a shorter one"
        raise UserError(f"has a name of {longest:,} bytes, {rule}", field=field)
    return without_keys(place, field)


def longest_name(path: str) -> int:
    """Bytes of the longest of the names that a path is made of."""
    return max(len(name.encode(errors="surrogateescape")) for name in path.split("/"))


def to_count(value: Any, field: str, least: int = 1, most: int = MOST) -> int:
    """A whole number as Python's users give one, NumPy's too. Raises UserError with ``field`` for any other."""
    try:
        number: int | None = None if isinstance(value, bool) else value.__index__()
    except (AttributeError, TypeError):
        number = None
    if number is None or not least <= number <= most:
        rule = f"of at most {most:,}" if number is not None and number > most else f"of at least {least:,}"
        raise UserError(f"must be a whole number {rule}, not {shown(value)}", field=field)
    return number


def shown(value: object) -> str:
    """The beginning of a value of any type, in one line."""
    return shorten(" ".join(repr(value).split("\n")))


def threads(text: str) -> int:
    """Read a number of threads. Raises ValueError."""
    return positive(text, MOST_THREADS)


def trial_names(text: str) -> tuple[str, ...]:
    """Read names of trials, as their folders have them; a trial of several studies follows the study's name.

    Raises ValueError.

    >>> trial_names("7,12"), trial_names("asl/7")
    (('0007', '0012'), ('asl/0007',))
    """
    names = []
    for part in text.split(","):
        study, slash, number = part.strip().rpartition("/")
        if not (number.isascii() and number.isdecimal()) or bool(slash) != bool(study) or len(number) > LONGEST:
            raise ValueError(f"must be numbers of trials such as 7,12 or asl/7, not {shorten(part.strip() or text)!r}")
        names.append(f"{study}{slash}{int(number):04d}")
    return tuple(names)


def require_trials(names: Collection[str], known: Collection[str], field: str) -> None:
    """Raise UserError, with ``field``, for a name that ``trial_names`` read and that is not ``known``."""
    for name in names:
        if name not in known:
            likest = [] if "/" in name else [its for its in known if its.endswith(f"/{name}")]
            near = f"; did you mean {', '.join(map(bare, likest[:3]))}?" if likest else ""
            if not near and known:
                near = f"; there are {bare(min(known))} to {bare(max(known))}"
            raise UserError(f"there is no trial {shorten(bare(name))}{near}", field=field)


def bare(name: str) -> str:
    """A trial as the user knows it.

    >>> bare("0007"), bare("asl/0007")
    ('7', 'asl/7')
    """
    study, slash, number = name.rpartition("/")
    return f"{study}{slash}{int(number)}"


def check_count(value: int, shown: object, most: int = MOST) -> None:
    """Raise ValueError unless a number is from 1 to ``most``; ``shown`` is how the error calls it."""
    if not 1 <= value <= most:
        rule = "of at least 1" if value < 1 else f"of at most {most:,}"
        raise ValueError(f"must be a whole number {rule}, not {shorten(str(shown))}")


def shorten(text: str) -> str:
    """The beginning of a text that is too long for an error.

    >>> shorten("ab")
    'ab'
    """
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def printable(message: str) -> str:
    """A message without what a file's content has no business to do in it: begin a line, or fill the screen.

    A line of a list begins with two spaces.
    """
    short = _LONGER_THAN_NAMES.sub(lambda found: shorten(found[0]), message)
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], short)


def suggestion(word: str, known: Collection[str]) -> str:
    """What may have been meant, to stand behind an error; empty if nothing is near.

    >>> suggestion("--trails", ["--trials", "--data"])
    '; did you mean --trials?'
    """
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def to_words(options: Any, defaults: Mapping[str, Any] | None = None) -> list[str]:
    """The command-line words that ask for these options again; those at their defaults are left out."""
    words: list[str] = []
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        default = (defaults or {}).get(item.name, item.default)
        if value == default or value is None:
            continue
        flag = f"--{item.name.rstrip('_').replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return words
