"""Faulty ranges and conditions name their file, line and field."""

import pytest

from search.problem.space import Space
from tests.search.problem.test_space import BASE, PARENTS
from trainer.common.errors import UserError


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('num_head = {type = "int", low = 1, high = 8}', "num_head: not a field of TrainConfig"),
        ('fold = {type = "int", low = 0, high = 4}', "fold: must be one value for all trials"),
        ("num_head = 2", "num_head: not a field of TrainConfig; did you mean num_heads?"),
        ("fold = 5", "fold: must be between 0 and num_folds - 1 = 4, not 5"),
        ("landmarks = ['all', 'hands']", "landmarks: is a list without ranges"),
        ("num_signs = 250", "the dataset decides it"),
        ('num_heads = {type = "int", low = 8, high = 1}', "empty range: low 8 is above high 1"),
        ('conv_kernel = {type = "int", low = 3, high = 7}', "must be 0, or odd and between 3 and 31, not 4"),
        ('num_heads = {type = "int", low = 0, high = 8}', "num_heads: must be an integer of at least 1, not 0"),
        ('num_heads = {type = "int", low = 1.5, high = 8}', "low must be an integer, not 1.5"),
        ('num_heads = {type = "int", low = 1}', "high is missing"),
        ('num_heads = {type = "float", low = 1.0, high = 8.0}', "num_heads: must be of type int, not 1.0"),
        ('dropout = {type = "float", low = 0.0, high = 1.0}', "dropout: must be at least 0 and below 1, not 1.0"),
        ('dropout = {type = "float", low = 0.0, high = inf}', "high must be a number, not inf"),
        (
            'dropout = {type = "float", low = 0.0, high = 0.4, log = true}',
            "with log, low must be above 0, not 0; raise low, or",
        ),
        ('num_heads = {type = "int", low = 1, high = 4, step = 3, log = true}', "log and step cannot go together"),
        ('seed = {type = "int", low = 0, high = 4, log = true}', "with log, low must be at least 1, not 0; raise low"),
        ('dropout = {type = "float", low = 0.1, high = 0.4, log = 1}', "log must be true or false"),
        ('dropout = {type = "float", low = 0.1, high = 0.4, step = 0}', "step must be positive"),
        ('num_heads = {type = "int", low = 1, high = 8, step = 3}', "do not reach high 8; make that 7"),
        ('dropout = {type = "float", low = 0.0, high = 0.4, step = 0.3}', "do not reach high 0.4; make that 0.3"),
        (
            'dropout = {type = "float", low = 0.1, high = 0.4, step = 0.1, log = true}',
            "log and step cannot go together",
        ),
        ('dropout = {type = "float", low = 0.1, high = 0.4, hihg = 1}', "unknown key 'hihg'"),
        (
            'dropout = {type = "float", low = 0.0, high = 0.4, step = 1e-300}',
            "dropout: steps of 1e-300 from 0.0 to 0.4",
        ),
        (f'seed = {{type = "int", low = 0, high = {2**63}}}', f"high must be an integer, not {2**63}"),
        (f"learning_rate = {10**400}", "learning_rate: must be below 2**63, not a whole number of 1,329 bits"),
        ('seed = {type = "categorical", choices = [1, 2, 1]}', "choices has 1 twice"),
        (f'seed = {{type = "categorical", choices = {list(range(1001))}}}', "1,001 choices, and at most 1,000"),
        ('dropout = {type = "normal", low = 0.1, high = 0.4}', "type must be int, float or categorical"),
        ('precision = {type = "categorical", choices = []}', "choices must be a list of at least one value"),
        ('precision = {type = "categorical", choices = ["float32", "float8"]}', "not 'float8'"),
        ("batch_size = 0", "batch_size: must be an integer of at least 1"),
        ('batch_size = "many"', "batch_size: must be of type int"),
    ],
)
def test_faults_name_file_line_and_field(line: str, words: str) -> None:
    text = f'# a comment\nnum_layers = {{type = "int", low = 2, high = 4}}\n\n{line}\n'
    with pytest.raises(UserError) as caught:
        Space.parse(text, BASE, where="my.toml")
    assert str(caught.value).startswith("my.toml, line 4: ")
    assert words in str(caught.value)


