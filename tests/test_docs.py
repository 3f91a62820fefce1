"""Whatever README and docs/ show is run or checked, links lead somewhere, and every option is explained somewhere."""

import argparse
import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from ensemble import Submission
from ensemble.tflite import submission
from search.problem.space import Space
from tests.ensemble.conftest import build_small_model
from trainer.common import cli
from trainer.config import TrainConfig
from trainer.landmarks import LEFT_HAND_ROWS, NUM_ROWS

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
PAGES: Final = [README, *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOK: Final = ROOT / "docs" / "tour.ipynb"
FORMATS: Final = ROOT / "docs" / "formats.md"
RELIABILITY: Final = ROOT / "results" / "reliability.md"
LINKED: Final = [*PAGES, RELIABILITY, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]
LANGUAGES: Final = {"bash", "json", "python", "text", "toml", "yaml"}
COMMANDS: Final = {
    "train": "trainer.train",
    "pack": "trainer.pack",
    "synthesize": "trainer.synthesize",
    "ablate": "trainer.ablate",
    "search": "search.run",
    "refit": "search.refit",
    "table": "search.table",
    "report": "search.report",
    "select": "ensemble.select",
    "check": "ensemble.check",
    "predict": "ensemble.predict",
}
"""The subcommands of sign-ensemble, and what python -m calls them"""


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: Path
    line: int
    """Of its first line, from 1"""
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def _blocks(page: Path) -> Iterator[Block]:
    language: str | None = None
    begin, lines = 0, list[str]()
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = re.match(r"\s*```(.*)", line)
        if language is None and fence:
            language, begin, lines = fence[1].strip(), number + 1, []
        elif language is not None and fence:
            yield Block(page, begin, language, "\n".join(lines) + "\n")
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{page}: the block at line {begin} has no end"


BLOCKS: Final = [block for page in PAGES for block in _blocks(page)]


def _of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


class _Parsed(Exception):
    """A command has read its options, and would begin to work now."""

    def __init__(self, parser: cli.Parser, options: argparse.Namespace) -> None:
        super().__init__()
        self.parser, self.options = parser, options


@pytest.fixture
def stop_once_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every command raise _Parsed in place of working."""
    parse = cli.Parser.parse_args

    def parse_and_stop(parser: cli.Parser, *arguments: Any) -> argparse.Namespace:
        raise _Parsed(parser, parse(parser, *arguments))

    monkeypatch.setattr(cli.Parser, "parse_args", parse_and_stop)


def _parse(monkeypatch: pytest.MonkeyPatch, module: str, words: list[str]) -> argparse.Namespace:
    """The options of a command as that command reads them. Raises UserError for what it does not take."""
    monkeypatch.setattr("sys.argv", [module, *words])
    main = importlib.import_module(module).main
    with pytest.raises(_Parsed) as caught:
        main()
    return caught.value.options


def _parser(monkeypatch: pytest.MonkeyPatch, module: str) -> cli.Parser:
    """The parser of a command."""

    def stop(parser: cli.Parser, *_: Any) -> argparse.Namespace:
        raise _Parsed(parser, argparse.Namespace())

    with monkeypatch.context() as patch:
        patch.setattr(cli.Parser, "parse_args", stop)
        with pytest.raises(_Parsed) as caught:
            importlib.import_module(module).main()
    return caught.value.parser


def _commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a bash block, without assignments of variables before it."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words:
                yield words


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


def test_every_block_is_in_a_language_that_is_checked() -> None:
    assert {str(block): block.language for block in BLOCKS if block.language not in LANGUAGES} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", sorted({block.page for block in _of("python")} - {FORMATS}), ids=lambda page: page.name
)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    script = [""] * len(page.read_text().splitlines())  # so that tracebacks name the lines of the page
    for block in _of("python"):
        if block.page == page:
            lines = block.text.splitlines()
            script[block.line - 1 : block.line - 1 + len(lines)] = lines
    path = tmp_path / f"{page.stem}_page.py"
    script.append("for name, item in list(globals().items()):\n    if name.startswith('test_'):\n        item()")
    path.write_text("\n".join(script))
    _run(path)


def _run(script: Path) -> str:
    """What a script prints, run in its own folder."""
    outcome = subprocess.run(
        [sys.executable, script.name],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert outcome.returncode == 0, f"{script.name}: {outcome.stdout[-2000:]}\n{outcome.stderr[-4000:]}"
    return outcome.stdout


def _cells() -> list[dict[str, Any]]:
    """The notebook's cells of code."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    path = tmp_path / "tour.py"
    sources = ["".join(cell["source"]) for cell in _cells()]
    path.write_text("\n".join([*sources, "print(submission.members, figure.axes, likeliest.idxmax(), true)"]))
    printed = _run(path)
    assert "a sound file of 8 signs, for which all 10 clauses of its contract hold" in printed
    assert (tmp_path / "results" / "tour" / "ensemble" / "submission.zip").is_file()


def test_the_notebook_is_shown_as_it_ran() -> None:
    outputs = [cell["outputs"] for cell in _cells()]
    assert [cell["execution_count"] for cell in _cells()] == list(range(1, len(outputs) + 1))
    assert [
        item for its in outputs for item in its if item["output_type"] == "error" or item.get("name") == "stderr"
    ] == []
    kinds = [sorted({kind for item in its for kind in item.get("data", ["stream"])}) for its in outputs]
    assert kinds.count(["image/png", "text/plain"]) == 5  # the pictures
    assert outputs[0] == [], "the imports"
    assert all(outputs[1:])
    assert len(NOTEBOOK.read_bytes()) < 300_000
    printed = json.dumps([item for its in outputs for item in its if "image/png" not in item.get("data", {})])
    assert not re.search(r"/(home|root|tmp|work|Users)/", printed)


def test_a_file_run_with_litert_alone_predicts_what_the_package_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [block for block in _of("python") if block.page == FORMATS]
    zipped, file = (tmp_path / name for name in re.findall(r'"([\w/-]+/[\w/-]+\.\w+)"', block.text))
    for path in (zipped, file):
        path.parent.mkdir(parents=True)
    submission.write(zipped, build_small_model())
    raw = np.random.default_rng(0).random((9, NUM_ROWS, 3))
    columns = {name: pa.array(raw[:, :, axis].reshape(-1)) for axis, name in enumerate("xyz")}
    is_hand = np.tile(np.isin(np.arange(NUM_ROWS), LEFT_HAND_ROWS), 9)
    columns = {name: pc.if_else(pa.array(is_hand), None, values) for name, values in columns.items()}
    pq.write_table(pa.table({"frame": np.repeat(np.arange(9, dtype=np.int16), NUM_ROWS), **columns}), file)
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, FORMATS.name, "exec"), {})
    sign, probability = next(iter(Submission.open(zipped).predict(file).items()))
    assert capsys.readouterr().out == f"{sign} {probability:.3f}\n"


