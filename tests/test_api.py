"""The front door for Python: what the packages offer, and what it costs to come in."""

import ast
import importlib
import importlib.resources
import inspect
import subprocess
import sys

import pytest

from trainer.commands import COMMANDS

PUBLIC = {
    "trainer": [
        "ModelConfig",
        "PackedDataset",
        "RunDir",
        "StudyDir",
        "TrainConfig",
        "UserError",
        "pack",
        "synthesize",
        "train",
    ],
    "search": ["Space", "Study", "load_study", "search"],
    "ensemble": ["Submission", "select"],
}
HEAVY = ("torch", "ray", "optuna", "pandas", "pyarrow", "numba", "scipy", "plotly", "ai_edge_litert")


def loaded(code: str, *words: str) -> list[str]:
    """Which heavy packages a process has loaded after some code; what it printed before does not count."""
    code = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", code, *words]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: list[str] = ast.literal_eval(said.splitlines()[-1])
    return found


@pytest.mark.parametrize("package", PUBLIC)
def test_the_packages_offer_these_names(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == PUBLIC[package]
    for name in PUBLIC[package]:
        assert callable(getattr(module, name))
        documented = inspect.getdoc(getattr(module, name)) or ""
        assert ">>>" in documented or "Example::" in documented, f"{package}.{name} has no example"
    with pytest.raises(AttributeError):
        _ = module.nothing


@pytest.mark.parametrize("package", PUBLIC)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert loaded(f"import {package}") == []


@pytest.mark.parametrize("module", COMMANDS.values())
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--no-such-option"]], ids=lambda words: words[0])
def test_help_and_wrong_options_answer_at_once(module: str, words: list[str]) -> None:
    code = (
        f"import importlib as i; cli = i.import_module('trainer.common.cli'); cli.run(i.import_module({module!r}).main)"
    )
    assert loaded(code, *words) == []


def test_names_stay_functions_after_their_module_was_imported() -> None:
    for package, name in (("trainer", "train"), ("trainer", "pack"), ("ensemble", "select")):
        importlib.import_module(f"{package}.{name}")
        assert not inspect.ismodule(getattr(importlib.import_module(package), name))


def test_a_worker_loads_no_optuna_and_predictions_no_torch() -> None:
    assert "optuna" not in loaded("import search.execute.worker")
    assert not {"torch", "ray", "optuna"} & set(loaded("from ensemble import Submission; Submission"))


@pytest.mark.parametrize("package", PUBLIC)
def test_type_checkers_see_the_types(package: str) -> None:
    assert (importlib.resources.files(package) / "py.typed").is_file()
