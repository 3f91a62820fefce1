"""The table of trials as it fits a terminal of any width."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from search.record.trials import Row
from search.show.tables import ordered, render, to_csv, to_json
from trainer.common.errors import UserError


def _row(number: int, state: str, accuracy: float | None, reason: str | None = None) -> Row:
    params = {"num_heads": 2, "num_layers": 6, "dropout": 0.1, "learning_rate": 0.00012345, "mixup_alpha": 0.5}
    return Row(
        number=number,
        state=state,
        reason=reason,
        params=params,
        val_accuracy=accuracy,
        val_log_loss=0.25 if accuracy else None,
        num_parameters=1_663_546 if accuracy else None,
        epochs=9,
        seconds=61.7 if accuracy else None,
    )


ROWS = [
    _row(1, "COMPLETE", 0.8125),
    _row(0, "PRUNED", 0.5),
    _row(2, "FAIL", None, reason="RuntimeError: [Errno 28] no space"),
]


def _printed(width: int, rows: list[Row] = ROWS) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(render(rows, "results/study: 3 trials", console))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [72, 80, 120, 200])
def test_nothing_is_cut_off_at_any_width(width: int) -> None:
    lines = _printed(width)
    text = " ".join(" ".join(lines).split())
    assert max(len(line) for line in lines) <= width
    assert "…" not in text
    for part in ("COMPLETE", "PRUNED", "FAIL", "0.8125", "0.2500", "1.66", "6.7", "62", "0.000123"):
        assert part in text
    assert "trial 2 failed: RuntimeError: [Errno 28] no space" in text


def test_wide_tables_have_a_column_for_each_parameter() -> None:
    assert len(_printed(120)) == 3 + 3 + 1  # title and headers, trials, one reason
    assert len(_printed(80)) > len(_printed(120))
    assert len(_printed(120, [])) == 3


def test_a_trial_stands_in_one_line_under_the_names_of_its_columns() -> None:
    assert [line.rstrip() for line in _printed(120)[2:6]] == [
        "trial state    heads layers dropout     rate alpha accuracy   loss weights  MB epochs seconds",
        "    1 COMPLETE     2      6     0.1 0.000123   0.5   0.8125 0.2500    1.66 6.7      9      62",
        "    0 PRUNED       2      6     0.1 0.000123   0.5   0.5000 0.2500    1.66 6.7      9      62",
        "    2 FAIL         2      6     0.1 0.000123   0.5                                  9",
    ]


def test_a_table_that_is_too_wide_is_broken_into_several_with_whole_names() -> None:
    rows = [
        dataclasses.replace(row, study="asl-signs", params={**row.params, "final_learning_rate_ratio": 0.01})
        for row in ROWS
    ]
    assert [line.rstrip() for line in _printed(60, rows)] == [
        "results/study: 3 trials",
        "                           num    num         learning mixup",
        "study     trial state    heads layers dropout     rate alpha",
        "asl-signs     1 COMPLETE     2      6     0.1 0.000123   0.5",
        "asl-signs     0 PRUNED       2      6     0.1 0.000123   0.5",
        "asl-signs     2 FAIL         2      6     0.1 0.000123   0.5",
        "",
        "                   final",
        "                learning",
        "                    rate             log million",
        "study     trial    ratio accuracy   loss weights  MB epochs",
        "asl-signs     1     0.01   0.8125 0.2500    1.66 6.7      9",
        "asl-signs     0     0.01   0.5000 0.2500    1.66 6.7      9",
        "asl-signs     2     0.01                                  9",
        "",
        "study     trial seconds",
        "asl-signs     1      62",
        "asl-signs     0      62",
        "asl-signs     2",
        "trial asl-signs/2 failed: RuntimeError: [Errno 28] no space",
    ]


def test_states_and_who_asked_for_a_trial_are_said_in_words() -> None:
    states = ("RUNNING", "paused", "interrupted", "WAITING")
    rows = [dataclasses.replace(ROWS[0], state=state, by_hand=state == "WAITING") for state in states]
    words = [line.split()[1:3] for line in _printed(120, rows)[3:]]
    assert words == [["running", "2"], ["paused", "2"], ["interrupted", "2"], ["queued", "yours"]]


def test_a_column_is_named_as_its_head_is_and_one_that_no_trial_has_is_refused() -> None:
    rows = [_row(0, "COMPLETE", 0.5), _row(1, "COMPLETE", 0.75)]
    assert [row.number for row in ordered(rows, "accuracy")] == [1, 0]
    by_loss = [dataclasses.replace(row, val_log_loss=1.0 - row.number) for row in rows]
    assert [row.number for row in ordered(by_loss, "log loss")] == [1, 0]
    with pytest.raises(UserError, match=r"ms is not known of any trial; sort by another column"):
        ordered(rows, "ms")
    with pytest.raises(UserError, match=r"there is no column x; there are ") as refused:
        ordered(rows, "x")
    listed = str(refused.value).partition("there are ")[2].split(", ")
    assert len(listed) == len(set(listed))


def test_rows_are_sorted_by_a_column_the_best_first_and_those_without_a_value_last() -> None:
    rows = [
        dataclasses.replace(_row(number, "COMPLETE", accuracy), seconds=seconds, params={"dropout": dropout})
        for number, accuracy, seconds, dropout in [(0, 0.5, 9.0, 0.3), (1, 0.7, None, 0.1), (2, None, 3.0, 0.2)]
    ]
    for column, reverse, expected in [
        ("accuracy", False, [1, 0, 2]),
        ("val_accuracy", True, [0, 1, 2]),
        ("seconds", False, [2, 0, 1]),
        ("seconds", True, [0, 2, 1]),
        ("dropout", False, [1, 2, 0]),
        ("trial", True, [2, 1, 0]),
    ]:
        assert [row.number for row in ordered(rows, column, reverse)] == expected, column
    with pytest.raises(
        UserError, match=r"sort: there is no column acuracy; did you mean accuracy\?; there are dropout,"
    ):
        ordered(rows, "acuracy")


def test_programs_get_every_digit_and_null_for_what_is_not_known() -> None:
    rows = [dataclasses.replace(ROWS[0], val_accuracy=1 / 3, val_log_loss=float("inf")), ROWS[2]]
    first, second = json.loads(to_json(rows))
    assert (first["number"], first["val_accuracy"], first["val_log_loss"]) == (1, 1 / 3, None)
    assert (first["learning_rate"], first["bytes"], "study" in first) == (0.00012345, 4 * 1_663_546, False)
    assert (second["state"], second["val_accuracy"]) == ("FAIL", None)
    head, line, other = to_csv([dataclasses.replace(row, study="a") for row in rows]).splitlines()
    fields = dict(zip(head.split(","), line.split(","), strict=True))
    assert (fields['"study"'], fields['"val_accuracy"']) == ('"a"', repr(1 / 3))
    assert "RuntimeError: [Errno 28] no space" in other
