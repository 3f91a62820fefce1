"""A small packed dataset, fabricated without trainer.pack, that a tiny model learns in a second."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from trainer.common.files import sha256
from trainer.config import ModelConfig, TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.data.normalize import normalize
from trainer.data.positions import LEFT_HAND, RIGHT_HAND
from trainer.landmarks import NUM_LANDMARKS, ROWS

NUM_SIGNS = 4
MAX_FRAMES = 12


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that a test must pass on."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    return torch.device(request.param)


def write_dataset(
    path: Path, *, seed: int = 0, num_participants: int = 5, repeats: int = 6, centred: bool = False
) -> Path:
    """Sequences of 1 to 16 frames: the sign is the direction in which the signer's one hand moves.

    Heads are at the origin only if ``centred``, as trainer.pack has them and a .tflite file puts them.
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[object, ...]] = []
    pieces: list[np.ndarray] = []
    start = 0
    for participant in range(num_participants):
        for index in range(repeats * NUM_SIGNS):
            label, length = index % NUM_SIGNS, int(rng.integers(1, 17))
            angle = 2 * np.pi * label / NUM_SIGNS
            frames = rng.normal(0, 0.05, (length, NUM_LANDMARKS, 2)) + 0.01 * participant
            shown, hidden, side = (RIGHT_HAND, LEFT_HAND, 1) if participant % 2 else (LEFT_HAND, RIGHT_HAND, -1)
            movement = np.linspace(0.2, 0.5, length)[:, None, None] * [side * np.cos(angle), np.sin(angle)]
            frames[:, shown] += movement
            frames[:, hidden] = 0
            frames[rng.random(length) < 0.2, shown[0] : shown[-1] + 1] = 0
            if centred:
                frames = normalize(np.where(frames == 0, np.nan, frames).astype(np.float32))
            pieces.append(frames.astype(np.float32))
            rows.append((1000 + len(rows), 10 + participant, f"sign {label}", label, start, length))
            start += length
    path.mkdir(parents=True)
    np.save(path / "frames.npy", np.concatenate(pieces))
    columns = ["sequence_id", "participant_id", "sign", "label", "start", "length"]
    pd.DataFrame(rows, columns=columns).to_parquet(path / "sequences.parquet", index=False)
    write_manifest(path)
    return path


def write_manifest(path: Path) -> None:
    """The manifest of the frames and sequences that stand in ``path``."""
    manifest = {
        "format_version": 1,
        "num_frames": len(np.load(path / "frames.npy", mmap_mode="r")),
        "num_sequences": len(pd.read_parquet(path / "sequences.parquet")),
        "label_names": [f"sign {label}" for label in range(NUM_SIGNS)],
        "landmark_ids": list(ROWS),
        "sha256": {name: sha256(path / name) for name in ("frames.npy", "sequences.parquet")},
    }
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return PackedDataset.open(write_dataset(tmp_path_factory.mktemp("data") / "packed"))


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    """A run of a second. Some sequences are longer than max_frames, and the gradient is clipped."""
    model = ModelConfig(num_heads=1, num_layers=1, num_signs=NUM_SIGNS, max_frames=MAX_FRAMES)
    return TrainConfig(model=model, epochs=3, batch_size=16, learning_rate=1e-3, precision="float32")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """On one thread float32 goes through compiled loops, on two through torch's operations."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)
