"""What one Ray trial does: train one configuration, telling the driver every epoch and the end.

Runs in a worker that is used again for trial after trial, and imports no more than that takes: no Optuna.
"""

from typing import Any

from ray import tune

from search.execute import host
from search.execute.training import Message, Order, carry_out, written
from trainer.common.credentials import Kept, keep


def run_trial(order: dict[str, Any], keys: Kept | None = None) -> None:
    """Carry out an Order, given as a dict; the function that Ray Tune runs. ``keys`` are those of the URIs in it.

    Whatever goes wrong is sent as a Failure and leaves the worker in good order for the next trial.
    """
    keep(keys or {})
    ordered = Order(**order)
    if ordered.host is None:
        carry_out(ordered, _send)
    else:
        host.carry_out(ordered, _send)


def _send(message: Message) -> None:
    """Tell the driver and wait for its answer, which may be to end this trial here (SystemExit)."""
    tune.report(written(message))
