"""search from Python: what a finished study shows, what is refused, and that a help page imports nothing heavy."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import search
from tests.nodes import ROOT
from tests.search.conftest import TINY_SPACE
from trainer.common.errors import UserError

HEAVY = ("torch", "ray", "optuna", "numba", "pandas", "pyarrow", "ai_edge_litert", "numpy")


@pytest.mark.usefixtures("ray_with_two_workers")
def test_a_search_runs_in_a_thread_and_returns_its_study(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import contextlib
    import tomllib

    monkeypatch.setattr("search.execute.cluster.connect", lambda *_: contextlib.nullcontext())
    found: list[search.Study] = []

    def run() -> None:
        asked = {"results": tmp_path, "name": "threaded", "space": tomllib.loads(TINY_SPACE), "pruner": "none"}
        found.append(search.search(packed, trials=2, epochs=1, workers=1, **asked))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found[0].trials["state"].tolist() == ["COMPLETE", "COMPLETE"]
    assert found[0].is_finished


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"trails": 3}, "trails", "did you mean trials"),
        ({"trials": 0}, "trials", "at least 1"),
        ({"sampler": "tpo"}, "sampler", "did you mean tpe"),
        ({"time_budget": "soon"}, "time_budget", "is no time"),
        ({"gpus_per_trial": 1.5}, "gpus_per_trial", "share of one GPU"),
        ({"seed": -1}, "seed", "at least 0"),
        ({"space": {"num_headz": 3}}, None, "did you mean num_heads"),
    ],
)
def test_what_cannot_be_names_its_field(
    options: dict[str, object], field: str | None, words: str, tmp_path: Path, packed: Path
) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        search.search(packed, **{"results": tmp_path, **options})
    assert refusal.value.field == field
    assert not list(tmp_path.rglob("study.json"))


@pytest.mark.parametrize("module", ["search.run", "search.refit", "search.table", "search.report"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--trails", "3"]])
def test_a_command_answers_without_importing_anything_heavy(module: str, arguments: list[str]) -> None:
    code = f"""
import sys
from {module} import main
from trainer.common import cli
sys.argv = [{module!r}, *{arguments!r}]
try:
    cli.run(main)
except SystemExit as end:
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    assert not heavy, heavy
    sys.exit(end.code)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == (2 if arguments[0] == "--trails" else 0), ended.stderr
    assert "Traceback" not in ended.stderr
