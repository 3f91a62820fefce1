"""A stopping rule that answers only what it must."""

import pytest

from search.decide.rule import Decision, StoppingRule


class Stubborn(StoppingRule):
    def decide(self, number: int, epoch: int, value: float) -> Decision:  # noqa: ARG002
        return Decision.CONTINUE


def test_a_rule_that_only_decides_pauses_and_gives_up_nothing() -> None:
    rule = Stubborn()
    rule.restore(0, {1: 0.5}, paused_after=None)
    rule.forget(0)
    assert rule.decide(0, 1, 0.0) is Decision.CONTINUE
    assert rule.resume(all_started=True) is None
    assert rule.give_up() == []
    assert rule.foresee([1, 2], 0) is None


def test_a_rule_must_decide() -> None:
    with pytest.raises(TypeError, match="decide"):
        StoppingRule()  # type: ignore[abstract]
