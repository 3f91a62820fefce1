"""Help, version and errors of the commands: complete, and answered without loading what does the work."""

import importlib
import subprocess
import sys

import pytest

from trainer.common.errors import UserError

COMMANDS = ("select", "check", "predict")
HEAVY = {"torch", "pyarrow", "pandas", "ai_edge_litert", "numba", "ray", "optuna"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", ["--help", "--version", "--budgte"])
def test_help_version_and_wrong_options_load_nothing_heavy(command: str, word: str):
    code = f"""
import sys
from trainer.common.errors import UserError
from ensemble.{command} import main
sys.argv = ["{command}", "{word}"]
try:
    main()
except (SystemExit, UserError) as end:
    print(end)
print(*sorted({HEAVY!r} & set(sys.modules)), sep=",")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""
    expected = {"--help": "usage: python -m ensemble.", "--version": "sign-ensemble-search ", "--budgte": "--budgte"}
    assert done.stdout.startswith(expected[word])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_page_explains_every_option_and_gives_examples(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"ensemble.{command}").main()
    page = capsys.readouterr().out
    assert page.count(f"  python -m ensemble.{command} ") == 2
    lines = page.splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("  --")]
    assert options
    for number in options:
        words = f"{lines[number]} {lines[number + 1]}".split()
        assert len(words) >= 5, lines[number]


def test_a_misspelt_choice_is_told_what_may_be_meant(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["select", "--metric", "acuracy"])
    with pytest.raises(UserError, match=r"--metric: 'acuracy' is not one of .*; did you mean accuracy\?"):
        importlib.import_module("ensemble.select").main()
