"""How weights move: the optimizer, the cosine schedule, and the moving average that is validated and shipped.

Lion (Chen et al. 2023, arXiv:2302.06675, Algorithm 2) is lion_pytorch's: a step of the 2x6 model takes 3.2 ms on one
thread, as long as one written here did (3.4 ms), with the same weights bit for bit.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from lion_pytorch.foreach import Lion


def decay_groups(parameters: list[torch.Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay, vectors (norms, biases, CLS) do not."""
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def make_optimizer(name: str, parameters: list[torch.Tensor], weight_decay: float) -> torch.optim.Optimizer:
    """The optimizer called "lion" (betas 0.9, 0.99) or "adamw" (betas 0.9, 0.999), with ``decay_groups``."""
    groups = decay_groups(parameters, weight_decay)
    # the learning rate is set before every step
    if name == "lion":
        return CapturableLion(groups, betas=(0.9, 0.99))
    return torch.optim.AdamW(groups, foreach=True)


class CapturableLion(Lion):  # type: ignore[misc]  # it has no types
    """Lion whose learning rate may be a tensor, which the host need not know: then a step can be captured on a GPU."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; ``closure`` must be None where the rate is a tensor."""
        if not isinstance(self.param_groups[0]["lr"], torch.Tensor):
            loss: float | None = super().step(closure)
            return loss
        for group in self.param_groups:
            learning_rate, (beta1, beta2) = group["lr"], group["betas"]
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters]
            averages = [self._average(parameter) for parameter in parameters]
            if group["weight_decay"] > 0:
                torch._foreach_mul_(parameters, 1 - learning_rate * group["weight_decay"])
            updates = torch._foreach_lerp(averages, gradients, 1 - beta1)
            torch._foreach_sign_(updates)
            torch._foreach_mul_(updates, learning_rate)
            torch._foreach_sub_(parameters, updates)
            torch._foreach_lerp_(averages, gradients, 1 - beta2)
        return None

    def _average(self, parameter: torch.Tensor) -> torch.Tensor:
        """Of its gradients, as the state that Lion keeps."""
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
        average: torch.Tensor = state["exp_avg"]
        return average


def cosine(step: int, num_steps: int, first: float, last: float) -> float:
    """Learning rate of a step: half a cosine from ``first`` at step 0 to ``last`` at step num_steps - 1."""
    progress = step / max(num_steps - 1, 1)
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


def ema_decay(step: int, decay: float) -> float:
    """Decay of the moving average after optimizer step ``step`` (from 0), ramped: min(decay, (1 + n) / (10 + n))."""
    return min(decay, (1 + step) / (10 + step))


def average_decay(step: int, num_steps: int, decay: float, swa_start: float) -> float:
    """Decay of the averaged weights after optimizer step ``step`` (from 0) of ``num_steps``.

    They are a moving average until the share ``swa_start`` of the steps, and the plain mean of all steps since then
    (SWA, Izmailov et al. 2018, arXiv:1803.05407); with 0 a moving average throughout.

    >>> [round(average_decay(step, 8, 0.9, 0.5), 2) for step in range(8)]
    [0.1, 0.18, 0.25, 0.31, 0.0, 0.5, 0.67, 0.75]
    """
    begin = math.ceil(swa_start * num_steps)
    if swa_start == 0 or step < begin:
        return ema_decay(step, decay)
    return 1 - 1 / (step - begin + 1)


@torch.no_grad()
def ema_(averages: list[torch.Tensor], parameters: list[torch.Tensor], weight: float | torch.Tensor) -> None:
    """averages <- averages + weight * (parameters - averages), in place, where ``weight`` is 1 less the decay.

    It may be a scalar on the device.
    """
    if isinstance(weight, torch.Tensor):
        changes = torch._foreach_sub(parameters, averages)
        torch._foreach_mul_(changes, weight)
        torch._foreach_add_(averages, changes)
    else:
        torch._foreach_lerp_(averages, parameters, weight)
