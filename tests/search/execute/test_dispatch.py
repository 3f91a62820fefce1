"""Why Ray gave a trial up, told from what Ray keeps of it, and what becomes of it then."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ray.tune.experiment import Trial as RayTrial

from search.execute.cluster import Resources, Room
from search.execute.dispatch import Beginnings, Brake, Dispatcher, _error_of
from search.execute.out_of_memory import MemoryKill
from search.problem.space import Space
from search.record.trials import to_rows
from search.show.progress import Progress
from tests.outcomes import metrics_of
from tests.search.conftest import TINY_SPACE
from tests.search.studies import open_study
from trainer.config import TrainConfig

HEAD = "Failure # 1 (occurred at 2026-01-01_00-00-00)\n"


@pytest.mark.parametrize(
    ("text", "is_pickled", "reason", "lost_worker"),
    [
        ("The actor died unexpectedly\n  on node 1", True, "The actor died unexpectedly on node 1", True),
        ("out of memory: a node has none left [a]", True, "out of memory: a node has none left [a]", True),
        ("\x1b[36mray::ImplicitFunc.train()\x1b[39m\nKeyError: 1", True, "KeyError: 1", False),
        ("no such runtime environment", False, "no such runtime environment", False),
        (None, False, "Ray gave it up and did not say why", False),
    ],
)
def test_a_dead_worker_is_told_from_an_exception(
    text: str | None, is_pickled: bool, reason: str, lost_worker: bool, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "error.txt").write_text(HEAD + text)
    about = SimpleNamespace(pickled_error_filename="error.pkl" if is_pickled else None)
    trial: Any = SimpleNamespace(error_file=text and str(tmp_path / "error.txt"), run_metadata=about)
    found, lost = _error_of(trial)
    assert found.endswith(reason)
    assert lost == lost_worker


class _Search:
    """A search of eight trials, whose workers a test ends, on nodes "a" and "b" of four CPUs, or one of them."""

    def __init__(self, directory: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch, nodes: str = "a") -> None:
        there = [{"NodeID": name, "Resources": {"CPU": 4}} for name in nodes]
        monkeypatch.setattr("search.execute.cluster._nodes", lambda: there)
        space = Space.parse(TINY_SPACE, TrainConfig(epochs=9))
        self.study = open_study(directory / "study", space, trials=8, sampler="random", pruner="none")
        self.room = Room(Resources())
        self.brake = Brake()
        self._dispatcher = Dispatcher(
            self.study, progress, self.room, lambda given: {"number": given.number}, self.brake
        )
        self._directory = directory
        self._running: dict[int, Any] = {}
        self._count = 0

    def start(self) -> list[int]:
        """Numbers of the trials that are handed out until there is no room."""
        started = []
        while (given := self._dispatcher.assign(str(self._count))) is not None:
            trial = SimpleNamespace(trial_id=str(self._count), status=RayTrial.RUNNING, error_file=None)
            self._dispatcher.start(trial)  # type: ignore[arg-type]
            self._running[given["number"]] = trial
            started.append(given["number"])
            self._count += 1
        return started

    def kill(self, *numbers: int, node: str = "a") -> None:
        """End workers for their node's memory, all before the search can look."""
        for number in numbers:
            self._end(number, str(MemoryKill(node, "its worker, which used 2 GB, was ended")))

    def lose_worker(self, number: int, *, had_begun: bool) -> None:
        """End a worker, before or after its trial has begun."""
        if had_begun:
            Beginnings(self._dispatcher).on_trial_start(0, [], self._running[number])
        self._end(number, "The actor died unexpectedly.")

    def _end(self, number: int, words: str) -> None:
        """Have Ray give a trial up with such an error of its actor's."""
        trial = self._running.pop(number)
        path = self._directory / f"{trial.trial_id}.txt"
        path.write_text(HEAD + words)
        trial.error_file, trial.status = str(path), RayTrial.ERROR
        trial.run_metadata = SimpleNamespace(pickled_error_filename="error.pkl")

    def epoch(self, number: int, epoch: int) -> None:
        self.study.report(number, metrics_of(epoch, 0.5))

    def states(self) -> dict[int, str]:
        return {row.number: row.state for row in to_rows(self.study.trials())}

    def reason(self, number: int) -> str:
        return str(self.study.trials()[number].user_attrs["reason"])


