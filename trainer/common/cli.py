"""From a dataclass to a command: its help, its parsing, and errors of one line.

The options of a command are the fields of a dataclass; the help is the docstrings beneath them.

    from trainer.common.fields import option, positive


    @dataclass(frozen=True, kw_only=True)
    class PackOptions:
        \"\"\"Pack the contest's files into one dataset.\"\"\"

        source: Path = option(positional=True)
        \"\"\"Folder of the contest.\"\"\"
        workers: int = option(2, parse=positive)
        \"\"\"Processes that read.\"\"\"


    @command("trainer.pack", PackOptions, examples=["asl-signs packed --workers 4"])
    def main(options: PackOptions) -> None: ...

argparse does the parsing. tyro 1.0, which reads docstrings too, prints an error as a box of several lines, knows no
option whose value may be left out (--budget alone), and suggests no value for a misspelt one.
"""

import argparse
import contextlib
import dataclasses
import errno
import functools
import importlib.util
import inspect
import itertools
import os
import re
import shlex
import shutil
import signal
import sys
import traceback
import types
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from trainer.common import signals
from trainer.common.credentials import hide
from trainer.common.errors import UserError
from trainer.common.fields import Option, field_docs, printable, shorten, suggestion, without_keys
from trainer.common.files import require_working_folder, to_path
from trainer.common.program import as_called, version

Options = TypeVar("Options")
_METAVARS: Final[dict[Any, str]] = {int: "N", float: "X", Path: "PATH", str: "TEXT"}
_WIDEST: Final = 110  # columns of a help page


