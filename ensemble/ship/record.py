"""What selection.json says of a submission."""

import dataclasses
import platform
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Final

from ensemble.budget import columns
from ensemble.evaluation.preference import Best
from ensemble.evaluation.unseen import Accuracies, Unseen
from ensemble.ship.fit import Choice
from ensemble.tflite.latency import Target, machine

_PACKAGES: Final = ("sign-ensemble-search", "ai-edge-litert")


def stamped(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, after the time at which they were written."""
    return {"created": datetime.now(UTC).isoformat(timespec="seconds"), **fields}


def of_choice(chosen: Choice) -> dict[str, Any]:
    """The members with their estimated costs; the measured cost and latency of the .tflite file, and its SHA-256."""
    members = [
        {
            "trial": item.candidate.name,
            "precision": item.candidate.precision,
            "count": item.count,
            **{name: item.cost[name] for name in columns()},
            "num_heads": item.candidate.model.num_heads,
            "num_layers": item.candidate.model.num_layers,
            "val_accuracy": item.candidate.val_accuracy,
            "val_log_loss": item.candidate.val_log_loss,
        }
        for item in chosen.members
    ]
    return {
        "members": members,
        "cost": dict(chosen.cost),
        "latency": dataclasses.asdict(chosen.latency),
        "sha256": sha256(chosen.model).hexdigest(),
    }


def of_best(best: Best | None) -> dict[str, Any] | None:
    """The ensemble that is estimated to be the best, where a cheaper one is preferred to it."""
    if best is None:
        return None
    return {"cost": dict(best.cost), "gain": best.gain, "standard_error": best.error}


def of_target(target: Target) -> dict[str, Any]:
    """Where and how latencies were measured."""
    return {
        "machine": machine(),
        "threads": target.threads,
        "latency_scale": target.latency_scale,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def of_accuracies(seen: Accuracies, unseen: Unseen | None) -> dict[str, Any]:
    """Accuracies on the labels selected on, and on unseen participants; those are None if there is only one."""
    there = unseen and {**dataclasses.asdict(unseen), "single_is_as_good": unseen.single_is_as_good}
    return {"seen_by_selection": dataclasses.asdict(seen), "unseen_participants": there}
