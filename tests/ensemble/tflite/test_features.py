"""What models see of each frame, as the file makes it, against PyTorch, with which it shares no code."""

from typing import Any

import numpy as np
import pytest

from ensemble.tflite import export
from ensemble.tflite.runtime import Model
from tests.ensemble.conftest import random_classifier
from tests.ensemble.tflite.test_export import member, predict, sequence
from trainer.config import ModelConfig
from trainer.landmarks import FACE_ROWS, LEFT_HAND_ROWS, RIGHT_HAND_ROWS

FEATURES: list[dict[str, Any]] = [
    {"motion": 1},
    {"motion": 2},
    {"motion": 0, "distances": True},
    {"motion": 0, "hand_frame": True},
    {"motion": 0, "conv_kernel": 3},
    {"motion": 1, "conv_kernel": 17, "norm": "layernorm", "pooling": "mean"},
    {"motion": 3, "distances": True, "hand_frame": True, "landmarks": "hands_lips_pose"},
]


@pytest.mark.parametrize("asked", FEATURES, ids=str)
def test_equals_pytorch_with_every_feature(asked: dict[str, Any]):
    config = ModelConfig(num_heads=1, num_layers=2, num_signs=9, **asked)
    model = random_classifier(config)
    file = Model(export.build([member(model)]))
    for length in (1, 2, 3, 38, 512, 600):
        for missing in ((), (LEFT_HAND_ROWS,), (RIGHT_HAND_ROWS,), (FACE_ROWS, tuple(range(489, 500)))):
            raw = sequence(length, *missing)
            np.testing.assert_allclose(file(raw), predict(model, raw), atol=1e-5)
    assert np.ptp(predict(model, raw)) > 1e-3


def test_features_that_members_share_are_in_the_file_once():
    models = [
        random_classifier(ModelConfig(num_heads=1, num_layers=1, motion=2, distances=True), seed=seed)
        for seed in (0, 1)
    ]
    one, two = (Model(export.build([member(model) for model in models[:count]])) for count in (1, 2))
    alone = Model(export.build([member(random_classifier(ModelConfig(num_heads=1, num_layers=1, motion=0)))]))
    names = [[item["op_name"] for item in model._interpreter._get_ops_details()] for model in (alone, one, two)]
    assert [ops.count("SQRT") for ops in names] == [0, 3, 3]
