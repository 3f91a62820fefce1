"""A study's folder, into search.table, search.report, search.run --resume, search.refit and ensemble.select.

The database is the truth about states and accuracies. A trial whose files are not right may be left out, by name; no
trial may count for more, or for another, than it was.
"""

import contextlib
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from tests.fuzz.attempt import Ran, Verdict, judge, run
from tests.fuzz.doors import TRIALS, Door, Try
from tests.fuzz.valid import MAX_PARAMS, PACKED, PLOTLY, STATES, STUDY

_OF_TRIAL: Final = {
    "config.json": ("json", "bytes"),
    "metrics.jsonl": ("jsonl", "bytes"),
    "weights.safetensors": ("safetensors", "bytes"),
    "val_probs.npy": ("npy", "bytes"),
    "done.json": ("json", "bytes"),
}
_OF_STUDY: Final = {
    "study.json": ("json", "bytes"),
    "study.db": ("sqlite", "bytes"),
    "validation.parquet": ("parquet", "bytes"),
    "trials.parquet": ("parquet", "bytes"),
}
FILES: Final = {
    **{f"{STUDY}/{name}": formats for name, formats in _OF_STUDY.items()},
    **{f"{STUDY}/trials/{trial}/{name}": how for trial in TRIALS[:2] for name, how in _OF_TRIAL.items()},
    f"{STUDY}/trials/0004/config.json": ("json", "bytes"),
    f"{STUDY}/trials/0004/metrics.jsonl": ("jsonl", "bytes"),
    f"{STUDY}/trials/0004/checkpoint.safetensors": ("safetensors", "bytes"),
}
BLAMEABLE: Final = [*_OF_STUDY, *_OF_TRIAL, "checkpoint.safetensors"]
SELECTED_FROM: Final = {
    name: formats for name, formats in FILES.items() if "0004" not in name and "trials.parquet" not in name
}


FURTHEST: Final = 0.02
"""Of a float32 file's probabilities from those that its trials kept"""


def lay(valid: Path) -> None:
    shutil.copytree(valid / STUDY, STUDY)


def _changed(attempt: Try, *names: str) -> bool:
    return any(Path(path).name in names for path in attempt.changed)


def _judge(attempt: Try, ran: Ran, complaint: Any, most: float = 10.0) -> Verdict:
    return judge(ran, complaint, names=attempt.names, files=BLAMEABLE, most=most)


def wrong_table(attempt: Try) -> str:
    """What is wrong with trials.parquet as it was written anew, or nothing."""
    rows = pq.read_table(Path(STUDY, "trials.parquet")).to_pylist()
    numbers = [row["number"] for row in rows]
    if numbers != sorted(set(numbers)):
        return f"trials {numbers}"
    for row in rows:
        if row["state"] not in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING", "interrupted"):
            return f"a state {row['state']!r}"
    if _changed(attempt, "study.db", "study.json"):
        return ""
    known = {"interrupted": "RUNNING"}
    contradicted = {int(Path(path).parent.name) for path in attempt.changed if Path(path).parent.name in TRIALS}
    states = {row["number"]: known.get(row["state"], row["state"]) for row in rows}
    right = {number: state for number, state in enumerate(STATES) if number in states or number not in contradicted}
    if states != right:
        return f"states {states}, not {right}"
    facts = {row["number"]: [row["val_accuracy"], row["learning_rate"], row["epochs"]] for row in rows}
    expected = attempt.memory.setdefault("table", facts)
    is_right = facts == {number: expected[number] for number in facts}
    return "" if is_right else "other accuracies or parameters than the database has"


def _table(attempt: Try) -> Verdict:
    Path(STUDY, "trials.parquet").unlink(missing_ok=True) if not _changed(attempt, "trials.parquet") else None
    ran = run("search.table", STUDY)
    return _judge(attempt, ran, lambda: wrong_table(attempt) if _is_written() else _unsaid(ran))


def _is_written() -> bool:
    return Path(STUDY, "trials.parquet").is_file()


def _unsaid(ran: Ran) -> str:
    return "" if "cannot be written" in ran.stdout else "trials.parquet is not written, without a word"


def _report(attempt: Try) -> Verdict:
    with mock.patch("search.show.html.packed_plotly", return_value=PLOTLY):  # which is the same in all of them
        ran = run("search.report", STUDY, "--out", "report.html")
    return _judge(attempt, ran, _wrong_page)


def _wrong_page() -> str:
    text = Path("report.html").read_text()
    whole = text.lstrip().lower().startswith("<!doctype html") and text.rstrip().endswith("</html>")
    return "" if whole and PLOTLY in text else "a page that is not whole"


