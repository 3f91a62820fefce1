"""One optimizer step: forward, backward, clipping, the optimizer, and the moving average."""

import contextlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from trainer.config import TrainConfig
from trainer.data.batches import Batch
from trainer.learning.guard import StepGuard
from trainer.learning.learner import Learner
from trainer.learning.optimizer import ema_
from trainer.model.packing import Packing


class Step:
    """The steps of one run, each an operation after the other. What an epoch's came to is added up on the device."""

    def __init__(self, learner: Learner, config: TrainConfig, dtype: torch.dtype) -> None:
        """Matrix products are computed in ``dtype``, float32 or bfloat16."""
        self.learner = learner
        self.config = config
        self.dtype = dtype
        self._parameters: list[torch.Tensor] = list(learner.model.parameters())
        self._averages: list[torch.Tensor] = list(learner.ema_model.parameters())
        self.device = self._parameters[0].device
        self.guard = StepGuard(learner.optimizer, self.device)
        self.loss = torch.zeros((), device=self.device)
        """Of the last step"""
        self.total_loss = torch.zeros((), device=self.device)
        """Sum over the epoch's steps"""

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        """Within it, all that a GPU does belongs to this run: on the device's own stream."""
        return contextlib.nullcontext()

    def seed(self, value: int) -> None:
        """Of dropout on a GPU, which draws from the device's own generator."""
        with torch.cuda.device(self.device):
            torch.cuda.manual_seed(value)

    def begin_epoch(self) -> None:
        """Add up from zero."""
        self.total_loss.zero_()
        self.guard.begin_epoch()

    def __call__(
        self, batch: Batch, learning_rate: float, decay: float, rng: np.random.Generator | None, *, predicts: bool
    ) -> None:
        """Learn from a batch, at this rate; the averaged weights keep ``decay`` of what they were.

        ``rng`` draws dropout; without it nothing is dropped. ``predicts`` adds the task of predicting next frames.
        """
        packing = self.learner.model.packing(batch.lengths, self.device)
        self.learn(batch.frames, packing, batch.labels, batch.weights, learning_rate, 1 - decay, rng, predicts=predicts)

    def learn(
        self,
        frames: torch.Tensor,
        packing: Packing,
        labels: torch.Tensor,
        weights: torch.Tensor,
        learning_rate: float | torch.Tensor,
        average_weight: float | torch.Tensor,
        rng: np.random.Generator | None,
        *,
        predicts: bool,
    ) -> None:
        """The same of tensors: a batch's, and more sequences after those that have labels, of which nothing is learnt.

        ``average_weight`` is 1 less the decay. Both rates may be scalars on the device.
        Nothing here waits for a GPU, or depends on more than shapes there: it can be captured.
        """
        learner, config = self.learner, self.config
        logits = learner.model.logits(frames, packing, rng, self.dtype)[: len(labels)]
        loss = mixed_cross_entropy(logits, labels, weights, config.label_smoothing)
        if predicts:
            assert learner.next_frame is not None
            states = learner.model.encode(frames, packing, rng, self.dtype, causal=True)
            loss = loss + learner.next_frame.loss(states, frames, packing.moving)
        torch.autograd.backward(loss)
        norm = learner.clip_gradients(config.clip_norm)
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rate
        self.guard.step(norm)
        learner.optimizer.zero_grad()
        ema_(self._averages, self._parameters, average_weight)
        self.loss.copy_(loss.detach())
        self.total_loss += self.loss


def mixed_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Mean over the batch of the cross-entropies with each mixed-in sign, by their weights: scalar, nats.

    logits [batch, signs], labels int64 and weights float32 [batch, mixed]. ``label_smoothing`` is the share that the
    mean of the cross-entropies with all signs has in it.
    """
    log_probs = F.log_softmax(logits, dim=-1)
    wanted = (log_probs.gather(1, labels) * weights).sum(dim=1)
    return -torch.lerp(wanted, log_probs.mean(dim=1), label_smoothing).mean()
