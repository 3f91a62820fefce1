import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainer.data import augment
from trainer.data.positions import LEFT_HAND, MIRROR, RIGHT_HAND, positions
from trainer.landmarks import ROWS

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


@pytest.mark.parametrize("num_partners", [1, 2, 4])
def test_mixup_mixes_one_window_of_each(num_partners: int) -> None:
    """Length rule, weights, contiguous windows inside each sequence, and the arithmetic, read back from the frames."""
    lengths, seen = np.array([5, 9, 9, 2, 30, 2]), set()
    for seed in range(300):
        mixed = augment.mixup(clocks(lengths), lengths, 0.5, generator(seed), num_partners=num_partners)
        assert mixed.lengths.tolist() == lengths[mixed.members].min(axis=1).tolist()
        assert len(mixed.frames) == mixed.lengths.sum()
        for index, piece in enumerate(mixed.frames.split(mixed.lengths.tolist())):
            members, weights = mixed.members[index], mixed.weights[index]
            assert members[0] == index
            others = np.setdiff1d(np.arange(85), members)
            assert not piece[:, others].any()
            for member, weight in zip(members, weights, strict=True):
                if weight > 1e-4 and (members == member).sum() == 1:  # else two clocks are added up
                    times = piece[:, member, 0].numpy() / weight
                    first = round(float(times[0]))
                    assert 1 <= first <= lengths[member] - len(piece) + 1
                    np.testing.assert_allclose(times, first + np.arange(len(times)), rtol=1e-3)
                    seen.add((member, len(times), first))
    if num_partners == 1:  # 30 frames cut to 9, and 5 to 2: every window is drawn
        assert {first for member, length, first in seen if (member, length) == (4, 9)} == set(range(1, 23))
        assert {first for member, length, first in seen if (member, length) == (0, 2)} == set(range(1, 5))


@pytest.mark.parametrize(("alpha", "mean"), [(0.5, 1 / 2 + 1 / math.pi), (1.0, 0.75), (1e6, 0.5)])
def test_mixup_weights_follow_the_folded_beta_distribution(alpha: float, mean: float) -> None:
    lengths = np.ones(20_000, dtype=np.int64)
    weights = augment.mixup(torch.zeros(20_000, 85, 2), lengths, alpha, generator()).weights
    assert weights.dtype == np.float32
    assert weights[:, 0].min() >= 0.5
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert weights[:, 0].mean() == pytest.approx(mean, abs=0.005)


def test_weights_of_several_partners_are_ordered_shares() -> None:
    """With alpha = 1 they are the sorted pieces of a stick broken at random: 11/18, 5/18 and 2/18 on average."""
    lengths = np.ones(20_000, dtype=np.int64)
    weights = augment.mixup(torch.zeros(20_000, 85, 2), lengths, 1.0, generator(), num_partners=2).weights
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert (np.diff(weights, axis=1) <= 0).all()
    np.testing.assert_allclose(weights.mean(axis=0), [11 / 18, 5 / 18, 2 / 18], atol=0.005)


@pytest.mark.parametrize("alpha", [1e-12, 1e-6, 1e6])
def test_extreme_alphas_give_finite_weights(alpha: float) -> None:
    weights = augment.mixup(sequences(), LENGTHS, alpha, generator(), num_partners=2).weights
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("alpha", [1e-3, 0.02])
def test_a_weight_over_0999_leaves_a_sequence_alone(alpha: float) -> None:
    frames, alone = sequences(), 0
    for seed in range(20):
        mixed = augment.mixup(frames, LENGTHS, alpha, generator(seed))
        pieces = mixed.frames.split(mixed.lengths.tolist())
        for index in np.flatnonzero(mixed.weights[:, 0] > 0.999):
            alone += 1
            assert mixed.weights[index].tolist() == [1, 0]
            assert mixed.members[index].tolist() == [index, index]
            assert torch.equal(pieces[index], frames.split(LENGTHS.tolist())[index])
    assert alone > 100


def test_partners_are_permutations_of_the_batch() -> None:
    lengths = np.ones(500, dtype=np.int64)
    members = augment.mixup(torch.zeros(500, 85, 2), lengths, 1e6, generator(), num_partners=2).members
    assert members[:, 0].tolist() == list(range(500))
    for column in (1, 2):
        assert sorted(members[:, column]) == list(range(500))
        assert (members[:, column] != members[:, column - 1]).mean() > 0.9