class Parser(argparse.ArgumentParser):
    """Parses what a dataclass describes. Whatever is wrong is a UserError of one line that names the option.

    An argument such as -5MB is a value, not an option: no option begins with a digit.
    """

    def __init__(
        self, module: str, kind: type | None = None, *, description: str = "", examples: Sequence[str] = ()
    ) -> None:
        """For the command that ``python -m module`` runs, with the fields of ``kind`` as options."""
        prog = as_called(f"python -m {module}")
        text = inspect.getdoc(kind) if kind is not None and not description else description
        epilog = "\n".join(["examples:", *(f"  {prog} {example}".rstrip() for example in examples)])
        super().__init__(
            prog=prog,
            description=text,
            epilog=epilog if examples else None,
            formatter_class=_Help,
            add_help=False,
            allow_abbrev=False,
        )
        self._negative_number_matcher = re.compile(r"-\.?\d.*")  # argparse's own takes -5 for a number, not -5MB
        self.kind = kind
        self.flags: dict[str, str] = {}
        """How each field is called on the command line"""
        self._headings: dict[str, Any] = {}
        self._collected: dict[str, list[str]] = {}
        self._repeated: set[str] = set()
        self._heading("options")  # stands first, also where a base class has groups of its own
        if kind is not None:
            self.add_fields(kind)
        last = self._heading("help")
        last.add_argument("-h", "--help", action="help", help="show this page and exit")
        last.add_argument(
            "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="show the version and exit"
        )

    def add_fields(self, kind: type, *, without: Collection[str] = (), group: str | None = None) -> list[str]:
        """Add an option for each field of a dataclass; with ``group``, without defaults and under that heading, unless
        the field names another.

        Returns the names of the fields.
        """
        docs, hints = field_docs(kind), get_type_hints(kind)
        added = []
        for item in dataclasses.fields(kind):
            how: Option = item.metadata.get("option", Option())
            if item.name in without:
                continue
            if how.fields_of:
                names = [self.add_fields(part, without=how.without, group=how.group) for part in how.fields_of]
                self._collected[item.name] = [name for part in names for name in part]
            else:
                self._add_field(item, how, hints[item.name], docs.get(item.name, ""), group)
                added.append(item.name)
        return added

    def _add_field(self, item: Any, how: Option, hint: Any, doc: str, group: str | None) -> None:
        is_required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        default = None if is_required else item.default
        settings: dict[str, Any] = _reading(hint, how, is_flag=default is False and group is None)
        settings["help"] = argparse.SUPPRESS if how.hidden else _help(doc, default, is_required, how, settings)
        heading = self._heading(group if group and how.group == Option().group else how.group)
        if how.positional:
            name = how.metavar or item.name.upper()
            self.flags[item.name] = name
            settings["metavar"] = name
            if not is_required:
                settings |= {"nargs": settings.get("nargs", "?"), "default": default}
            heading.add_argument(item.name, **settings)
            return
        flag = f"--{item.name.rstrip('_').replace('_', '-')}"
        self.flags[item.name] = flag
        if how.repeated:
            self._repeated.add(item.name)
        if group is None:
            settings |= {"default": None if how.repeated else default, "required": is_required}
        else:
            settings["default"] = argparse.SUPPRESS
        heading.add_argument(flag, dest=item.name, **settings)
        for alias in how.aliases:
            self.add_argument(alias, dest=item.name, **settings | {"help": argparse.SUPPRESS})

    def _heading(self, title: str) -> Any:
        if title not in self._headings:
            self._headings[title] = self.add_argument_group(title)
        return self._headings[title]

    def parse(self, arguments: Sequence[str] | None = None) -> Any:
        """The options as the dataclass. Raises UserError; exits after --help and --version."""
        values = vars(self.parse_args(arguments))
        for name, fields in self._collected.items():
            values[name] = {field: values.pop(field) for field in fields if field in values}
        assert self.kind is not None
        with self.naming_flags():
            given = {name: _without_keys(value, name) for name, value in values.items()}
            return self.kind(**{name: value for name, value in given.items() if name not in self._repeated or value})

    @contextlib.contextmanager
    def naming_flags(self) -> Iterator[None]:
        """Have a UserError say how its field is called here, and any field that its message has in parentheses."""
        try:
            yield
        except UserError as error:
            error.field = self.flags.get(error.field or "", error.field)
            error.message = re.sub(r"\((\w+)\)", lambda name: f"({self.flags.get(name[1], name[1])})", error.message)
            raise

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        words = sys.argv[1:] if args is None else list(args)
        for before, word in itertools.pairwise(["", *words]):  # printed, and written into files of text
            if any(unicodedata.category(character) in ("Cc", "Cs") for character in word):
                of = f"{before}: " if before.startswith("--") and "=" not in before else ""
                self.error(f"{of}{shorten(word)!r}: has a character that is no text; rename what is called so")
        for word in (
            words[: words.index("--")] if "--" in words else words
        ):  # before any option is missed for want of it
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                self.error(f"{name}: there is no such option{self._near(name)}")
        parsed: argparse.Namespace
        parsed, left = self.parse_known_args(words, namespace)
        if left and left[0].startswith("-"):
            self.error(f"{left[0]}: there is no such option{self._near(left[0])}")
        if left:
            self.error(f"{shorten(shlex.join(left))}: is more than is asked for{self._place_of(left[0], words)}")
        return parsed

    def _place_of(self, word: str, words: Sequence[str]) -> str:
        """Where one of the words may belong that stands where none is asked for."""
        flag, value = ["", "", *words[: words.index(word)]][-2:]
        action = self._option_string_actions.get(flag)
        if action is not None and action.nargs == "?" and callable(action.type):
            with contextlib.suppress(UserError, ValueError, argparse.ArgumentTypeError):
                action.type(f"{value},{word}")
                return f"; did you mean {flag} {value},{word}?"
        results = self._option_string_actions.get("--results")
        return "; a study is given with --results" if results is not None and results.metavar == "STUDY" else ""

    def _near(self, name: str) -> str:
        known = [option for option in self._option_string_actions if option.startswith("--")]
        return suggestion(name, known)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = ", ".join(map(str, action.choices))
            near = suggestion(str(value), [str(choice) for choice in action.choices])
            raise argparse.ArgumentError(action, f"{shorten(str(value))!r} is not one of {choices}{near}")

    def format_usage(self) -> str:
        return f"usage: {self._usage()}\n"

    def format_help(self) -> str:
        self.usage = self._usage()
        return super().format_help()

    def _usage(self) -> str:
        words = [self.prog]
        needed = [action for action in self._actions if action.option_strings and action.required]
        words += [f"{action.option_strings[0]} {action.metavar or ''}".strip() for action in needed]
        words.append("[options]")
        for action in self._actions:
            if not action.option_strings:
                dots = " ..." if action.nargs in ("+", "*") else ""
                words.append(f"[{action.metavar}]" if action.nargs in ("?", "*") else f"{action.metavar}{dots}")
        return " ".join(words)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')} ({self.prog} --help lists the options)")


def _without_keys(value: Any, field: str) -> Any:
    """What was given for a field, without the keys in URIs; several values as a tuple."""
    if isinstance(value, list):
        return tuple(_without_keys(item, field) for item in value)
    return without_keys(value, field) if isinstance(value, str) else value


def _path(text: str) -> Path:
    try:
        return to_path(text, "")
    except UserError as error:
        raise ValueError(error.message) from error


class _Version(argparse.Action):
    def __call__(self, *_: Any, **__: Any) -> None:
        print(f"sign-ensemble-search {version()}")
        sys.exit(0)


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        columns = shutil.get_terminal_size().columns - 2
        super().__init__(prog, max_help_position=30, width=max(40, min(columns, _WIDEST)))


