"""Augmentations: pure functions of packed arrays and an explicit generator.

All take ``frames`` float32 [sum of lengths, 85, 2] and ``lengths`` int64 [batch], leave both as they are, and do
nothing at strength 0. A missing landmark is exactly (0, 0) before and after. Random numbers are drawn on the host,
so a seed means the same on every device.

To add one, write a function, put it into AUGMENTATIONS in the form that the others have there, and give TrainConfig a
field for its strength, 0 by default. Batches applies them in the order of the table, and mixup last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from trainer.config import TrainConfig
from trainer.data.positions import GROUPS, LEFT_HAND, MIRROR, RIGHT_HAND
from trainer.landmarks import NUM_LANDMARKS

ALONE_WEIGHT = 0.999  # a sequence with more weight than this is not mixed


def mirror(frames: torch.Tensor, lengths: np.ndarray, probability: float, rng: np.random.Generator) -> torch.Tensor:
    """Mirror each sequence with the given probability: x is negated, left and right landmarks trade places."""
    chosen = np.repeat(rng.random(len(lengths)) < probability, lengths)
    index = _on(frames.device, np.flatnonzero(chosen))
    order = _on(frames.device, MIRROR)
    mirrored = -_points(frames.index_select(0, index)).index_select(1, order).conj()
    return frames.index_copy(0, index, torch.view_as_real(mirrored.resolve_conj()))


def stretch(
    frames: torch.Tensor,
    lengths: np.ndarray,
    strength: float,
    max_frames: int,
    rng: np.random.Generator,
    *,
    spline: bool = False,
) -> tuple[torch.Tensor, np.ndarray]:
    """Play each sequence slower or faster: (frames, lengths) with e^u times the frames, u uniform in +-strength.

    The first and last frames stay the first and last; one frame alone is the middle one. A landmark is interpolated
    between two frames that both show it, linearly or on a Catmull-Rom spline (where a missing outer frame is taken for
    its neighbour); else it is as in the nearer frame, never blended with a missing one. Lengths stay between 1 and
    ``max_frames``.
    """
    if strength == 0:
        return frames, lengths
    factors = np.exp(rng.uniform(-strength, strength, len(lengths)))
    new_lengths = np.clip(np.rint(lengths * factors), 1, max_frames).astype(np.int64)
    last = np.repeat(lengths - 1, new_lengths)
    steps = np.repeat(np.maximum(new_lengths - 1, 1), new_lengths)
    place = consecutive(np.zeros_like(lengths), new_lengths) * last / steps
    place = np.where(np.repeat(new_lengths == 1, new_lengths), last / 2, place)
    before = np.floor(place).astype(np.int64)
    start = np.repeat(np.cumsum(lengths) - lengths, new_lengths)

    def tap(source: torch.Tensor, offset: int | np.ndarray) -> torch.Tensor:
        return source.index_select(0, _on(source.device, start + np.clip(before + offset, 0, last)))

    t = _on(frames.device, (place - before).astype(np.float32))[:, None, None]
    here, there = tap(frames, 0), tap(frames, 1)
    shown = _present(frames)
    if spline:
        earlier = _where(tap(shown, -1), tap(frames, -1), here)
        later = _where(tap(shown, 2), tap(frames, 2), there)
        between = _catmull_rom(earlier, here, there, later, t)
    else:
        between = here.lerp_(there, t)
    nearer = tap(frames, place - before >= 0.5)
    return _where(tap(shown, 0) & tap(shown, 1), between, nearer), new_lengths


def _catmull_rom(
    p0: torch.Tensor, p1: torch.Tensor, p2: torch.Tensor, p3: torch.Tensor, t: torch.Tensor
) -> torch.Tensor:
    """The spline through four frames (Catmull & Rom 1974), ``t`` of the way from p1 to p2. Overwrites p0."""
    w0, w3 = t * (t * (2 - t) - 1) / 2, t * t * (t - 1) / 2
    w1, w2 = (t * t * (3 * t - 5) + 2) / 2, t * (t * (4 - 3 * t) + 1) / 2
    return p0.mul_(w0).addcmul_(p1, w1).addcmul_(p2, w2).addcmul_(p3, w3)


def turn(
    frames: torch.Tensor, lengths: np.ndarray, rotation: float, scale: float, rng: np.random.Generator
) -> torch.Tensor:
    """Rotate each sequence round the head and scale its distances to it.

    The angle is uniform in +-rotation degrees, the factor e^u with u uniform in +-scale.
    """
    if rotation == 0 and scale == 0:
        return frames
    angles = np.deg2rad(rng.uniform(-rotation, rotation, len(lengths)))
    factors = np.exp(rng.uniform(-scale, scale, len(lengths)) + 1j * angles).astype(np.complex64)
    return torch.view_as_real(_points(frames) * _per_frame(factors, lengths, frames.device)[:, None])


def shift(
    frames: torch.Tensor, lengths: np.ndarray, group_std: float, landmark_std: float, rng: np.random.Generator
) -> torch.Tensor:
    """Shift each group of landmarks, and each landmark, by a normal offset that stays throughout its sequence.

    The standard deviations are in the units of the frames.
    """
    if group_std == 0 and landmark_std == 0:
        return frames
    offsets = rng.normal(0, landmark_std, (len(lengths), NUM_LANDMARKS, 2))
    for group in GROUPS:
        offsets[:, group] += rng.normal(0, group_std, (len(lengths), 1, 2))
    shifted = _per_frame(offsets.astype(np.float32), lengths, frames.device).add_(frames)
    _points(shifted).masked_fill_(_points(frames) == 0, 0)
    return shifted


def drop_frames(
    frames: torch.Tensor, lengths: np.ndarray, most: float, rng: np.random.Generator
) -> tuple[torch.Tensor, np.ndarray]:
    """Leave out frames of each sequence: (frames, lengths) without a random share of up to ``most`` of them.

    Which of them is random; the others close up. Each sequence keeps one at least.
    """
    if most == 0:
        return frames, lengths
    dropped = _parts(lengths, most, rng)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((rng.random(len(frames)), sequence))  # the frames of each sequence, shuffled
    stay = np.ones(len(frames), np.bool_)
    stay[order[consecutive(np.cumsum(lengths) - lengths, dropped)]] = False
    return frames.index_select(0, _on(frames.device, np.flatnonzero(stay))), lengths - dropped


def hide(
    frames: torch.Tensor, lengths: np.ndarray, span: float, landmark: float, hand: float, rng: np.random.Generator
) -> torch.Tensor:
    """Make landmarks missing: all in a span of time, single ones and whole hands throughout a sequence.

    Of each sequence a span of up to ``span`` of its frames is hidden, never all of them; each landmark with the
    probability ``landmark``, and one of the two hands, either alike, with the probability ``hand``.
    """
    if span == landmark == hand == 0:
        return frames
    sizes = _parts(lengths, span, rng)
    first = np.cumsum(lengths) - lengths + rng.integers(0, lengths - sizes + 1)
    hidden = rng.random((len(lengths), NUM_LANDMARKS)) < landmark
    loses = rng.random(len(lengths)) < hand
    is_left = rng.random(len(lengths)) < 0.5
    for side, chosen in ((LEFT_HAND, loses & is_left), (RIGHT_HAND, loses & ~is_left)):
        hidden[np.ix_(chosen, side)] = True
    mask = np.repeat(hidden, lengths, axis=0)
    mask[consecutive(first, sizes)] = True
    return frames.masked_fill(_on(frames.device, mask[:, :, None]), 0)


def _parts(lengths: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Frames of each sequence that are a random share of it, up to ``most`` and never all: int64 [batch]."""
    parts: np.ndarray = np.minimum(np.rint(lengths * rng.uniform(0, most, len(lengths))), lengths - 1).astype(np.int64)
    return parts


