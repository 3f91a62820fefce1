"""Inputs of the benchmarks: sequences as long as the real ones, and the machine's own speed."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

from ensemble.ship.contract import lengths_at
from trainer.common.files import sha256
from trainer.data.dataset import PackedDataset
from trainer.data.manifest import FORMAT_VERSION, FRAMES, MANIFEST, SEQUENCES
from trainer.landmarks import ROWS


def real_lengths(count: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths distributed like the contest's: int64 [count]."""
    return lengths_at(rng.random(count)).astype(np.int64)


def packed_dataset(path: Path, count: int, num_signs: int = 250, num_participants: int = 21) -> PackedDataset:
    """Write and open a packed dataset of noise with the contest's lengths, signs and participants."""
    rng = np.random.default_rng(0)
    lengths = real_lengths(count, rng)
    path.mkdir(parents=True, exist_ok=True)
    shape = (int(lengths.sum()), len(ROWS), 2)
    frames = np.lib.format.open_memmap(path / FRAMES, "w+", np.float32, shape)
    for begin in range(0, len(frames), 65536):
        part = frames[begin : begin + 65536]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32) * 0.3
    frames.flush()
    labels = rng.integers(0, num_signs, count)
    names = [f"sign{label:03d}" for label in range(num_signs)]
    table = {
        "sequence_id": np.arange(count),
        "participant_id": rng.integers(0, num_participants, count),
        "sign": np.array(names)[labels],
        "label": labels,
        "start": np.cumsum(lengths) - lengths,
        "length": lengths,
    }
    pd.DataFrame(table).to_parquet(path / SEQUENCES)
    manifest = {
        "format_version": FORMAT_VERSION,
        "num_sequences": count,
        "num_frames": len(frames),
        "num_participants": num_participants,
        "label_names": names,
        "landmark_ids": list(ROWS),
        "sha256": {name: sha256(path / name) for name in (FRAMES, SEQUENCES)},
    }
    (path / MANIFEST).write_text(json.dumps(manifest))
    return PackedDataset.open(path)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's queue included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a large square matrix product: median of 5 after a warm-up."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = [seconds(lambda: left @ right, device) for _ in range(6)][1:]
    return 2 * size**3 / median(times) / 1e9