def test_the_way_from_nothing_to_a_submission_is_one_block_of_under_30_lines() -> None:
    first = next(block for block in _of("python") if block.page.name == "python.md")
    assert len(first.text.splitlines()) < 30
    assert all(f"{name}(" in first.text for name in ("synthesize", "pack", "search", "select"))


@pytest.mark.usefixtures("stop_once_parsed")
@pytest.mark.parametrize("block", _of("bash"), ids=str)
def test_commands_are_understood(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in _commands(block):
        match words:
            case ["make", *named]:
                assert set(named) <= targets
            case ["sign-ensemble", name, *rest]:
                _parse(monkeypatch, COMMANDS[name], rest)
            case ["python", "-m", module, *rest] if module in COMMANDS.values():
                _parse(monkeypatch, module, rest)
            case ["python", "-m", module, *_] if module.partition(".")[0] == "tests":
                assert (ROOT / Path(*module.split("."))).with_suffix(".py").exists()
            case ["python" | "python3", "-m", module, *_]:
                assert module in ("pytest", "venv")


@pytest.mark.parametrize("block", _of("toml"), ids=str)
def test_spaces_can_be_searched(block: Block) -> None:
    space = Space.parse(block.text, TrainConfig(epochs=30))
    assert space.distributions


@pytest.mark.parametrize("block", _of("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    assert json.loads(block.text)


RAY_JOB, CLOUD = (yaml.safe_load(block.text) for block in _of("yaml"))


def test_the_cloud_cluster_is_one_by_rays_own_schema() -> None:
    config = prepare_config(CLOUD)
    validate_config(config)
    assert config["available_node_types"]["worker"]["min_workers"] <= config["max_workers"]
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config({**config, "max_worker": 3})


def test_the_ray_job_has_the_fields_that_kuberay_requires() -> None:
    assert (RAY_JOB["apiVersion"], RAY_JOB["kind"]) == ("ray.io/v1", "RayJob")
    cluster: dict[str, Any] = RAY_JOB["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name", "image", "resources"} <= set(container)
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert all({"groupName", "replicas"} <= set(group) for group in cluster["workerGroupSpecs"])


@pytest.mark.usefixtures("stop_once_parsed")
def test_the_ray_jobs_command_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    command = shlex.split(RAY_JOB["spec"]["entrypoint"])
    assert command[:3] == ["python", "-m", "search.run"]
    asked = _parse(monkeypatch, "search.run", command[3:])
    assert (asked.address, asked.results, asked.trials) == ("auto", "s3://BUCKET/results", 64)


def _anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    outside_code = re.sub(r"```.*?```|`[^`\n]*`(?!\])", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_code):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in _anchors(there), f"{page.name} links to {target}"


def test_every_test_that_a_promise_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", RELIABILITY.read_text())
    assert len(named) > 15
    for path, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path} has no {name}"


def test_every_page_is_linked_from_readme() -> None:
    text = README.read_text()
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in text] == []


@pytest.mark.parametrize("module", COMMANDS.values())
def test_every_option_is_explained_somewhere(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    actions = [action for action in _parser(monkeypatch, module)._actions if action.help != argparse.SUPPRESS]
    options = [action.option_strings for action in actions if action.option_strings]
    known = {"--help", "--version"}
    missing = [
        names for names in options if not any(name in known or re.search(rf"{name}(?![\w-])", text) for name in names)
    ]
    assert missing == []


def test_the_map_of_the_code_has_every_module_in_its_room() -> None:
    map_of_code = next(block.text for block in _of("text") if block.page.name == "architecture.md")
    rooms = re.split(r"^(?:  )?(\w+)/ ", map_of_code, flags=re.MULTILINE)
    said = dict(zip(rooms[1::2], (set(re.findall(r"\w+", text)) for text in rooms[2::2]), strict=True))
    missing = [
        str(path.relative_to(ROOT))
        for package in ("trainer", "search", "ensemble")
        for path in (ROOT / package).glob("*/*.py")
        if path.stem != "__init__" and path.stem not in said.get(path.parent.name, set())
    ]
    top = {path.stem for package in ("trainer", "search", "ensemble") for path in (ROOT / package).glob("*.py")}
    assert missing == []
    assert sorted(top - {"__init__"} - set(re.findall(r"\w+", map_of_code))) == []


def test_the_words_of_messages_are_those_of_the_code() -> None:
    files = [path for package in ("trainer", "search", "ensemble") for path in (ROOT / package).rglob("*.py")]
    constants = (
        node for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
    )
    said = {node.value for node in constants if isinstance(node.value, str)}
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    words = [words for cell in cells for words in re.findall(r"`([^`]+)`", cell)]
    assert len(words) > 30
    assert [text for text in words if not any(text in whole for whole in said)] == []


def test_github_runs_what_ci_runs_and_nothing_else() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert steps == [".ci/run"]


def test_pre_commit_runs_what_make_check_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    lines = [line.strip().removeprefix("@").replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in repository["hooks"]] == lines