@dataclass(frozen=True)
class Mixed:
    """What mixup made of a batch. Sequence i keeps its place; shares of its partners are mixed in."""

    frames: torch.Tensor
    """float32 [sum of lengths, 85, 2]"""
    lengths: np.ndarray
    """int64 [batch]: the shortest of the mixed sequences' lengths"""
    members: np.ndarray
    """int64 [batch, mixed], sequences that were mixed: first the one in whose place they are"""
    weights: np.ndarray
    """float32 [batch, mixed], their shares: descending, 1 in all"""


def mixup(
    frames: torch.Tensor,
    lengths: np.ndarray,
    alpha: float,
    rng: np.random.Generator,
    *,
    num_partners: int = 1,
    align: bool = False,
) -> Mixed:
    """Mix each sequence with others of the batch (Zhang et al. 2018, arXiv:1710.09412; lengths as in the recipe).

    Weights come from a symmetric Dirichlet distribution, the greatest for the sequence itself: with one partner
    max(l, 1 - l) of l ~ Beta(alpha, alpha). Each partner comes from a permutation of the batch. Of sequences of
    different lengths random windows as long as the shortest are used. A weight above 0.999 leaves a sequence as it
    is. ``align`` rotates and scales each partner's window onto the sequence's own first, as the recipe's author tried.
    """
    batch = np.arange(len(lengths))
    if alpha == 0:
        return Mixed(frames, lengths, batch[:, None], np.ones((len(lengths), 1), dtype=np.float32))
    weights = -np.sort(-rng.dirichlet(np.full(1 + num_partners, alpha), len(lengths))).astype(np.float32)
    members = np.stack([batch, *(rng.permutation(batch) for _ in range(num_partners))], axis=1)
    alone = weights[:, 0] > ALONE_WEIGHT
    weights[alone] = np.eye(1, 1 + num_partners)
    members[alone] = batch[alone, None]

    mixed_lengths = lengths[members].min(axis=1)
    shares = np.repeat(weights, mixed_lengths, axis=0)
    own = _windows(frames, lengths, batch, mixed_lengths, rng)
    mixed = own * _on(frames.device, shares[:, 0, None, None])
    for column in range(1, 1 + num_partners):
        partner = _windows(frames, lengths, members[:, column], mixed_lengths, rng)
        if align:
            partner = _align(partner, own, mixed_lengths)
        mixed.addcmul_(partner, _on(frames.device, shares[:, column, None, None]))
    return Mixed(mixed, mixed_lengths, members, weights)


