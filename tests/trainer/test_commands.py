"""The console script: every command by one name, and none imported before it is asked for."""

import importlib.util
import subprocess
import sys

import pytest

from trainer import commands
from trainer.common.errors import UserError
from trainer.common.program import COMMANDS


def test_every_command_of_the_packages_is_there() -> None:
    assert all(importlib.util.find_spec(module) is not None for module in COMMANDS.values())
    assert all(commands.summary(module).endswith(".") for module in COMMANDS.values())


def test_help_lists_every_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    commands.dispatch([])
    page = capsys.readouterr().out
    commands.dispatch(["--help"])
    assert capsys.readouterr().out == page
    for name, module in COMMANDS.items():
        assert f"  {name.ljust(10)}  {commands.summary(module)}\n" in page
    assert max(map(len, page.splitlines())) <= 120, "the first sentence of a command's docstring is its summary"


def test_help_imports_no_command() -> None:
    heavy = ("torch", "ray", "optuna", "pandas", "pyarrow", "numpy", "search.run")
    code = "import sys; from trainer.commands import dispatch; dispatch(['--help'])\n"
    code += f"print(sorted(set(sys.modules) & set({heavy})))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


def test_a_command_gets_the_words_after_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["sign-ensemble"])
    with pytest.raises(SystemExit) as ended:
        commands.dispatch(["pack", "--help"])
    assert ended.value.code == 0
    assert "usage: sign-ensemble pack " in capsys.readouterr().out


def test_a_misspelt_command_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^serach: there is no such command; did you mean search\?"):
        commands.dispatch(["serach", "--trials", "3"])


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    commands.dispatch(["--version"])
    assert capsys.readouterr().out.startswith("sign-ensemble-search ")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m trainer.commands --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "usage: sign-ensemble COMMAND [options]\n"
