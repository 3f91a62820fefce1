"""The recorded trainings of tests.bench.record_curves, and what they predict for people who were made for this."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from tests.bench.curves import RECORDED
from trainer.common.console import track
from trainer.common.errors import UserError
from trainer.common.files import atomic_path, sha256, write_bytes
from trainer.data.batches import Batches
from trainer.data.dataset import PackedDataset
from trainer.data.manifest import MANIFEST
from trainer.data.packing import pack
from trainer.learning.loop import predict
from trainer.model.classifier import SignClassifier
from trainer.rundir import WEIGHTS, RunDir
from trainer.synthetic.generate import synthesize

OTHERS: Final = 48
"""People whom no run was trained on or validated on"""


@dataclass(frozen=True)
class Recorded:
    """The runs, and what they predict for other people."""

    params: list[dict[str, Any]]
    sizes: list[int]
    """Parameters of each model"""
    other_probs: np.ndarray
    """float16 [K, M, signs]"""
    other_labels: np.ndarray
    """int64 [M]"""
    other_participants: np.ndarray
    """int64 [M]"""

    @classmethod
    @functools.cache
    def read(cls, folder: Path) -> "Recorded":
        """Raises UserError if there is nothing. Predicts the other people's sequences if that was not done."""
        runs = {int(path.parent.name): RunDir(path.parent) for path in sorted(folder.glob("runs/*/done.json"))}
        if not runs:
            raise UserError(f"{folder}: holds no runs; make them with: python -m tests.bench.record_curves --again")
        every = RECORDED.configurations(max(runs) + 1)
        params = [every[number] for number in runs]
        other_probs, others = of_others(folder, list(runs.values()))
        return cls(
            params,
            [RECORDED.size(its) for its in params],
            other_probs,
            np.array(others.labels),
            np.array(others.participants),
        )


def of_others(folder: Path, runs: list[RunDir]) -> tuple[np.ndarray, PackedDataset]:
    """What the runs' models give sequences of people who were made for this; kept in the folder."""
    source, packed, kept = folder / "data" / "others", folder / "data" / "packed-others", folder / "other_probs.npy"
    if not (packed / MANIFEST).exists():
        synthesize(
            source, num_signs=RECORDED.num_signs, num_participants=OTHERS, repeats=3
        )  # other people, but the same signs
        pack(source, packed)
    dataset = PackedDataset.open(packed)
    weights = [sha256(run.path / WEIGHTS) for run in runs]
    asked = json.dumps([dataset.fingerprint, weights])
    stamp = kept.with_suffix(".json")
    if not stamp.exists() or stamp.read_text() != asked:
        probs = [predict_all(run, dataset) for run in track(runs, len(runs), "predicting other people")]
        with atomic_path(kept) as temporary, temporary.open("wb") as file:
            np.save(file, np.array(probs, np.float16))
        write_bytes(stamp, asked.encode())
    return np.load(kept), dataset


def predict_all(run: RunDir, dataset: PackedDataset) -> np.ndarray:
    """Probabilities of all its sequences, float32 [M, signs]."""
    config = run.read_config()
    model = SignClassifier(config.model)
    model.load_state_dict(run.read_weights())
    probs = np.empty((len(dataset), dataset.num_signs), np.float32)
    for fold in range(2):
        batches = Batches(dataset, config.replace(num_folds=2, fold=fold), torch.device("cpu"))
        probs[batches.val_indices] = predict(model.eval(), batches)
    return probs
