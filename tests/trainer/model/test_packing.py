"""Where tokens are, against lists made sequence by sequence, and another batch in the same memory."""

from typing import Any

import numpy as np
import pytest
import torch

from trainer.model.packing import Packing

CPU = torch.device("cpu")
ONE, OTHER = np.array([3, 1, 4]), np.array([2, 5, 1])


def told(packing: Packing) -> dict[str, list[Any]]:
    """All that the device knows of a packing."""
    names = ("positions", "first", "frames", "frame_positions", "moving", "sequences", "ends")
    return {name: getattr(packing, name).tolist() for name in names} | {"spread": packing.spread(2).tolist()}


def addresses(packing: Packing) -> dict[str, int]:
    """Where its tensors are in memory."""
    return {name: value.data_ptr() for name, value in vars(packing).items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("lead", [0, 1])
def test_indices_are_those_of_one_sequence_after_the_other(lead: int) -> None:
    expected: dict[str, list[Any]] = {
        name: [] for name in ("positions", "first", "frames", "frame_positions", "moving", "sequences", "spread")
    }
    expected["ends"] = [0]
    token = frame = 0
    for sequence, length in enumerate(ONE.tolist()):
        expected["first"].append(token)
        for place in range(lead + length):
            expected["positions"].append(place)
            expected["sequences"].append(sequence)
            expected["spread"].append(token + 2 * sequence)
            if place >= lead:
                expected["frames"].append(token)
                expected["frame_positions"].append(place - lead)
                if place < lead + length - 1:
                    expected["moving"].append(frame)
                frame += 1
            token += 1
        expected["ends"].append(token)
    packing = Packing(ONE, CPU, lead)
    assert told(packing) == expected
    assert (packing.num_tokens, packing.longest) == (token, 4 + lead)


def test_another_batch_is_taken_into_the_same_memory() -> None:
    packing, other = Packing(ONE, CPU, 1, longest=9), Packing(OTHER, CPU, 1)
    told(packing)
    before = addresses(packing)
    groups = packing.groups
    packing.take(other)
    assert told(packing) == told(other)
    assert [(group.begin, group.size, group.length) for group in packing.groups] == [
        (group.begin, group.size, group.length) for group in other.groups
    ]
    assert groups != packing.groups
    assert packing.longest == 10
    assert addresses(packing) == before


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_a_batch_without_tokens_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Packing(np.array(lengths, dtype=np.int64), CPU)
