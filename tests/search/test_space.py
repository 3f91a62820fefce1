import optuna
import pytest

from search.space import DEFAULT_SPACE, SEED_POINTS, Space, num_parameters
from trainer.cli import UserError
from trainer.config import ModelConfig, TrainConfig

BASE = TrainConfig(epochs=7, seed=100)


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


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('num_head = {type = "int", low = 1, high = 8}', "num_head: not a field of TrainConfig"),
        ('fold = {type = "int", low = 0, high = 4}', "fold: must be one value for all trials"),
        ("num_signs = 250", "the dataset decides it"),
        ('num_heads = {type = "int", low = 8, high = 1}', "empty range: low 8 is above high 1"),
        ('num_heads = {type = "int", low = 0, high = 8}', "num_heads must be an integer of at least 1, not 0"),
        ('num_heads = {type = "int", low = 1.5, high = 8}', "low must be an integer, not 1.5"),
        ('num_heads = {type = "int", low = 1}', "high must be an integer, not None"),
        ('num_heads = {type = "float", low = 1.0, high = 8.0}', "num_heads must be of type int, not 1.0"),
        ('dropout = {type = "float", low = 0.0, high = 1.0}', "dropout must be at least 0 and below 1, not 1.0"),
        ('dropout = {type = "float", low = 0.0, high = inf}', "high must be a number, not inf"),
        ('dropout = {type = "float", low = 0.0, high = 0.4, log = true}', "low"),
        ('dropout = {type = "float", low = 0.1, high = 0.4, log = 1}', "log must be true or false"),
        ('dropout = {type = "float", low = 0.1, high = 0.4, step = 0}', "step must be positive"),
        ('dropout = {type = "float", low = 0.1, high = 0.4, step = 0.1, log = true}', "step"),
        ('dropout = {type = "float", low = 0.1, high = 0.4, hihg = 1}', "unknown key 'hihg'"),
        ('dropout = {type = "normal", low = 0.1, high = 0.4}', "type must be int, float or categorical"),
        ('precision = {type = "categorical", choices = []}', "choices must be a list of at least one value"),
        ('precision = {type = "categorical", choices = ["float32", "float8"]}', "not 'float8'"),
        ("batch_size = 0", "batch_size must be an integer of at least 1"),
        ('batch_size = "many"', "batch_size must be of type int"),
    ],
)
def test_faults_name_file_line_and_field(line: str, words: str) -> None:
    text = f'# a comment\nnum_layers = {{type = "int", low = 2, high = 4}}\n\n{line}\n'
    with pytest.raises(UserError) as caught:
        Space.parse(text, BASE, where="my.toml")
    assert str(caught.value).startswith("my.toml, line 4: ")
    assert words in str(caught.value)


def test_what_is_not_toml_or_searches_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"my\.toml: not TOML.*line 2"):
        Space.parse("batch_size = 1\nnum_heads = = 2", BASE, where="my.toml")
    with pytest.raises(UserError, match="nothing to search"):
        Space.parse("batch_size = 1", BASE, where="my.toml")


def test_seed_points_that_lie_in_the_space() -> None:
    assert Space.parse(DEFAULT_SPACE, BASE).seed_points() == list(SEED_POINTS)
    small = DEFAULT_SPACE.replace("low = 1, high = 8", "low = 1, high = 4")
    assert Space.parse(small, BASE).seed_points() == [SEED_POINTS[0]]
    layers_only = 'num_layers = {type = "int", low = 2, high = 8}\nnum_heads = 2\n'
    assert Space.parse(layers_only, BASE).seed_points() == [{"num_layers": 6}]
    assert Space.parse(layers_only + "dropout = 0.2\n", BASE).seed_points() == []


def test_parameters_are_counted_as_the_seed_states_them() -> None:
    counts = [num_parameters(ModelConfig(num_heads=heads, num_layers=layers)) for heads, layers in ((6, 5), (2, 6))]
    assert [round(count / 1e6, 1) for count in counts] == [9.2, 1.7]
