"""400 mutated inputs at every door, and proof that the suite finds what it looks for."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fuzz.__main__ import hunt_all
from tests.fuzz.attempt import Ran, Verdict, judge
from tests.fuzz.doors import Step, options, planted
from tests.fuzz.doors.every import DOORS
from tests.fuzz.hunt import hunt, share_out, summary
from tests.fuzz.worker import Answer, Worker

INPUTS = 400


def test_400_mutated_inputs_are_taken_rightly_or_refused_in_one_line(tmp_path: Path) -> None:
    tallies = hunt_all(list(DOORS.values()), INPUTS, random_seed=0, processes=2, folder=tmp_path, fast=True)
    found = [str(one) for tally in tallies.values() for one in tally.found]
    assert not found, "\n".join(found)
    numbers = summary(tallies)
    assert numbers["inputs"] == INPUTS
    assert int(str(numbers["accepted"])) > 20
    assert int(str(numbers["refused"])) > 100


def _ran(status: int | None, stderr: str = "", seconds: float = 0.1) -> Ran:
    return Ran(
        "trainer.pack asl out", status, "", stderr, seconds, "KeyError in contest.read" if status is None else ""
    )


@pytest.mark.parametrize(
    ("ran", "outcome"),
    [
        (_ran(0), "accepted"),
        (_ran(0, seconds=11), "hang"),
        (_ran(2, "error: asl/train.csv: no column 'sign'; add it\n"), "refused"),
        (_ran(2, "error: asl/train.csv: no column 'sign'; add it\n", seconds=11), "hang"),
        (_ran(2, "error: asl/train.csv: no column\n'sign'\n"), "bad message"),
        (_ran(2, "warning: something\nerror: asl/train.csv: no column 'sign'\n"), "bad message"),
        (_ran(2, "asl/train.csv: no column 'sign'\n"), "bad message"),
        (_ran(2, "error: no column 'sign'\n"), "bad message"),
        (_ran(2, "error: asl/map.json: no sign 'a'\n"), "bad message"),
        (_ran(2, f"error: asl/train.csv: {'x' * 5000}\n"), "bad message"),
        (_ran(2, ""), "bad message"),
        (_ran(1, "error: asl/train.csv: no column 'sign'\n"), "other status"),
        (_ran(-11), "other status"),
        (_ran(None, "Traceback\nKeyError: 'sign'\n"), "traceback"),
    ],
)
def test_the_rule(ran: Ran, outcome: str) -> None:
    verdict = judge(ran, lambda: "", names=["train.csv"], files=["train.csv", "map.json"])
    assert verdict.outcome == outcome
    assert verdict.is_failure == (outcome not in ("accepted", "refused"))


def test_a_result_that_is_not_right_is_a_failure() -> None:
    verdict = judge(_ran(0), lambda: "12 frames, not 13", names=["train.csv"], files=[])
    assert (verdict.outcome, verdict.words) == ("wrong success", "trainer.pack asl out: 12 frames, not 13")


def _removal_fails(_: str, steps: Sequence[Step]) -> Answer:
    """Stands for a program that cannot do without its file, and with nothing else is wrong."""
    is_broken = any(step.how == "bytes:removed" and step.where > 10 for step in steps)
    return Answer(Verdict("traceback", "OSError", "OSError") if is_broken else Verdict("refused"), "words", 0.0)


def test_a_failure_is_shrunk_and_told_once_and_the_hunt_goes_on() -> None:
    told: list[object] = []
    tally = hunt(planted.DOORS["planted"], 200, 0, _removal_fails, told.append)
    (one,) = tally.found
    assert told == [one]
    assert tally.inputs == 200
    assert tally.counts["traceback"] > 1
    assert one.steps == [Step(planted.FILE, "bytes:removed", 11, 0)]


def test_the_same_seed_draws_the_same_inputs_and_another_one_others() -> None:
    def drawn(random_seed: int) -> list[Sequence[Step]]:
        inputs: list[Sequence[Step]] = []

        def ask(_: str, steps: Sequence[Step]) -> Answer:
            inputs.append(steps)
            return Answer(Verdict("refused"), "", 0.0)

        hunt(DOORS["train.csv"], 20, random_seed, ask)
        return inputs

    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize("fast", [False, True])
def test_inputs_are_shared_out_whole(fast: bool) -> None:
    counts = share_out(list(DOORS.values()), 997, fast=fast)
    assert sum(counts.values()) == 997
    assert counts["landmark file"] > counts["submission check"]


def test_no_option_leads_out_of_the_working_folder() -> None:
    places = [value.removeprefix("file://") for value in options.VALUES]
    assert all(place.startswith("/proc") for place in places if place.startswith("/")), "where nobody can write"
    assert not [place for place in places if place.startswith("../..")], "the worker's folder is the parent"


@pytest.mark.slow
def test_a_crash_and_a_hang_end_one_worker_and_are_told(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "valid", tmp_path / "scratch", patience=8.0)
    try:
        crashed = worker.ask("planted", [Step(planted.FILE, "json:key_removed", 0, 0)])
        assert (crashed.verdict.outcome, crashed.words) == ("crash", f"{planted.FILE}: without crash")
        hung = worker.ask("planted", [Step(planted.FILE, "json:key_removed", 1, 0)])
        assert (hung.verdict.outcome, hung.words) == ("hang", f"{planted.FILE}: without hang")
        refused = worker.ask("planted", [Step(planted.FILE, "bytes:emptied", 0, 0)])
        assert (refused.verdict.outcome, refused.verdict.words) == ("refused", "")
        fine = worker.ask("planted", [Step(planted.FILE, "json:key_removed", 2, 0)])
        assert fine.verdict.outcome == "accepted"
    finally:
        worker.close()
    assert not [path for path in tmp_path.glob("core*") if os.access(path, os.R_OK)]
