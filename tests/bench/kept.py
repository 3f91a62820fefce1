"""Outcomes of rivals' searches, kept between runs: a rival of one version plays a problem with a seed once.

results/bench-rivals/outcomes.jsonl has a line a search. A line that was cut short is ignored.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tests.bench.play import Log
from tests.bench.players import versions
from tests.bench.problems import problem

KEPT: Final = Path("results/bench-rivals/outcomes.jsonl")
RULES: Final = 1  # of tests.bench.play: outcomes of others do not count


class Key(NamedTuple):
    """Of one outcome."""

    rival: str
    version: str
    problem: str
    fingerprint: str
    """The problem's"""
    seed: int
    rules: int = RULES

    @classmethod
    def of(cls, rival: str, problem_name: str, seed: int) -> Self:
        """The outcome that a search would have now."""
        return cls(rival, versions(rival), problem_name, problem(problem_name).fingerprint, seed)


def read(path: Path | None = None) -> dict[Key, Log]:
    """All outcomes of the file (default: KEPT); none if there is none."""
    path = path or KEPT
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            values: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        log = Log(**{item.name: values.pop(item.name) for item in dataclasses.fields(Log)})
        found[Key(**values)] = log
    return found


def add(key: Key, log: Log, path: Path | None = None) -> None:
    """Append one outcome."""
    path = path or KEPT
    path.parent.mkdir(parents=True, exist_ok=True)
    is_cut = path.exists() and path.read_bytes()[-1:] not in (b"\n", b"")
    with path.open("a") as file:
        file.write("\n" * is_cut + json.dumps({**key._asdict(), **dataclasses.asdict(log)}) + "\n")
