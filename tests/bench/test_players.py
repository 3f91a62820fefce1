"""Searches that tests.bench.search compares, and how it talks with those in other environments."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.problem.space import Space
from tests.bench import players, rivals_env
from tests.bench.curves import EPOCHS, RECORDED, WIDE
from tests.bench.play import Search, play
from tests.bench.problems import problem
from trainer.config import TrainConfig

# What stands for a rival: it is asked as one, says things that nobody asked for, and pauses its trials.
PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from tests.bench import search_rivals

class Fake:
    def __init__(self, name, space, epochs, seed):
        self.space, self.epochs, self.seed, self.count, self.told = space, epochs, seed, 0, []
        print("a library says hello")

    def next(self):
        number = self.count if self.count < 5 else self.count - 5
        self.count += 1
        value = {{name: item["low"] for name, item in self.space.items()}}
        return number, value, 1 if self.count <= 5 else self.epochs

    def report(self, number, epoch, accuracy):
        self.told.append((number, epoch))
        if self.seed == 13:
            raise ValueError("bad luck")
        return epoch != 2

search_rivals.SEARCHES["fake"] = Fake
search_rivals.main()
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(root=str(Path(__file__).parents[2])))
    monkeypatch.setattr(players, "PROGRAM", program)
    monkeypatch.setattr(rivals_env, "make", lambda name: Path(sys.executable))  # noqa: ARG005
    players._process.cache_clear()


@pytest.mark.usefixtures("fake")
def test_a_rival_elsewhere_is_asked_told_and_begun_anew() -> None:
    hartmann = problem("hartmann3-good")
    for seed in (1, 2):  # the same process
        search = players.Elsewhere("fake", "fake", hartmann.space, seed)
        assert search.next() == (0, dict.fromkeys(hartmann.space.distributions, 0.0), 1)
        assert search.report(0, 1, 0.5) is True
        assert search.report(0, 2, 0.5) is False
    log = play(players.Elsewhere("fake", "fake", hartmann.space, 3), hartmann, seed=3, budget=10)
    assert (log.trials, log.epochs) == (5, 10)


@pytest.mark.usefixtures("fake")
def test_a_rival_that_dies_is_an_error_and_not_an_endless_wait() -> None:
    search = players.Elsewhere("fake", "fake", problem("hartmann3-good").space, 13)
    search.next()
    with pytest.raises(RuntimeError, match="ended with 1 when asked"):
        search.report(0, 1, 0.5)


def test_a_space_is_told_in_plain_words() -> None:
    told = players.plain(WIDE.space)
    assert told["num_layers"] == {"type": "int", "low": 1, "high": 2, "log": False}
    assert told["learning_rate"] == {"type": "float", "low": 1e-5, "high": 0.1, "log": True}
    assert told["optimizer"] == {"choices": ["lion", "adamw"]}
    stepped = Space.parse('dropout = {type = "float", low = 0.0, high = 0.4, step = 0.1}', TrainConfig())
    with pytest.raises(TypeError, match="no rival knows"):
        players.plain(stepped)


def test_random_search_draws_from_the_space_and_is_that_of_its_seed() -> None:
    draws = [players.RandomSearch(RECORDED.space, seed).next() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    search = players.RandomSearch(RECORDED.space, 0)
    params = [found[1] for _ in range(200) if (found := search.next()) is not None]
    assert {item["num_layers"] for item in params} == {1, 2, 3}
    assert all(1e-4 <= item["learning_rate"] <= 3e-2 for item in params)
    assert sum(item["learning_rate"] < 1.7e-3 for item in params) in range(
        80, 121
    )  # half of them, as it is logarithmic


def test_ray_tune_to_its_end_trains_its_64_trials() -> None:
    hartmann = problem("hartmann3-good")
    log = players.play_rival(players.RAY_TO_ITS_END, hartmann, seed=0)
    assert log.trials == 64
    assert 64 < log.epochs < 64 * EPOCHS
    assert 0 < log.returned <= hartmann.optimum


@pytest.mark.parametrize("way", ["ours", "ray", "random"])
def test_the_same_seed_is_the_same_search(way: str) -> None:
    space = problem("hartmann3-good").space
    ways: dict[str, Callable[[int], Search]] = {
        "ours": lambda seed: players.Ours(space, seed, "random", "successive-halving"),
        "ray": lambda seed: players.RayTune(space, seed, 100),
        "random": lambda seed: players.RandomSearch(space, seed),
    }
    logs = [play(ways[way](seed), problem("hartmann3-good"), 0, budget=60) for seed in (1, 1, 2)]
    assert logs[0] == logs[1] != logs[2]
    assert {log.epochs for log in logs} == {60}
