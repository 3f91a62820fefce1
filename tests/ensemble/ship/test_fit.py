"""Selecting, building and measuring until the file fits; and why the others are not in it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ensemble.budget import Budget, Cost
from ensemble.candidates.opening import open_pool
from ensemble.candidates.pool import Pool
from ensemble.candidates.priced import PricedPool
from ensemble.selection import baselines, scores
from ensemble.ship.fit import Choice, Member, choose, reasons_left_out
from ensemble.tflite import latency
from ensemble.tflite.latency import Latency, Target
from trainer.common.errors import UserError


def timed(milliseconds: float) -> Latency:
    return Latency(mean=milliseconds, median=milliseconds, p95=milliseconds)


@pytest.fixture
def priced(study: Path) -> PricedPool:
    """Four candidates, each estimated at 1 MB and 1 ms."""
    pool = open_pool(study)
    costs = [[candidate.num_parameters, 1e6, 1.0, 1.0] for candidate in pool.candidates]
    return PricedPool(pool, Cost(), np.array(costs))


def log_loss_of(pool: Pool) -> scores.Score:
    return scores.LogLoss.of(pool.val_probs, pool.validation.labels)


def test_a_merged_file_that_is_too_slow_is_selected_again_with_less_room(
    priced: PricedPool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As if members together took twice what they take alone: two fit by estimate, one as measured."""
    monkeypatch.setattr(latency, "measure", lambda *_, **__: timed(2.2 if not capsys.readouterr().out else 1.0))
    budget = Budget(latency=2.0)
    chosen = choose(priced, log_loss_of(priced.pool), budget, baselines.ours, Target())
    assert len(chosen.members) == 1
    assert chosen.cost["latency"] == 1.0
    assert chosen.capacity[2] < 2.0
    assert budget.exceeded(chosen.cost) == []
    assert chosen.counts.nonzero()[0].tolist() == [priced.pool.candidates.index(chosen.members[0].candidate)]


def test_what_fits_is_built_once(priced: PricedPool, monkeypatch: pytest.MonkeyPatch):
    runs = []

    def measured(*_: object, **__: object) -> Latency:
        runs.append(1)
        return timed(1.0)

    monkeypatch.setattr(latency, "measure", measured)
    chosen = choose(priced, log_loss_of(priced.pool), Budget(), baselines.ours, Target(latency_scale=3.0))
    assert len(runs) == 1
    assert chosen.cost["latency"] == 3.0
    assert chosen.cost["size"] == len(chosen.model)
    assert chosen.cost["parameters"] == sum(item.candidate.num_parameters for item in chosen.members)
    assert [candidate for candidate, _ in chosen.shipped] == [item.candidate for item in chosen.members]


def test_a_budget_that_no_candidate_fits_is_refused(priced: PricedPool):
    with pytest.raises(UserError, match=r"500KB: no candidate fits; .*\(size 1MB over 500KB\); raise the budget$"):
        choose(priced, log_loss_of(priced.pool), Budget(size=5e5), baselines.ours, Target())
    with pytest.raises(UserError, match=r"\(latency .* over .*ms\); raise the budget, or, if kept times may be"):
        choose(priced, log_loss_of(priced.pool), Budget(latency=1e-3), baselines.ours, Target())


def test_a_rule_that_cannot_try_so_many_is_explained(priced: PricedPool):
    def rule(*_: object) -> np.ndarray:
        raise ValueError("too many")

    with pytest.raises(UserError, match="exact: too many; leave it out, lower the budget, or name a single precision"):
        choose(priced, log_loss_of(priced.pool), Budget(), rule, Target())


def test_reasons_are_those_of_the_variant_that_comes_closest(study: Path):
    """0000 is the member; 0001 fits in int8 alone, 0002 not once merged files were measured, 0003 not at all."""
    pool = open_pool(study)
    sizes = {"0000": (1, 9, 9), "0001": (4, 9, 2), "0002": (9, 4, 6), "0003": (9, 7, 8)}
    variants = [
        (dataclasses.replace(candidate, precision=precision), np.array([0, size, 0, 1.0]))
        for candidate in pool.candidates
        for precision, size in zip(("float32", "float16", "int8"), sizes[candidate.name], strict=True)
    ]
    pool = dataclasses.replace(pool, candidates=[candidate for candidate, _ in variants])
    priced = PricedPool(pool, Cost(), np.array([cost for _, cost in variants]))
    counts = np.eye(len(variants), dtype=np.int64)[0]
    chosen = Choice(
        members=[Member(pool.candidates[0], 1, priced.added(0))],
        model=b"",
        cost=priced.total(counts),
        latency=Latency(mean=1, median=1, p95=1),
        counts=counts,
        shipped=[],
        capacity=np.array([np.inf, 3, np.inf, np.inf]),
    )
    preferred = reasons_left_out(priced, Budget(size=5), chosen)
    assert preferred["0002"] == "costs more than what ships, and is not measurably better"
    reasons = reasons_left_out(priced, Budget(size=5), dataclasses.replace(chosen, has_less_room=True))
    assert reasons.pop("0004").startswith("not finished")
    assert reasons == {
        "0001": "no gain for its cost",
        "0002": "over what the budget leaves room for, as measured in merged files",
        "0003": "alone over the budget: size 0.007KB over 0.005KB",
    }