def test_a_trial_that_is_killed_for_memory_goes_on_with_less_company_and_fails_only_alone(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = _Search(tmp_path, progress, monkeypatch)
    assert search.start() == [0, 1, 2, 3]
    search.kill(3)
    assert search.start() == []  # three are at work where now two may be
    search.kill(2)
    assert search.start() == []  # handed out before that: nothing follows from it
    search.kill(1)
    assert search.start() == [3]  # one is at work, two may be
    search.kill(3)
    assert search.start() == []  # one may be
    search.kill(0)
    assert search.start() == [2]
    assert set(search.states().values()) == {"RUNNING"}
    search.kill(2)  # it was alone, and had been killed before
    assert search.start() == [1, 3, 0, 4]  # with the cause gone, there is room as before
    assert {number for number, state in search.states().items() if state == "FAIL"} == {2}
    assert search.reason(2).startswith(
        "out of memory twice in a row, alone on its node the second time: its worker, which used 2 GB, was ended; give"
    )
    search.study.close()


def test_workers_that_die_before_their_trial_begins_are_no_fault_of_the_trial(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = _Search(tmp_path, progress, monkeypatch)
    search.room.limit("a", 1)
    assert search.start() == [0]
    for had_begun in (True, False, False, True, *[False] * 7):
        search.lose_worker(0, had_begun=had_begun)
        assert search.start() == [0]
    search.lose_worker(0, had_begun=True)
    assert search.start() == [1]
    assert search.reason(0) == "its worker died 3 times in a row: The actor died unexpectedly."
    for _ in range(9):
        search.lose_worker(1, had_begun=False)
        assert search.start() == [1]
    search.lose_worker(1, had_begun=False)
    assert search.start() == [2]
    assert search.reason(1) == "its worker died 10 times before it began, in a row: The actor died unexpectedly."
    search.study.close()


def test_a_trial_that_is_alone_from_the_beginning_gets_a_second_chance_after_each_epoch(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = _Search(tmp_path, progress, monkeypatch)
    search.room.limit("a", 1)
    assert search.start() == [0]
    for epoch in range(1, 4):
        search.kill(0)
        assert search.start() == [0]
        search.epoch(0, epoch)
    search.kill(0)
    assert search.start() == [0]
    search.kill(0)
    assert search.start()[0] == 1
    assert search.states()[0] == "FAIL"
    search.study.close()


def test_two_that_are_killed_at_a_time_halve_the_room_once(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = _Search(tmp_path, progress, monkeypatch)
    search.start()
    search.kill(0, 1, 2, 3)
    assert search.start() == [0, 1]
    search.study.close()


def test_other_nodes_keep_their_room(tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    search = _Search(tmp_path, progress, monkeypatch, nodes="ab")
    assert len(search.start()) == 8
    search.kill(7, node="b")
    assert search.start() == []
    assert search.room.by_node() == {"a": 4, "b": 2}
    search.kill(0, 1)
    assert search.start() == []
    assert search.room.by_node() == {"a": 2, "b": 2}
    search.study.close()


def test_the_seconds_of_a_time_budget_run_out() -> None:
    assert Brake().seconds_left() is None
    assert 59.0 < (Brake(60.0).seconds_left() or 0.0) <= 60.0
    brake = Brake(0.0)
    assert (brake.seconds_left() or 0.0) <= 0.0
    assert brake.stop_all()


def test_the_accuracies_of_a_trial_that_goes_on_are_shown(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = _Search(tmp_path, progress, monkeypatch)
    assert search.start() == [0, 1, 2, 3]
    search.epoch(0, 1)
    search.lose_worker(0, had_begun=True)
    with mock.patch.object(progress, "started", wraps=progress.started) as started:
        assert search.start() == [0]
    *_, last_epoch, curve = started.call_args.args
    assert (last_epoch, dict(curve)) == (1, {1: 0.5})
