"""What trainings came to, where a test or a benchmark trains nothing and only some of the fields matter."""

from typing import Any

from trainer.rundir import EpochMetrics, Result


def metrics_of(epoch: int, val_accuracy: float, **others: Any) -> EpochMetrics:
    """An epoch; the other fields are 1 unless told."""
    names = ("train_loss", "val_log_loss", "learning_rate", "seconds", "sequences_per_second")
    return EpochMetrics(epoch=epoch, val_accuracy=val_accuracy, **(dict.fromkeys(names, 1.0) | others))


def result_of(epochs: int, val_accuracy: float, **others: Any) -> Result:
    """A finished run, on the CPU in float32; the other fields are 1 or empty unless told."""
    fields: dict[str, Any] = {"val_log_loss": 1.0, "num_parameters": 1, "seconds": 1.0, "data_fingerprint": ""}
    fields |= {"precision": "float32", "device": "cpu"} | others
    return Result(epochs=epochs, val_accuracy=val_accuracy, **fields)
