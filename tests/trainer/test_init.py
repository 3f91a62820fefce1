"""The public names of trainer, and the example of its docstring."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import trainer

NAMES = [
    "ModelConfig",
    "PackedDataset",
    "RunDir",
    "StudyDir",
    "TrainConfig",
    "UserError",
    "pack",
    "synthesize",
    "train",
]


def test_public_names_are_documented() -> None:
    assert trainer.__all__ == NAMES
    for name in NAMES:
        assert getattr(trainer, name).__doc__


def test_importing_the_package_loads_no_torch() -> None:
    script = "import sys, trainer; trainer.TrainConfig(); print({'torch', 'pyarrow', 'numba'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def test_the_example_of_the_docstring_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert trainer.__doc__ is not None
    paragraphs = trainer.__doc__.split("::\n\n")[1].split("\n\n")
    code = "\n".join(part for part in paragraphs if part.startswith("    "))
    exec(textwrap.dedent(code), {})
    assert (tmp_path / "run" / "done.json").exists()
