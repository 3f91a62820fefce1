"""The house's rules that can be executed: which way imports point, what may not be used, how long things get."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The places of each package, commands first: a place may import only those that stand after it. A place is a room (a
# folder) or a file beside the rooms.
HOUSE = {
    "trainer": "commands ablate train pack synthesize options studydir validation learning rundir model synthetic data "
    "error_analysis metrics config landmarks common",
    "search": "report table refit run ending execute repeats prepare options show decide record problem",
    "ensemble": "select check predict ship evaluation candidates selection tflite budget choices",
}
PLACES = {package: places.split() for package, places in HOUSE.items()}
COMMANDS = {
    "trainer": {"commands", "ablate", "train", "pack", "synthesize"},
    "search": {"run", "refit", "table", "report", "ending"},
    "ensemble": {"select", "check", "predict"},
}
FORBIDDEN = {
    "trainer": {"ray", "optuna", "tensorflow", "ai_edge_litert", "search", "ensemble"},
    "search": {"ensemble", "tensorflow", "ai_edge_litert"},
    "ensemble": {"search", "ray", "optuna"},
}
PICKLES = {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
FILES = sorted(path for package in HOUSE for path in (ROOT / package).rglob("*.py"))
MODULES = [path for path in FILES if path.name != "__init__.py"]

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def name_of(path: Path) -> str:
    """A file's dotted name, such as "trainer.data.augment"."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, anywhere in it; "trainer.pack" for `from trainer import pack` too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@each_file
def test_no_package_imports_what_it_must_not(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN[package]


@each_module
def test_imports_point_down_the_list_of_rooms(path: Path) -> None:
    package, place, *rest = name_of(path).split(".")
    places = PLACES[package]
    assert len(rest) <= 1, "rooms have one level"
    assert place in places, f"a new room or file of {package}/ takes its place in HOUSE"
    own = {name.split(".")[1] for name in imports(path) if name.startswith(f"{package}.")} & set(places)
    above = own & set(places[: places.index(place)])
    assert not above, f"{name_of(path)} imports {above}, which stands before {place}"
    if not rest:
        assert place not in own, f"{place} imports itself"


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {name_of(path) for path in MODULES}
    below = {name_of(path): set(imports(path)) & names - {name_of(path)} for path in MODULES}
    while leaves := {name for name, others in below.items() if not others & below.keys()}:
        below = {name: others for name, others in below.items() if name not in leaves}
    assert not below, f"a circle is among {sorted(below)}"


@each_module
def test_every_module_has_its_test_file(path: Path) -> None:
    own = path.relative_to(ROOT)
    assert (ROOT / "tests" / own.parent / f"test_{own.name}").is_file()


@each_file
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


@each_file
def test_nothing_is_pickled(path: Path) -> None:
    assert not {part for name in imports(path) for part in name.split(".")} & PICKLES
    for node in ast.walk(ast.parse(path.read_text())):
        used = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        assert used not in PICKLES | {"read_pickle", "to_pickle"}
    assert not re.search(r"torch\.(load|save)\(|allow_pickle=True", path.read_text())


@each_module
def test_errors_of_the_library_name_no_flags(path: Path) -> None:
    """They carry a field; the command line puts the flag's name to it."""
    package, place, *_ = name_of(path).split(".")
    if place in COMMANDS[package] or name_of(path) == "trainer.common.cli":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        is_error = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error")
        for text in ast.walk(node) if is_error or isinstance(node, ast.Raise) else ():
            if isinstance(text, ast.Constant) and isinstance(text.value, str) and "pip install" not in text.value:
                assert not re.search(r"(?<![\w-])--[a-z]", text.value), f"{path}:{text.lineno}: {text.value!r}"
