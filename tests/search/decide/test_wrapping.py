"""Conditional spaces in a study: what is drawn, remembered and drawn again after an interruption."""

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pytest
from optuna.samplers import RandomSampler

from search.decide import wrapping
from search.decide.study import Assignment, SearchStudy
from search.decide.wrapping import WholeSampler
from search.problem import space as space_module
from search.problem.ranges import field_value
from search.problem.space import DEFAULT_SPACE, Space
from search.record.trials import to_rows
from tests.outcomes import result_of
from tests.search.problem.test_space import CONDITIONAL
from tests.search.studies import open_study
from trainer.config import ModelConfig, TrainConfig
from trainer.model.classifier import num_parameters
from trainer.rundir import Result

BASE = TrainConfig(epochs=2).replace(num_signs=3)
NUM_TRIALS = 13  # of which TPE draws the last three from a model of the first ten
WORDS = {
    "landmarks": ("hands", "hands_lips"),
    "norm": ("layernorm", "rmsnorm"),
    "pooling": ("mean", "cls"),
    "time_interpolation": ("spline", "linear"),
    "precision": ("float32", "bfloat16"),
}
FIXED = {"num_signs", "model", "fold", "num_folds", "all_participants", "optimizer"}


def _every_field() -> str:
    """A space that searches each field in two ways, depending on the optimizer: two ranges, or one and the default."""
    lines = ['optimizer = {type = "categorical", choices = ["adamw", "lion"]}']
    fields = {item.name: item for kind in (ModelConfig, TrainConfig) for item in dataclasses.fields(kind)}
    for index, (name, item) in enumerate(fields.items()):
        if name in FIXED:
            continue
        if item.type is bool or item.type is str:
            choices = [*WORDS.get(name, ())] or ["true", "false"]
            quoted = ", ".join(choice if item.type is bool else f'"{choice}"' for choice in choices)
            first = f'{{type = "categorical", choices = [{quoted}], when = {{optimizer = "adamw"}}}}'
            second = f'{{type = "categorical", choices = [{quoted}]}}'
        elif name == "conv_kernel":
            first = '{type = "int", low = 3, high = 7, step = 2, when = {optimizer = ["adamw"]}}'
            second = '{type = "categorical", choices = [0, 3, 17]}'
        else:
            kind, low, high = ("float", 0.1, 0.9) if item.type is float else ("int", 2, 8)
            first = f'{{type = "{kind}", low = {low}, high = {high}, when = {{optimizer = ["adamw"]}}}}'
            second = f'{{type = "{kind}", low = {low}, high = {high}, log = true}}'
        lines.append(f"{name} = [{first}, {second}]" if index % 2 else f"{name} = {first}")
    return "\n".join(lines)


def _open(directory: Path, text: str, **options: Any) -> SearchStudy:
    directory.mkdir(exist_ok=True)
    return open_study(directory, Space.parse(text, BASE), trials=NUM_TRIALS, seed=3, **options)


def _result(config: TrainConfig) -> Result:
    """Better with a low learning rate, and with adamw."""
    accuracy = 0.5 - config.learning_rate / 3 + (0.1 if config.optimizer == "adamw" else 0.0)
    return result_of(config.epochs, accuracy)


def _ask_interrupted(study: SearchStudy, draws: int) -> Assignment | None:
    """As ``ask``, but cut off after this many parameters were drawn."""
    suggest, count = space_module._suggest, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal count
        if count == draws:
            raise KeyboardInterrupt
        count += 1
        return suggest(*arguments)

    with mock.patch.object(space_module, "_suggest", interrupted):
        return study.ask()


def _outcome(study: SearchStudy) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.state, trial.params, trial.value) for trial in study.trials()]


