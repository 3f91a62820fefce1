"""What a study's trials tell, from whichever process it is asked."""

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from search.decide.posterior import FEWEST, HYPERPARAMETERS, MOST_OBSERVED, Posterior
from search.problem.space import Space
from trainer.config import TrainConfig

SPACE = Space.parse('dropout = {type = "float", low = 0.0, high = 0.4}', TrainConfig(epochs=9))


def _study(trials: int, seed: int = 0) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(seed)
    for dropout in rng.uniform(0, 0.4, trials):
        curve = [-((dropout - 0.1) ** 2) - 0.1 / epoch + rng.normal() * 0.001 for epoch in (1, 2, 3)]
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"dropout": float(dropout)},
                distributions=SPACE.distributions,
                intermediate_values=dict(enumerate(curve, 1)),
            )
        )
    return study


def test_too_few_trials_tell_nothing() -> None:
    study = _study(FEWEST - 1)
    assert Posterior(SPACE).given(study, study.trials) == []


def test_short_trainings_tell_where_long_ones_end_best() -> None:
    study = _study(20)
    processes = Posterior(SPACE).given(study, study.trials)
    assert len(processes) == 2
    shares = np.linspace(0, 1, 41)[:, None]
    for process in processes:
        mean, deviation = process.predict(shares)
        assert abs(0.4 * shares[mean.argmax(), 0] - 0.1) < 0.03
        assert (deviation > 0).all()


def test_hyperparameters_are_the_studys_and_change_with_a_quarter_more_trials() -> None:
    study, kept = _study(40), Posterior(SPACE)
    fits = []
    for count in range(FEWEST, 41):
        points = np.linspace(0, 1, 5)[:, None]
        here, anew = (
            [process.predict(points)[0].tolist() for process in posterior.given(study, study.trials[:count])]
            for posterior in (kept, Posterior(SPACE))
        )
        assert here == anew
        assert len(here) == 2
        fits.append(study._storage.get_study_system_attrs(study._study_id)[HYPERPARAMETERS]["trials"])
    assert sorted(set(fits)) == [8, 10, 13, 17, 22, 28, 35]


def test_a_rule_and_a_sampler_share_what_is_computed_until_a_trial_shows_more() -> None:
    study = _study(20)
    of_rule, of_sampler = (Posterior.of(study, SPACE) for _ in range(2))
    assert of_rule is of_sampler
    first = of_rule.given(study, study.trials)
    assert of_sampler.given(study, study.trials) is first
    study.add_trial(study.trials[0])
    assert of_rule.given(study, study.trials) is not first
    assert Posterior.of(_study(20), SPACE) is not of_rule


def test_no_more_is_looked_at_in_a_long_study() -> None:
    study = _study(MOST_OBSERVED)
    assert [len(process.seen) for process in Posterior(SPACE).given(study, study.trials)] == [MOST_OBSERVED] * 2
