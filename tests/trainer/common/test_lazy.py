"""Public names that cost nothing until they are used, and stay what they are beside a submodule of their name."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "lazily"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from trainer.common import lazy\n"
        "__all__ = lazy.install(__name__, {'use': 'lazily.heavy', 'late': 'lazily.heavy'})\n"
    )
    (folder / "heavy.py").write_text("print('heavy')\ndef use(): return 'used'\ndef late(): return 'late'\n")
    (folder / "use.py").write_text("X = 'the module'\n")
    return tmp_path


def said(folder: Path, code: str) -> list[str]:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


def test_a_name_imports_its_module_when_it_is_used(package: Path) -> None:
    code = "import lazily\nprint(lazily.__all__, 'use' in dir(lazily))\nfrom lazily import use\nprint(use())"
    assert said(package, code) == ["['late', 'use'] True", "heavy", "used"]


@pytest.mark.parametrize("first", ["import lazily.use", "from lazily.use import X"])
def test_a_submodule_of_the_same_name_does_not_take_its_place(package: Path, first: str) -> None:
    code = f"{first}\nfrom lazily import use\nprint(use())\nfrom lazily.use import X\nprint(X)"
    assert said(package, code)[1:] == ["used", "the module"]


def test_an_unknown_name_is_an_attribute_error(package: Path) -> None:
    code = "import lazily\ntry: lazily.other\nexcept AttributeError as error: print(error)"
    assert said(package, code) == ["module 'lazily' has no attribute 'other'"]
