"""What one model is and how it is trained: two frozen, validated dataclasses that read and write JSON.

The field names are the names of the search space, the command line, config.json and every table.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Self

from trainer.common.errors import FieldError
from trainer.common.fields import Option, option
from trainer.common.strict import described, is_number
from trainer.landmarks import LANDMARK_SETS

HEAD_DIM = 64  # channels an attention head, in every model of the recipe
ROTARY_THETA = 10_000.0
NORM_EPS = 1e-5
MOST_KERNEL = 31  # tokens, a second of the contest's videos
KERNEL_RULE = f"0, or odd and between 3 and {MOST_KERNEL}"
MOST_MOTION = 8  # frames that velocities reach back; each adds 255 inputs
_MOST: dict[str, float] = {  # far beyond use; more would take all memory or time, or overflow
    "epochs": 1_000_000,
    "steps_per_epoch": 1_000_000_000,
    "batch_size": 100_000,
    "learning_rate": 1e38,  # of float32
    "weight_decay": 1000,
    "clip_norm": 1e30,
    "copies": 1000,
    "mixup_partners": 1000,
    "mixup_alpha": 1000,
    "time_stretch": 5,
    "scale": 5,
    "group_shift": 100,
    "landmark_shift": 100,
}
_OF_EARLIER_VERSIONS: dict[str, Any] = {"motion": 0}  # what models were before there was such a field
OPTIMIZER, AUGMENTATION, DATA = "optimizer", "augmentation", "data"  # headings of fields in help pages


def _check(condition: bool, name: str, value: object, rule: str) -> None:
    if not condition:
        raise FieldError(f"must be {rule}, not {described(value)}", field=name)


def _check_types(config: "ModelConfig | TrainConfig") -> None:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        kind: Any = int | float if item.type is float else item.type
        fits = isinstance(value, kind) and (item.type is bool or not isinstance(value, bool))
        _check(fits, item.name, value, f"of type {getattr(item.type, '__name__', item.type)}")
        if isinstance(value, int):
            _check(is_number(value), item.name, value, "below 2**63")  # what everything that it is written to holds


def _check_at_least(config: "ModelConfig | TrainConfig", least: int, *names: str) -> None:
    for name in names:
        _check(getattr(config, name) >= least, name, getattr(config, name), f"an integer of at least {least}")


def _check_at_most(config: "ModelConfig | TrainConfig", most: dict[str, float]) -> None:
    for name, limit in most.items():
        value = getattr(config, name)
        _check(
            value is None or value <= limit,
            name,
            value,
            f"at most {limit:,}" if isinstance(limit, int) else f"at most {limit:g}",
        )


def _check_below(config: "ModelConfig | TrainConfig", limit: float, *names: str) -> None:
    rule = "at least 0 and finite" if limit == math.inf else f"at least 0 and below {limit}"
    for name in names:
        _check(0 <= getattr(config, name) < limit, name, getattr(config, name), rule)


def _check_up_to(config: "ModelConfig | TrainConfig", most: int, *names: str) -> None:
    for name in names:
        _check(0 <= getattr(config, name) <= most, name, getattr(config, name), f"between 0 and {most}")


def _check_choices(config: "ModelConfig | TrainConfig") -> None:
    for item in dataclasses.fields(config):
        if (choices := item.metadata.get("option", Option()).choices) is not None:
            value = getattr(config, item.name)
            _check(value in choices, item.name, value, f"one of {', '.join(choices)}")


def _from_fields(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    known = {item.name for item in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known, key=str)
    if unknown:
        raise FieldError(
            f"no such field of {kind.__name__}; the fields are {', '.join(sorted(known))}", field=unknown[0]
        )
    return values


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a classifier.

    >>> ModelConfig(num_heads=3).width
    192
    """

    num_heads: int = 2
    """Attention heads of 64 channels; the model's width is 64 times this."""
    num_layers: int = 6
    """Transformer blocks."""
    num_signs: int = 250
    """Classes, as many as the dataset has signs."""
    dropout: float = 0.1
    """Probability of dropping an attention weight, a projection's output or an FFN's output."""
    drop_path: float = 0.0
    """Probability that the last block's attention, and its FFN, are skipped for a sequence in training (stochastic
    depth); it grows evenly from block to block up to this."""
    max_frames: int = 512
    """Longest sequence in frames. Longer ones are cropped in training and resized in evaluation."""
    landmarks: str = option("all", choices=tuple(LANDMARK_SETS))
    """Which of the 85 landmarks the model sees."""
    motion: int = 2
    """Beside positions, see velocities and speeds over 1 to this many frames; the recipe sees none, 0."""
    distances: bool = False
    """Beside positions, see distances between fingertips, wrists, elbows, shoulders, eyes, nose and mouth."""
    hand_frame: bool = False
    """Beside positions, see each hand's landmarks relative to its own wrist."""
    norm: str = option("rmsnorm", choices=("rmsnorm", "layernorm"))
    """Normalisation before attention, before the FFN and before the head."""
    learned_positions: bool = True
    """Add a learned vector per position to the embedded frames."""
    rotary: bool = True
    """Rotate queries and keys by their positions."""
    conv_kernel: int = 0
    """Tokens that a depthwise convolution over time reaches across, in each block before attention: odd, or 0 for none.
    It begins as the identity."""
    pooling: str = option("cls", choices=("cls", "mean"))
    """What the head reads: a learned token before the frames (cls), or the mean over the frames."""

    def __post_init__(self) -> None:
        _check_types(self)
        _check_choices(self)
        _check_at_least(self, 1, "num_heads", "num_layers", "num_signs", "max_frames")
        _check_at_least(self, 0, "motion")
        _check_at_most(self, {"motion": MOST_MOTION})
        kernel = self.conv_kernel
        _check(kernel == 0 or (kernel % 2 == 1 and 3 <= kernel <= MOST_KERNEL), "conv_kernel", kernel, KERNEL_RULE)
        _check_below(self, 1, "dropout", "drop_path")

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
    """Everything that decides what a training run produces, given a dataset. Fields out of range raise FieldError.

    >>> TrainConfig(epochs=30).replace(num_heads=4, learning_rate=3e-4).model.num_heads
    4
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    """The model's shape."""
    epochs: int = 100
    """Epochs. The EMA weights are validated after each."""
    steps_per_epoch: int | None = None
    """Optimizer steps per epoch (default: as many as one pass over the training sequences takes)."""
    batch_size: int | None = None
    """Sequences per optimizer step (default: 128, or as few as give 30 steps per epoch, but at least 8)."""
    learning_rate: float = option(1e-4, group=OPTIMIZER)
    """Learning rate of the first step."""
    final_learning_rate_ratio: float = option(0.1, group=OPTIMIZER)
    """Learning rate of the last step as a share of the first; it follows a cosine between them."""
    weight_decay: float = option(1e-3, group=OPTIMIZER)
    """Decoupled weight decay, on matrices only."""
    clip_norm: float = option(1.0, group=OPTIMIZER)
    """Gradients are scaled down to this total norm; 0 turns it off."""
    ema_decay: float = option(0.9999, group=OPTIMIZER)
    """Decay of the averaged weights (EMA), ramped as min(ema_decay, (1 + n) / (10 + n)) over steps n."""
    swa_start: float = option(0.0, group=OPTIMIZER)
    """Share of the training after which the averaged weights are the plain mean of all steps since (SWA); with 0 they
    stay a moving average."""
    dropout_start: float = 0.0
    """Share of the training before which nothing is dropped in the model."""
    copies: int = option(1, group=AUGMENTATION)
    """Crops of each sequence in a batch, each augmented on its own, in place of other sequences."""
    mixup_alpha: float = option(0.5, group=AUGMENTATION)
    """Mixup weights come from Beta(alpha, alpha); 0 turns mixup off."""
    mixup_partners: int = option(1, group=AUGMENTATION)
    """Sequences mixed into each; with more than one the weights come from a Dirichlet distribution."""
    align_partners: bool = option(False, group=AUGMENTATION)
    """Rotate and scale each partner round the head to fit the sequence that it is mixed into."""
    mirror_probability: float = option(0.5, group=AUGMENTATION)
    """Share of training sequences that are mirrored."""
    time_stretch: float = option(0.0, group=AUGMENTATION)
    """Each sequence is resampled to e^u times its frames, with u uniform in +-time_stretch."""
    time_interpolation: str = option("linear", choices=("linear", "spline"), group=AUGMENTATION)
    """How frames are resampled; spline is Catmull-Rom's."""
    rotation: float = option(0.0, group=AUGMENTATION)
    """Each sequence is rotated round the head by up to this many degrees either way."""
    scale: float = option(0.0, group=AUGMENTATION)
    """Each sequence's distances to the head are multiplied by e^u, u uniform in +-scale."""
    group_shift: float = option(0.0, group=AUGMENTATION)
    """Standard deviation, in image widths, of a random offset for the head, the shoulders, and each arm and hand."""
    landmark_shift: float = option(0.0, group=AUGMENTATION)
    """Standard deviation, in image widths, of a random offset for each landmark, constant over a sequence."""
    frame_drop: float = option(0.0, group=AUGMENTATION)
    """Largest share of a sequence's frames that are left out, here and there; each sequence has a share of its own."""
    span_drop: float = option(0.0, group=AUGMENTATION)
    """Longest span of time, as a share of the sequence, in which all landmarks are hidden."""
    landmark_drop: float = option(0.0, group=AUGMENTATION)
    """Probability of hiding a landmark throughout a sequence."""
    hand_drop: float = option(0.0, group=AUGMENTATION)
    """Probability of hiding one of the two hands throughout a sequence."""
    label_smoothing: float = 0.0
    """Share of the loss that wants all signs equally likely."""
    num_folds: int = option(5, group=DATA)
    """Number of folds that participants are dealt into."""
    fold: int = option(0, group=DATA)
    """The fold whose participants are held out for validation."""
    all_participants: bool = option(False, group=DATA)
    """Train on the held-out fold too, for weights to ship. Accuracies are then those on people that were trained on,
    and val_probs.npy is not written."""
    optimizer: str = option("lion", choices=("lion", "adamw"), group=OPTIMIZER)
    """Betas are 0.9 and 0.99 for lion, 0.9 and 0.999 for adamw."""
    next_frame_frequency: float = 0.0
    """Share of steps that also train the model, attending causally, to predict each next frame."""
    precision: str = option("auto", choices=("auto", "float32", "bfloat16"))
    """Of matrix products. auto is bfloat16 on GPUs that multiply it and on CPUs with AMX, else float32."""
    seed: int = 0
    """Random seed of initial weights, order of sequences, augmentation and dropout."""

    def __post_init__(self) -> None:
        _check_types(self)
        _check_choices(self)
        _check_at_least(self, 1, "epochs", "copies", "mixup_partners")
        _check_at_least(self, 2, "num_folds")
        for name in ("batch_size", "steps_per_epoch"):
            value = getattr(self, name)
            _check(value is None or value >= 1, name, value, "an integer of at least 1")
        _check(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "positive and finite")
        _check_below(self, math.inf, "weight_decay", "clip_norm", "mixup_alpha", "time_stretch", "scale")
        _check_below(self, math.inf, "group_shift", "landmark_shift")
        _check_below(self, 1, "ema_decay", "label_smoothing", "swa_start", "dropout_start")
        _check_below(self, 1, "frame_drop", "span_drop", "landmark_drop", "hand_drop")
        _check_up_to(self, 1, "final_learning_rate_ratio", "mirror_probability", "next_frame_frequency")
        _check_up_to(self, 180, "rotation")
        _check_at_most(self, _MOST)
        last_fold = self.num_folds - 1
        _check(0 <= self.fold <= last_fold, "fold", self.fold, f"between 0 and num_folds - 1 = {last_fold}")
        _check(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2**63")

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the model's fields nested under "model"."""
        return dataclasses.asdict(self)

    def to_flat(self) -> dict[str, Any]:
        """All fields by their names, the model's beside the others."""
        values = self.to_json()
        return {**values.pop("model"), **values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Inverse of ``to_json``, also of earlier versions. Raises FieldError for an unknown field or a bad value."""
        _check(isinstance(values, dict), "values", values, "an object of the training's fields")
        values = dict(values)
        model_values = values.pop("model", {})
        _check(isinstance(model_values, dict), "model", model_values, "an object of the model's fields")
        if model_values:
            model_values = _OF_EARLIER_VERSIONS | model_values
        model = ModelConfig(**_from_fields(ModelConfig, model_values))
        return cls(model=model, **_from_fields(cls, values))

    def replace(self, **values: Any) -> Self:
        """A copy with fields changed by name, of the model or of the training alike.

        Raises FieldError for an unknown field or a value out of range.
        """
        model_names = {item.name for item in dataclasses.fields(ModelConfig)}
        model_values = {name: value for name, value in values.items() if name in model_names}
        train_values = {name: value for name, value in values.items() if name not in model_names}
        _from_fields(type(self), train_values)
        base: Any = train_values.pop("model", self.model)
        _check(isinstance(base, ModelConfig), "model", base, "a ModelConfig")
        model: ModelConfig = dataclasses.replace(base, **model_values)
        return dataclasses.replace(self, model=model, **train_values)
