"""Orders and messages, which travel as JSON, and how a training that goes wrong is told."""

import json
from pathlib import Path
from unittest import mock

import pytest

from search.execute.training import Failure, Message, Order, carry_out, read, written
from tests.outcomes import metrics_of, result_of
from trainer.common.errors import StorageError, TrainingDivergedError
from trainer.config import TrainConfig


def order_of(folder: Path, packed: Path) -> Order:
    config, run = TrainConfig().to_json(), str(folder / "0")
    return Order(number=0, config=config, run=run, data=str(packed), last_epoch=0, threads=1, device="cpu")


@pytest.mark.parametrize("message", [metrics_of(3, 0.5), result_of(4, 0.75), Failure("no room", concerns_all=True)])
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    sent = json.loads(json.dumps(written(message)))
    assert read(sent | {"training_iteration": 3, "pid": 17}) == message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TrainingDivergedError("the loss became nan"), Failure("the loss became nan")),
        (RuntimeError("no such kernel"), Failure("RuntimeError: no such kernel")),
        (StorageError("s3://b: out of reach"), Failure("StorageError: s3://b: out of reach", concerns_all=True)),
        (OSError(28, "No space left on device"), Failure("OSError: [Errno 28] No space left on device", True)),
        (OSError(5, "Input/output error"), Failure("OSError: [Errno 5] Input/output error")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_goes_wrong_is_sent_as_a_failure(
    error: Exception, expected: Failure, packed: Path, tmp_path: Path
) -> None:
    order = order_of(tmp_path, packed)
    sent: list[Message] = []
    with mock.patch("search.execute.training.train", side_effect=error):
        carry_out(order, sent.append)
    assert sent == [expected]


def test_what_ends_a_training_from_outside_passes_through(packed: Path, tmp_path: Path) -> None:
    order = order_of(tmp_path, packed)
    with mock.patch("search.execute.training.train", side_effect=SystemExit), pytest.raises(SystemExit):
        carry_out(order, lambda _: None)
