"""A step whose tensors stay where they are: on a GPU it is captured once and then replayed.

Small models leave a GPU waiting for Python, which launches hundreds of kernels of some microseconds one by one. A CUDA
graph launches them all at once, but always the same ones, at the same places in memory and of the same shapes. So here
batches are filled up to one of few numbers of frames with sequences that no loss is computed of, and copied to where
the last batch was.
"""

import contextlib
import math
import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from trainer.config import TrainConfig
from trainer.data.batches import Batch
from trainer.learning.learner import Learner
from trainer.learning.step import Step
from trainer.model.packing import Packing

_LAUNCHING: Final = threading.Lock()
"""Runs of one process draw from one generator, which none may do while another captures"""
_SHARE: Final = 8  # sizes are apart by the power of two that follows such a part of a batch's frames
_FEWEST: Final = 64  # frames between one size and the next


def fillers(num_frames: int, longest: int) -> np.ndarray:
    """Lengths of the sequences that fill a batch of so many frames up: int64, each of 1 to ``longest``.

    Sizes are whole multiples of a power of two that is about an eighth of the frames. How many sequences it takes
    depends on that power alone.

    >>> fillers(4_900, 512), fillers(5_000, 512), fillers(5_100, 512)
    (array([74, 73, 73]), array([40, 40, 40]), array([7, 7, 6]))
    """
    if longest == 1:  # batches of as many sequences have as many frames
        return np.zeros(0, np.int64)
    apart = max(_FEWEST, 2 ** math.ceil(math.log2(num_frames / _SHARE)))
    count = -(-(apart - 1) // (longest - 1))
    rest = count + -(num_frames + count) % apart
    lengths: np.ndarray = rest // count + (np.arange(count) < rest % count)
    return lengths


def why_not_captured(device: torch.device, dtype: torch.dtype) -> str:
    """Why steps that compute in ``dtype`` cannot be captured there; empty if they can."""
    if device.type != "cuda":
        return f"{device.type} has no CUDA graphs"
    if dtype != torch.bfloat16:
        return "attention in float32 has other shapes for each batch; CUDA graphs need bfloat16"
    return ""


class StaticStep(Step):
    """Steps in memory that stays the same for each shape of batch. On a GPU each is captured at its second use."""

    def __init__(self, learner: Learner, config: TrainConfig, dtype: torch.dtype) -> None:
        super().__init__(learner, config, dtype)
        self._shapes: dict[tuple[int, ...], _Shape] = {}
        self._stream: torch.cuda.Stream | None = None
        self._pool = None
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(self.device))  # the weights are made there
            self._pool = torch.cuda.graph_pool_handle()
            for group in learner.optimizer.param_groups:
                group["capturable"] = True  # AdamW counts its steps on the device

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        """Within it, what a GPU does for this run waits for no other's; their random numbers are from one generator."""
        return contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def __call__(
        self, batch: Batch, learning_rate: float, decay: float, rng: np.random.Generator | None, *, predicts: bool
    ) -> None:
        longest = self.config.model.max_frames
        lengths = np.concatenate((batch.lengths, fillers(len(batch.frames), longest)))
        packing = self.learner.model.packing(lengths, self.device, longest)
        key = int(lengths.sum()), len(lengths), rng is not None, predicts
        if key not in self._shapes:
            self._shapes[key] = _Shape(batch, packing)
        shape = self._shapes[key]
        shape.take(batch, packing)

        def learn(rate: float | torch.Tensor, average_weight: float | torch.Tensor) -> None:
            self.learn(
                shape.frames, shape.packing, shape.labels, shape.weights, rate, average_weight, rng, predicts=predicts
            )

        if self._stream is None:
            learn(learning_rate, 1 - decay)
        else:
            shape.learning_rate.fill_(learning_rate)
            shape.average_weight.fill_(1 - decay)
            with _LAUNCHING:
                shape.run(lambda: learn(shape.learning_rate, shape.average_weight), self._stream, self._pool)

    def seed(self, value: int) -> None:
        with _LAUNCHING:
            super().seed(value)


class _Shape:
    """Where batches of one shape lie, and what was captured there."""

    def __init__(self, batch: Batch, packing: Packing) -> None:
        num_frames = packing.num_tokens - packing.lead * len(packing.lengths)
        self.frames = batch.frames.new_zeros(num_frames, *batch.frames.shape[1:])
        self.packing = packing
        self.labels, self.weights = batch.labels.clone(), batch.weights.clone()
        self.learning_rate, self.average_weight = (torch.zeros((), device=self.frames.device) for _ in range(2))
        self._is_warm = False
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def is_captured(self) -> bool:
        return self._graph is not None

    def take(self, batch: Batch, packing: Packing) -> None:
        """Lay a batch in."""
        self.frames[: len(batch.frames)] = batch.frames
        self.frames[len(batch.frames) :] = 0
        self.labels.copy_(batch.labels)
        self.weights.copy_(batch.weights)
        if packing is not self.packing:
            self.packing.take(packing)

    def run(self, learn: Callable[[], None], stream: torch.cuda.Stream, pool: Any) -> None:
        """Learn from what is laid in: the first time as an operation after the other, which also warms libraries up."""
        if self._graph is None and self._is_warm:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                learn()
            self._graph = graph
        if self._graph is None:
            learn()
            self._is_warm = True
        else:
            self._graph.replay()
