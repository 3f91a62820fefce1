import json
from pathlib import Path

import optuna
import pytest

from search.problem.space import DEFAULT_SPACE, RECIPE, Space, by_field
from trainer.common.errors import UserError
from trainer.config import ModelConfig, TrainConfig
from trainer.model.classifier import num_parameters

BASE = TrainConfig(epochs=7, seed=100)
CONDITIONAL = """
mixup_alpha = [{type = "float", low = 0.1, high = 1.0, when = {mixup_partners = 2}}, 0.0]
weight_decay = {type = "float", low = 0.1, high = 0.5, when = {optimizer = "adamw", num_layers = [5, 6]}}
learning_rate = [
    {type = "float", low = 1e-3, high = 1e-2, log = true, when = {optimizer = "adamw"}},
    {type = "float", low = 1e-5, high = 1e-4, log = true},
]
optimizer = {type = "categorical", choices = ["lion", "adamw"]}
mixup_partners = {type = "int", low = 1, high = 3, when = {optimizer = "adamw"}}
num_layers = {type = "int", low = 4, high = 6}
"""


def _suggest(space: Space, seed: int) -> list[TrainConfig]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(20)]


def test_default_space_covers_what_it_says() -> None:
    configs = _suggest(Space.parse(DEFAULT_SPACE, BASE), seed=0)
    for config in configs:
        assert 1 <= config.model.num_heads <= 8
        assert 2 <= config.model.num_layers <= 8
        assert 0 <= config.model.dropout <= 0.4
        assert 3e-5 <= config.learning_rate <= 1e-3
        assert 0 <= config.mixup_alpha <= 1
        assert config.epochs == 7
    assert [config.seed for config in configs] == [100 + number for number in range(20)]
    assert len({config.learning_rate for config in configs}) == 20


def test_fixed_values_choices_and_steps() -> None:
    text = """
    batch_size = 64
    seed = 5
    precision = {type = "categorical", choices = ["float32", "bfloat16"]}
    weight_decay = {type = "float", low = 0.0, high = 1.0, step = 0.25}

    [num_layers]
    type = "int"
    low = 2
    high = 6
    step = 2
    """
    configs = _suggest(Space.parse(text, BASE), seed=1)
    assert {config.batch_size for config in configs} == {64}
    assert {config.seed for config in configs} == {5}
    assert {config.precision for config in configs} == {"float32", "bfloat16"}
    assert {config.weight_decay for config in configs} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert {config.model.num_layers for config in configs} == {2, 4, 6}


def test_a_space_survives_json() -> None:
    space = Space.parse(DEFAULT_SPACE + "batch_size = 32\n", BASE)
    assert Space.from_source(space.source, space.base, where="study.json") == space


def test_what_is_not_toml_or_searches_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"my\.toml: not TOML.*line 2"):
        Space.parse("batch_size = 1\nnum_heads = = 2", BASE, where="my.toml")
    with pytest.raises(UserError, match="nothing to search"):
        Space.parse("batch_size = 1", BASE, where="my.toml")
    with pytest.raises(UserError, match=r"my\.toml, line 1: batchsize: .* did you mean batch_size"):
        Space.parse("batchsize = 1", BASE, where="my.toml")


def test_recipe_points_that_lie_in_the_space() -> None:
    assert Space.parse(DEFAULT_SPACE, BASE).recipe_points() == list(RECIPE)
    small = DEFAULT_SPACE.replace("low = 1, high = 8", "low = 1, high = 4")
    assert Space.parse(small, BASE).recipe_points() == [RECIPE[0]]
    layers_only = 'num_layers = {type = "int", low = 2, high = 8}\nnum_heads = 2\n'
    assert Space.parse(layers_only, BASE).recipe_points() == [{"num_layers": 6}]
    fixed = Space.parse(layers_only + "dropout = 0.2\n", BASE)
    assert fixed.recipe_points() == []
    assert Space.parse(DEFAULT_SPACE, BASE).recipe_points_left_out() == ""
    assert Space.parse(small, BASE).recipe_points_left_out() == "6 heads x 5 layers: num_heads is never 6 in this space"
    assert fixed.recipe_points_left_out() == (
        "2 heads x 6 layers: dropout is 0.2 in this space, not 0.1; "
        "6 heads x 5 layers: num_heads is 2 in this space, not 6"
    )


def test_conditional_fields_are_drawn_where_their_conditions_hold() -> None:
    space = Space.parse(CONDITIONAL, BASE)
    assert list(space.ranges)[:2] == ["optimizer", "learning_rate"]  # a parent before what depends on it
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        trial = study.ask()
        config = space.suggest(trial)
        is_adamw, is_deep = config.optimizer == "adamw", config.model.num_layers in (5, 6)
        assert ("weight_decay" in trial.params) == (is_adamw and is_deep)
        assert (config.weight_decay == BASE.weight_decay) != (is_adamw and is_deep)
        assert 1e-3 <= config.learning_rate <= 1e-2 if is_adamw else 1e-5 <= config.learning_rate <= 1e-4
        assert (config.mixup_alpha == 0.0) != ("mixup_alpha" in trial.params)
        assert config.mixup_alpha == 0.0 or config.mixup_partners == 2
        assert (config.mixup_partners == 1) or is_adamw  # its usual value where it is not searched
        fields = by_field(trial.params)
        assert len(fields) == len(trial.params)
        assert fields["learning_rate"] == config.learning_rate
        seen.add(tuple(sorted(trial.params)))
    assert len(seen) == 1 + 2 * 2  # lion; adamw, deep or not, with two partners or another number
    assert Space.from_source(json.loads(json.dumps(space.source)), BASE, where="study.json") == space


