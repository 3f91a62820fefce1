"""What is said at the end of a search."""

import contextlib
import dataclasses
import signal
from pathlib import Path
from unittest import mock

import pytest

import search.run
from search.ending import show_outcome
from search.execute import cluster
from search.execute.driver import Outcome
from search.options import SearchOptions
from search.problem.space import Space
from search.record.trials import Row
from tests.search.conftest import TINY_SPACE
from tests.search.studies import request_of
from trainer.config import TrainConfig


@pytest.mark.parametrize(("name", "called"), [("a", False), (None, False), ("a", True)])
def test_an_interruption_at_the_start_says_how_to_go_on(
    name: str | None,
    called: bool,
    tmp_path: Path,
    packed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "connect", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "check_nodes", lambda *_: None)
    monkeypatch.setattr("search.execute.driver.SearchStudy", interrupt)
    argv = [
        "sign-ensemble search" if called else "search.run",
        "--trials",
        "1",
        "--results",
        str(tmp_path),
        "--data",
        str(packed),
    ]
    argv += [] if name is None else ["--name", name]
    argv += ["--cpus-per-trial", "2", "--gpus-per-trial", "0.25"]
    with mock.patch("sys.argv", argv), pytest.raises(KeyboardInterrupt):
        search.run.main()
    command = "sign-ensemble search" if called else "python -m search.run"
    (study,) = tmp_path.iterdir()
    assert name in (study.name, None)
    told = capsys.readouterr().out
    assert told == (
        "loading torch, Ray and Optuna\nstarting Ray\n"
        f"go on with:\n  {command} --resume --name {study.name} --results {tmp_path} --cpus-per-trial 2 "
        "--gpus-per-trial 0.25\n"
    )


def _row(number: int, reason: str | None) -> Row:
    """A trial that failed, or was finished if there is no reason."""
    state = "COMPLETE" if reason is None else "FAIL"
    return Row(number, state, reason, {}, None, None, None, 0, None)


REASONS = ("the loss became nan in epoch 2", "RuntimeError: no such kernel", "the loss became nan in epoch 31")


def test_a_search_of_which_nothing_came_says_why_and_fails(
    base: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_of(Space.parse(TINY_SPACE, base), trials=3)
    earlier = dataclasses.replace(_row(3, None), origin="old/1")
    rows = [*(_row(number, reason) for number, reason in enumerate(REASONS)), earlier]
    outcome = Outcome("results/s", request, rows, is_complete=True)
    with pytest.raises(SystemExit) as end:
        show_outcome(outcome, SearchOptions(name="s"))
    assert end.value.code == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"all 3 trials failed, 2 of them for this reason: {REASONS[0]}"

    show_outcome(dataclasses.replace(outcome, rows=[*rows, _row(4, None)]), SearchOptions(name="s"))
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: python -m ensemble.select")


def test_failed_trials_are_named_with_the_command_that_tries_them_again(
    base: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_of(Space.parse(TINY_SPACE, base), trials=3)
    rows = [_row(0, None), _row(1, REASONS[0]), dataclasses.replace(_row(2, REASONS[1]), origin="old/1")]
    show_outcome(Outcome("elsewhere/s", request, rows, is_complete=True), SearchOptions(workers=2))
    command = "python -m search.run --resume --retry-failed --name s --results elsewhere --workers 2"
    assert f"1 trial failed; try it again with: {command}" in capsys.readouterr().out.splitlines()
    show_outcome(Outcome("elsewhere/s", request, rows[:1], is_complete=True), SearchOptions())
    assert "failed" not in capsys.readouterr().out


def test_a_used_up_time_budget_is_no_failure_and_an_interrupt_has_its_status(
    base: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_of(Space.parse(TINY_SPACE, base), trials=3)
    outcome = Outcome("results/s", request, [_row(0, None)], is_complete=False)
    show_outcome(outcome, SearchOptions(name="s"))  # a script goes on with what is there
    lines = capsys.readouterr().out.splitlines()
    assert "the time budget is used up with 1 of 3 trials ended; go on with:" in lines
    assert lines[-1] == "next: python -m ensemble.select --budget --results results/s"
    pruned = dataclasses.replace(_row(0, None), state="PRUNED")  # of which no ensemble can be made
    show_outcome(dataclasses.replace(outcome, rows=[pruned]), SearchOptions(name="s"))
    assert "next:" not in capsys.readouterr().out
    for signum, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with pytest.raises(SystemExit) as end:
            show_outcome(dataclasses.replace(outcome, stopped_by=signum), SearchOptions(name="s"))
        assert end.value.code == status
        assert "interrupted with 1 of 3 trials ended; go on with:" in capsys.readouterr().out