def test_aligned_partners_are_rotated_and_scaled_onto_the_sequence() -> None:
    """Sequences that differ by a rotation and a scale alone mix into the very sequence."""
    lengths, rng = np.full(40, 6), generator()
    frames = sequences(np.array([6])).repeat(40, 1, 1)
    missing = torch.from_numpy(rng.random(frames.shape[:2]) < 0.2)  # each misses other landmarks
    turned = augment.turn(frames, lengths, 180, 1.0, rng) * ~missing[..., None]
    mixed = augment.mixup(turned, lengths, 1.0, rng, align=True)
    both = present(turned) & present(turned.view(40, 6, 85, 2)[mixed.members[:, 1]].view(-1, 85, 2))
    torch.testing.assert_close(mixed.frames[both], turned[both], rtol=1e-4, atol=1e-4)
    plainly = augment.mixup(turned, lengths, 1.0, generator()).frames
    assert (plainly - turned)[both].abs().mean() > 0.1


def test_aligning_sequences_with_nothing_in_common_changes_nothing() -> None:
    frames = torch.zeros(2, 85, 2)
    frames[0, 0], frames[1, 1] = 1.0, 2.0
    mixes = [augment.mixup(frames, np.array([1, 1]), 1.0, generator(1), align=align) for align in (False, True)]
    assert (mixes[0].members[:, 1] != mixes[0].members[:, 0]).all()
    assert torch.equal(mixes[0].frames, mixes[1].frames)


def ratios(frames: torch.Tensor, turned: torch.Tensor) -> np.ndarray:
    """Angle in degrees and logarithm of the factor that takes each sequence of LENGTHS to its turned one: [10, 2]."""
    before, after = torch.view_as_complex(frames).numpy(), torch.view_as_complex(turned).numpy()
    found = []
    for one, other in zip(*(np.split(item, np.cumsum(LENGTHS)[:-1]) for item in (before, after)), strict=True):
        factor = other[one != 0] / one[one != 0]
        np.testing.assert_allclose(factor, factor[0], rtol=1e-4)  # one angle and one scale a sequence
        found.append((np.degrees(np.angle(factor[0])), np.log(np.abs(factor[0]))))
    return np.array(found)


def test_turn_rotates_and_scales_whole_sequences_within_bounds() -> None:
    frames = sequences()
    found = np.concatenate([ratios(frames, augment.turn(frames, LENGTHS, 30, 0.2, generator(s))) for s in range(50)])
    assert abs(found).max(axis=0) == pytest.approx([30, 0.2], rel=0.02)
    assert found.std(axis=0) == pytest.approx([30 / 3**0.5, 0.2 / 3**0.5], rel=0.1)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.15


def test_rotation_and_scale_each_leave_the_other_alone() -> None:
    frames = sequences()
    assert abs(ratios(frames, augment.turn(frames, LENGTHS, 30, 0, generator()))[:, 1]).max() < 1e-5
    assert abs(ratios(frames, augment.turn(frames, LENGTHS, 0, 0.2, generator()))[:, 0]).max() < 1e-4


@pytest.mark.parametrize(("group_std", "landmark_std"), [(0.1, 0.0), (0.0, 0.1), (0.3, 0.4)])
def test_shift_moves_groups_and_landmarks_by_one_offset_a_sequence(group_std: float, landmark_std: float) -> None:
    lengths = np.full(2000, 2)
    frames = torch.ones(4000, 85, 2)
    offsets = (augment.shift(frames, lengths, group_std, landmark_std, generator()) - frames).view(2000, 2, 85, 2)
    assert torch.equal(offsets[:, 0], offsets[:, 1])
    still = offsets[:, 0].numpy()
    assert still.mean() == pytest.approx(0, abs=0.02)
    assert still.std() == pytest.approx(np.hypot(group_std, landmark_std), rel=0.03)
    left, right = (positions((*range(hand, hand + 21), elbow, elbow + 2)) for hand, elbow in ((468, 502), (522, 503)))
    head, shoulders = positions(tuple(row for row in ROWS if row < 468 or 489 <= row < 500)), positions((500, 501))
    share = group_std**2 / (group_std**2 + landmark_std**2)
    correlation = np.corrcoef(still[:, :, 0].T)
    for group in (left, right, head, shoulders):
        within = correlation[np.ix_(group, group)][~np.eye(len(group), dtype=bool)]
        across = correlation[np.ix_(group, np.setdiff1d(np.arange(85), group))]
        np.testing.assert_allclose(within, share, atol=0.12)
        np.testing.assert_allclose(across, 0, atol=0.12)