def _windows(
    frames: torch.Tensor, lengths: np.ndarray, chosen: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> torch.Tensor:
    """A random window of sizes[i] frames of sequence chosen[i], end to end: float32 [sum of sizes, 85, 2]."""
    offsets = rng.integers(0, lengths[chosen] - sizes + 1)
    rows = consecutive((np.cumsum(lengths) - lengths)[chosen] + offsets, sizes)
    return frames.index_select(0, _on(frames.device, rows))


def _align(frames: torch.Tensor, target: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
    """Rotate and scale each sequence about the head to fit ``target`` best, by least squares over what both show."""
    source, wanted = _points(frames), _points(target)
    product = torch.linalg.vecdot(source, wanted)
    square = torch.linalg.vecdot(source, torch.where(wanted != 0, source, 0)).real
    sequence = _per_frame(np.arange(len(lengths)), lengths, frames.device)
    products = product.new_zeros(len(lengths)).index_add_(0, sequence, product)
    squares = square.new_zeros(len(lengths)).index_add_(0, sequence, square)
    factors = torch.where(squares > 0, products / squares, 1)
    return torch.view_as_real(source * factors[sequence][:, None])


def _points(frames: torch.Tensor) -> torch.Tensor:
    """The same landmarks as points x + iy of the complex plane: float32 [n, 85, 2] -> complex64 [n, 85]."""
    return torch.view_as_complex(frames)


def _present(frames: torch.Tensor) -> torch.Tensor:
    """Which landmarks are not missing: [n, 85, 2] -> bool [n, 85]."""
    return _points(frames) != 0


def _where(condition: torch.Tensor, frames: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Landmarks of ``frames`` where the condition, bool [n, 85], holds, and of ``others`` elsewhere."""
    return torch.view_as_real(torch.where(condition, _points(frames), _points(others)))


def _per_frame(values: np.ndarray, lengths: np.ndarray, device: torch.device) -> torch.Tensor:
    """What is given for each sequence, for each of its frames: [batch, ...] -> [sum of lengths, ...]."""
    sequence = _on(device, np.repeat(np.arange(len(lengths)), lengths))
    return _on(device, values).index_select(0, sequence)


def _on(device: torch.device, array: np.ndarray) -> torch.Tensor:
    """A copy there, for which the host need not wait; on CPU the array itself."""
    return torch.from_numpy(array).to(device, non_blocking=True)


def consecutive(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """starts[i], starts[i] + 1, ... (sizes[i] of them), end to end: int64 [sum of sizes]."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(sizes.sum())


Augmentation = Callable[[torch.Tensor, np.ndarray, TrainConfig, np.random.Generator], tuple[torch.Tensor, np.ndarray]]
"""(frames, lengths, configuration, generator) -> (frames, lengths)"""


def _stretch(
    frames: torch.Tensor, lengths: np.ndarray, config: TrainConfig, rng: np.random.Generator
) -> tuple[torch.Tensor, np.ndarray]:
    spline = config.time_interpolation == "spline"
    return stretch(frames, lengths, config.time_stretch, config.model.max_frames, rng, spline=spline)


AUGMENTATIONS: Final[dict[str, Augmentation]] = {
    "drop_frames": lambda frames, lengths, config, rng: drop_frames(frames, lengths, config.frame_drop, rng),
    "stretch": _stretch,
    "mirror": lambda frames, lengths, config, rng: (mirror(frames, lengths, config.mirror_probability, rng), lengths),
    "turn": lambda frames, lengths, config, rng: (turn(frames, lengths, config.rotation, config.scale, rng), lengths),
    "shift": lambda frames, lengths, config, rng: (
        shift(frames, lengths, config.group_shift, config.landmark_shift, rng),
        lengths,
    ),
    "hide": lambda frames, lengths, config, rng: (
        hide(frames, lengths, config.span_drop, config.landmark_drop, config.hand_drop, rng),
        lengths,
    ),
}
"""What is done to each training batch before mixup, in this order."""
