"""The ablation's arithmetic, its files, and that it goes on where it was."""

import numpy as np
import pytest

from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.learning import ablation
from trainer.learning.ablation import CHANGES, Change, Claim, Measured

BASE = np.array([0.80, 0.81, 0.82])


@pytest.mark.parametrize(
    ("claim", "shift", "verdict"),
    [
        (Claim.WORSE, [-0.02, -0.021, -0.019], "yes"),
        (Claim.WORSE, [0.02, 0.021, 0.019], "no"),
        (Claim.WORSE, [-0.02, 0.02, 0.001], "unclear"),
        (Claim.NO_BETTER, [0.02, 0.021, 0.019], "no"),
        (Claim.NO_BETTER, [0.01, -0.01, 0.001], "yes"),
        (Claim.UNSAID, [0.02, 0.021, 0.019], ""),
    ],
)
def test_a_verdict_needs_two_standard_errors(claim: Claim, shift: list[float], verdict: str) -> None:
    measured = Measured(Change("x", {}, claim), BASE + shift, BASE)
    assert measured.verdict == verdict
    assert measured.difference == pytest.approx(np.mean(shift))
    assert measured.error == pytest.approx(np.std(shift, ddof=1) / 3**0.5)


def test_one_seed_settles_nothing() -> None:
    assert Measured(Change("x", {}, Claim.NO_BETTER), BASE[:1], BASE[:1]).verdict == "unclear"


def test_one_seed_and_divergence_are_shown_without_nan() -> None:
    one = Measured(Change("x", {}, Claim.WORSE), BASE[:1] - 0.01, BASE[:1])
    assert "| x |  | 0.7900 |  | -1.00 | worse | unclear |" in ablation.to_markdown([one], "title", "command")
    gone = Measured(Change("x", {}, Claim.WORSE), BASE * float("nan"), BASE)
    text = ablation.to_markdown([gone], "title", "command")
    assert "| x |  | diverged |  |  | worse | unclear |" in text
    assert "| base |  | 0.8100 | 0.0200 |" in text


def test_every_row_is_one_change_that_the_configuration_accepts() -> None:
    assert len({row.name for row in CHANGES}) == len(CHANGES)
    for row in CHANGES:
        assert TrainConfig().replace(**row.changes) != TrainConfig()


def test_unknown_rows_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^rows: there is no row 'mixdown'; the rows are mixup, "):
        ablation.chosen("mixup,mixdown")
