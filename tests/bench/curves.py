"""Learning curves of real trainings, tabulated: what tests.bench.search replays instead of training.

Recorded by tests.bench.record_curves in results/reference/, a row a configuration.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from search.decide.qmc import sobol
from search.decide.unit_cube import at, share_of
from search.problem.space import Space
from trainer.common.errors import UserError
from trainer.common.files import atomic_path
from trainer.config import TrainConfig
from trainer.model.classifier import num_parameters

EPOCHS: Final = 27


@dataclass(frozen=True)
class Recording:
    """What is recorded in one table: which configurations, trained on which generated data."""

    path: Path
    """Where the table lies"""
    toml: str
    """The space, as search.run reads it"""
    num_signs: int
    repeats: int
    """Sequences of each sign by each of 12 participants, half of whom are held out"""

    @functools.cached_property
    def space(self) -> Space:
        """What the recorded configurations are drawn from."""
        base = TrainConfig(epochs=EPOCHS).replace(num_signs=self.num_signs, motion=0)  # as when they were recorded
        return Space.parse(self.toml, base, str(self.path))

    def configurations(self, count: int) -> list[dict[str, Any]]:
        """Parameters that cover the space evenly: the first points of a Sobol sequence, the same every time."""
        items = self.space.distributions.items()
        points = sobol(len(items), 0)[:count].tolist()
        return [{name: at(item, share) for (name, item), share in zip(items, point, strict=True)} for point in points]

    def size(self, params: dict[str, Any]) -> int:
        """Parameters of a configuration's model."""
        return num_parameters(self.space.config(params).model)

    def point(self, params: dict[str, Any]) -> np.ndarray:
        """Where a configuration stands in the unit cube: float64 [D]."""
        return np.array([share_of(item, params[name]) for name, item in self.space.distributions.items()])


RECORDED: Final = Recording(
    Path("results/reference/curves.parquet"),
    """\
num_heads = 1
num_layers = {type = "int", low = 1, high = 3}
dropout = {type = "float", low = 0.0, high = 0.4}
learning_rate = {type = "float", low = 1e-4, high = 3e-2, log = true}
mixup_alpha = {type = "float", low = 0.0, high = 1.0}
time_stretch = {type = "float", low = 0.0, high = 0.6}
pooling = {type = "categorical", choices = ["cls", "mean"]}
max_frames = 16
batch_size = 64
num_folds = 2
precision = "float32"
""",
    num_signs=15,
    repeats=3,
)
# Ranges so wide that most of them is bad, and data with more signs and fewer repeats: the optimum is not flat.
WIDE: Final = Recording(
    Path("results/reference/curves_wide.parquet"),
    """\
num_heads = {type = "int", low = 1, high = 2}
num_layers = {type = "int", low = 1, high = 2}
dropout = {type = "float", low = 0.0, high = 0.6}
learning_rate = {type = "float", low = 1e-5, high = 1e-1, log = true}
optimizer = {type = "categorical", choices = ["lion", "adamw"]}
weight_decay = {type = "float", low = 1e-4, high = 10.0, log = true}
batch_size = {type = "int", low = 32, high = 256, log = true}
mixup_alpha = {type = "float", low = 0.0, high = 2.0}
label_smoothing = {type = "float", low = 0.0, high = 0.5}
max_frames = 8
num_folds = 2
precision = "float32"
""",
    num_signs=30,
    repeats=2,
)
RECORDINGS: Final = {"recorded": RECORDED, "wide": WIDE}


@dataclass(frozen=True)
class Curves:
    """N configurations and how each learned."""

    params: list[dict[str, Any]]
    accuracies: np.ndarray
    """float64 [N, EPOCHS] on held-out participants after each epoch; NaN from where a training diverged"""
    parameters: np.ndarray
    """int64 [N], of each model"""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises UserError if the table is not there."""
        if not path.exists():
            raise UserError(f"{path}: not there; record it with: python -m tests.bench.record_curves")
        table = pq.read_table(path)
        names = [name for name in table.column_names if name not in ("val_accuracy", "num_parameters")]
        rows = table.select(names).to_pylist()
        accuracies = np.array(table["val_accuracy"].to_pylist(), np.float64)
        return cls(rows, accuracies, table["num_parameters"].to_numpy())

    def write(self, path: Path) -> None:
        columns: dict[str, Any] = {name: [row[name] for row in self.params] for name in self.params[0]}
        columns["num_parameters"] = self.parameters
        columns["val_accuracy"] = pa.array(list(self.accuracies.astype(np.float32)), pa.list_(pa.float32()))
        with atomic_path(path) as temporary:
            pq.write_table(pa.table(columns), temporary, compression="zstd")
