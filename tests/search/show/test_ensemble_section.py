"""The ensemble in a report, where what was selected is whole, and where it is not."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search.show import report_page
from search.show.ensemble_section import Ensemble, ensemble_section
from tests.search.show.pages import write_ensemble, write_study


def test_of_an_ensemble_of_several_studies_no_latency_is_taken_for_a_trials() -> None:
    bought = [{"kind": "single", "trials": [name], "latency": 2.0} for name in ("other/0001", "0003")]
    assert Ensemble({}, bought).latencies == {3: 2.0}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"count": 2', '"count": "2"', "count: must be a whole number, not '2'"),
        ('"size": 2000000.0', '"size": null', "size: must be a number, not null"),
        ('"created": "2026-01-01", ', "", "created: is missing"),
        ('"members": [', '"members": [7, ', "members: must be a list, each item an object"),
        ('{"ensemble": 0.6}', "{}", "ensemble: is missing"),
        ('"accuracy": {"seen_by_selection"', '"accuracy": {"seen"', "ensemble: is missing"),
        ('{"ensemble": 0.5512}', "[]", "unseen_participants: must be an object or null, not a list"),
    ],
)
def test_a_page_is_without_a_selection_of_other_types(
    old: str, new: str, words: str, tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_study(tmp_path / "s", packed, ["COMPLETE"])
    write_ensemble(directory)
    report_page.Report.read(directory)
    path = directory / "ensemble" / "selection.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert report_page.Report.read(directory).ensemble is None
    assert re.search(rf"warning: .*selection\.json: {words}.*; run ensemble\.select again", capsys.readouterr().out)


def test_a_page_is_without_a_frontier_of_other_types(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_study(tmp_path / "s", packed, ["COMPLETE"])
    write_ensemble(directory)
    path = directory / "ensemble" / "frontier.parquet"
    table = pq.read_table(path)
    others: dict[str, list[Any]] = {"latency": ["fast"], "trials": [[]], "size": [float("nan")]}
    for column, values in others.items():
        other = table.set_column(table.column_names.index(column), column, pa.array(values * len(table)))
        pq.write_table(other, path)
        assert report_page.Report.read(directory).ensemble is None
        assert re.search(rf"frontier\.parquet: {column}: .*; run ensemble\.select again", capsys.readouterr().out)


def test_a_page_says_which_trials_are_not_in_the_ensemble_and_why(tmp_path: Path, packed: Path) -> None:
    directory = write_study(tmp_path / "s", packed, ["COMPLETE"])
    write_ensemble(directory)
    report = report_page.Report.read(directory)
    assert report.ensemble is not None
    assert "Not in it" not in "".join(ensemble_section(report.ensemble))
    asked = dict.fromkeys(("0007", "0012"), "ignored, as asked") | dict.fromkeys(map(str, range(20, 30)), "not <done>")
    report.ensemble.selection["left_out"] = asked
    words = "Not in it: 10 trials (not &lt;done&gt;); trials 7, 12 (ignored, as asked)."
    assert words in "".join(ensemble_section(report.ensemble))
    asked |= {str(number): f"of {number} MB alone" for number in range(40, 50)}
    words = (
        "Not in it: 10 trials (not &lt;done&gt;); trials 7, 12 (ignored, as asked); trial 40 (of 40 MB alone); "
        "trial 41 (of 41 MB alone); trial 42 (of 42 MB alone); 7 more (other reasons, in selection.json)."
    )
    assert words in "".join(ensemble_section(report.ensemble))
