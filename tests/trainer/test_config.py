import dataclasses
import json
import math
from typing import Any

import pytest

from trainer.common.errors import FieldError
from trainer.config import ModelConfig, TrainConfig


def test_json_holds_every_field_and_reads_back() -> None:
    config = TrainConfig(model=ModelConfig(num_heads=6, dropout=0.25), steps_per_epoch=7, learning_rate=3e-5)
    values = json.loads(json.dumps(config.to_json(), allow_nan=False))
    assert set(values) == {item.name for item in dataclasses.fields(TrainConfig)}
    assert set(values["model"]) == {item.name for item in dataclasses.fields(ModelConfig)}
    assert TrainConfig.from_json(values) == config


def test_absent_fields_take_their_defaults() -> None:
    assert TrainConfig.from_json({}) == TrainConfig()
    assert TrainConfig.from_json({"model": {"num_heads": 3}}) == TrainConfig(model=ModelConfig(num_heads=3, motion=0))


def test_a_model_of_a_time_before_motion_has_none() -> None:
    values = TrainConfig().to_json()
    del values["model"]["motion"]
    assert TrainConfig.from_json(values).model.motion == 0
    assert ModelConfig().motion == 2


@pytest.mark.parametrize("values", [{"learning_rat": 1e-3}, {"model": {"heads": 2}}, {"num_heads": 2}])
def test_unknown_keys_are_refused_by_name(values: dict[str, Any]) -> None:
    unknown = next(iter(values["model"])) if "model" in values else next(iter(values))
    with pytest.raises(FieldError, match=f"{unknown}: no such field of .*; the fields are"):
        TrainConfig.from_json(values)


def test_replace_finds_the_field_in_model_or_training() -> None:
    config = TrainConfig().replace(num_heads=5, learning_rate=1e-3)
    assert config == TrainConfig(model=ModelConfig(num_heads=5), learning_rate=1e-3)
    assert config.replace(model=ModelConfig(num_heads=4), num_layers=2).model == ModelConfig(num_heads=4, num_layers=2)
    with pytest.raises(FieldError, match="heads: no such field of TrainConfig"):
        config.replace(heads=2)
    with pytest.raises(FieldError, match="num_heads: must be"):
        config.replace(num_heads=0)


NAN = math.nan
SHARES = ("drop_path", "swa_start", "dropout_start", "frame_drop", "span_drop", "landmark_drop", "hand_drop")
BAD_VALUES = {
    **dict.fromkeys(SHARES, (-0.1, 1, NAN, "0.1")),
    "motion": (-1, 9, 1.0, True, None),
    "distances": (1, None, "yes"),
    "hand_frame": (0, "no"),
    "num_heads": (0, 1.5, True, "2"),
    "num_layers": (0, 2.0, 2**63),
    "num_signs": (0,),
    "max_frames": (0,),
    "dropout": (-0.1, 1, NAN, "0.1"),
    "epochs": (0, 1.5, 1_000_001),
    "steps_per_epoch": (0, 1.5, 10**12),
    "batch_size": (0, 1.5, 10**12),
    "learning_rate": (0, -1e-4, math.inf, NAN, "1e-4", None, 1e39),
    "final_learning_rate_ratio": (-0.1, 1.1, NAN),
    "weight_decay": (-1e-3, math.inf, NAN, 1e308),
    "clip_norm": (-1, math.inf, NAN, 1e308),
    "ema_decay": (-0.1, 1, NAN),
    "mixup_alpha": (-0.1, math.inf, NAN, 1e308, 10**400),
    "copies": (0, 1.5, 10**9),
    "mixup_partners": (0, 1.5, 10**9),
    "align_partners": (1, None),
    "all_participants": (1, None),
    "mirror_probability": (-0.1, 1.1, NAN),
    "time_stretch": (-0.1, math.inf, NAN, 1e308),
    "time_interpolation": ("cubic", None),
    "rotation": (-1, 181, NAN),
    "scale": (-0.1, math.inf, NAN, 1e308),
    "group_shift": (-0.1, math.inf, NAN, 1e308),
    "landmark_shift": (-0.1, math.inf, NAN, 1e308),
    "label_smoothing": (-0.1, 1, NAN),
    "num_folds": (1, 2.5),
    "landmarks": ("face", None),
    "norm": ("batchnorm", None),
    "learned_positions": (1, None),
    "rotary": (1, None),
    "pooling": ("max", None),
    "conv_kernel": (-1, 1, 4, 33, 3.0, True, None),
    "optimizer": ("sgd", None),
    "next_frame_frequency": (-0.1, 1.1, NAN),
    "fold": (-1, 5, 0.5),
    "precision": ("float64", None),
    "seed": (-1, 2**63, 0.5),
}
GOOD_EDGES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(SHARES, (0, 0.99)),
    "motion": (0, 8),
    "distances": (False, True),
    "hand_frame": (False, True),
    "conv_kernel": (0, 3, 31),
    "num_heads": (1,),
    "num_layers": (1,),
    "num_signs": (1,),
    "max_frames": (1,),
    "dropout": (0, 0.99),
    "epochs": (1, 1_000_000),
    "steps_per_epoch": (None, 1),
    "batch_size": (None, 1, 100_000),
    "learning_rate": (1e-12, 1, 1e30),
    "final_learning_rate_ratio": (0, 1),
    "weight_decay": (0,),
    "clip_norm": (0,),
    "ema_decay": (0, 0.99999),
    "mixup_alpha": (0, 10),
    "copies": (1, 1000),
    "mixup_partners": (1, 1000),
    "align_partners": (True, False),
    "all_participants": (True, False),
    "mirror_probability": (0, 1),
    "time_stretch": (0, 2),
    "time_interpolation": ("linear", "spline"),
    "rotation": (0, 180),
    "scale": (0, 2),
    "group_shift": (0, 1),
    "landmark_shift": (0, 1),
    "label_smoothing": (0, 0.5),
    "num_folds": (2,),
    "landmarks": ("all", "hands", "hands_lips", "hands_lips_pose"),
    "norm": ("rmsnorm", "layernorm"),
    "learned_positions": (True, False),
    "rotary": (True, False),
    "pooling": ("cls", "mean"),
    "optimizer": ("lion", "adamw"),
    "next_frame_frequency": (0, 1),
    "fold": (0, 4),
    "precision": ("auto", "float32", "bfloat16"),
    "seed": (0, 2**63 - 1),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_values_out_of_range_are_refused_by_field(name: str) -> None:
    for value in BAD_VALUES[name]:
        with pytest.raises(FieldError, match=rf"^{name}: must be .*, not ") as refusal:
            TrainConfig().replace(**{name: value})
        assert refusal.value.field == name
    for value in GOOD_EDGES[name]:
        TrainConfig().replace(**{name: value})


def test_every_field_has_its_range_tested() -> None:
    fields = {item.name for kind in (ModelConfig, TrainConfig) for item in dataclasses.fields(kind)} - {"model"}
    assert set(BAD_VALUES) == set(GOOD_EDGES) == fields


@pytest.mark.parametrize(("num_heads", "ffn_width"), [(1, 256), (2, 512), (3, 512), (4, 768), (6, 1024), (8, 1536)])
def test_widths_follow_llama(num_heads: int, ffn_width: int) -> None:
    # LLaMA's own arithmetic: int(2 * 4d / 3), rounded up to a multiple of 256
    config = ModelConfig(num_heads=num_heads)
    hidden = int(2 * 4 * config.width / 3)
    assert config.width == 64 * num_heads
    assert config.ffn_width == ffn_width == 256 * ((hidden + 255) // 256)
