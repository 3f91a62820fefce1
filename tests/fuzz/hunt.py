"""Draws inputs, counts what became of them, and shrinks the first failure of each kind."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.attempt import BROKEN, Verdict
from tests.fuzz.doors import Door, Step
from tests.fuzz.mutations import LARGEST
from tests.fuzz.mutations.every import of_formats
from tests.fuzz.worker import Answer

Ask = Callable[[str, Sequence[Step]], Answer]
MOST_STEPS = 2
MOST_SHRINKS = 60
"""Inputs tried to make the example of one failure smaller"""


@dataclass(frozen=True)
class Found:
    """A kind of failure, with the smallest input that was found to show it."""

    door: str
    verdict: Verdict
    words: str
    """What was changed"""
    steps: list[Step]

    def __str__(self) -> str:
        return f"{self.door} | {self.words} | {self.verdict.outcome}: {self.verdict.words}"


@dataclass
class Tally:
    """What became of the inputs of one door."""

    counts: Counter[str] = field(default_factory=Counter)
    """By outcome"""
    seconds: float = 0.0
    found: list[Found] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return sum(self.counts.values())


def inputs_of(door: Door) -> st.SearchStrategy[list[Step]]:
    """Inputs: one or two mutations of the door's files."""
    choices = [
        (file, how)
        for file, formats in door.files.items()
        for how in ([*formats] if formats == ("options",) else of_formats(*formats))
    ]
    number = st.integers(0, LARGEST - 1)
    step = st.builds(
        lambda choice, where, what: Step(choice[0], choice[1], where, what), st.sampled_from(choices), number, number
    )
    return st.lists(step, min_size=1, max_size=MOST_STEPS)


class _Broken(AssertionError):
    """A failure of a kind that was not seen before."""


def hunt(door: Door, count: int, random_seed: int, ask: Ask, told: Callable[[Found], None] = lambda _: None) -> Tally:
    """Try ``count`` inputs of a door. The same seed draws the same inputs. ``told`` hears of failures at once."""
    tally = Tally()
    kinds: dict[str, Found] = {}
    for attempt in range(count):
        left = count - tally.inputs
        if left <= 0:
            break
        new = _until_new(door, left, random_seed * 1_000_003 + attempt, ask, tally, kinds)
        if new is None and tally.inputs < count and count - tally.inputs == left:
            break  # nothing more to draw
        if new is not None:
            tally.found.append(new)
            told(new)
    return tally


def _until_new(
    door: Door, count: int, random_seed: int, ask: Ask, tally: Tally, kinds: dict[str, Found]
) -> Found | None:
    """Try inputs until ``count`` were or one fails in a new way; its smallest form."""
    smallest: Found | None = None
    shrinks = 0

    @seed(random_seed)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False, print_blob=False,
    )  # fmt: skip
    @given(inputs_of(door))
    def attempt(steps: list[Step]) -> None:
        nonlocal smallest, shrinks
        if smallest is not None:
            shrinks += 1
            assume(shrinks <= (MOST_SHRINKS if smallest.verdict.outcome not in ("hang", "crash") else 3))
        elif tally.inputs >= limit:
            assume(False)
        answer = ask(door.name, steps)
        if answer.verdict.outcome == "skipped":
            assume(False)
        if smallest is None:
            tally.counts[answer.verdict.outcome] += 1
            tally.seconds += answer.seconds
        kind = answer.verdict.kind
        if not answer.verdict.is_failure or (smallest is not None and kind != smallest.verdict.kind) or kind in kinds:
            return
        found = Found(door.name, answer.verdict, answer.words, list(steps))
        smallest = found
        raise _Broken(str(found))

    limit = tally.inputs + count
    try:
        attempt()
    except Exception as error:  # Hypothesis also raises what it thinks of an example that fails now and then
        if smallest is None:
            raise
        if not isinstance(error, _Broken) and "_Broken" not in repr(error) and "Flaky" not in type(error).__name__:
            raise
    if smallest is not None:
        kinds[smallest.verdict.kind] = smallest
    return smallest


def share_out(doors: Sequence[Door], count: int, *, fast: bool = False) -> dict[str, int]:
    """How many inputs each door gets of all."""
    shares = {door.name: door.fast_share if fast and door.fast_share is not None else door.share for door in doors}
    total = sum(shares.values())
    counts = {name: math.floor(count * share / total) for name, share in shares.items()}
    for name in sorted(counts, key=lambda name: -shares[name]):
        if sum(counts.values()) < count:
            counts[name] += 1
    counts[max(counts, key=lambda name: shares[name])] += count - sum(counts.values())
    return counts


def summary(tallies: dict[str, Tally]) -> dict[str, object]:
    """Numbers of a hunt, as they are printed: for all doors together, and for each."""

    def numbers(parts: Sequence[Tally]) -> dict[str, object]:
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part.counts)
        named = {f"{name.replace(' ', '_')}": counts[name] for name in ("accepted", "refused", *BROKEN)}
        return {"inputs": sum(counts.values()), **named, "seconds": round(sum(part.seconds for part in parts), 1)}

    return {**numbers(list(tallies.values())), "doors": {name: numbers([tally]) for name, tally in tallies.items()}}
