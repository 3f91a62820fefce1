"""Successive halving by prediction."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.decide.halving import FEWEST, SuccessiveHalving
from search.decide.predictive_halving import RUNGS, PredictiveHalving
from search.decide.stopping import STOPPING_RULES, Decision
from search.decide.study import SearchStudy
from search.problem.space import Space
from tests.outcomes import metrics_of, result_of
from tests.search.studies import open_study
from trainer.config import TrainConfig

EPOCHS = 27
SPACE = Space.parse('dropout = {type = "float", low = 0.0, high = 0.4}', TrainConfig(epochs=EPOCHS))


@pytest.mark.parametrize(
    ("epochs", "rungs"), [(1, set()), (2, {1}), (8, {1}), (14, {1}), (15, {2}), (27, {2}), (40, {3}), (100, {8})]
)
def test_the_rung_comes_after_a_14th_of_the_epochs(epochs: int, rungs: set[int]) -> None:
    halving = PredictiveHalving(epochs, 64)
    assert {epoch for epoch in range(1, epochs) if halving.decide(0, epoch, 0.5) is Decision.PAUSE} == rungs


class _Trainings:
    """Accuracy follows dropout; a trial's luck shows in its first epochs alone."""

    def __init__(self, seed: int) -> None:
        self._luck = np.random.default_rng(seed).normal(size=100) * 0.15
        self.worths: dict[int, float] = {}
        self.order: list[int] = []

    def play(self, study: SearchStudy, most: int = 10**6) -> None:
        """Run a search until so many trials were handed out, or no more is."""
        while len(self.order) < most:
            study.give_up()
            given = study.ask()
            if given is None:
                return
            self.order.append(given.number)
            worth = self.worths.setdefault(given.number, 0.5 - abs(given.params["dropout"] - 0.1))
            for epoch in range(given.last_epoch + 1, EPOCHS + 1):
                accuracy = worth + self._luck[given.number] * (epoch < 4)
                verdict = study.report(given.number, metrics_of(epoch, accuracy))
                if epoch == EPOCHS:
                    study.complete(given.number, result_of(EPOCHS, worth))
                elif verdict is Decision.PAUSE:
                    break


def _open(
    folder: Path, pruner: str = "predictive-halving", seed: int = 0, sampler: str = "random", trials: int = 48
) -> SearchStudy:
    return open_study(folder, SPACE, trials=trials, sampler=sampler, pruner=pruner, recipe_points=False, seed=seed)


def test_trials_that_go_on_are_better_than_by_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_rank = functools.partial(SuccessiveHalving, rungs=RUNGS)
    monkeypatch.setitem(STOPPING_RULES, "by-rank", by_rank)
    found: dict[str, list[float]] = {"by-rank": [], "predictive-halving": []}
    for seed in range(3):
        for pruner, worths in found.items():
            trainings, study = _Trainings(seed), _open(tmp_path / f"{pruner}{seed}", pruner, seed)
            trainings.play(study)
            finished = [trial.number for trial in study.trials() if trial.last_step == EPOCHS]
            assert len(finished) >= 8
            worths.append(float(np.mean([trainings.worths[number] for number in finished])))
            study.close()
    assert np.mean(found["predictive-halving"]) > np.mean(found["by-rank"]) + 0.005


@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_a_study_that_is_opened_again_goes_on_as_one_that_was_not(tmp_path: Path, sampler: str) -> None:
    whole, parts = _Trainings(0), _Trainings(0)
    study = _open(tmp_path / "whole", sampler=sampler, trials=32)
    whole.play(study)
    expected = [(trial.params, trial.intermediate_values) for trial in study.trials()]
    study.close()
    for most in (6, 12, 13, 25, 10**6):
        study = _open(tmp_path / "parts", sampler=sampler, trials=32)
        parts.play(study, most)
        found = [(trial.params, trial.intermediate_values) for trial in study.trials()]
        study.close()
    assert parts.order == whole.order
    assert found == expected
    assert len(whole.order) > 32


@pytest.mark.parametrize("seed", range(6))
def test_enough_trials_of_a_small_search_are_trained_to_the_end(tmp_path: Path, seed: int) -> None:
    trainings, study = _Trainings(seed), _open(tmp_path, seed=seed, sampler="random", trials=12)
    trainings.play(study)
    assert sum(trial.last_step == EPOCHS for trial in study.trials()) >= FEWEST
    study.close()


def test_of_trials_that_are_as_good_the_cheaper_go_on(tmp_path: Path) -> None:
    text = 'num_heads = {type = "int", low = 1, high = 8}'
    space = Space.parse(f'dropout = {{type = "float", low = 0.0, high = 0.4}}\n{text}', TrainConfig(epochs=EPOCHS))
    heads: list[list[int]] = [[], []]
    for seed in range(3):
        asked: dict[str, Any] = {"trials": 60, "sampler": "random", "recipe_points": False, "seed": seed}
        trainings, study = _Trainings(seed), open_study(tmp_path / str(seed), space, **asked)
        trainings.worths, trainings._luck = dict.fromkeys(range(60), 0.5), np.zeros(100)
        trainings.play(study, 40)
        for trial in study.trials():
            heads[trial.last_step == EPOCHS].append(trial.params["num_heads"])
        study.close()
    assert abs(np.mean(heads[False] + heads[True]) - 4.5) < 0.5
    assert len(heads[True]) >= 12
    assert np.mean(heads[True]) < 3.5


def test_costs_weigh_as_when_the_study_was_opened_anew(tmp_path: Path) -> None:
    text = 'num_heads = {type = "int", low = 1, high = 8}'
    space = Space.parse(f'dropout = {{type = "float", low = 0.0, high = 0.4}}\n{text}', TrainConfig(epochs=EPOCHS))
    asked: dict[str, Any] = {"trials": 32, "sampler": "gp", "recipe_points": False}
    whole, parts = _Trainings(0), _Trainings(0)
    study = open_study(tmp_path / "whole", space, **asked)
    whole.play(study)
    study.close()
    for most in range(4, 60, 3):
        study = open_study(tmp_path / "parts", space, **asked)
        parts.play(study, most)
        study.close()
    assert parts.order == whole.order


def test_it_foresees_that_more_go_on_than_the_rung_is_meant_to_let_through() -> None:
    halving = PredictiveHalving(30, 64)
    assert halving.foresee([]) == 64 * 3 + int(64 * 0.56) * (30 - 3)
    assert halving.foresee([30] * 32 + [3] * 32) == 64 * 3 + 32 * (30 - 3)
    few = PredictiveHalving(30, 4)
    assert few.foresee([]) == 4 * 30