@pytest.mark.parametrize(("text", "sampler"), [(CONDITIONAL, "tpe"), (CONDITIONAL, "random"), (_every_field(), "tpe")])
def test_an_interrupted_search_draws_as_an_undisturbed_one(tmp_path: Path, text: str, sampler: str) -> None:
    study = _open(tmp_path / "calm", text, sampler=sampler)
    while (assignment := study.ask()) is not None:
        study.complete(assignment.number, _result(assignment.config))
    expected, configs = _outcome(study), [study.space.config(trial.params) for trial in study.trials()]
    study.close()
    assert len({tuple(outcome[2]) for outcome in expected}) > 1

    study = _open(tmp_path / "study", text, sampler=sampler)
    for number in range(NUM_TRIALS):
        try:
            assignment = _ask_interrupted(study, 2 * number)
        except KeyboardInterrupt:
            study = _open(tmp_path / "study", text, sampler=sampler)  # as after a SIGKILL
            assignment = study.ask()
        assert assignment is not None
        assert assignment.number == number
        assert dataclasses.replace(assignment.config, seed=0) == dataclasses.replace(configs[number], seed=0)
        study.complete(number, _result(assignment.config))
    assert _outcome(study) == expected
    rows = {row.number: row.params for row in to_rows(study.trials())}
    study.close()
    for number, config in enumerate(configs):
        assert all(field_value(config, name) == value for name, value in rows[number].items())


def test_no_model_over_the_limit_is_ever_a_trial(tmp_path: Path) -> None:
    space = Space.parse(DEFAULT_SPACE, BASE).limited(700_000)
    assert "2 heads x 6 layers: its 1.73M parameters are over the limit" in space.recipe_points_left_out()
    study = open_study(tmp_path, space, trials=NUM_TRIALS, seed=3)
    sizes = []
    while (assignment := study.ask()) is not None:
        sizes.append(num_parameters(assignment.config.model))
        study.complete(assignment.number, _result(assignment.config))
    assert len(sizes) == len(study.trials()) == NUM_TRIALS
    assert max(sizes) <= 700_000
    assert len(set(sizes)) > 3
    study.close()


@pytest.mark.parametrize("attempts", [1000, 0])
def test_a_sampler_that_insists_on_models_over_the_limit_has_the_shape_drawn_at_random(
    attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that does not help either, the smallest is taken."""
    monkeypatch.setattr(wrapping, "RANDOM_ATTEMPTS", attempts)
    most = 3 if attempts else 2
    text = 'num_layers = {type = "int", low = 2, high = 9}\nscale = {type = "float", low = 0.0, high = 1.0}'
    space = Space.parse(text, BASE).limited(num_parameters(BASE.replace(num_layers=3).model))

    class Stubborn(RandomSampler):
        def sample_relative(self, *_: Any) -> dict[str, Any]:
            return {"num_layers": 9, "scale": 0.25}

    study = optuna.create_study(sampler=WholeSampler(Stubborn(seed=0), space, seed=0))
    configs = [space.suggest(study.ask()) for _ in range(4)]
    assert {config.scale for config in configs} == {0.25}
    assert {config.model.num_layers for config in configs} <= set(range(2, most + 1))


def test_the_smallest_model_is_found_across_conditions() -> None:
    text = """
    landmarks = {type = "categorical", choices = ["all", "hands"]}
    num_layers = [{type = "int", low = 3, high = 6, when = {num_heads = 1}}, {type = "int", low = 1, high = 2}]
    num_heads = {type = "int", low = 1, high = 3}
    pooling = [{type = "categorical", choices = ["cls", "mean"], when = {num_layers = 2}}, "cls"]
    """
    space = Space.parse(text, BASE)
    shapes = [
        {"num_heads": heads, "num_layers": layers, "landmarks": "hands", "pooling": "cls"}
        for heads, layers in ((1, 3), (2, 1), (2, 2))
    ]
    least = min(num_parameters(BASE.replace(**shape).model) for shape in shapes)
    assert num_parameters(space.shaped(space.smallest()).model) == least
    assert space.limited(least).max_params == least
    with pytest.raises(ValueError, match=rf"even the smallest model of the space, .* has {least / 1e6:.3f}M"):
        space.limited(least - 1)
