"""The table of trials as it fits a terminal of any width."""

import io

import pytest
from rich.console import Console

from search.record.trials import Row
from search.show.tables import render


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
