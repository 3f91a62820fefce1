"""The trials of tests.bench.orchestration report what the driver reads."""

from typing import Any
from unittest import mock

from ray import tune

from search.execute.training import read
from tests.bench import noop
from trainer.rundir import Result


def test_a_trial_that_does_nothing_reports_a_result_that_the_driver_reads() -> None:
    reports: list[dict[str, Any]] = []
    with mock.patch.object(tune, "report", reports.append):
        noop.our_trial({"config": {"learning_rate": 2.5e-10}})
    (report,) = reports
    message = read(report)
    assert isinstance(message, Result)
    assert (message.val_accuracy, message.epochs, message.batch_size) == (0.25, 1, 1)
