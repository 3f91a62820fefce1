"""The estimate of a model's latency."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from search.problem.latency_estimate import LatencyScale, multiply_adds
from search.problem.objective import Objective
from search.problem.space import Space
from search.record.request import Request
from tests.search.conftest import TINY_SPACE
from tests.search.problem.test_objective import SCALE
from trainer.config import ModelConfig, TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.model.classifier import SignClassifier
from trainer.studydir import StudyDir


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("landmarks", ["all", "hands"])
def test_multiply_adds_are_those_of_the_models_matrix_products(pooling: str, landmarks: str) -> None:
    """Those of its layers are counted as they run; attention takes 2 * tokens * tokens * width a block."""
    config = ModelConfig(num_heads=2, num_layers=3, num_signs=7, pooling=pooling, landmarks=landmarks)
    model = SignClassifier(config).eval()
    counted = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(module, torch.nn.Linear)
        counted += inputs[0].shape[0] * module.in_features * module.out_features

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.zeros(9, 85, 2), np.array([9]))
    tokens = 10 if pooling == "cls" else 9
    attended = 2 * tokens**2 * config.width * 2 + 2 * tokens * (1 if pooling == "cls" else tokens) * config.width
    assert multiply_adds(config, 9) == counted + attended


def test_latency_grows_with_every_head_layer_and_frame() -> None:
    for pooling in ("cls", "mean"):
        for heads in range(1, 5):
            for layers in range(1, 4):
                model = ModelConfig(num_heads=heads, num_layers=layers, pooling=pooling, max_frames=60)
                here = SCALE.milliseconds(model)
                assert here < SCALE.milliseconds(ModelConfig(num_heads=heads + 1, num_layers=layers, pooling=pooling))
                assert here < SCALE.milliseconds(ModelConfig(num_heads=heads, num_layers=layers + 1, pooling=pooling))
                assert multiply_adds(model, 20) < multiply_adds(model, 21)
                assert multiply_adds(model, 60) == multiply_adds(model, 61)  # longer ones are resized


def test_the_latency_scale_is_measured_once_and_kept(tmp_path: Path, packed: Path, base: TrainConfig) -> None:
    dataset = PackedDataset.open(packed)
    threads = torch.get_num_threads()
    scale = LatencyScale.measure(dataset.lengths)
    assert torch.get_num_threads() == threads
    assert scale.ms_per_million > 0
    assert min(dataset.lengths) <= min(scale.lengths) <= max(scale.lengths) <= max(dataset.lengths)
    request = Request.of(
        space=Space.parse(TINY_SPACE, base),
        dataset=dataset,
        trials=2,
        seed=0,
        sampler="tpe",
        pruner="none",
        recipe_points=True,
        objective=Objective("accuracy,latency", scale),
    )
    request.write(StudyDir(tmp_path))
    assert Request.read(StudyDir(tmp_path)).to_objective() == Objective("accuracy,latency", scale)
    content = json.loads((tmp_path / "study.json").read_text())
    del content["objective"], content["latency"]
    (tmp_path / "study.json").write_text(json.dumps(content))
    assert Request.read(StudyDir(tmp_path)).to_objective() == Objective()
