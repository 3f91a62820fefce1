"""What one model is and how it is trained: two frozen, validated dataclasses that read and write JSON.

The field names are the names of the search space, the command line, config.json and every table.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Self

from trainer.landmarks import LANDMARK_SETS

HEAD_DIM = 64  # channels an attention head, in every model of the recipe
ROTARY_THETA = 10_000.0
NORM_EPS = 1e-5


def _check(condition: bool, name: str, value: object, rule: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {rule}, not {value!r}")


def _check_types(config: "ModelConfig | TrainConfig") -> None:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        kind: Any = int | float if item.type is float else item.type
        fits = isinstance(value, kind) and (item.type is bool or not isinstance(value, bool))
        _check(fits, item.name, value, f"of type {getattr(item.type, '__name__', item.type)}")


def _check_at_least(config: "ModelConfig | TrainConfig", least: int, *names: str) -> None:
    for name in names:
        _check(getattr(config, name) >= least, name, getattr(config, name), f"an integer of at least {least}")


def _check_below(config: "ModelConfig | TrainConfig", limit: float, *names: str) -> None:
    rule = "at least 0 and finite" if limit == math.inf else f"at least 0 and below {limit}"
    for name in names:
        _check(0 <= getattr(config, name) < limit, name, getattr(config, name), rule)


def _check_up_to(config: "ModelConfig | TrainConfig", most: int, *names: str) -> None:
    for name in names:
        _check(0 <= getattr(config, name) <= most, name, getattr(config, name), f"between 0 and {most}")


def _check_one_of(config: "ModelConfig | TrainConfig", name: str, *choices: str) -> None:
    _check(getattr(config, name) in choices, name, getattr(config, name), f"one of {', '.join(choices)}")


def _from_fields(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    known = {item.name for item in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown {kind.__name__} field {unknown[0]!r}; the fields are {', '.join(sorted(known))}")
    return values


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a classifier."""

    num_heads: int = 2
    """Attention heads of 64 channels; the model's width is 64 times this."""
    num_layers: int = 6
    """Transformer blocks."""
    num_signs: int = 250
    """Classes."""
    dropout: float = 0.1
    """Probability of dropping an attention weight, a projection's output or an FFN's output."""
    max_frames: int = 512
    """Longest sequence the positions cover; longer ones are cropped in training, resized in evaluation."""
    landmarks: str = "all"
    """Which of the 85 landmarks are seen: all, hands, hands_lips or hands_lips_pose."""
    norm: str = "rmsnorm"
    """rmsnorm or layernorm."""
    learned_positions: bool = True
    """Add a learned vector a position to the embedded frames."""
    rotary: bool = True
    """Rotate queries and keys by their positions."""
    pooling: str = "cls"
    """What the head reads: cls (a learned token before the frames) or mean (over the frames)."""

    def __post_init__(self) -> None:
        _check_types(self)
        _check_at_least(self, 1, "num_heads", "num_layers", "num_signs", "max_frames")
        _check_below(self, 1, "dropout")
        _check_one_of(self, "landmarks", *LANDMARK_SETS)
        _check_one_of(self, "norm", "rmsnorm", "layernorm")
        _check_one_of(self, "pooling", "cls", "mean")

    @property
    def width(self) -> int:
        """Channels of the residual stream."""
        return HEAD_DIM * self.num_heads

    @property
    def ffn_width(self) -> int:
        """Hidden channels of SwiGLU: 2/3 of 4 widths, rounded up to a multiple of 256 (LLaMA's rule)."""
        return 256 * math.ceil(8 * self.width / 3 / 256)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a training run produces, given a dataset."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The model's shape."""
    epochs: int = 100
    """Epochs; after each the EMA weights are validated."""
    steps_per_epoch: int | None = None
    """Optimizer steps an epoch; None means one pass over the training sequences."""
    batch_size: int = 128
    """Sequences a step."""
    learning_rate: float = 1e-4
    """Learning rate of the first step."""
    final_learning_rate_ratio: float = 0.1
    """Learning rate of the last step, as a share of the first; between them a cosine."""
    weight_decay: float = 1e-3
    """Decoupled weight decay, on matrices only."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this total norm; 0 turns it off."""
    ema_decay: float = 0.9999
    """Decay of the averaged weights, ramped as min(ema_decay, (1 + n) / (10 + n)) over steps n."""
    mixup_alpha: float = 0.5
    """Mixup weights come from Beta(alpha, alpha); 0 turns mixup off."""
    mixup_partners: int = 1
    """Sequences mixed into each; with more than one the weights come from a Dirichlet distribution."""
    align_partners: bool = False
    """Rotate and scale each partner round the head to fit the sequence that it is mixed into."""
    mirror_probability: float = 0.5
    """Share of training sequences that are mirrored."""
    time_stretch: float = 0.0
    """Each sequence is resampled to e^u times its frames, u uniform in +-time_stretch."""
    time_interpolation: str = "linear"
    """How frames are resampled: linear or spline (Catmull-Rom)."""
    rotation: float = 0.0
    """Each sequence is rotated round the head by up to this many degrees either way."""
    scale: float = 0.0
    """Each sequence's distances to the head are multiplied by e^u, u uniform in +-scale."""
    group_shift: float = 0.0
    """Standard deviation of an offset for the head, the shoulders, and each arm with its hand, in image widths."""
    landmark_shift: float = 0.0
    """Standard deviation of an offset for each landmark, the same in all frames of a sequence, in image widths."""
    label_smoothing: float = 0.0
    """Share of the loss that asks for all signs alike."""
    num_folds: int = 5
    """Participants are dealt into this many folds."""
    fold: int = 0
    """The fold whose participants are held out for validation."""
    all_participants: bool = False
    """Train on that fold too, to ship: accuracies are then of people trained on, and no val_probs are left."""
    optimizer: str = "lion"
    """lion (betas 0.9, 0.99) or adamw (betas 0.9, 0.999)."""
    next_frame_frequency: float = 0.0
    """Share of steps that also train the model, attending causally, to predict each next frame."""
    precision: str = "auto"
    """float32, bfloat16, or auto: bfloat16 where the hardware multiplies it, else float32."""
    seed: int = 0
    """Seed of initial weights, order of sequences, augmentation and dropout."""

    def __post_init__(self) -> None:
        _check_types(self)
        _check_at_least(self, 1, "epochs", "batch_size", "mixup_partners")
        _check_at_least(self, 2, "num_folds")
        steps = self.steps_per_epoch
        _check(steps is None or steps >= 1, "steps_per_epoch", steps, "at least 1")
        _check(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "positive and finite")
        _check_below(self, math.inf, "weight_decay", "clip_norm", "mixup_alpha", "time_stretch", "scale")
        _check_below(self, math.inf, "group_shift", "landmark_shift")
        _check_below(self, 1, "ema_decay", "label_smoothing")
        _check_up_to(self, 1, "final_learning_rate_ratio", "mirror_probability", "next_frame_frequency")
        _check_up_to(self, 180, "rotation")
        _check_one_of(self, "time_interpolation", "linear", "spline")
        _check_one_of(self, "optimizer", "lion", "adamw")
        _check_one_of(self, "precision", "auto", "float32", "bfloat16")
        last_fold = self.num_folds - 1
        _check(0 <= self.fold <= last_fold, "fold", self.fold, f"between 0 and num_folds - 1 = {last_fold}")
        _check(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2**63")

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the model's fields nested under "model"."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Inverse of ``to_json``. Raises ValueError for an unknown field or a value out of range."""
        values = dict(values)
        model = ModelConfig(**_from_fields(ModelConfig, values.pop("model", {})))
        return cls(model=model, **_from_fields(cls, values))

    def replace(self, **values: Any) -> Self:
        """A copy with fields changed by name, of the model or of the training alike.

        Raises ValueError for an unknown field or a value out of range.
        """
        model_names = {item.name for item in dataclasses.fields(ModelConfig)}
        model_values = {name: value for name, value in values.items() if name in model_names}
        train_values = {name: value for name, value in values.items() if name not in model_names}
        _from_fields(type(self), train_values)
        model = dataclasses.replace(train_values.pop("model", self.model), **model_values)
        return dataclasses.replace(self, model=model, **train_values)
