"""What became of a study: trials lost, run twice, others than undisturbed, and whether the study can be read."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from search.record.trials import read_rows
from tests.faults.searches import Files, finished
from trainer.common.errors import UserError
from trainer.rundir import METRICS, RunDir
from trainer.studydir import StudyDir


@dataclass
class Outcome:
    """Counts; all but ``trials`` and ``complete`` should be 0."""

    trials: int = 0
    """That were asked for"""
    complete: int = 0
    lost: int = 0
    """Not COMPLETE in the end, or finished once and gone later"""
    run_twice: int = 0
    """With an epoch recorded twice, a number given twice, or made again after they were finished"""
    changed: int = 0
    """With other weights or probabilities than in an undisturbed search"""
    unreadable: int = 0
    """Studies that cannot be read: 1 or 0"""

    @property
    def is_right(self) -> bool:
        return self.complete == self.trials and not (self.lost or self.run_twice or self.changed or self.unreadable)

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def outcome_of(study: Path, trials: int, epochs: int, seen: list[Files], calm: Files | None = None) -> Outcome:
    """Look at a study that should be complete.

    ``seen`` are the finished trials as they were at times before. ``calm`` are those of an undisturbed search.
    """
    found = Outcome(trials=trials)
    try:
        rows = read_rows(study)
        now = finished(study)
        done = {int(run.path.name): _epochs(run) for run in StudyDir(study).trials()}
    except (UserError, OSError):
        found.unreadable, found.lost = 1, trials
        return found
    complete = {row.number for row in rows if row.state == "COMPLETE"}
    numbers = Counter(row.number for row in rows)
    found.complete = len(complete)
    gone = {number for files in seen for number in files if number not in now or number not in complete}
    found.lost = len(set(range(trials)) - complete | gone | complete - now.keys())
    twice = {number for number, count in numbers.items() if count > 1 or number >= trials}
    twice |= {number for number, its in done.items() if its != list(range(1, epochs + 1))} & complete
    twice |= {
        number for files in seen for number, (when, _, _) in files.items() if number in now and now[number][0] != when
    }
    found.run_twice = len(twice)
    if calm is not None:
        found.changed = sum(now[number][1:] != calm[number][1:] for number in now.keys() & calm.keys())
    return found


def _epochs(run: RunDir) -> list[int]:
    """As metrics.jsonl has them: RunDir.read_metrics refuses those that were done twice."""
    path = run.path / METRICS
    return [json.loads(line)["epoch"] for line in path.read_text().split("\n")[:-1]] if path.is_file() else []
