"""Options that trainer.train and trainer.ablate share: a dataset, a device, and every field of the configuration."""

from dataclasses import dataclass
from typing import Any

from trainer.common.fields import option
from trainer.config import ModelConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of a command that trains."""

    data: str = option(metavar="PATH")
    """Packed dataset, made by trainer.pack: a folder or a URI."""
    device: str | None = option(None, group="where it runs")
    """cpu, cuda, or one GPU of several such as cuda:1 (default: cuda if there is one, else cpu)."""
    model: dict[str, Any] = option({}, fields_of=(ModelConfig,), without=frozenset({"num_signs"}), group="model")
    training: dict[str, Any] = option({}, fields_of=(TrainConfig,), without=frozenset({"model"}), group="training")

    def config(self, num_signs: int) -> TrainConfig:
        """The configuration asked for, for a dataset of so many signs. Raises FieldError for a value out of range."""
        return TrainConfig().replace(num_signs=num_signs, **self.model, **self.training)