def test_stretch_changes_lengths_by_its_strength() -> None:
    lengths = np.full(4000, 100)
    _, stretched = augment.stretch(torch.zeros(400_000, 1, 2), lengths, 0.5, 512, generator())
    logarithms = np.log(stretched / 100)
    assert abs(logarithms).max() == pytest.approx(0.5, abs=0.01)
    assert logarithms.mean() == pytest.approx(0, abs=0.02)
    assert logarithms.std() == pytest.approx(0.5 / 3**0.5, rel=0.03)


def test_stretch_stays_within_one_and_max_frames() -> None:
    lengths = np.array([1, 1, 2, 40, 40, 40, 39, 3] * 20)
    frames, stretched = augment.stretch(sequences(lengths), lengths, 5.0, 40, generator())
    assert (stretched.min(), stretched.max()) == (1, 40)
    assert stretched.dtype == np.int64
    assert len(frames) == stretched.sum()


@pytest.mark.parametrize("spline", [False, True])
def test_stretch_plays_a_steady_movement_steadily(spline: bool) -> None:
    """Equal steps from the first frame to the last; with a spline except for the outermost steps."""
    lengths = np.array([2, 5, 9, 30, 12])
    for seed in range(20):
        frames, stretched = augment.stretch(clocks(lengths), lengths, 0.7, 99, generator(seed), spline=spline)
        for index, piece in enumerate(frames.split(stretched.tolist())):
            expected = np.linspace(1, lengths[index], len(piece)) if len(piece) > 1 else [(1 + lengths[index]) / 2]
            inner = (np.array(expected) >= 2) & (np.array(expected) <= lengths[index] - 1) if spline else slice(None)
            np.testing.assert_allclose(piece[inner, index, 0], np.array(expected)[inner], rtol=1e-5)
            np.testing.assert_allclose(piece[[0, -1], index, 0], np.array(expected)[[0, -1]], rtol=1e-5)


def test_a_spline_follows_a_curve_that_lines_cut() -> None:
    """Catmull-Rom splines hold any parabola exactly, where all four frames are there."""
    lengths, times = np.array([30]), torch.arange(30.0)
    frames = (1 + (times - 12) ** 2 / 50)[:, None, None].expand(30, 85, 2).contiguous()
    for spline, least, most in ((False, 1e-3, 1e-1), (True, 0, 1e-5)):
        stretched, (length,) = augment.stretch(frames, lengths, 0.5, 99, generator(), spline=spline)
        place = np.linspace(0, 29, length)
        inner = (place >= 1) & (place <= 28)
        error = abs(stretched[:, 0, 0].numpy() - (1 + (place - 12) ** 2 / 50))[inner].max()
        assert length != 30
        assert least <= error < most


def resampled(points: np.ndarray, length: int, spline: bool) -> np.ndarray:
    """One landmark's course, [n, 2] with (0, 0) where it is missing, played in ``length`` frames."""
    last, course = len(points) - 1, []
    for index in range(length):
        place = index * last / (length - 1) if length > 1 else last / 2
        first, t = int(place), place % 1
        p0, p1, p2, p3 = (points[min(max(first + offset, 0), last)].astype(float) for offset in (-1, 0, 1, 2))
        if not (p1.any() and p2.any()):
            course.append(p1 if t < 0.5 else p2)
        elif not spline:
            course.append(p1 + t * (p2 - p1))
        else:  # Hermite's cubic, with the slopes of the neighbouring chords
            slope1, slope2 = (p2 - (p0 if p0.any() else p1)) / 2, ((p3 if p3.any() else p2) - p1) / 2
            start, end = (1 + 2 * t) * (1 - t) ** 2 * p1, t**2 * (3 - 2 * t) * p2
            course.append(start + t * (1 - t) ** 2 * slope1 + end + t**2 * (t - 1) * slope2)
    return np.array(course)