def test_lines_are_told_among_tables_and_before_other_ranges() -> None:
    tables = "[[learning_rate]]\n%s[learning_rate.when]\noptimizer = 'adamw'\n[[learning_rate]]\n%s[optimizer]\n"
    rate = "type = 'float'\nlow = 1e-4\nhigh = 1e-2\n"
    cases = {
        "batch_size = 0\nnum_layers = {type = 'int', low = 2, high = 4}\n": 1,
        "landmarks = ['all']\nnum_layers = {type = 'int', low = 2, high = 4}\n": 1,
        "[num_heads]\ntype = 'int'\nlow = 2\nhigh = 1\n[dropout]\nwhen = {num_layers = 2}\n": 1,
        tables % (rate, rate) + "type = 'categorical'\nchoices = []\n": 11,
    }
    for text, line in cases.items():
        with pytest.raises(UserError, match=rf"my\.toml, line {line}: "):
            Space.parse(text, BASE, where="my.toml")


def test_fixed_values_are_checked_together() -> None:
    assert Space.parse('fold = 6\nnum_folds = 7\nepochs = {type = "int", low = 1, high = 2}', BASE).base.fold == 6


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('when = {optimiser = "lion"}', "when optimiser: not a field of TrainConfig; did you mean optimizer?"),
        ('when = {optimizer = "adam"}', "optimizer is never 'adam'; did you mean adamw?"),
        ("when = {num_layers = 5}", "num_layers is never 5; it can be 2 to 4, 6"),  # 6: where it is not searched
        ("when = {num_layers = [2, 1]}", "num_layers is never 1"),
        ("when = {num_layers = true}", "num_layers is never true"),
        ("when = {learned_positions = 1}", "learned_positions is never 1; it can be True, False"),
        ("when = {dropout = 0.1}", "dropout is a range without steps"),
        ("when = {batch_size = 64}", "batch_size has one value in this space, 64, so there is nothing to depend on"),
        ("when = {pooling = 'cls'}", "pooling has one value in this space, 'cls'"),
        ("when = {scale = 0.1}", "scale: depends on itself"),
        ("when = {optimizer = []}", "when must name values of other fields"),
        ("when = {optimizer = {low = 1}}", "when must name values of other fields"),
        ("when = 1", "when must name values of other fields"),
    ],
)
def test_conditions_that_cannot_be_name_their_line(value: str, words: str) -> None:
    text = f"{PARENTS}scale = {{type = 'float', low = 0.0, high = 0.5, step = 0.1, {value}}}\n"
    with pytest.raises(UserError) as caught:
        Space.parse(text, BASE, where="my.toml")
    assert str(caught.value).startswith("my.toml, line 6: ")
    assert words in str(caught.value)


def test_faulty_ranges_among_several_and_cycles_name_their_line() -> None:
    several = "# one\nscale = [\n  {type = 'int', %s},  # two {\n  {type = 'float', low = 0.0, high = 0.5%s},\n%s]\n"
    cases = {
        several % ("low = 0, high = 1", "", ""): "line 4: scale: never holds",
        several % ("low = 2, high = 1", "", ""): "line 3: scale: empty range",
        several % ("low = 0, high = 1, when = {optimizer = 'lion'}", "", "0.1"): "line 4: scale: holds always",
        several % ("low = 0, high = 1", ", wen = 1", ""): "line 4: scale: unknown key 'wen'",
        "[[scale]]\ntype='int'\nlow=0\nhigh=1\n[[scale]]\ntype='int'": "line 10: scale: low is missing",
    }
    for text, words in cases.items():
        with pytest.raises(UserError, match=words):
            Space.parse(PARENTS + text if "[[" in text else text + PARENTS, BASE, where="my.toml")
    cycle = "rotary = {type = 'categorical', choices = [true, false], when = {norm = 'rmsnorm'}}\n"
    cycle += "norm = {type = 'categorical', choices = ['rmsnorm', 'layernorm'], when = {rotary = true}}\n"
    with pytest.raises(UserError, match=r"line 6: rotary: depends on itself, by way of .* rotary, norm"):
        Space.parse(PARENTS + cycle, BASE, where="my.toml")
