"""Trials of one configuration, taken together."""

import dataclasses
import io

import pytest
from rich.console import Console

from search.record.trials import Row
from search.show.repeated import configurations, ranked
from search.show.report_page import _trials
from search.show.tables import render
from tests.search.show.test_tables import _row


def _of(number: int, dropout: float, fold: int, accuracy: float, state: str = "COMPLETE") -> Row:
    row = _row(number, state, accuracy)
    return dataclasses.replace(row, params={"dropout": dropout, "seed": 0, "fold": fold})


ROWS = [
    _of(5, 0.1, 2, 0.9),
    _of(0, 0.1, 0, 0.5),
    _of(1, 0.2, 0, 0.75),
    _of(4, 0.2, 1, 0.85),
    _of(2, 0.3, 0, 0.99),
    _of(3, 0.3, 1, 0.1, "PRUNED"),
]


def test_means_are_over_complete_trials_that_differ_in_seed_or_fold_alone() -> None:
    best, second = configurations(ROWS)
    assert (best.study, best.trials, best.params) == (None, (1, 4), {"dropout": 0.2})
    assert (best.lowest, best.highest) == (0.75, 0.85)
    assert best.val_accuracy == pytest.approx(0.8)
    assert best.val_log_loss == pytest.approx(0.25)
    assert second.trials == (0, 5)
    assert second.val_accuracy == pytest.approx(0.7)


def test_trials_of_another_study_are_others() -> None:
    rows = [dataclasses.replace(row, study=f"s{place}") for place, row in enumerate(ROWS)]
    assert configurations(rows) == []
    assert configurations([_row(0, "COMPLETE", 0.5), _row(1, "FAIL", None)]) == []


def test_a_loss_that_is_not_known_of_all_has_no_mean() -> None:
    rows = [ROWS[0], dataclasses.replace(ROWS[1], val_log_loss=None)]
    assert configurations(rows)[0].val_log_loss is None


@pytest.mark.parametrize("top", [1, 6])
def test_the_table_tells_means_over_all_trials_however_many_are_shown(top: int) -> None:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(render(ROWS[:top], "title", console, ROWS))
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert "1, 4 0.2 0.8000 0.7500 0.8500 0.2500" in lines
    assert "0, 5 0.1 0.7000 0.5000 0.9000 0.2500" in lines


def test_trials_of_one_configuration_stand_together_where_its_mean_stands() -> None:
    failed = _row(6, "FAIL", None)
    assert [row.number for row in ranked([failed, *ROWS])] == [2, 1, 4, 0, 5, 3, 6]
    alone = [ROWS[2], ROWS[4], ROWS[5]]
    assert ranked(alone) == sorted(alone, key=lambda row: row.rank)


def test_the_page_tells_the_means_where_trials_repeat_a_configuration() -> None:
    page = "".join(_trials(ROWS))
    assert "Configurations" in page
    assert "<td>1, 4</td><td>0.2</td><td>0.8000</td><td>0.7500</td><td>0.8500</td><td>0.2500</td>" in page
    assert "Configurations" not in "".join(_trials(ROWS[4:]))