def start_nothing(module: str, *arguments: object) -> tuple[Ran, Any]:
    """Run a search up to the start of Ray: all is prepared, the study is opened, and one trial is asked for."""
    found: dict[str, Any] = {}

    def run_trials(study: Any, *_: Any) -> bool:
        found["request"] = study.request
        found["states"] = [trial.state.name for trial in study.trials()]
        found["assignment"] = study.ask()
        return bool(study.is_finished)

    with (
        mock.patch("search.execute.driver.run_trials", run_trials),
        mock.patch("search.execute.cluster.connect", return_value=contextlib.nullcontext()),
        mock.patch("search.execute.cluster.check_nodes"),
    ):
        ran = run(module, *arguments)
    if ran.status == 130 and "go on with" in ran.stdout:  # as it is not finished
        ran = Ran(ran.command, 0, ran.stdout, ran.stderr, ran.seconds)
    return ran, found


def _resume(attempt: Try) -> Verdict:
    ran, found = start_nothing("search.run", "--resume", "--name", STUDY, "--results", ".")
    return _judge(attempt, ran, lambda: _wrong_resume(attempt, found))


def _wrong_resume(attempt: Try, found: dict[str, Any]) -> str:
    states, assignment = found["states"], found["assignment"]
    if _changed(attempt, "study.db"):
        return ""
    if tuple(states) != STATES:
        return f"goes on with trials {states}, not {STATES}"
    if len(states) == found["request"].trials and (assignment is None or assignment.number != 4):
        return "does not go on with the trial that was cut off"
    return ""


def _refit(attempt: Try) -> Verdict:
    ran, found = start_nothing("search.refit", STUDY, "--top", 2, "--seeds", 1, "--epochs", 1, "--name", "refit")
    return _judge(attempt, ran, lambda: "" if found["assignment"] else "a refit without trials")


def try_study(attempt: Try) -> list[Verdict]:
    """The commands that only read; the page, which takes longest, for one input of three."""
    verdicts = [_table(attempt)]
    if not attempt.steps or attempt.steps[0].what % 3 == 0:
        verdicts.append(_report(attempt))
    return verdicts


def try_going_on(attempt: Try) -> list[Verdict]:
    """The commands that go on from a study, up to where Ray would start."""
    if not attempt.steps:
        return [_refit(attempt), _resume(attempt)]
    return [_refit(attempt)] if attempt.steps[0].what % 3 == 0 else [_resume(attempt)]


def try_select(attempt: Try) -> list[Verdict]:
    how = ("--precision", "float32", "--budget", f"{MAX_PARAMS // 1000}K,2MB,1000ms")
    ran = run("ensemble.select", *how, "--results", STUDY, "--out", "o")
    return [_judge(attempt, ran, lambda: _wrong_selection(attempt), most=60.0)]


def _wrong_selection(attempt: Try) -> str:
    """The budget is kept, and the accuracy that is stated is the file's own on the valid held-out sequences."""
    from ensemble.tflite.submission import Submission
    from trainer.data.dataset import PackedDataset

    fields = json.loads(Path("o", "selection.json").read_text())
    submission = Submission.open(Path("o", "submission.zip"))
    cost = fields["cost"]
    if cost["parameters"] > MAX_PARAMS or cost["size"] > 2e6 or len(submission.content) != cost["size"]:
        return f"costs {cost} beyond the budget"
    if not fields["members"] or any(member["count"] < 1 for member in fields["members"]):
        return "no members"
    dataset = PackedDataset.open(attempt.valid / PACKED)
    _, rows = dataset.split(2, 0)
    probs = np.stack([submission.model(_raw(dataset.sequence(row))) for row in rows])
    accuracy = float((probs.argmax(axis=1) == dataset.labels[rows]).mean())
    stated = fields["accuracy"]["seen_by_selection"]["ensemble"]
    if not math.isclose(accuracy, stated, abs_tol=1 / len(rows) + 1e-9):
        return f"states the accuracy {stated:.4f}, has {accuracy:.4f}"
    total = sum(member["count"] for member in fields["members"])
    expected = np.zeros_like(probs)
    for member in fields["members"]:
        trial = re.sub(r".*/", "", member["trial"])
        val_probs = np.load(attempt.valid / STUDY / "trials" / trial / "val_probs.npy")
        expected += member["count"] / total * val_probs
    if np.abs(expected - probs).max() > FURTHEST:
        return "ships a file that does not predict what its trials did when they were trained"
    return ""


def _raw(points: np.ndarray) -> np.ndarray:
    from trainer.landmarks import ROWS

    raw = np.full((len(points), 543, 3), np.nan, np.float32)
    raw[:, np.array(ROWS), :2] = np.where((points == 0).all(axis=2, keepdims=True), np.float32(np.nan), points)
    return raw


DOORS: Final = (
    Door("study shown", 10, FILES, lay, try_study, fast_share=2),
    Door("study resumed", 8, FILES, lay, try_going_on, fast_share=2),
    Door("selection", 3, SELECTED_FROM, lay, try_select, fast_share=1),
)
