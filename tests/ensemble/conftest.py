"""A small study without any training: random classifiers with solved heads, better from trial to trial."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble.tflite import export, submission
from tests.outcomes import result_of
from trainer.config import ModelConfig, TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.metrics import accuracy, log_loss
from trainer.model.classifier import SignClassifier
from trainer.rundir import RunDir
from trainer.studydir import StudyDir
from trainer.synthetic.generate import synthesize
from trainer.validation import Validation

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 3)]  # heads, layers
NUM_FOLDS = 2
NUM_SIGNS = 6  # of ``small_model``
LABEL_NAMES = [f"sign{i}" for i in range(NUM_SIGNS)]


def random_classifier(config: ModelConfig, seed: int = 0) -> SignClassifier:
    """Weights large enough that all parts of the model matter to what it predicts."""
    generator = torch.Generator().manual_seed(seed)
    model = SignClassifier(config, generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.1 if "norm" in name else parameter.shape[-1] ** -0.5
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def predict(model: SignClassifier, dataset: PackedDataset, rows: np.ndarray) -> np.ndarray:
    """Its probabilities for sequences of a dataset: float32 [n, signs]."""
    frames = torch.from_numpy(np.concatenate([dataset.sequence(row) for row in rows]))
    with torch.inference_mode():
        probs: np.ndarray = torch.softmax(model(frames, dataset.lengths[rows]), dim=1).numpy()
    return probs


def taught(model: SignClassifier, dataset: PackedDataset, rows: np.ndarray, logits: np.ndarray) -> SignClassifier:
    """The model with a head that gives these sequences, fewer than it is wide, about the logits [n, signs]."""
    states: list[torch.Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))
    predict(model, dataset, rows)
    hook.remove()
    encoded = states[0].numpy().astype(np.float64)
    encoded = np.concatenate([encoded, np.ones((len(rows), 1))], axis=1)
    ridge = encoded @ encoded.T + 3.0 * np.eye(len(rows))
    solved = (encoded.T @ np.linalg.solve(ridge, logits)).T
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(solved[:, :-1]))
        model.head.bias.copy_(torch.from_numpy(solved[:, -1]))
    return model


def finish(
    run: RunDir, config: TrainConfig, model: SignClassifier, dataset: PackedDataset, probs: np.ndarray | None = None
) -> None:
    """Leave what a training leaves; ``probs`` are what the model gives the held-out sequences, if not that."""
    rows = dataset.split(NUM_FOLDS, config.fold)[1]
    labels = dataset.labels[rows]
    probs = predict(model, dataset, rows) if probs is None else probs
    run.write_config(config)
    run.write_weights(model.state_dict())
    if not config.all_participants:
        run.write_val_probs(probs)
    result = result_of(
        epochs=config.epochs,
        val_accuracy=accuracy(probs, labels),
        val_log_loss=log_loss(probs, labels),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        data_fingerprint=dataset.fingerprint,
    )
    run.write_result(result)


def write_study(path: Path, dataset: PackedDataset) -> Path:
    """A study directory as search.run leaves it: four finished trials and one that was stopped early."""
    study = StudyDir(path)
    rng = np.random.default_rng(0)
    rows = dataset.split(NUM_FOLDS, 0)[1]
    labels, num_signs = dataset.labels[rows], dataset.num_signs
    for number, (heads, layers) in enumerate(SHAPES):
        config = TrainConfig(model=ModelConfig(num_heads=heads, num_layers=layers, num_signs=num_signs))
        logits = rng.normal(size=(len(rows), num_signs))
        logits[np.arange(len(rows)), labels] += 1 + 0.3 * number
        model = taught(random_classifier(config.model, seed=number), dataset, rows, logits)
        finish(study.trial(number), config, model, dataset)
    study.trial(4).write_config(TrainConfig())
    about = {
        "label_names": dataset.sign_names,
        "data": str(dataset.path),
        "data_fingerprint": dataset.fingerprint,
        "created": "2026-01-01T00:00:00",
        "base_config": {},
    }
    study.write_request(about)
    study.write_validation(Validation.of(dataset, NUM_FOLDS, 0), dataset.sign_names)
    return path


def flip_bit(path: Path, place: int) -> None:
    """Change the lowest bit of one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def change_fields(path: Path, **fields: object) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def claim_other_data(study: Path) -> None:
    """As if the study had been made on another packed dataset than the one it names."""
    for path in [study / "study.json", *study.glob("trials/*/done.json")]:
        change_fields(path, data_fingerprint="another's")


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, packed: PackedDataset) -> Path:
    """Read only: whoever writes makes a copy."""
    return write_study(tmp_path_factory.mktemp("studies") / "small", packed)


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(study, tmp_path / "copy")


@pytest.fixture(scope="session")
def small_model() -> bytes:
    return build_small_model()


def build_small_model() -> bytes:
    """A .tflite file of one random classifier, labels attached."""
    classifier = random_classifier(ModelConfig(num_heads=1, num_layers=1, num_signs=NUM_SIGNS))
    weights = {name: weight.numpy() for name, weight in classifier.state_dict().items()}
    return submission.with_labels(export.build([export.Member(classifier.config, weights)]), LABEL_NAMES)


def written(folder: Path, model: bytes) -> Path:
    """A submission.zip of the model in a folder."""
    submission.write(folder / "submission.zip", model)
    return folder / "submission.zip"


@pytest.fixture(scope="session")
def contest_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated dataset in the contest's layout: twelve sequences of three signs."""
    path = tmp_path_factory.mktemp("contest") / "signs"
    synthesize(path, num_signs=3, num_participants=2, repeats=2)
    return path


@pytest.fixture(scope="session")
def zipped(contest_folder: Path) -> Path:
    names = sorted(json.loads((contest_folder / "sign_to_prediction_index_map.json").read_text()))
    classifier = random_classifier(ModelConfig(num_heads=1, num_layers=1, num_signs=3))
    weights = {name: weight.numpy() for name, weight in classifier.state_dict().items()}
    path = contest_folder.parent / "submission.zip"
    submission.write(path, submission.with_labels(export.build([export.Member(classifier.config, weights)]), names))
    return path


def lines_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "train.csv").open(newline="") as file:
        return list(csv.DictReader(file))
