"""Devices: what is there is taken, what is not is refused by name."""

import pytest
import torch

from trainer.common.errors import UserError
from trainer.learning.devices import check_device, default_device


def test_the_default_can_be_computed_on() -> None:
    assert default_device() == ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(default_device())


@pytest.mark.parametrize("device", ["no-such-device", "cuda:99"])
def test_what_is_not_there_is_refused_by_name(device: str) -> None:
    with pytest.raises(UserError, match=f"^device: {device}: .*; on this machine use cpu") as refusal:
        check_device(device)
    assert refusal.value.field == "device"
    assert "\n" not in str(refusal.value)
