"""Everything that a training run changes: the model's weights, their moving average, and the optimizer's state."""

import copy
from typing import Final

import torch
from torch import nn

from trainer.config import ModelConfig, TrainConfig
from trainer.landmarks import NUM_LANDMARKS
from trainer.learning.optimizer import make_optimizer
from trainer.model.classifier import SignClassifier

_STATE_NAMES: Final = {"momentum": "exp_avg"}  # of optimizers in checkpoints of version 0.1


class NextFrame(nn.Module):
    """Predicts each next frame from the model's causal states: the recipe's second task, thrown away after training."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head = nn.Linear(config.width, 2 * NUM_LANDMARKS)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def loss(self, states: torch.Tensor, frames: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """Squared error of the predicted movement, as a share of the movement's own square: 1 for predicting none.

        states float32 [sum of lengths, width], causal; frames float32 [sum of lengths, 85, 2]; moving int64, those of
        them that another follows. Only landmarks present in both frames count. Scalar; 0 if there are none.
        """
        here, there = frames[moving], frames[moving + 1]
        present = ((here != 0).any(-1, keepdim=True) & (there != 0).any(-1, keepdim=True)).to(frames.dtype)
        movement = (there - here) * present
        predicted = self.head(states[moving]).view_as(movement) * present
        error: torch.Tensor = (predicted - movement).square().sum() / movement.square().sum().clamp_min(1e-12)
        return error


class Learner:
    """Model, moving average and optimizer of one run, on one device."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Weights are drawn from ``config.seed``."""
        self.model = SignClassifier(config.model, torch.Generator().manual_seed(config.seed)).to(device)
        self.ema_model = copy.deepcopy(self.model).requires_grad_(False)
        self.next_frame = NextFrame(config.model).to(device) if config.next_frame_frequency > 0 else None
        self.optimizer = make_optimizer(config.optimizer, list(self._parameters().values()), config.weight_decay)

    def _parameters(self) -> dict[str, torch.Tensor]:
        """All that the optimizer moves, by name."""
        parameters: dict[str, torch.Tensor] = {f"model.{name}": item for name, item in self.model.named_parameters()}
        if self.next_frame is not None:
            parameters |= {f"next_frame.{name}": item for name, item in self.next_frame.named_parameters()}
        return parameters

    def clip_gradients(self, largest: float) -> torch.Tensor:
        """Scale the model's gradient down to a norm of ``largest``, if that is not 0; the norm that it had, a scalar.

        It is NaN or infinite where any gradient is, that of the second task's head included.
        """
        parameters = list(self.model.parameters())
        norm = nn.utils.clip_grad_norm_(parameters, largest, foreach=True) if largest > 0 else _norm(parameters)
        return norm if self.next_frame is None else norm + _norm(list(self.next_frame.parameters()))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that training changes, by name, for a checkpoint."""
        parameters = self._parameters()
        tensors = dict(parameters)
        tensors |= {f"ema.{name}": tensor for name, tensor in self.ema_model.named_parameters()}
        for name, parameter in parameters.items():
            tensors |= {f"optimizer.{name}.{key}": value for key, value in self.optimizer.state[parameter].items()}
        return tensors

    @torch.no_grad()
    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over what ``tensors`` returned, on any device.

        Raises KeyError if something is missing, ValueError if it is of another shape.
        """
        wanted = self.tensors()
        for name, tensor in {**wanted, **tensors}.items():
            of = wanted.get(name.removeprefix("optimizer.").rpartition(".")[0], wanted.get(name))  # it has the shape of
            if of is None or (tensors[name].ndim and tensors[name].shape != of.shape):
                raise ValueError(f"{name}: there is no such tensor of shape {list(tensor.shape)}")
        on_device = any(group.get("capturable") for group in self.optimizer.param_groups)
        for name, parameter in self._parameters().items():
            parameter.copy_(tensors[name])
            prefix = f"optimizer.{name}."
            self.optimizer.state[parameter] = {
                _STATE_NAMES.get(key.removeprefix(prefix), key.removeprefix(prefix)): (
                    value.to(parameter.device) if value.ndim or on_device else value  # steps of AdamW
                )
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        for name, average in self.ema_model.named_parameters():
            average.copy_(tensors[f"ema.{name}"])


def _norm(parameters: list[torch.nn.Parameter]) -> torch.Tensor:
    """Of the gradients of parameters, of those that have one."""
    return nn.utils.get_total_norm([item.grad for item in parameters if item.grad is not None], foreach=True)
