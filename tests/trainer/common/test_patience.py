"""Waiting for what comes back, and not for what does not."""

import pytest

from trainer.common.patience import patiently


def test_what_may_pass_is_tried_again_with_longer_pauses_until_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    faults: list[Exception] = [ConnectionError("a"), ConnectionError("b")]

    def act() -> str:
        if faults:
            raise faults.pop(0)
        return "there"

    def passes(error: Exception) -> bool:
        return isinstance(error, ConnectionError)

    assert (patiently(act, passes), pauses) == ("there", [0.5, 1.0])
    faults[:] = [ValueError("never")]
    with pytest.raises(ValueError, match="never"):
        patiently(act, passes)
    assert pauses == [0.5, 1.0]
    faults[:] = [ConnectionError(str(count)) for count in range(9)]
    with pytest.raises(ConnectionError, match="3"):
        patiently(act, passes, 4.0)
    assert pauses[2:] == [0.5, 1.0, 2.0]
