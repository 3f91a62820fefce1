"""The ensemble that is shipped: selected, merged into one file, measured, and selected again until that fits."""

from dataclasses import dataclass

import numpy as np

from ensemble.budget import Budget, Cost, brief
from ensemble.candidates.full_data import Twins
from ensemble.candidates.pool import Candidate, Pool, to_member
from ensemble.selection import greedy
from ensemble.selection.baselines import Rule
from ensemble.selection.scores import Objective
from ensemble.tflite import export, latency, submission
from ensemble.tflite.latency import Latency, Target
from trainer.common.console import console
from trainer.common.errors import UserError


@dataclass(frozen=True)
class Choice:
    """An ensemble that was built and found to fit."""

    members: list[tuple[Candidate, int, np.ndarray]]
    """Each with its count and the cost that it was selected by, float64 [4]"""
    model: bytes
    """The .tflite file, labels attached"""
    cost: Cost
    """Of that file, measured"""
    latency: Latency
    counts: np.ndarray
    """int64 [K]"""
    shipped: list[tuple[Candidate, int]]
    """The members as they are in the file: with their twins' weights, if these are shipped"""
    capacity: np.ndarray
    """float64 [4], what the members' estimates had to keep to: less than the budget's, if merged files broke it"""


def choose(
    pool: Pool,
    objective: Objective,
    base: np.ndarray,
    costs: np.ndarray,
    budget: Budget,
    rule: Rule,
    twins: Twins | None,
    target: Target,
) -> Choice:
    """Select, build and measure; where the file breaks the budget, with less room again, until it fits.

    Raises UserError if not even one candidate fits, or too many do for --exact.
    """
    limits = budget.to_array()
    capacity = limits - base
    while True:
        counts = _select(pool, objective, base, costs, capacity, budget, rule)
        chosen = np.flatnonzero(counts)
        members = [(pool.candidates[k], int(counts[k]), costs[k]) for k in chosen]
        shipped = [(twins.of(candidate) if twins else candidate, count) for candidate, count, _ in members]
        built = export.build([to_member(candidate, count) for candidate, count in shipped])
        model = submission.with_labels(built, pool.label_names)
        timed = target.measure(model, latency.typical_lengths(pool.lengths))
        parameters = sum(candidate.num_parameters for candidate, _, _ in members)
        cost = Cost(parameters=parameters, size=len(model), latency=timed.mean, members=len(members))
        if not (broken := budget.exceeded(cost)):
            return Choice(members, model, cost, timed, counts, shipped, capacity)
        measured, estimate = cost.to_array(), costs[chosen].sum(axis=0)
        expected = brief(base + estimate)
        console.print(
            f"the merged file of {len(chosen)} members breaks the budget ({'; '.join(broken)}; estimated were "
            f"{expected[1]} and {expected[2]}): selecting again with less room",
            soft_wrap=True,
        )
        over = measured > limits
        less = np.minimum(capacity, estimate)[over] * (limits / measured)[over]
        capacity[over] = np.nextafter(less, -np.inf)  # less even where the estimate is nothing


def _select(
    pool: Pool,
    objective: Objective,
    base: np.ndarray,
    costs: np.ndarray,
    capacity: np.ndarray,
    budget: Budget,
    rule: Rule,
) -> np.ndarray:
    try:
        return rule(objective, costs, capacity)
    except greedy.UnaffordableError as error:
        cheapest = pool.candidates[error.cheapest]
        alone = Cost.from_array(base + costs[error.cheapest])
        reasons = "; ".join(budget.exceeded(alone)) or "measured in the merged file"
        raise UserError(
            f"--budget {budget}: no candidate fits; trial {cheapest.name} comes closest ({reasons}); raise the budget"
        ) from error
    except ValueError as error:
        raise UserError(f"--exact: {error}; leave it out, lower --budget, or name one --precision") from error


def reasons_left_out(pool: Pool, base: np.ndarray, costs: np.ndarray, budget: Budget, chosen: Choice) -> dict[str, str]:
    """Why each trial is not in the ensemble, by its name: what keeps out the variant of it that comes closest."""
    members = {candidate.name for candidate, _, _ in chosen.members}
    reasons = dict(pool.left_out)
    closest: dict[str, tuple[int, float]] = {}
    for candidate, cost in zip(pool.candidates, costs, strict=True):
        if (cost <= chosen.capacity).all():
            fit, reason = 2, "no gain for its cost"
        elif broken := budget.exceeded(Cost.from_array(base + cost)):
            fit, reason = 0, f"alone over the budget: {'; '.join(broken)}"
        else:
            fit, reason = 1, "over what the budget leaves room for, as measured in merged files"
        closeness = (fit, -float(cost[1]))
        if closeness >= closest.get(candidate.name, closeness):
            closest[candidate.name] = closeness
            reasons[candidate.name] = reason
    return {name: reason for name, reason in reasons.items() if name not in members}
