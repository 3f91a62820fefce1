"""What a model sees of each frame, as part of a graph: trainer.data.features, on one sequence.

Made once for all members that ask for the same. Shapes: m frames, L landmarks that a model sees.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from trainer.config import ModelConfig
from trainer.data.features import MOTION_GAIN, fingers, pairs, seen
from trainer.landmarks import NUM_LANDMARKS

if TYPE_CHECKING:
    from ensemble.tflite.graph import Graph, Tensor


class Features:
    """Of the frames of one graph."""

    def __init__(self, graph: Graph, frames: Tensor, steps: Tensor) -> None:
        """``frames`` float32 [m, 170] are centred, 0 where missing; ``steps`` int32 [m] are 0, 1, ... m - 1."""
        self._graph, self._frames, self._steps = graph, frames, steps
        self._presence = cache(self._present)
        self._motion_over = cache(self._motion)
        self._of = cache(self._named)

    def of(self, config: ModelConfig) -> Tensor:
        """float32 [m, F], as trainer.data.features.features has them."""
        return self._of(config.landmarks, config.motion, config.distances, config.hand_frame)

    def _named(self, landmarks: str, motion: int, distances: bool, hand_frame: bool) -> Tensor:
        places = seen(landmarks)
        parts = [self._columns(self._frames, _coordinates(places))]
        for lag in range(1, motion + 1):
            velocities, speeds = self._motion_over(lag)
            parts += [self._columns(velocities, _coordinates(places)), self._columns(speeds, places)]
        if distances:
            x, y, both = self._between(pairs(landmarks))
            parts.append(self._graph.elementwise("MUL", self._length(x, y), both))
        if hand_frame:
            tips, wrists = fingers().T
            ends = (self._columns(self._frames, _coordinates(end)) for end in (tips, wrists))
            shown = (self._columns(self._presence(), np.repeat(end, 2)) for end in (tips, wrists))
            difference, both = self._graph.elementwise("SUB", *ends), self._graph.elementwise("MUL", *shown)
            parts.append(self._graph.elementwise("MUL", difference, both))
        return parts[0] if len(parts) == 1 else self._graph.concatenate(parts, 1)

    def _present(self) -> Tensor:
        """1 where a landmark is there, 0 where it is missing: float32 [m, 85]."""
        graph, zero, one = self._graph, *(self._constant(value) for value in (0.0, 1.0))
        is_zero = graph.op("EQUAL", (self._frames, zero), self._frames.shape, np.bool_, "EqualOptions")
        x, y = (self._columns(graph.cast(is_zero, np.float32), 2 * np.arange(NUM_LANDMARKS) + axis) for axis in (0, 1))
        return graph.elementwise("SUB", one, graph.elementwise("MUL", x, y))

    def _motion(self, lag: int) -> tuple[Tensor, Tensor]:
        """Velocities float32 [m, 170] and speeds float32 [m, 85] over so many frames."""
        graph, shown = self._graph, self._presence()
        least = graph.constant(np.array(0, np.int32))
        reach = graph.constant(np.array(lag - 1, np.int32))
        source = graph.elementwise("MAXIMUM", graph.elementwise("SUB", self._steps, reach), least)
        earlier, earlier_shown = (self._after_none(tensor, source) for tensor in (self._frames, shown))
        weights = graph.elementwise("MUL", graph.elementwise("MUL", shown, earlier_shown), self._constant(MOTION_GAIN))
        weights = self._columns(weights, np.repeat(np.arange(NUM_LANDMARKS), 2))
        velocities = graph.elementwise("MUL", graph.elementwise("SUB", self._frames, earlier), weights)
        x, y = (self._columns(velocities, 2 * np.arange(NUM_LANDMARKS) + axis) for axis in (0, 1))
        return velocities, self._length(x, y)

    def _after_none(self, rows: Tensor, source: Tensor) -> Tensor:
        """Rows [m, k] by number from 1; a row of zeros is number 0."""
        none = self._graph.constant(np.zeros((1, rows.shape[1]), np.float32))
        return self._graph.gather(self._graph.concatenate((none, rows), 0), source, 0)

    def _between(self, ends: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """From the second to the first landmark of each pair int64 [P, 2]: x, y, and whether both are there: [m, P]."""
        graph = self._graph
        x, y = (
            graph.elementwise("SUB", *(self._columns(self._frames, 2 * end + axis) for end in ends.T))
            for axis in (0, 1)
        )
        return x, y, graph.elementwise("MUL", *(self._columns(self._presence(), end) for end in ends.T))

    def _length(self, x: Tensor, y: Tensor) -> Tensor:
        squares = (self._graph.elementwise("MUL", side, side) for side in (x, y))
        return self._graph.unary("SQRT", self._graph.elementwise("ADD", *squares))

    def _columns(self, x: Tensor, columns: np.ndarray) -> Tensor:
        if np.array_equal(columns, np.arange(x.shape[1])):
            return x
        return self._graph.gather(x, self._graph.constant(columns.astype(np.int32)), 1)

    def _constant(self, value: float) -> Tensor:
        return self._graph.constant(np.array(value, np.float32))


def _coordinates(landmarks: np.ndarray) -> np.ndarray:
    """Columns of landmarks' x and y: int64 [L] -> [2 L]."""
    return (2 * landmarks[:, None] + np.arange(2)).reshape(-1)
