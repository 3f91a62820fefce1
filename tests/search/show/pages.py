"""Studies in every condition, written as a search and a selection leave them, and their pages read strictly."""

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import TrialState

import search.report
from search.problem.space import DEFAULT_SPACE, Space
from search.record.request import Request
from tests.outcomes import metrics_of, result_of
from tests.search.studies import open_study
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.studydir import StudyDir
from trainer.validation import Validation

EPOCHS = 6
REASON = "RuntimeError: <script>alert('x')</script> & \"quotes\""
VOID = {"meta", "link", "br", "wbr"}


class Page(HTMLParser):
    """Reads HTML strictly: every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.cells: list[list[str]] = []
        self.styles: list[str | None] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
            self.styles.append(dict(attrs).get("class"))
        if tag == "td":
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells[-1][-1] += data
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    @property
    def trials(self) -> dict[int, tuple[str | None, list[str]]]:
        """Class and cells of the lines of the table of trials, by number."""
        lines = zip(self.styles, self.cells, strict=True)
        states = {*(state.name for state in TrialState), "interrupted"}
        return {int(cells[0]): (style, cells) for style, cells in lines if style in states}

    @property
    def figures(self) -> list[dict[str, Any]]:
        return [json.loads(script) for script in self.scripts if script.startswith('{"data"')]


def write_study(directory: Path, packed: Path, outcomes: list[str], *, asked: int | None = None) -> Path:
    """A study whose trials ended as ``outcomes`` say, each better than the one before."""
    directory.mkdir(parents=True)
    dataset = PackedDataset.open(packed)
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS).replace(num_signs=dataset.num_signs))
    asked = len(outcomes) if asked is None else asked
    options: dict[str, Any] = {"seed": 0, "sampler": "random", "pruner": "none", "recipe_points": False}
    Request.of(space=space, dataset=dataset, trials=asked, **options).write(StudyDir(directory))
    study = open_study(directory, space, trials=asked, **options)
    for place, outcome in enumerate(outcomes):
        assignment = study.ask()
        assert assignment is not None
        number, accuracy = assignment.number, 0.1
        for epoch in range(1, 1 + {"COMPLETE": EPOCHS, "PRUNED": 3, "RUNNING": 2, "FAIL": place % 2}[outcome]):
            accuracy = 0.3 + 0.01 * place + 0.05 * epoch
            study.run_dir(number).append_metrics(metrics_of(epoch, accuracy))
            study.report(number, metrics_of(epoch, accuracy))
        if outcome == "COMPLETE":
            study.complete(number, result_of(EPOCHS, accuracy))
        elif outcome == "PRUNED":
            study.prune(number, metrics_of(3, accuracy))
        elif outcome == "FAIL":
            study.fail(number, REASON)
    study.close()
    return directory


def write_ensemble(directory: Path) -> None:
    """As ensemble.select leaves it, of the study's first trial."""
    row = {
        "kind": "single",
        "rule": "ours",
        "budget": None,
        "trials": ["0000"],
        "precisions": ["float16"],
        "counts": [1],
        "parameters": 1e6,
        "size": 2e6,
        "latency": 1.5,
        "val_accuracy": 0.6,
        "unseen_accuracy": None,
        "val_log_loss": 1.0,
        "rival_accuracy": None,
        "buys_more": True,
    }
    kinds = ("asked", "parameters", "size", "latency")
    bought = [row, *({**row, "kind": kind, "budget": "40MB", "unseen_accuracy": 0.55} for kind in kinds)]
    larger = {**bought[-1], "budget": "3.14159ms", "buys_more": False}  # buys the same
    more: dict[str, Any] = {
        "trials": ["0000", "0004"],
        "precisions": 2 * ["int8"],
        "counts": [1, 2],
        "rival_accuracy": 0.56,
    }
    bought += [larger, {**larger, **more, "buys_more": True}]
    bought += [
        {**larger, "rule": rule, "unseen_accuracy": there} for rule, there in (("top-k", 0.56), ("weighted", 0.5))
    ]
    member = {
        "trial": "0000",
        "precision": "float16",
        "count": 2,
        "parameters": 1e6,
        "size": 2e6,
        "latency": 1.5,
        "num_heads": 2,
        "num_layers": 6,
        "val_accuracy": 0.6,
        "val_log_loss": 1.0,
    }
    selection = {
        "format_version": 2,
        "created": "2026-01-01",
        "budget": "40MB",
        "members": [member],
        "cost": {"parameters": 1e6, "size": 2e6, "latency": 1.5},
        "accuracy": {"seen_by_selection": {"ensemble": 0.6}, "unseen_participants": {"ensemble": 0.5512}},
    }
    (directory / "ensemble").mkdir()
    pq.write_table(pa.Table.from_pylist(bought), directory / "ensemble" / "frontier.parquet")
    (directory / "ensemble" / "selection.json").write_text(json.dumps(selection))


def write_report(directory: Path) -> str:
    with mock.patch("sys.argv", ["search.report", str(directory)]):
        search.report.main()
    return (directory / "report.html").read_text()


def write_predictions(directory: Path, probs: dict[int, np.ndarray], folds: np.ndarray | None = None) -> None:
    """Held-out sequences 10, 11, ... of the participants 1 1 2 2 ... with the labels 0 1 0 1 ..., and what trials said
    of them: probs [N, signs] by trial."""
    study = StudyDir(directory)
    number = max(map(len, probs.values())) if folds is None else len(folds)
    places = np.arange(number)
    held_out = Validation(
        sequence_ids=places + 10, participants=places // 2 + 1, labels=places % 2, lengths=places + 1, folds=folds
    )
    names = tuple(study.read_request()["label_names"])
    study.write_validation(held_out, names)
    for trial, values in probs.items():
        study.trial(trial).write_val_probs(values)