@pytest.mark.parametrize("spline", [False, True])
def test_stretch_equals_a_computation_landmark_by_landmark(spline: bool) -> None:
    lengths, rng = np.array([1, 2, 9, 24]), generator(5)
    frames = sequences(lengths) * torch.from_numpy(rng.random((36, 85, 1)) < 0.7)
    for seed in range(3):
        stretched, new_lengths = augment.stretch(frames, lengths, 0.8, 99, generator(seed), spline=spline)
        pairs = zip(frames.split(lengths.tolist()), stretched.split(new_lengths.tolist()), strict=True)
        for before, after in pairs:
            for landmark in range(0, 85, 3):
                expected = resampled(before[:, landmark].numpy(), len(after), spline)
                np.testing.assert_allclose(after[:, landmark], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spline", [False, True])
def test_stretch_never_blends_with_a_missing_landmark(spline: bool) -> None:
    """A landmark that stays at one place stays there wherever it shows, and shows as often as before."""
    frames = present(sequences())[..., None] * torch.tensor([3.0, -2.0])
    shares = []
    for seed in range(20):
        stretched, _ = augment.stretch(frames, LENGTHS, 0.6, 512, generator(seed), spline=spline)
        shown = present(stretched)
        torch.testing.assert_close(stretched[shown], torch.tensor([3.0, -2.0]).expand(int(shown.sum()), 2))
        shares.append(shown.float().mean().item())
    assert np.mean(shares) == pytest.approx(present(frames).float().mean().item(), abs=0.02)


# ---- what is left out and hidden


def numbered(lengths: np.ndarray) -> torch.Tensor:
    """Frames that show everything, each its own number."""
    return torch.arange(1.0, lengths.sum() + 1)[:, None, None].expand(-1, 85, 2).contiguous()


def test_frames_that_are_left_out_are_of_every_share_up_to_the_largest_and_keep_their_order() -> None:
    lengths = np.full(2000, 40)
    frames, left = augment.drop_frames(numbered(lengths), lengths, 0.5, generator())
    assert (left.min(), left.max()) == (20, 40)
    assert left.mean() == pytest.approx(30, abs=0.4)
    places = frames[:, 0, 0].numpy() - 1
    assert (np.diff(places) > 0).all()
    np.testing.assert_array_equal(np.bincount((places // 40).astype(np.int64)), left)
    of_frame = np.bincount((places % 40).astype(np.int64), minlength=40) / 2000
    assert of_frame == pytest.approx(np.full(40, 0.75), abs=0.05)  # each place as often as any other


def test_one_frame_always_stays() -> None:
    lengths = np.array([1, 2, 1, 3])
    for seed in range(20):
        frames, left = augment.drop_frames(numbered(lengths), lengths, 0.999, generator(seed))
        assert left.min() >= 1
        assert len(frames) == left.sum()
        hidden = augment.hide(numbered(lengths), lengths, 0.999, 0, 0, generator(seed))
        shown = present(hidden).any(dim=1).split(lengths.tolist())
        assert all(its.any() for its in shown)


def test_a_span_is_one_piece_of_a_sequence_and_hides_everything_in_it() -> None:
    lengths = np.full(1000, 50)
    shown = present(augment.hide(numbered(lengths), lengths, 0.4, 0, 0, generator())).view(1000, 50, 85)
    assert torch.equal(shown.any(dim=2), shown.all(dim=2))
    is_out = ~shown[:, :, 0]
    edges = (is_out[:, 1:] != is_out[:, :-1]).sum(dim=1)
    assert (edges <= 2).all()
    sizes = is_out.sum(dim=1)
    assert (int(sizes.min()), int(sizes.max())) == (0, 20)
    assert sizes.float().mean().item() == pytest.approx(10, abs=0.5)
    assert is_out.any(dim=0).all()  # anywhere, the first and last frame included


def test_landmarks_and_hands_are_hidden_throughout_a_sequence_by_their_probabilities() -> None:
    lengths = np.full(3000, 3)
    shown = present(augment.hide(numbered(lengths), lengths, 0, 0.1, 0, generator())).view(3000, 3, 85)
    assert torch.equal(shown.any(dim=1), shown.all(dim=1))
    hidden = (~shown[:, 0]).float()
    assert hidden.mean(dim=0).numpy() == pytest.approx(np.full(85, 0.1), abs=0.03)
    shown = present(augment.hide(numbered(lengths), lengths, 0, 0, 0.4, generator())).view(3000, 3, 85)
    left, right = (shown[:, 0, side] for side in (LEFT_HAND, RIGHT_HAND))
    assert torch.equal(left.any(dim=1), left.all(dim=1))
    lost = [(~side.any(dim=1)).float().mean().item() for side in (left, right)]
    assert lost == pytest.approx([0.2, 0.2], abs=0.03)
    assert (left.any(dim=1) | right.any(dim=1)).all()  # never both
    others = np.setdiff1d(np.arange(85), np.concatenate([LEFT_HAND, RIGHT_HAND]))
    assert shown[:, :, others].all()


# ---- the contract of all augmentations

Augmented = tuple[torch.Tensor, np.ndarray]
AUGMENTATIONS: dict[str, Callable[[torch.Tensor, np.ndarray, float, np.random.Generator], Augmented]] = {
    "mirror": lambda frames, lengths, s, rng: (augment.mirror(frames, lengths, s, rng), lengths),
    "stretch": lambda frames, lengths, s, rng: augment.stretch(frames, lengths, s, 64, rng),
    "spline": lambda frames, lengths, s, rng: augment.stretch(frames, lengths, s, 64, rng, spline=True),
    "rotation": lambda frames, lengths, s, rng: (augment.turn(frames, lengths, 90 * s, 0, rng), lengths),
    "scale": lambda frames, lengths, s, rng: (augment.turn(frames, lengths, 0, s, rng), lengths),
    "group shift": lambda frames, lengths, s, rng: (augment.shift(frames, lengths, s, 0, rng), lengths),
    "landmark shift": lambda frames, lengths, s, rng: (augment.shift(frames, lengths, 0, s, rng), lengths),
    "frame drop": augment.drop_frames,
    "span drop": lambda frames, lengths, s, rng: (augment.hide(frames, lengths, s, 0, 0, rng), lengths),
    "landmark drop": lambda frames, lengths, s, rng: (augment.hide(frames, lengths, 0, s, 0, rng), lengths),
    "hand drop": lambda frames, lengths, s, rng: (augment.hide(frames, lengths, 0, 0, s, rng), lengths),
    "mixup": lambda frames, lengths, s, rng: unpack(augment.mixup(frames, lengths, s, rng)),
    "mixup of 4": lambda frames, lengths, s, rng: unpack(augment.mixup(frames, lengths, s, rng, num_partners=3)),
    "aligned mixup": lambda frames, lengths, s, rng: unpack(augment.mixup(frames, lengths, s, rng, align=True)),
}
KEEPS_LENGTHS = {"mirror", "rotation", "scale", "group shift", "landmark shift"}
HIDES = {"span drop", "landmark drop", "hand drop"}


def unpack(mixed: augment.Mixed) -> Augmented:
    return mixed.frames, mixed.lengths


def symmetric_sequences(lengths: np.ndarray) -> torch.Tensor:
    """A landmark is missing only together with its mirror image; 4 are missing always, 10 never."""
    frames = sequences(lengths)
    shown = present(frames) & present(frames)[:, MIRROR]
    shown[:, [0, MIRROR[0], 30, MIRROR[30]]] = False
    always = [3, 5, 31, 32, 50]
    shown[:, always], shown[:, MIRROR[always]] = True, True
    frames += 0.1 * (frames == 0)
    return frames * shown[..., None]


@pytest.mark.parametrize("lengths", [LENGTHS, np.array([1]), np.array([64, 64])], ids=["mixed", "one", "longest"])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_contract(name: str, lengths: np.ndarray, device: torch.device) -> None:
    apply, frames = AUGMENTATIONS[name], symmetric_sequences(lengths).to(device)
    before, lengths_before = frames.clone(), lengths.copy()
    augmented, new_lengths = apply(frames, lengths, 0.5, generator())

    assert (augmented.dtype, augmented.device) == (torch.float32, frames.device)
    assert augmented.is_contiguous()
    assert new_lengths.dtype == np.int64
    assert len(new_lengths) == len(lengths)
    assert 1 <= new_lengths.min() <= new_lengths.max() <= 64
    assert augmented.shape == (new_lengths.sum(), 85, 2)
    assert torch.isfinite(augmented).all()
    if name in KEEPS_LENGTHS:
        assert new_lengths.tolist() == lengths.tolist()
        assert torch.equal(present(augmented), present(frames))
    shown = present(augmented)
    if name in HIDES:
        assert torch.equal(augmented[shown], frames[shown])  # the rest stays as it was
        assert new_lengths.tolist() == lengths.tolist()
    else:
        assert not shown[:, ~present(frames).any(dim=0)].any()  # missing stays missing
        assert shown[:, present(frames).all(dim=0)].all()  # present stays present

    again, lengths_again = apply(frames, lengths, 0.5, generator())
    assert torch.equal(again, augmented)
    assert lengths_again.tolist() == new_lengths.tolist()
    assert torch.equal(frames, before)
    assert lengths.tolist() == lengths_before.tolist()

    untouched, same_lengths = apply(frames, lengths, 0.0, generator())
    assert torch.equal(untouched, frames)
    assert same_lengths.tolist() == lengths.tolist()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_another_seed_augments_otherwise(name: str, device: torch.device) -> None:
    frames = symmetric_sequences(LENGTHS).to(device)
    results = [AUGMENTATIONS[name](frames, LENGTHS, 0.5, generator(seed))[0] for seed in (0, 1)]
    assert results[0].shape != results[1].shape or not torch.equal(*results)
