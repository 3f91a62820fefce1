"""The ensemble that is shipped: selected, merged into one file, measured, and selected again until the file fits."""

from dataclasses import dataclass

import numpy as np

from ensemble.budget import COSTS, Budget, BuiltFile, Cost
from ensemble.candidates.full_data import FullData, UnshippableError
from ensemble.candidates.pool import Candidate, to_member, without_folder
from ensemble.candidates.priced import PricedPool
from ensemble.selection import greedy
from ensemble.selection.baselines import Rule
from ensemble.selection.scores import Score
from ensemble.tflite import export, latency, submission
from ensemble.tflite.latency import Latency, Target
from trainer.common.console import console
from trainer.common.errors import UserError


@dataclass(frozen=True)
class Member:
    """A candidate that was chosen."""

    candidate: Candidate
    count: int
    cost: Cost
    """The estimate that it was selected by"""


@dataclass(frozen=True)
class Choice:
    """An ensemble whose file was built and found to fit."""

    members: list[Member]
    model: bytes
    """The .tflite file, labels attached"""
    cost: Cost
    """Measured on that file"""
    latency: Latency
    counts: np.ndarray
    """int64 [K]"""
    shipped: list[tuple[Candidate, int]]
    """The members as they are in the file: with the weights trained on all participants, if these are shipped"""
    capacity: np.ndarray
    """float64 [len(COSTS)]: limit on the sum of the members' estimated costs"""
    has_less_room: bool = False
    """Whether that is smaller than what was given, as a merged file broke the budget"""


def choose(
    priced: PricedPool,
    score: Score,
    budget: Budget,
    rule: Rule,
    target: Target,
    full_data: FullData | None = None,
    capacity: np.ndarray | None = None,
) -> Choice:
    """Select, build and measure; if the file breaks the budget, select again with less room, until it fits.

    ``full_data`` gives the weights that go into the file in place of the members' own; ``capacity`` float64
    [len(COSTS)] is the room that is used, if it is not all that the budget leaves. Raises UserError if not even one
    candidate fits, or if the rule cannot deal with so many, and UnshippableError if ``full_data`` lacks a member.
    """
    pool, limits = priced.pool, budget.to_array()
    given = priced.room(budget) if capacity is None else capacity
    capacity = given.copy()
    while True:
        counts = _select(priced, score, capacity, budget, rule)
        members = [Member(pool.candidates[k], int(counts[k]), priced.added(k)) for k in np.flatnonzero(counts).tolist()]
        if full_data is not None and full_data.unshippable([item.candidate for item in members]):
            raise UnshippableError
        shipped = [(full_data.of(item.candidate) if full_data else item.candidate, item.count) for item in members]
        built = _build(shipped)
        model = submission.with_labels(built, pool.label_names)
        timed = target.measure(model, latency.typical_lengths(pool.validation.lengths))
        parameters = sum(item.candidate.num_parameters for item in members)
        file = BuiltFile(content=model, parameters=parameters, members=len(members), milliseconds=timed.mean)
        cost = Cost.of(file)
        if not (broken := budget.exceeded(cost)):
            has_less_room = not np.array_equal(capacity, given)
            return Choice(members, model, cost, timed, counts, shipped, capacity, has_less_room)
        expected = priced.total(counts)
        estimates = " and ".join(COSTS[name].show(expected[name]) for name in ("size", "latency"))
        console.print(
            f"the merged file of {len(members)} members breaks the budget ({'; '.join(broken)}; estimated were "
            f"{estimates}): selecting again with less room",
            soft_wrap=True,
        )
        measured = cost.to_array()
        over = measured > limits
        less = np.minimum(capacity, priced.costs[counts > 0].sum(axis=0))[over] * (limits / measured)[over]
        capacity[over] = np.nextafter(less, -np.inf)  # less even where the estimate is nothing


def _build(shipped: list[tuple[Candidate, int]]) -> bytes:
    try:
        return export.build([to_member(candidate, count) for candidate, count in shipped])
    except UserError as error:  # only of weights that are shipped in place of a candidate's own
        where = shipped[0][0].study
        raise UserError(f"{where}: {without_folder(error, where)}; train these again", field="ship") from error


def _select(priced: PricedPool, score: Score, capacity: np.ndarray, budget: Budget, rule: Rule) -> np.ndarray:
    try:
        return rule(score, priced.costs, capacity)
    except greedy.UnaffordableError as error:
        cheapest = priced.pool.candidates[error.cheapest]
        reasons = "; ".join(budget.exceeded(priced.alone(error.cheapest))) or "measured in the merged file"
        again = ", or, if kept times may be of a busy machine, have files timed again (remeasure)"
        raise UserError(
            f"{budget}: no candidate fits; trial {cheapest.name} comes closest ({reasons}); raise the budget"
            + again * ("latency" in reasons),
            field="budget",
        ) from error
    except ValueError as error:
        raise UserError(
            f"{error}; leave it out, lower the budget, or name a single precision", field="exact"
        ) from error


def reasons_left_out(priced: PricedPool, budget: Budget, chosen: Choice) -> dict[str, str]:
    """Why each trial is not in the ensemble, by its name.

    A trial with several files is left out for the reason of the file that comes closest to fitting.
    """
    members = {item.candidate.name for item in chosen.members}
    reasons = dict(priced.pool.left_out)
    closest: dict[str, tuple[int, float]] = {}
    for k, candidate in enumerate(priced.pool.candidates):
        if (priced.costs[k] <= chosen.capacity).all():
            fit, reason = 2, "no gain for its cost"
        elif broken := budget.exceeded(priced.alone(k)):
            fit, reason = 0, f"alone over the budget: {'; '.join(broken)}"
        elif chosen.has_less_room:
            fit, reason = 1, "over what the budget leaves room for, as measured in merged files"
        else:
            fit, reason = 1, "costs more than what ships, and is not measurably better"
        closeness = (fit, -float(priced.costs_of("size")[k]))
        if closeness >= closest.get(candidate.name, closeness):
            closest[candidate.name] = closeness
            reasons[candidate.name] = reason
    return {name: reason for name, reason in reasons.items() if name not in members}