def test_recipe_points_of_a_conditional_space_take_the_recipes_values_of_parents() -> None:
    text = DEFAULT_SPACE.replace("learning_rate = {", "learning_rate = [{")
    text = text.replace("log = true}", 'log = true, when = {optimizer = "lion"}}, 0.01]')
    optimizers = 'optimizer = {type = "categorical", choices = [%s]}\n'
    point = Space.parse(text + optimizers % '"adamw", "lion"', BASE).recipe_points()[0]
    assert (point["optimizer"], point["learning_rate"]) == ("lion", 1e-4)
    adamw = Space.parse(text.replace('"lion"', '"adamw"') + optimizers % '"adamw"', BASE)
    assert "optimizer is never lion in this space" in adamw.recipe_points_left_out()


PARENTS = """\
optimizer = {type = "categorical", choices = ["lion", "adamw"]}
dropout = {type = "float", low = 0.0, high = 0.2}
learned_positions = {type = "categorical", choices = [true, false], when = {num_layers = 2}}
num_layers = {type = "int", low = 2, high = 4, when = {optimizer = "lion"}}
batch_size = 64
"""


def test_parameters_are_counted_as_the_recipe_states_them() -> None:
    counts = [
        num_parameters(ModelConfig(num_heads=heads, num_layers=layers, motion=0)) for heads, layers in ((6, 5), (2, 6))
    ]
    assert [round(count / 1e6, 1) for count in counts] == [9.2, 1.7]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"num_heads = " + b"[" * 2000 + b"]" * 2000, "not TOML: nested too deeply"),
        (b"epochs = " + b"9" * 5000, "not TOML: Exceeds the limit"),
        (b"dropout = \xff", r"cannot be read \(not UTF-8 text: invalid start byte at byte 10\)"),
        (b"\0", "not TOML: Invalid statement"),
        (b'"a\\nb" = 1', r", line 1: 'a\\nb': not a field of TrainConfig"),
        (b"", "nothing to search; add a line such as"),
    ],
)
def test_a_file_that_is_no_space_is_named_in_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_bytes(content)
    with pytest.raises(UserError, match=rf"space\.toml(: )?{words}[^\n]*$"):
        Space.read(tmp_path / "space.toml", BASE)


def test_a_space_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_bytes(b"\xef\xbb\xbf" + DEFAULT_SPACE.encode())
    assert Space.read(tmp_path / "space.toml", BASE).ranges == Space.parse(DEFAULT_SPACE, BASE).ranges


def test_a_folder_is_no_space(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^space: .*: cannot be read \(Is a directory\)$"):
        Space.read(tmp_path, BASE)


def test_the_smallest_of_gigantic_models_is_found_by_arithmetic() -> None:
    text = """
    num_layers = {type = "int", low = 100_000_000, high = 200_000_000}
    num_heads = {type = "int", low = 1, high = 10_000}
    """
    space = Space.parse(text, BASE)
    assert space.smallest() == {"num_layers": 100_000_000, "num_heads": 1}
    with pytest.raises(
        ValueError, match="the smallest model of the space, num_heads 1 and num_layers 100000000, has 6"
    ):
        space.limited(1_000_000)


def test_the_smallest_model_of_many_choices_is_found_at_once() -> None:
    many = list(range(900, 100, -1))
    text = f"""
    num_heads = {{type = "categorical", choices = {many}}}
    num_layers = {{type = "categorical", choices = {many}}}
    max_frames = {{type = "categorical", choices = {many}}}
    norm = {{type = "categorical", choices = ["layernorm", "rmsnorm"]}}
    """
    wanted = {"num_heads": 101, "num_layers": 101, "max_frames": 101, "norm": "rmsnorm"}
    assert Space.parse(text, BASE).smallest() == wanted


def test_conditions_without_number_are_refused() -> None:
    ranges = ", ".join(f'{{type = "int", low = {n}, high = 99, when = {{num_heads = {n}}}}}' for n in range(1, 30))
    others = ", ".join(f"{{type = 'int', low = {n}, high = 99, when = {{num_layers = {n}}}}}" for n in range(1, 30))
    text = f'num_layers = [{ranges}]\nmax_frames = [{others}]\nnum_heads = {{type = "int", low = 1, high = 99}}'
    with pytest.raises(ValueError, match="too many conditions on the model's shape to look at"):
        Space.parse(text, BASE).smallest()
