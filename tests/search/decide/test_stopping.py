"""Rules that stop trials: what every rule must do, and that one can be added without a change to the study."""

from pathlib import Path

import optuna
import pytest

from search.decide.stopping import STOPPING_RULES, Decision, StoppingRule
from search.problem.space import DEFAULT_SPACE, Space
from tests.outcomes import metrics_of, result_of
from tests.search.studies import open_study
from trainer.config import TrainConfig

EPOCHS = 9


class StopBelow(StoppingRule):
    def decide(self, number: int, epoch: int, value: float) -> Decision:  # noqa: ARG002
        return Decision.STOP if epoch >= 3 and value < 0.1 else Decision.CONTINUE


def test_a_rule_of_one_method_stops_trials_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STOPPING_RULES, "below", lambda _epochs, _num_trials: StopBelow())
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS))
    study = open_study(tmp_path, space, pruner="below", trials=2)
    for value in (0.05, 0.5):
        given = study.ask()
        assert given is not None
        for epoch in range(1, EPOCHS + 1):
            metrics = metrics_of(epoch, value)
            if study.report(given.number, metrics) is Decision.STOP:
                study.prune(given.number, metrics)
                break
        else:
            study.complete(given.number, result_of(EPOCHS, value))
    assert [(trial.state.name, trial.last_step) for trial in study.trials()] == [("PRUNED", 3), ("COMPLETE", EPOCHS)]
    study.close()


@pytest.mark.parametrize("name", STOPPING_RULES)
def test_every_rule_takes_in_a_whole_study_and_ends_every_pause(name: str) -> None:
    rule = STOPPING_RULES[name](EPOCHS, 8)
    study = optuna.create_study(direction="maximize")
    rule.attach(study, Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS)))
    paused, trials = set(), [study.ask() for _ in range(8)]
    for number, trial in enumerate(trials):
        trial.report(0.1 * number, 1)
        if rule.decide(number, 1, 0.1 * number) is Decision.PAUSE:
            paused.add(number)
    rule.forget(0)
    while paused:
        ended = {*rule.give_up()} | {rule.resume(all_started=True)} - {None}
        assert ended, "a paused trial is neither resumed nor given up"
        assert ended <= paused
        paused -= ended
    foreseen = rule.foresee([1] * 8, 1)
    assert foreseen is None or foreseen >= 8


@pytest.mark.parametrize("name", STOPPING_RULES)
def test_no_rule_stops_a_trial_before_its_accuracies_tell(name: str) -> None:
    rule = STOPPING_RULES[name](EPOCHS, 8)
    assert rule.wait_until(6) is (name != "none")
    study = optuna.create_study(direction="maximize")
    rule.attach(study, Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS)))
    for number in range(8):
        trial = study.ask()
        for epoch in range(1, 6):
            trial.report(0.8 - 0.1 * number, epoch)
            assert rule.decide(number, epoch, 0.8 - 0.1 * number) is Decision.CONTINUE
