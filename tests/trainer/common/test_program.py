"""What the commands are called: as the one that runs was."""

import importlib.util

import pytest

from trainer.common.program import COMMANDS, as_called, version


def test_commands_are_modules_that_are_there() -> None:
    assert all(importlib.util.find_spec(module) is not None for module in COMMANDS.values())


def test_the_console_script_names_its_own_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "python -m search.run --resume, then python -m tests.bench.pack"
    monkeypatch.setattr("sys.argv", ["search/run.py"])
    assert as_called(text) == text
    monkeypatch.setattr("sys.argv", ["sign-ensemble search", "--trials", "4"])
    assert as_called(text) == "sign-ensemble search --resume, then python -m tests.bench.pack"


def test_the_version_is_three_numbers() -> None:
    assert len([int(part) for part in version().split(".")]) == 3
