"""A small study without any training: random classifiers, with made-up val_probs that grow better by trial."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.outcomes import result_of
from trainer.config import ModelConfig, TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.model.classifier import SignClassifier
from trainer.rundir import RunDir

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 3)]  # heads, layers
NUM_FOLDS = 2


def random_classifier(config: ModelConfig, seed: int = 0) -> SignClassifier:
    """Weights large enough that all parts of the model matter to what it predicts."""
    generator = torch.Generator().manual_seed(seed)
    model = SignClassifier(config, generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.1 if "norm" in name else parameter.shape[-1] ** -0.5
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write_study(path: Path, dataset: PackedDataset) -> Path:
    """A study directory as search.run leaves it: four finished trials and one that was stopped early."""
    rng = np.random.default_rng(0)
    rows = dataset.split(NUM_FOLDS, 0)[1]
    labels, num_signs = dataset.labels[rows], dataset.num_signs
    for number, (heads, layers) in enumerate(SHAPES):
        run = RunDir(path / "trials" / f"{number:04d}")
        config = TrainConfig(model=ModelConfig(num_heads=heads, num_layers=layers, num_signs=num_signs))
        model = random_classifier(config.model, seed=number)
        logits = rng.normal(size=(len(rows), num_signs))
        logits[np.arange(len(rows)), labels] += 1 + 0.3 * number
        run.write_config(config)
        run.write_weights(model.state_dict())
        run.write_val_probs(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
        run.write_result(
            result_of(
                epochs=1,
                val_accuracy=float((logits.argmax(axis=1) == labels).mean()),
                num_parameters=sum(parameter.numel() for parameter in model.parameters()),
                data_fingerprint="none",
            )
        )
    RunDir(path / "trials" / "0004").write_config(TrainConfig())
    about = {
        "label_names": dataset.sign_names,
        "data": str(dataset.path),
        "created": "2026-01-01T00:00:00",
    }
    (path / "study.json").write_text(json.dumps(about))
    columns = {
        "sequence_id": dataset.sequence_ids[rows],
        "participant_id": dataset.participants[rows],
        "label": labels,
        "sign": [dataset.sign_names[label] for label in labels],
        "length": dataset.lengths[rows],
    }
    pq.write_table(pa.table(columns), path / "validation.parquet")
    return path


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, packed: PackedDataset) -> Path:
    """Read only: whoever writes makes a copy."""
    return write_study(tmp_path_factory.mktemp("studies") / "small", packed)


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(study, tmp_path / "copy")
