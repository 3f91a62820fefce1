"""The house's rules that can be executed: which way imports point, how long files and functions get."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("trainer", "search", "ensemble")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# trainer/'s files in the order of the house: each may import only those before it.
TRAINER_HOUSE = """
    common.errors common.fields common.lazy common.jit common.files common.storage common.units common.processes
    common.console common.cli landmarks metrics config data.normalize
    data.contest data.augment data.manifest data.fetch data.dataset data.batches data.packing synthetic.body
    synthetic.motion synthetic.generate model.loops model.ops model.dropout model.attention model.classifier rundir
    studydir learning.allocator learning.devices learning.optimizer learning.learner learning.loop learning.ablation
    options train pack synthesize ablate
"""
TRAINER_ORDER = TRAINER_HOUSE.split()
FORBIDDEN = {
    "trainer": {"ray", "optuna", "tensorflow", "ai_edge_litert", "search", "ensemble"},
    "search": {"ensemble", "tensorflow", "ai_edge_litert"},
    "ensemble": {"search", "ray", "optuna"},
}


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, anywhere in it; "trainer.pack" for `from trainer import pack` too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upward(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    imported = set(_imports(path))
    assert not {name.split(".")[0] for name in imported} & FORBIDDEN[package]
    if package == "trainer" and path.stem != "__init__":
        module = ".".join(path.relative_to(ROOT / package).with_suffix("").parts)
        assert module in TRAINER_ORDER, "a new file of trainer/ takes its place in TRAINER_ORDER"
        own = {name.removeprefix("trainer.") for name in imported} & set(TRAINER_ORDER)
        later = own & set(TRAINER_ORDER[TRAINER_ORDER.index(module) :])
        assert not later, f"{module} imports {later}, which stands after it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_pickled(path: Path) -> None:
    assert not {name.split(".")[0] for name in _imports(path)} & {"pickle", "cloudpickle", "joblib", "dill"}
    assert not re.search(r"torch\.(load|save)\(|allow_pickle=True|read_pickle", path.read_text())
