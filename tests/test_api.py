"""The front door for Python: what the packages offer, and what it costs to come in."""

import ast
import dataclasses
import importlib
import importlib.resources
import inspect
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble import Submission, select
from ensemble.candidates.opening import open_pool
from search import Space, Study, load_study, search
from trainer import (
    ModelConfig,
    PackedDataset,
    RunDir,
    StudyDir,
    TrainConfig,
    UserError,
    pack,
    synthesize,
    train,
)
from trainer.common.program import COMMANDS

Call = tuple[Callable[..., Any], dict[str, Any]]
SLOW = {"data", "space"}  # of a search: None is the default, which takes long

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


WRONG: list[Any] = [
    5,
    None,
    [],
    {},
    object(),
    "",
    " ",
    "\0",
    Path("a\0b"),
    b"x",
    math.nan,
    math.inf,
    10**30,
    -1,
    [1],
    {1: 2},
]
WRONG.append(np.zeros(3))


@pytest.fixture(scope="module")
def calls(packed: PackedDataset, generated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Call]:
    """By name: a public callable, arguments that it takes, and those of wrong ones that are right for a parameter.

    Where a right argument would start long work, another argument stops it before.
    """
    place = tmp_path_factory.mktemp("api")
    nowhere = str(place / "none")
    base = TrainConfig().replace(num_signs=packed.num_signs)
    space = Space.parse("dropout = {type = 'float', low = 0.0, high = 0.4}", base)
    file = Submission(place / "submission.zip", b"no model")
    names = inspect.signature(search).parameters
    toml = {"text": "dropout = {type = 'float', low = 0.0, high = 0.4}", "base": base, "where": "here"}
    source = {"source": space.source, "base": base, "where": "here", "text": ""}
    small = {"num_signs": 1, "num_participants": 1, "repeats": 1, "seed": 0}
    return {
        "pack": (pack, {"source": nowhere, "out": nowhere, "signs": None, "workers": 1, "skip_bad": False}),
        "pack signs": (pack, {"source": generated, "out": generated, "signs": None}),
        "synthesize": (synthesize, {"out": generated, **small}),
        "train": (train, {"config": base, "dataset": packed, "run": generated, "report": None, "device": "cpu"}),
        "ModelConfig": (ModelConfig, dataclasses.asdict(ModelConfig())),
        "TrainConfig": (TrainConfig, vars(TrainConfig())),
        "TrainConfig.replace": (TrainConfig().replace, {**vars(TrainConfig()), "num_heads": 1}),
        "TrainConfig.from_json": (TrainConfig.from_json, {"values": {}}),
        "PackedDataset.open": (PackedDataset.open, {"path": packed.path, "patience": 0.0}),
        "PackedDataset.folds": (packed.folds, {"num_folds": 2}),
        "PackedDataset.split": (packed.split, {"num_folds": 2, "fold": 0}),
        "PackedDataset.sequence": (packed.sequence, {"index": 0}),
        "RunDir": (RunDir, {"path": nowhere}),
        "StudyDir": (StudyDir, {"path": nowhere}),
        "StudyDir.trial": (StudyDir(place).trial, {"number": 0}),
        "StudyDir.read_validation": (StudyDir(place).read_validation, {"num_signs": 3}),
        "search": (search, {name: names[name].default for name in names} | {"data": nowhere}),
        "search space": (search, {"space": nowhere, "data": packed.path, "results": nowhere}),
        "load_study": (load_study, {"where": nowhere, "storage": None}),
        "Study": (Study, {"where": nowhere, "storage": None}),
        "Space.read": (Space.read, {"path": generated, "base": base}),
        "Space.parse": (Space.parse, toml),
        "Space.from_source": (Space.from_source, source),
        "Space.limited": (space.limited, {"max_params": 10**9}),
        "select": (
            select,
            {name: item.default for name, item in inspect.signature(select).parameters.items()} | {"studies": nowhere},
        ),
        "Submission": (Submission, {"path": nowhere, "content": b""}),
        "Submission.open": (Submission.open, {"path": nowhere}),
        "Submission.predict": (file.predict, {"landmarks": nowhere}),
        "open_pool": (open_pool, {"path": nowhere}),
    }


def test_whatever_an_argument_is_there_is_a_result_or_a_user_error(
    calls: dict[str, Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    faults = []
    for name, (act, arguments) in calls.items():
        for parameter in arguments:
            for value in WRONG:
                if parameter in SLOW and value is None:
                    continue
                try:
                    act(**{**arguments, parameter: value})
                except UserError as error:
                    if "\n" in str(error):
                        faults.append(f"{name}({parameter}={value!r}): {error}")
                except Exception as error:
                    faults.append(f"{name}({parameter}={value!r}): {type(error).__name__}: {error}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("name", "parameter", "value", "said"),
    [
        ("pack", "source", 5, "source: must be a path, not 5"),
        ("pack", "workers", 0, "workers: must be a whole number of at least 1, not 0"),
        ("pack signs", "signs", 5, r"signs: must be a list of names, such as \['sign000'\], not 5"),
        ("synthesize", "num_signs", 10**30, "num_signs: must be a whole number of at most 1,000,000, not 1000"),
        ("train", "config", 5, "config: must be TrainConfig, not 5"),
        ("train", "report", 5, "report: must be a function of an epoch's metrics, not 5"),
        ("train", "run", "s3:/bucket/run", "run: a URI has a colon and two slashes: write s3://bucket/run"),
        (
            "PackedDataset.open",
            "path",
            Path("s3://bucket/x"),
            "path: a URI has a colon and two slashes: write s3://bucket/x",
        ),
        ("PackedDataset.split", "fold", 2, "fold: must be a whole number of at most 1, not 2"),
        ("RunDir", "path", "a\0b", r"path: must be a path, not 'a\\x00b'"),
        ("search", "warm_start", [5], "warm_start: must be a path, not 5"),
        ("search space", "space", 5, "space: must be a path, not 5"),
        ("load_study", "where", 5, "where: must be a path, not 5"),
        ("Space.parse", "text", 5, "text: must be text, not 5"),
        ("select", "studies", 5, "studies: must be a path, not 5"),
        ("select", "precision", 5, "precision: must be of .*, not 5"),
        ("select", "threads", "x", "threads: must be from 1 to 256, not 'x'"),
        ("select", "latency_scale", [1], "latency_scale: must be a number, not a list"),
        ("open_pool", "path", 5, "path: must be a path, not 5"),
    ],
)
def test_a_wrong_argument_is_named(name: str, parameter: str, value: object, said: str, calls: dict[str, Call]) -> None:
    act, arguments = calls[name]
    with pytest.raises(UserError, match=f"^{said}"):
        act(**{**arguments, parameter: value})
