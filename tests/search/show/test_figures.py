"""The figures of a report."""

import optuna
import pytest

from search.show import figures


@pytest.mark.parametrize(
    ("values", "choices", "words"),
    [((0.5, 0.5), (1, 2), "the same accuracy"), ((0.5, 0.6), (2, 2), "the same parameters")],
)
def test_importance_of_what_did_not_vary(values: tuple[float, ...], choices: tuple[int, ...], words: str) -> None:
    study = optuna.create_study(direction="maximize")
    for value, choice in zip(values, choices, strict=True):
        kind = optuna.distributions.IntDistribution(1, 8)
        study.add_trial(
            optuna.create_trial(value=value, params={"num_heads": choice}, distributions={"num_heads": kind})
        )
    with pytest.raises(figures.NotComputable, match=words):
        figures.importances(study)


def test_the_parameter_that_decides_is_the_most_important() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("much", 0, 1) + 0.01 * trial.suggest_float("little", 0, 1), 60)
    (bars,) = figures.importances(study).data
    assert bars.y == ("little", "much")
    assert bars.x[1] > 0.7
