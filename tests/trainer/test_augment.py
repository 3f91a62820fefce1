import math

import numpy as np
import pytest
import torch

from trainer import augment
from trainer.landmarks import LEFT_HAND, RIGHT_HAND, positions

LENGTHS = np.array([1, 30, 7, 7, 2, 64, 12, 1, 19, 5])

# rows of the contest's files: (left, right) of the design, and the three landmarks on the middle line
LIPS = [(81, 311), (95, 324), (178, 402), (191, 415)]
EYES = [(33, 263), (133, 362), (159, 386), (145, 374), (157, 384), (161, 388), (154, 381), (163, 390)]
POSE = [(489 + left, 489 + right) for left, right in [(1, 4), (2, 5), (3, 6), *((i, i + 1) for i in range(7, 17, 2))]]
HANDS = [(468 + index, 522 + index) for index in range(21)]
MIDDLE = [(row, row) for row in (13, 14, 489)]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sequences(lengths: np.ndarray = LENGTHS, seed: int = 0) -> torch.Tensor:
    """Random frames; a third of the hands, and now and then a single landmark, are missing."""
    rng = generator(seed)
    frames = rng.normal(size=(lengths.sum(), 85, 2))
    frames[rng.random(frames.shape[:2]) < 0.05] = 0
    for hand in (LEFT_HAND, RIGHT_HAND):
        frames[np.ix_(rng.random(len(frames)) < 0.33, hand)] = 0
    return torch.from_numpy(frames.astype(np.float32))


def present(frames: torch.Tensor) -> torch.Tensor:
    return (frames != 0).any(dim=-1)


@pytest.mark.parametrize(("left", "right"), LIPS + EYES + POSE + HANDS + MIDDLE)
def test_mirror_trades_the_pairs_of_the_design(left: int, right: int) -> None:
    frames = sequences()
    mirrored = augment.mirror(frames, LENGTHS, 1.0, generator())
    i, j = positions((left, right))
    for source, target in ((i, j), (j, i)):
        assert torch.equal(mirrored[:, target, 0], -frames[:, source, 0])
        assert torch.equal(mirrored[:, target, 1], frames[:, source, 1])


def test_the_pairs_cover_every_landmark_once() -> None:
    assert len({*sum(LIPS + EYES + POSE + HANDS, ()), 13, 14, 489}) == 85


def test_mirroring_twice_is_the_identity() -> None:
    frames = sequences()
    mirrored = augment.mirror(frames, LENGTHS, 1.0, generator())
    assert not torch.equal(mirrored, frames)
    assert torch.equal(augment.mirror(mirrored, LENGTHS, 1.0, generator()), frames)


def test_mirror_takes_its_share_of_whole_sequences() -> None:
    lengths = np.full(2000, 2)
    frames = sequences(lengths)
    changed = (augment.mirror(frames, lengths, 0.3, generator()) != frames).flatten(1).any(dim=1).view(2000, 2)
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert changed[:, 0].float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(augment.mirror(frames, lengths, 0.0, generator()), frames)


def clocks(lengths: np.ndarray) -> torch.Tensor:
    """Landmark i of sequence i is at x = 1, 2, 3, ... over its frames, all others missing: a mix can be read back."""
    frames = torch.zeros(int(lengths.sum()), 85, 2)
    starts = np.cumsum(lengths) - lengths
    for index, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        frames[start : start + length, index, 0] = torch.arange(1.0, length + 1)
    return frames


def test_mixup_mixes_one_window_of_each() -> None:
    """Length rule, weights, contiguous windows inside both sequences, and the arithmetic, read back from the frames."""
    lengths, seen = np.array([5, 9, 9, 1, 30, 2]), set()
    for seed in range(200):
        mixed = augment.mixup(clocks(lengths), lengths, 0.5, generator(seed))
        assert mixed.lengths.tolist() == np.minimum(lengths, lengths[mixed.partners]).tolist()
        assert len(mixed.frames) == mixed.lengths.sum()
        pieces = mixed.frames.split(mixed.lengths.tolist())
        for index, (partner, weight) in enumerate(zip(mixed.partners, mixed.weights, strict=True)):
            if partner == index:
                assert torch.equal(pieces[index], clocks(lengths).split(lengths.tolist())[index])
                continue
            for source, share in ((index, weight), (partner, 1 - weight)):
                times = pieces[index][:, source, 0].numpy() / share
                first = round(float(times[0]))
                assert 1 <= first <= lengths[source] - mixed.lengths[index] + 1
                np.testing.assert_allclose(times, first + np.arange(len(times)), rtol=1e-3)
                seen.add((source, len(times), first))
            others = [other for other in range(85) if other not in (index, partner)]
            assert not pieces[index][:, others].any()
    # 30 frames cut to 9, and 9 to 5: every window is drawn
    assert {first for source, length, first in seen if (source, length) == (4, 9)} == set(range(1, 23))
    assert {first for source, length, first in seen if (source, length) == (1, 5)} == set(range(1, 6))


@pytest.mark.parametrize(("alpha", "mean"), [(0.5, 1 / 2 + 1 / math.pi), (1.0, 0.75), (1e6, 0.5)])
def test_mixup_weights_follow_the_folded_beta_distribution(alpha: float, mean: float) -> None:
    lengths = np.ones(20_000, dtype=np.int64)
    weights = augment.mixup(torch.zeros(20_000, 85, 2), lengths, alpha, generator()).weights
    assert weights.dtype == np.float32
    assert 0.5 <= weights.min() <= weights.max() <= 1
    assert weights.mean() == pytest.approx(mean, abs=0.005)


@pytest.mark.parametrize("alpha", [1e-3, 0.02])
def test_a_weight_over_0999_leaves_a_sequence_alone(alpha: float) -> None:
    frames, alone = sequences(), 0
    for seed in range(20):
        mixed = augment.mixup(frames, LENGTHS, alpha, generator(seed))
        pieces = mixed.frames.split(mixed.lengths.tolist())
        for index in np.flatnonzero(mixed.weights > 0.999):
            alone += 1
            assert mixed.weights[index] == 1
            assert torch.equal(pieces[index], frames.split(LENGTHS.tolist())[index])
    assert alone > 100


def test_partners_are_a_permutation_of_the_batch() -> None:
    lengths = np.ones(500, dtype=np.int64)
    mixed = augment.mixup(torch.zeros(500, 85, 2), lengths, 1e6, generator())
    assert sorted(mixed.partners) == list(range(500))
    assert (mixed.partners != np.arange(500)).mean() > 0.9