def _reading(hint: Any, how: Option, *, is_flag: bool) -> dict[str, Any]:
    """What argparse needs to read a field of this type; a flag is off unless given."""
    kind, origin = hint, get_origin(hint)
    if origin in (Union, types.UnionType):
        (kind,) = (part for part in get_args(hint) if part is not types.NoneType)
        origin = get_origin(kind)
    settings: dict[str, Any] = {}
    if origin is tuple:
        kind = get_args(kind)[0]
        origin = get_origin(kind)
        settings |= {"action": "append"} if how.repeated else {"nargs": "+"}
    if kind is bool:
        return {"action": "store_true" if is_flag else argparse.BooleanOptionalAction}
    choices = get_args(kind) if origin is Literal else how.choices
    if choices is not None:
        metavar = how.metavar or ("{" + ",".join(choices) + "}" if len(",".join(choices)) < 30 else "NAME")
        return settings | {"choices": tuple(choices), "metavar": metavar}
    settings |= {
        "type": readable(_path if how.parse is Path or (kind is Path and not how.parse) else how.parse or kind),
        "metavar": how.metavar or _METAVARS.get(kind, "TEXT"),
    }
    if how.alone is not None:
        settings |= {"nargs": "?", "const": settings["type"](how.alone), "metavar": how.metavar}
    return settings


def readable(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` with errors that argparse prints as they are."""
    words = {int: "must be a whole number", float: "must be a number"}

    def read(text: str) -> Any:
        if not text.strip():
            raise argparse.ArgumentTypeError("must not be empty")
        try:
            return parse(text)
        except ValueError as error:
            rule = words.get(parse)  # type: ignore[call-overload]
            raise argparse.ArgumentTypeError(f"{rule}, not {shorten(text)!r}" if rule else str(error)) from error

    return read


def _help(doc: str, default: Any, is_required: bool, how: Option, settings: Mapping[str, Any]) -> str:
    """A field's docstring, what may be chosen, and its default."""
    text = doc.rstrip(".")
    choices = settings.get("choices")
    if choices is not None and len(",".join(choices)) >= 30:
        text += f" [{' | '.join(choices)}]"
    if is_required and not how.positional:
        text += " (required)"
    elif not (default is None or default == () or settings.get("action") == "store_true" or "default" in doc):
        text += f" (default: {' '.join(map(str, default)) if isinstance(default, tuple) else _shown(default)})"
    return text.replace("%", "%%")


def _shown(default: Any) -> str:
    return {True: "on", False: "off"}[default] if isinstance(default, bool) else str(default)


def command(
    module: str, kind: type[Options], *, examples: Sequence[str] = ()
) -> Callable[[Callable[[Options], None]], Callable[[], None]]:
    """Make a function of options into a command that reads them from the command line.

    A UserError that has a field then names the field's flag.
    """

    def decorate(act: Callable[[Options], None]) -> Callable[[], None]:
        @functools.wraps(act)
        def main() -> None:
            parser = Parser(module, kind, examples=examples)
            options: Options = parser.parse()
            with parser.naming_flags():
                act(options)

        del main.__wrapped__
        return main

    return decorate


_NO_ROOM: Final = "make room there, and begin again"
_WRONG_KIND: Final = "remove what stands there, or name another place"
_REMEDIES: Final = {  # of what the system says of a path
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _NO_ROOM),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR), _WRONG_KIND),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "look at who may write there, or name another place"),
}


_ENVIRONMENT: Final = (
    "activate the environment that has this project (. .venv/bin/activate), or install it: python -m pip install ."
)


def run(main: Callable[[], None]) -> NoReturn:
    """Run a command: no traceback for what users can mend (exit status 2), an interrupt (130), SIGTERM (143) or SIGHUP.

    What users can mend is a UserError, and what the system says of a file or disk that cannot be used.
    """
    for name in ("stdout", "stderr"):  # a shell's >&- leaves none
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # for as long as the process lasts
    sys.excepthook = lambda *error: sys.stderr.write(hide("".join(traceback.format_exception(*error)))) and None
    try:
        with signals.handled(signals.stop, *signals.STOPPING):
            require_working_folder()
            main()
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ModuleNotFoundError as error:
        if (package := _absent(error)) is None:
            raise
        _print_error("error:", f" {sys.executable} has no package {package}; {_ENVIRONMENT}")
        sys.exit(2)
    except (UserError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            remedy = _REMEDIES.get(error.errno or 0)
            message = f"{error.filename}: {error.strerror}{f'; {remedy}' if remedy else ''}"
        _print_error("error:", f" {printable(hide(as_called(message)))}")
        sys.exit(2)
    except KeyboardInterrupt as error:
        signum = error.signum if isinstance(error, signals.Stopped) else signal.SIGINT
        _print_error("", "interrupted" if signum == signal.SIGINT else f"ended by {signal.Signals(signum).name}")
        sys.exit(signals.exit_status(signum))
    sys.exit(0)


def _absent(error: ModuleNotFoundError) -> str | None:
    """The package that this Python lacks, if that is what the error says."""
    package = (error.name or "").partition(".")[0]
    return package if package and importlib.util.find_spec(package) is None else None


def _print_error(head: str, message: str) -> None:
    try:
        from rich.console import Console  # where there is something to print
        from rich.text import Text
    except ModuleNotFoundError:  # a Python that has none of the packages
        print(f"{head}{message}", file=sys.stderr)
        return
    text = Text.assemble((head, "bold red"), message)
    Console(stderr=True, highlight=False, emoji=False).print(text, soft_wrap=True)
