"""The command that generates a dataset."""

import importlib
from pathlib import Path

import pytest

from trainer.common import cli


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr("sys.argv", ["synthesize", *words])
    with pytest.raises(SystemExit) as ended:
        cli.run(importlib.import_module("trainer.synthesize").main)
    return ended.value.code


def test_the_command_generates_what_its_options_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "signs"
    assert run(monkeypatch, str(out), "--signs", "2", "--participants", "3", "--repeats", "1", "--seed", "4") == 0
    assert len((out / "train.csv").read_text().splitlines()) == 1 + 2 * 3
    assert capsys.readouterr().out.endswith(f"next: python -m trainer.pack {out} {out}-packed\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--signs", "0"], "--signs: must be a whole number of at least 1, not 0"),
        (["--seed", "-1"], "--seed: must be a whole number of at least 0, not -1"),
        (["--repeat-each", "2"], "--repeat-each: there is no such option; did you mean --repeats?"),
    ],
)
def test_a_wrong_option_is_named(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(tmp_path / "out"), *words) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()
