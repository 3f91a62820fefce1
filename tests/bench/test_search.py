"""What tests.bench.search plays, keeps and reports."""

import argparse
import json
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.bench import kept, search
from tests.bench.play import Log
from tests.bench.players import RAY_TO_ITS_END, RIVALS
from tests.bench.problems import problem
from tests.bench.standings import MARKS
from trainer.common.errors import UserError

OPTIMUM = problem("hartmann3-good").optimum


def _log(*steps: tuple[int, float]) -> Log:
    """Of shares of the optimum that are recommended from so many epochs on."""
    return Log(epochs=700, steps=[(epochs, 0.0, share * OPTIMUM) for epochs, share in steps])


def _results() -> search.Results:
    """Ours is at 0.9 after 210 epochs, the rivals at 0.9 and 0.5 in the end, on two seeds of three."""
    ours = _log((1, 0.1), (210, 0.9))
    return {
        "hartmann3-good": {
            "default": {0: ours, 1: ours, 2: _log((1, 0.1))},
            "syne-asha": {seed: _log((1, 0.2), (500, 0.5)) for seed in range(3)},
            "dehb": {seed: _log((1, 0.05), (600, 0.9)) for seed in range(3)},
        }
    }


def test_figures_are_those_of_the_rows() -> None:
    results = _results()
    rows = search.rows_of(results, "default")
    assert rows["hartmann3-good", 150].best == "syne-asha"
    assert rows["hartmann3-good", 700].best == "dehb"
    assert rows["hartmann3-good", 150].shown["dehb"] == pytest.approx(0.95)
    found = search.figures(results, rows, "default")
    assert found["epochs_ratio_to_best_rival"] == 0.3  # of 0.3, 0.3 and never
    assert found["epochs_ratio_to_syne_asha"] == 0.3
    assert found["epochs_ratio_to_syne_asha_not_chosen_on"] is None
    assert found["ahead_level_behind"]["syne-asha"] == [0, 3, 1]
    assert found["ahead_level_behind"]["dehb"] == [3, 1, 0]
    assert found["ahead_level_behind_not_chosen_on"] == {}


def test_the_ratio_to_ray_tune_counts_complete_trials_until_as_good_as_what_it_returns() -> None:
    results = _results()
    rows = search.rows_of(results, "default")
    rows["recorded", 700] = rows["hartmann3-good", 700]  # which only says that DEHB is the best rival
    results["recorded"] = {
        "default": {0: Log(complete=[(50, 0.5), (90, 0.65)], steps=[(1, 0.0, 0.7)])},
        RAY_TO_ITS_END: {0: Log(epochs=300, returned=0.6, steps=[(1, 0.0, 0.6)])},
        "dehb": {0: Log(steps=[(1, 0.0, 0.9)])},
    }
    assert search.figures(results, rows, "default")["epochs_ratio_to_ray_optuna_asha"] == 0.3


def test_names_that_are_not_known_are_refused() -> None:
    assert search.names_of("dehb,random,dehb", RIVALS, "rivals") == ["dehb", "random"]
    with pytest.raises(UserError, match=r"must be of .*random, not 'rand'"):
        search.names_of("dehb,rand", RIVALS, "rivals")


@pytest.mark.parametrize("option", ["--seeds=0", "--slow-seeds=-1", "--workers=0", "--problems=x", "--sampler=gp/x"])
def test_nothing_is_played_of_what_makes_no_sense(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setattr(sys, "argv", ["search", option])
    monkeypatch.setattr(search, "outcomes", lambda *_: pytest.fail("plays"))
    with pytest.raises(UserError, match="must be"):
        search.main()


def test_a_rival_plays_once_and_ours_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kept, "KEPT", tmp_path / "outcomes.jsonl")
    command = "search --problems hartmann3-good --rivals random --seeds 2 --workers 1 --sampler random/none"
    monkeypatch.setattr(sys, "argv", command.split())
    monkeypatch.setattr(search, "ProcessPoolExecutor", Here)
    search.main()
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    lines = kept.KEPT.read_text().splitlines()
    assert sorted(json.loads(line)["seed"] for line in lines) == [0, 1]
    assert first["seeds"] == {"random/none": 2, "random": 2}
    assert sum(first["ahead_level_behind"]["random"]) == len(MARKS)
    search.main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == first
    assert kept.KEPT.read_text().splitlines() == lines


class Here:
    """Plays in this process."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def submit(self, play: object, task: search.Task) -> Future[Log]:
        future: Future[Log] = Future()
        assert play is search.play_task
        future.set_result(search.play_task(task))
        return future


def test_seeds_for_choosing_are_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[search.Task] = []

    def ask(task: search.Task) -> Log:
        asked.append(task)
        return Log()

    monkeypatch.setattr(search, "play_task", ask)
    monkeypatch.setattr(search, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(kept, "KEPT", tmp_path / "outcomes.jsonl")
    options = argparse.Namespace(choose=True, seeds=2, slow_seeds=1, workers=1)
    search.outcomes(["gp"], ["random"], ["hartmann3-good"], options)
    assert asked == [(who, "hartmann3-good", seed) for who in ("random", "gp") for seed in (1000, 1001)]
