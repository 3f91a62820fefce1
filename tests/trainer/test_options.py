"""Options of the commands that train: every field of the configuration, with its docstring, default and group."""

import dataclasses
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.common.cli import Parser
from trainer.common.errors import FieldError
from trainer.common.fields import field_docs
from trainer.config import ModelConfig, TrainConfig
from trainer.options import TrainingOptions

COMMANDS = ("train", "pack", "synthesize", "ablate")
HEAVY = ("torch", "ray", "optuna", "numba", "pandas", "pyarrow", "ai_edge_litert", "scipy")


def help_of(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sys.argv", [name, "--help"])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"trainer.{name}").main()
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_every_field_of_the_configuration_is_on_the_help_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = " ".join(help_of("train", capsys, monkeypatch).split())
    for kind in (ModelConfig, TrainConfig):
        for item in dataclasses.fields(kind):
            if item.name in ("model", "num_signs"):
                continue
            doc = field_docs(kind)[item.name].rstrip(".")
            default = ("off", "on")[item.default] if isinstance(item.default, bool) else item.default
            shown = doc if "default" in doc else f"{doc} (default: {default})"
            assert f"--{item.name.replace('_', '-')}" in page
            assert shown in page or f"{doc} [" in page, item.name
    for heading in ("model:", "training:", "optimizer:", "augmentation:", "data:", "where it runs:", "examples:"):
        assert f" {heading} " in page


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_gives_two_examples(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = help_of(name, capsys, monkeypatch)
    assert page.count(f"\n  python -m trainer.{name} ") == 2
    kind = Parser(f"trainer.{name}").kind
    assert kind is None
    for line in page.split("examples:")[1].splitlines():
        if words := line.split()[3:]:
            options = importlib.import_module(f"trainer.{name}").__dict__[f"{name.title()}Options"]
            assert isinstance(Parser(f"trainer.{name}", options).parse(words), options)
    docs = field_docs(options)
    assert docs.keys() >= {item.name for item in dataclasses.fields(options)} - {"model", "training"}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--no-such-option"]], ids=" ".join)
def test_help_and_a_wrong_option_load_nothing_heavy(name: str, words: list[str]) -> None:
    script = (
        "import sys\nfrom trainer.common import cli\nimport importlib\n"
        f"sys.argv = {['x', *words]!r}\n"
        f"try:\n    cli.run(importlib.import_module('trainer.{name}').main)\n"
        f"finally:\n    print(*set({HEAVY!r}) & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if words == ["--no-such-option"] else 0)
    assert not done.stderr.splitlines()[-1].split(), done.stderr


def test_given_fields_make_the_configuration() -> None:
    options = Parser("x", TrainingOptions).parse(["--data", "d", "--num-heads", "3", "--epochs", "7", "--no-rotary"])
    assert options.config(5) == TrainConfig().replace(num_signs=5, num_heads=3, epochs=7, rotary=False)
    with pytest.raises(FieldError) as refusal:
        Parser("x", TrainingOptions).parse(["--data", "d", "--dropout", "1"]).config(5)
    assert refusal.value.field == "dropout"


def test_a_field_has_one_home_for_its_choices() -> None:
    source = Path(importlib.import_module("trainer.config").__file__ or "").read_text()
    assert len(re.findall(r'"layernorm"', source)) == 1
