"""What every command shares: options from a dataclass, their help, how a command ends."""

import errno
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from trainer.common import cli
from trainer.common.cli import Parser, command
from trainer.common.errors import UserError
from trainer.common.fields import field_docs, option, positive, to_words
from trainer.common.program import version

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Model:
    """A part whose fields are options too."""

    width: int = 8
    """Channels."""
    deep: bool = False
    """Whether it is deep."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Does something with files.

    And more of it.
    """

    source: Path = option(positional=True)
    """Folder to read."""
    data: str
    """Packed dataset."""
    budget: str | None = option(None, alone="40MB", metavar="BUDGET")
    """Limits, 100% hard."""
    speed: float = 0.5
    """How fast."""
    kind: Literal["cmaes", "tpe"] = "cmaes"
    """How it is done."""
    workers: int | None = option(None, parse=positive, group="where it runs")
    """Processes
    that read."""
    studies: tuple[str, ...] = ()
    """Where it begins."""
    results: tuple[str, ...] = option((), repeated=True)
    """Given again and again."""
    resume: bool = False
    """Go on."""
    config: dict[str, Any] = option({}, fields_of=(Model,), group="the model")


def parse(*words: str) -> Options:
    options: Options = Parser("some.command", Options).parse(words)
    return options


def end_of(main: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Exit status and standard error of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    return ended.value.code, capsys.readouterr().err


def test_success_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of(lambda: None, capsys) == (0, "")


def test_a_user_error_exits_2_with_its_message_alone(capsys: pytest.CaptureFixture[str]) -> None:
    message = "data/train.csv: no column 'sign'; [bold]not markup[/bold], and [/path] too " + "long " * 40

    def main() -> None:
        raise UserError(message)

    code, error = end_of(main, capsys)
    assert code == 2
    assert error == f"error: {message}\n"


def test_an_error_is_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError(f"study.json: a\nb\x1b[0m\u2028c: {'x' * 9_000} of 'é':\n  first of a list\n  {'y' * 255}")

    shown = f"study.json: a\\nb\\x1b[0m\\u2028c: {'x' * 40}... of 'é':\n  first of a list\n  {'y' * 255}"
    assert end_of(main, capsys) == (2, f"error: {shown}\n")


def test_options_are_the_dataclass_with_its_defaults() -> None:
    assert parse("here", "--data", "x") == Options(source=Path("here"), data="x", config={})


def test_options_are_read_by_their_types() -> None:
    words = "here --data x --budget --speed 2 --kind tpe --workers 3 --studies a b --resume --width 4 --no-deep"
    assert parse(*words.split(), "--results", "p", "--results", "q") == Options(
        source=Path("here"),
        data="x",
        budget="40MB",
        speed=2.0,
        kind="tpe",
        workers=3,
        studies=("a", "b"),
        results=("p", "q"),
        resume=True,
        config={"width": 4, "deep": False},
    )


def test_a_value_may_begin_with_a_minus() -> None:
    assert parse("here", "--data", "x", "--budget", "-5MB").budget == "-5MB"
    assert parse("here", "--data", "x", "--speed", "-1").speed == -1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("here", "the following arguments are required: --data"),
        ("here --dta x", "--dta: there is no such option; did you mean --data?"),
        ("here --data x --wide", "--wide: there is no such option; did you mean --width?"),
        ("here --data x --zzz=3", "--zzz: there is no such option"),
        ("here --data", "--data: expected one argument"),
        ("here there --data x", "there: is more than is asked for"),
        ("here --data x --kind cmae", "--kind: 'cmae' is not one of cmaes, tpe; did you mean cmaes?"),
        ("here --data x --workers 0", "--workers: must be a whole number of at least 1, not 0"),
        ("here --data x --workers 1000001", "--workers: must be a whole number of at most 1,000,000, not 1000001"),
        (
            f"here --data x --workers {'9' * 5000}",
            f"--workers: must be a whole number of at least 1, not {'9' * 40}...",
        ),
        ("here --data x --width 1.5", "--width: must be a whole number, not '1.5'"),
        ("here --data x --speed fast", "--speed: must be a number, not 'fast'"),
    ],
)
def test_what_cannot_be_parsed_is_one_line_that_names_the_option(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = end_of(lambda: [parse(*words.split())].clear(), capsys)
    assert code == 2
    assert error == f"error: {message} (python -m some.command --help lists the options)\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["", "--data", "x"], "SOURCE: must not be empty"),
        (["here", "--data", " "], "--data: must not be empty"),
        (["here", "--data", ""], "--data: must not be empty"),
        (["here", "--data", "x", "--workers="], "--workers: must not be empty"),
        (["here", "--data", "a\nb"], r"--data: 'a\nb': has a character that is no text; rename what is called so"),
        (
            ["here", "--data", "caf\udce9"],
            r"--data: 'caf\udce9': has a character that is no text; rename what is called so",
        ),
        (
            ["here", "--da\x1b[31mta", "x"],
            r"'--da\x1b[31mta': has a character that is no text; rename what is called so",
        ),
    ],
)
def test_what_is_empty_or_no_text_is_refused_before_it_stands_for_something(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = end_of(lambda: [parse(*words)].clear(), capsys)
    assert (code, error) == (2, f"error: {message} (python -m some.command --help lists the options)\n")


def test_an_error_of_a_field_names_its_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    @command("some.command", Options)
    def main(options: Options) -> None:
        field = {"a": "workers", "b": "source", "c": "elsewhere", "d": "width"}[options.data]
        raise UserError("is wrong", field=field)

    for data, name in {"a": "--workers", "b": "SOURCE", "c": "elsewhere", "d": "--width"}.items():
        monkeypatch.setattr("sys.argv", ["x", "here", "--data", data])
        with pytest.raises(UserError, match=f"^{name}: is wrong$"):
            main()


def test_help_is_a_page_to_work_from(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    parser = Parser("some.command", Options, examples=["here --data x", "there --data y --budget"])
    with pytest.raises(SystemExit) as ended:
        parser.parse(["--help"])
    assert ended.value.code == 0
    page = capsys.readouterr().out
    assert page.startswith("usage: python -m some.command --data TEXT [options] SOURCE\n\nDoes something with files.\n")
    lines = [" ".join(line.split()) for line in page.splitlines()]
    for line in (
        "SOURCE Folder to read",
        "--data TEXT Packed dataset (required)",
        "--budget [BUDGET] Limits, 100% hard",
        "--speed X How fast (default: 0.5)",
        "--kind {cmaes,tpe} How it is done (default: cmaes)",
        "where it runs:",
        "--workers N Processes that read",
        "--resume Go on",
        "the model:",
        "--width N Channels (default: 8)",
        "--deep, --no-deep Whether it is deep (default: off)",
        "--version show the version and exit",
        "python -m some.command there --data y --budget",
    ):
        assert line in lines


def test_every_field_of_options_is_documented() -> None:
    assert field_docs(Options)["workers"] == "Processes that read."
    assert field_docs(Options).keys() == set(Options.__dataclass_fields__) - {"config"}


def test_words_ask_for_the_same_options_again() -> None:
    options = parse("here", "--data", "x", "--studies", "a", "b", "--resume", "--speed", "2")
    words = to_words(options, {"source": options.source, "config": options.config})
    assert words == ["--data", "x", "--speed", "2", "--studies", "a", "b", "--resume"]


def test_the_version_is_the_packages() -> None:
    command = [sys.executable, "-c", "from trainer.common.cli import Parser; Parser('a.b').parse(['--version'])"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"sign-ensemble-search {version()}\n"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device; make room there, and begin again"),
        (errno.EFBIG, "File too large; make room there, and begin again"),
        (errno.EISDIR, "Is a directory; remove what stands there, or name another place"),
        (errno.EROFS, "Read-only file system; look at who may write there, or name another place"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_system_says_of_a_path_comes_with_what_to_do(
    number: int, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise OSError(number, os.strerror(number), "a/file")

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: a/file: {advice}\n"


def test_an_interrupt_exits_130_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    assert end_of(main, capsys) == (130, "interrupted\n")


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(main)


def test_what_the_system_says_of_a_file_is_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: (tmp_path / "[no] such" / "file").rmdir())
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/[no] such/file: No such file or directory\n"


@pytest.mark.parametrize(
    "words",
    [
        *("trainer.synthesize x", "trainer.pack x y", "trainer.train --data x --out y"),
        *("search.run", "search.table x", "search.report x", "search.refit x", "trainer.ablate --data x --out y"),
        *("ensemble.select", "ensemble.check x.zip", "ensemble.predict x.zip y"),
    ],
)
def test_a_python_without_the_packages_is_told_in_a_line(words: str, tmp_path: Path) -> None:
    without_packages = [sys.executable, "-S", "-m", *words.split()]
    ended = subprocess.run(
        without_packages,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    said = r"error: \S+ has no package \w+; activate the environment that has this project .*\n"
    assert re.fullmatch(said, ended.stderr)


def test_a_module_that_a_package_lacks_keeps_its_traceback() -> None:
    def main() -> None:
        importlib.import_module("numpy.no_such_module")

    with pytest.raises(ModuleNotFoundError):
        cli.run(main)


def test_a_command_without_an_output_or_a_folder_ends_in_order(tmp_path: Path) -> None:
    code = "from trainer.common import cli\ncli.run(lambda: print('done'))"
    settings: dict[str, Any] = {"capture_output": True, "text": True, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    begin = f'{sys.executable} -c "{code}"'
    closed = subprocess.run(["bash", "-c", f"{begin} >&-"], check=False, **settings)
    assert (closed.returncode, closed.stderr) == (0, "")
    (tmp_path / "gone").mkdir()
    lost = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && {begin}"
    ended = subprocess.run(["bash", "-c", lost], check=False, **settings)
    assert (ended.returncode, ended.stderr) == (2, "error: the working folder was removed; change to another one\n")
