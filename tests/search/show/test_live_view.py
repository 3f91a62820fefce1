"""The live view on terminals of any size."""

import io
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from search.show.live_trial import LiveTrial
from search.show.live_view import MARGIN, Standing, draw, fold, named

PARAMS = {"num_heads": 3, "num_layers": 5, "dropout": 0.1234, "learning_rate": 1.2e-4, "mixup_alpha": 0.5}


def _trial(number: int, epoch: int, **others: Any) -> LiveTrial:
    return LiveTrial(number, PARAMS, 30, epoch, {done: done / 10 for done in range(1, epoch + 1)}, **others)


def _lines(standing: Standing, width: int, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    drawn = draw(standing, console, console.options)
    return ["".join(segment.text for segment in line).rstrip() for line in drawn]


def _standing(running: int = 2, **others: Any) -> Standing:
    trials = [_trial(0, 4, since=100.0, expected=10.0), *(_trial(number, 2) for number in range(1, running))]
    head = ["study: 2/64 ended", "0:12:00 left", "0:00:30 gone", "2 of 2 workers at work", "memory 5.1 of 15.6 GB"]
    best = [("best so far 0.4000 at epoch 4 of trial 0 (running)", PARAMS)]
    return Standing(104.0, head, "1 complete, 0 pruned, 1 failed", 2, 64, best, trials, **others)


def test_a_line_breaks_between_parts_and_a_long_part_between_words() -> None:
    assert fold(["num_heads 3", "dropout 0.1", "num_layers 5"], 24) == ["num_heads 3,", "dropout 0.1,", "num_layers 5"]
    assert fold(["num_heads 3", "dropout 0.1", "num_layers 5"], 25) == ["num_heads 3, dropout 0.1,", "num_layers 5"]
    assert fold(["a b", "learning_rate 0.00012"], 13) == ["a b,", "learning_rate", "0.00012"]
    assert fold([], 10) == []


def test_wide_terminals_have_a_column_for_each_parameter_and_longer_curves() -> None:
    lines = _lines(_standing(), 140)
    header = next(index for index, line in enumerate(lines) if line.startswith("trial "))
    assert lines[header].split() == [
        "trial",
        "epoch",
        "accuracy",
        "curve",
        "heads",
        "layers",
        "dropout",
        "rate",
        "alpha",
    ]
    assert lines[header - 1].split() == ["num", "num", "learning", "mixup"]
    assert lines[header + 1].split() == [*("0", "4/30", "+40%", "0.4000", "▁▃▆█", "3", "5", "0.123", "0.00012", "0.5")]
    assert lines[header + 2].split() == [*("1", "2/30", "0.2000", "▁▃", "3", "5", "0.123", "0.00012", "0.5")]
    assert f"best so far 0.4000 at epoch 4 of trial 0 (running): {', '.join(named(PARAMS))}" in lines


@pytest.mark.parametrize("width", [64, 72, 80])
def test_where_columns_do_not_fit_parameters_share_one_and_none_is_cut(width: int) -> None:
    text = " ".join(" ".join(_lines(_standing(), width)).split())
    assert "…" not in text
    for part in named(PARAMS):
        assert text.count(part) == 3  # of the best and of two that run
    assert "trial epoch accuracy curve parameters" in text


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 119, 123, 200])
@pytest.mark.parametrize("height", [10, 16, 24, 60])
@pytest.mark.parametrize("running", [0, 1, 2, 20])
def test_the_view_is_narrower_and_shorter_than_its_terminal(width: int, height: int, running: int) -> None:
    standing = _standing(running) if running else Standing(0.0, ["study: 0/3 ended"], "0 complete", 0, 3)
    lines = _lines(standing, width, height)
    assert max(Text(line).cell_len for line in lines) <= width - MARGIN
    assert len(lines) < height


def test_narrow_terminals_have_no_curve_and_cut_no_name() -> None:
    text = " ".join(" ".join(_lines(_standing(), 50, 60)).split())
    assert not set(text) & set("▁▂▃▄▅▆▇█")
    assert "…" not in text
    assert text.count("learning_rate 0.00012") == 3


def test_where_lines_are_few_parameters_give_way_before_trials() -> None:
    few = _lines(_standing(4), 80, 12)
    assert [line.split()[0] for line in few[-4:]] == ["0", "1", "2", "3"]
    assert not any("num_heads" in line for line in few)
    fewer = _lines(_standing(20), 80, 12)
    assert fewer[-1] == "and 15 more"
    assert [line.split()[0] for line in fewer[-6:-1]] == ["0", "1", "2", "3", "4"]


def test_trials_that_wait_are_named_best_first_by_what_they_wait_for() -> None:
    waiting = [_trial(5, 2), _trial(6, 2), _trial(7, 9), LiveTrial(8, PARAMS, 30, 2, {2: 0.75})]
    lines = _lines(_standing(waiting=waiting), 140)
    told = "3 trials wait for other trials' results at epoch 2: trial 8 (0.7500), trial 5 (0.2000), trial 6 (0.2000)"
    assert told in lines
    assert "1 trial waits for other trials' results at epoch 9: trial 7 (0.9000)" in lines
    many = _lines(_standing(waiting=[_trial(number, 2) for number in range(40)]), 80)
    assert sum("(0.2000)" in line for line in many) == 2
    assert sum(line.endswith(") ...") for line in many) == 1


def test_a_terminal_without_block_characters_has_no_curve() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    console = Console(file=file, width=140, height=24, force_terminal=True, color_system=None)
    assert console.options.ascii_only
    text = "".join(segment.text for line in draw(_standing(), console, console.options) for segment in line)
    assert "curve" not in text
