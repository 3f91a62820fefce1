"""A small packed dataset and one Ray for all tests of the search."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from search.execute import cluster
from search.show.progress import Progress
from tests.trainer.conftest import NUM_SIGNS, write_dataset
from trainer.config import TrainConfig

TINY_SPACE = """\
num_heads = 1
num_layers = {type = "int", low = 1, high = 2}
learning_rate = {type = "float", low = 1e-4, high = 1e-2, log = true}
mixup_alpha = {type = "float", low = 0.0, high = 1.0}
batch_size = 32
precision = "float32"
max_frames = 16
"""


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("search") / "packed", centred=True)


@pytest.fixture(scope="session")
def resources() -> cluster.Resources:
    return cluster.Resources(cpus=1)


@pytest.fixture(scope="session")
def ray_with_two_workers(resources: cluster.Resources) -> Iterator[None]:
    with cluster.connect(None, resources, workers=2):
        yield


@pytest.fixture
def base() -> TrainConfig:
    return TrainConfig(epochs=4).replace(num_signs=NUM_SIGNS)


@pytest.fixture
def progress() -> Progress:
    """Plain lines, kept in memory."""
    return Progress(Console(file=io.StringIO(), width=200), "study", 8)
