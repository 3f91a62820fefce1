"""How weights move: Lion, the cosine schedule, and the moving average that is validated and shipped."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch


def lion_(
    parameters: list[torch.Tensor],
    gradients: list[torch.Tensor],
    momenta: list[torch.Tensor],
    *,
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """One step of Lion in place (Chen et al. 2023, arXiv:2302.06675, Algorithm 2), decoupled weight decay included.

    p <- (1 - learning_rate * weight_decay) * p - learning_rate * sign(b1 * m + (1 - b1) * g)
    m <- b2 * m + (1 - b2) * g,  for parameter p, gradient g and momentum m
    """
    if weight_decay:
        torch._foreach_mul_(parameters, 1 - learning_rate * weight_decay)
    updates = torch._foreach_mul(momenta, betas[0])
    torch._foreach_add_(updates, gradients, alpha=1 - betas[0])
    torch._foreach_sign_(updates)
    torch._foreach_add_(parameters, updates, alpha=-learning_rate)
    torch._foreach_mul_(momenta, betas[1])
    torch._foreach_add_(momenta, gradients, alpha=1 - betas[1])


class Lion(torch.optim.Optimizer):
    """``lion_`` over parameter groups, with one momentum a parameter in ``state[parameter]["momentum"]``."""

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; a closure, if given, is called first and its value returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            lion_(
                parameters,
                [parameter.grad for parameter in parameters],
                [self.state[parameter]["momentum"] for parameter in parameters],
                learning_rate=group["lr"],
                betas=group["betas"],
                weight_decay=group["weight_decay"],
            )
        return loss


def decay_groups(parameters: list[torch.Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay, vectors (norms, biases, CLS) do not."""
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def make_optimizer(name: str, parameters: list[torch.Tensor], weight_decay: float) -> torch.optim.Optimizer:
    """The optimizer called "lion" (betas 0.9, 0.99) or "adamw" (betas 0.9, 0.999), with ``decay_groups``."""
    groups = decay_groups(parameters, weight_decay)
    return Lion(groups) if name == "lion" else torch.optim.AdamW(groups, foreach=True)


def cosine(step: int, num_steps: int, first: float, last: float) -> float:
    """Learning rate of a step: half a cosine from ``first`` at step 0 to ``last`` at step num_steps - 1."""
    progress = step / max(num_steps - 1, 1)
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


def ema_decay(step: int, decay: float) -> float:
    """Decay of the moving average after optimizer step ``step`` (from 0), ramped: min(decay, (1 + n) / (10 + n))."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def ema_(averages: list[torch.Tensor], parameters: list[torch.Tensor], decay: float) -> None:
    """averages <- decay * averages + (1 - decay) * parameters, in place."""
    torch._foreach_lerp_(averages, parameters, 1 - decay)
