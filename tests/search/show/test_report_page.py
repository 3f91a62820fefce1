"""The report: whole, honest and self-contained, of studies in every condition, and as a browser shows it."""

import base64
import dataclasses
import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

import search.table
from search.record.notes import write_notes
from search.show import figures, report_page
from tests.search.show.pages import EPOCHS, REASON, Page, write_ensemble, write_predictions, write_report, write_study
from trainer.common.errors import UserError
from trainer.rundir import RunDir
from trainer.studydir import StudyDir

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


OUTCOMES = ["COMPLETE", "PRUNED", "FAIL", "FAIL", "COMPLETE", "PRUNED", "COMPLETE", "RUNNING"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    """Eight trials, of which the last is running, with an ensemble and what its member predicted."""
    directory = write_study(tmp_path_factory.mktemp("r") / "a <b>&amp; study", packed, OUTCOMES, asked=9)
    write_ensemble(directory)
    write_predictions(directory, {0: np.eye(4)[[0, 1, 1, 1, 0, 2]]})
    return directory


@pytest.fixture(scope="module")
def text(study: Path) -> str:
    return write_report(study)


def test_it_is_one_valid_page_that_refers_to_nothing_else(text: str) -> None:
    page = Page(text)
    assert page.tags["html"] == page.tags["body"] == page.tags["h1"] == 1
    (packed,) = (script for script in page.scripts if re.fullmatch("[A-Za-z0-9+/=]{1000,}", script))
    assert b"plotly.js v" in gzip.decompress(base64.b64decode(packed))[:500]
    outside = [item for item in page.attributes if item[1] in ("src", "href", "srcset", "data", "action", "poster")]
    assert outside == [("link", "href", "data:,")]
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text
    assert len(text) < 2.2e6


def test_every_trial_is_there_best_first_with_its_reason(study: Path, text: str) -> None:
    page = Page(text)
    trials = optuna.load_study(study_name=None, storage=f"sqlite:///{study / 'study.db'}").trials
    assert list(page.trials) == [6, 4, 0, 5, 7, 1, 3, 2]
    for trial in trials:
        style, cells = page.trials[trial.number]
        assert style == cells[1] == ("interrupted" if trial.state == TrialState.RUNNING else trial.state.name)
        if trial.value is not None:
            assert f"{trial.value:.4f}" in cells
            assert f"{trial.params['learning_rate']:.3g}" in cells
    assert [cells[1] for style, cells in zip(page.styles, page.cells, strict=True) if style == "reason"] == [REASON] * 2


def test_what_others_wrote_is_escaped(text: str) -> None:
    assert "<script>alert" not in text
    assert "a &lt;b&gt;&amp;amp; study" in text
    assert "<b>" not in text.split("<script>")[0]


def test_curves_show_every_trial_and_dim_the_pruned(text: str) -> None:
    traces = {trace["name"]: trace for trace in Page(text).figures[0]["data"]}
    assert traces["pruned (2)"]["opacity"] == figures.DIMMED < traces["complete (3)"]["opacity"]
    complete = traces["complete (3)"]
    assert set(complete["customdata"]) == {0, 4, 6}
    assert complete["x"][: EPOCHS + 1] == [*range(1, EPOCHS + 1), None]
    assert complete["y"][:EPOCHS] == pytest.approx([0.36 + 0.05 * epoch for epoch in range(1, EPOCHS + 1)])
    assert traces["where it failed"]["customdata"] == [3]
    assert traces["best (trial 6)"]["line"]["width"] > complete["line"]["width"]
    assert "Failed before the end of their first epoch: 2." in text


def test_trials_of_one_epoch_are_points(tmp_path: Path, packed: Path) -> None:
    directory = write_study(tmp_path / "s", packed, ["COMPLETE", "FAIL", "COMPLETE"])  # trial 1 failed in its second
    traces = {trace["name"]: trace for trace in Page(write_report(directory)).figures[0]["data"]}
    assert traces["failed (1), one epoch"]["mode"] == "markers"
    assert [x for x in traces["failed (1), one epoch"]["x"] if x] == [1]
    assert "complete (2), one epoch" not in traces


def test_points_tell_the_parameters_of_their_trial(text: str) -> None:
    words = next(json.loads(script) for script in Page(text).scripts if script.startswith('{"6"'))
    assert set(words) == {str(number) for number in range(8)}
    assert words["0"].startswith("0<br>num_heads ")
    assert "<br>learning_rate 0.000" in words["0"]
    assert all("%{customdata}" in trace["hovertemplate"] for trace in Page(text).figures[0]["data"])


def test_what_the_ensemble_gets_wrong_is_there(text: str) -> None:
    # the labels are 0 1 0 1 0 1, and trial 0, the ensemble's one member, names 0 1 1 1 0 2
    assert "Of the ensemble, which is trial 0 alone: 4 of 6 held-out sequences are named rightly, 0.6667." in text
    lines = Page(text).cells
    assert ["12", "2", "sign 0", "sign 1", "1.000"] in lines
    assert ["15", "3", "sign 1", "sign 2", "1.000"] in lines


def test_a_study_without_predictions_says_so(tmp_path: Path, packed: Path) -> None:
    text = write_report(write_study(tmp_path / "s", packed, ["COMPLETE"]))
    assert "This cannot be told: validation.parquet: there is no such file" in text
    assert str(tmp_path) not in text.split("What was asked")[0]


def test_what_was_noted_of_trials_stands_below_them(tmp_path: Path, packed: Path) -> None:
    study = write_study(tmp_path / "s", packed, ["COMPLETE", "FAIL"])
    write_notes(study, {0: "best of <rare> signs", 1: "tried again"})
    page = Page(write_report(study))
    remarks = [cells[1] for style, cells in zip(page.styles, page.cells, strict=True) if style == "reason"]
    assert remarks == ["best of <rare> signs", f"{REASON}; tried again"]


def test_ignored_trials_are_kept_out(study: Path) -> None:
    report = report_page.Report.read(study, ignored=(6, 2))
    text = report_page.render(report)
    assert list(Page(text).trials) == [4, 0, 5, 7, 1, 3]
    assert "Left out, as asked: trials 2, 6." in text
    assert report.best is not None
    assert report.best.number == 4
    points = figures.history(figures.to_study(report.trials, report.rows)).data[0]
    assert list(points.x) == [0, 4]  # numbers stay
    with pytest.raises(UserError, match="has no trial 8, 99") as refused:
        report_page.Report.read(study, ignored=(99, 8, 6))
    assert refused.value.field == "ignore"


def test_several_studies_are_compared_at_the_beginning(study: Path, tmp_path: Path, packed: Path) -> None:
    other = write_study(tmp_path / "other", packed, ["COMPLETE"])
    text = report_page.render(*map(report_page.Report.read, (study, other)))
    page = Page(text)
    assert page.tags["section"] == 2
    assert page.cells[1] == [study.name, "7 of 9", "3", "0.6600", "6", "0.5512", "2.00", "1.50"]
    assert page.cells[2] == ["other", "1 of 1", "1", "0.6000", "0", "", "", ""]
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert links == ["#study-1", "#study-2"]
    assert {("section", "id", "study-1"), ("section", "id", "study-2")} <= set(page.attributes)
    assert text.count('id="plotly"') == 1


def test_a_watched_page_loads_itself_again(study: Path) -> None:
    report = report_page.Report.read(study)
    assert '<meta http-equiv="refresh" content="30">' in report_page.render(report, refresh=30)
    assert "refresh" not in report_page.render(report).partition("<body>")[0]


def test_all_times_are_written_alike(text: str) -> None:
    assert "Selected on 2026-01-01 00:00 UTC for" in text
    assert not re.search(r"\d\d\d\d-\d\d-\d\dT\d\d", text.split('id="plotly"')[0])


def test_of_too_many_trials_the_best_and_the_members_are_drawn_and_all_are_in_the_table(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_page, "MOST_CURVES", 2)
    directory = write_study(tmp_path / "s", packed, ["COMPLETE", "FAIL", "PRUNED", "COMPLETE", "COMPLETE", "FAIL"])
    assert [curve.number for curve in report_page.Report.read(directory).curves] == [4, 3]
    assert "2 of 6 trials are drawn: the most accurate ones." in write_report(directory)
    write_ensemble(directory)  # whose member is trial 0
    text = write_report(directory)
    assert "3 of 6 trials are drawn: the most accurate ones, and the members of the ensemble." in text
    assert set(Page(text).figures[0]["data"][0]["customdata"]) == {0, 3, 4}
    assert "Failed before the end of their first epoch" not in text
    assert sorted(Page(text).trials) == [0, 1, 2, 3, 4, 5]


def test_a_interrupted_study_says_so_and_an_ensemble_is_shown(text: str) -> None:
    assert "The search is not finished; interrupted: 1." in text
    assert "7 of 9" in text
    for part in ("Accuracy against latency", "0.5512", "for the budget 40MB"):
        assert part in text


def test_the_frontier_is_a_table_too(text: str) -> None:
    lines = [" ".join(cells) for cells in Page(text).cells]
    start = lines.index("40MB 1 1.00 2.00 1.50 0.6000 0.5500 ")
    expected = 4 * ["40MB 1 1.00 2.00 1.50 0.6000 0.5500 "] + ["3.14ms 2 1.00 2.00 1.50 0.6000 0.5500 0.5600"]
    assert lines[start : start + 5] == expected
    assert not any(line.startswith("3.14ms") for line in lines[start + 5 :])


def test_without_an_ensemble_nothing_is_said_of_latency(tmp_path: Path, packed: Path) -> None:
    text = write_report(write_study(tmp_path / "s", packed, ["COMPLETE", "COMPLETE", "COMPLETE"]))
    assert "latency" not in text.split("<script>")[0]
    assert "Ensemble" not in text.split("<script>")[0]
    assert "Finished." in text
    assert len(Page(text).figures) == 4
    assert "It takes at least 10 complete trials to tell, and there are 3." in text


def test_a_search_for_latency_shows_its_estimates_and_its_front(tmp_path: Path, packed: Path) -> None:
    study = write_study(tmp_path / "s", packed, ["COMPLETE", "COMPLETE", "COMPLETE"])
    read = report_page.Report.read(study)
    rows = [dataclasses.replace(row, latency=row.number + 0.5, on_front=row.number == 1) for row in read.rows]
    text = report_page.render(dataclasses.replace(read, rows=rows))
    assert "Accuracy against latency" in text
    assert "As the search estimated it" in text
    assert {number: (cells[2], "1.50" in cells) for number, (_, cells) in Page(text).trials.items()} == {
        0: ("", False),
        1: ("*", True),
        2: ("", False),
    }


@pytest.mark.parametrize(
    ("outcomes", "sentences"),
    [
        ([], ["No trial has started yet."]),
        (["COMPLETE"], ["at least 10 complete trials to tell, and there are 1."]),
        (["FAIL"], ["there are 0.", "No trial is complete yet.", "first epoch: 0."]),
        (["RUNNING"], ["No trial is complete yet."]),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(
    tmp_path: Path, packed: Path, outcomes: list[str], sentences: list[str]
) -> None:
    text = write_report(write_study(tmp_path / "s", packed, outcomes, asked=2))
    assert len(Page(text).trials) == len(outcomes)
    for sentence in sentences:
        assert sentence in text


def test_accuracies_of_people_that_were_trained_on_are_called_that(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_study(tmp_path / "s", packed, ["COMPLETE"])
    held_out = "Accuracies are on participants that no trial was trained on."
    assert held_out in report_page.render(report_page.Report.read(directory))
    content = StudyDir(directory).read_request()
    StudyDir(directory).write_request(content | {"base_config": content["base_config"] | {"all_participants": True}})
    page = report_page.render(report_page.Report.read(directory))
    assert "These accuracies are of people that the trials were trained on." in page
    assert held_out not in page
    assert "All participants were trained on, so nothing is known of people whom the models never saw." in page
    assert "This cannot be told" not in page
    monkeypatch.setattr("sys.argv", ["search.table", str(directory)])
    search.table.main()
    assert "These accuracies are of people that the trials were trained on." in capsys.readouterr().out


def test_of_folds_the_best_mean_is_told_in_place_of_the_best_trial(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_page.Report.read(write_study(tmp_path / "s", packed, ["COMPLETE"] * 4))
    params = [{"dropout": dropout, "fold": fold} for dropout in (0.1, 0.2) for fold in (0, 1)]
    accuracies = [0.9, 0.2, 0.6, 0.7]  # the best trial is of the worse configuration
    rows = [
        dataclasses.replace(row, number=place, params=params[place], val_accuracy=accuracies[place])
        for place, row in enumerate(sorted(report.rows, key=lambda row: row.number))
    ]
    report = dataclasses.replace(report, rows=rows)
    assert report_page._best(report, rows) == {"best accuracy": "0.9000", "by trial": "0"}
    monkeypatch.setattr(type(report.request), "is_rotated", True)
    assert report_page._best(report, rows) == {"best mean accuracy": "0.6500", "of trials": "2, 3"}


def test_a_page_says_which_trials_its_ensemble_was_not_selected_from(tmp_path: Path, packed: Path) -> None:
    directory = write_study(tmp_path / "s", packed, ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"])
    write_ensemble(directory)
    report = report_page.Report.read(directory)
    assert report.ensemble is not None
    assert "complete since" not in report_page.render(report), "a selection of version 0.1 does not say"
    report.ensemble.selection["left_out"] = {"0001": "no gain for its cost"}
    assert "1 trial is complete since (3): run ensemble.select again." in report_page.render(report)
    report.ensemble.selection["left_out"]["0003"] = "no gain for its cost"
    assert "complete since" not in report_page.render(report)


def test_curves_come_from_the_study_where_a_trial_left_no_record(tmp_path: Path, packed: Path) -> None:
    directory = write_study(tmp_path / "s", packed, ["COMPLETE", "PRUNED"])
    before = report_page.Report.read(directory).curves
    shutil.rmtree(directory / "trials" / "0000")
    (directory / "trials" / "0001" / "metrics.jsonl").write_text("not JSON\n")
    assert report_page.Report.read(directory).curves == before


def test_what_is_broken_is_refused(tmp_path: Path, packed: Path) -> None:
    with pytest.raises(UserError, match="holds no study"):
        report_page.Report.read(tmp_path)
    directory = write_study(tmp_path / "s", packed, ["COMPLETE"])
    (directory / "ensemble").mkdir()
    (directory / "ensemble" / "selection.json").write_text("{")
    assert report_page.Report.read(directory).ensemble is None
    RunDir(directory / "trials" / "0000").path.joinpath("metrics.jsonl").unlink()
    (directory / "study.json").unlink()
    with pytest.raises(UserError, match=r"s: holds no study \(no study.json\)"):
        report_page.Report.read(directory)


WATCH = """<script>
const seen = [];
addEventListener("securitypolicyviolation", event => seen.push("refused " + event.blockedURI));
addEventListener("load", () => setTimeout(() => {
  performance.getEntriesByType("resource").forEach(entry => seen.push("asked for " + entry.name));
  document.title = "seen: " + JSON.stringify(seen);
}, 1000));
</script>"""


def _browse(text: str, added: str, tmp_path: Path) -> tuple[str, str]:
    """The page with something added at its beginning, as a browser has it after a while, and what the browser says."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}, such as Debian's package chromium")
    file = tmp_path / "report.html"
    file.write_text(text.replace("<body>", f"<body>{added}", 1))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    command += ["--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", file.as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    return ended.stdout, ended.stderr


SEARCHES = """<script>
addEventListener("load", () => {
  const last = selector => [...document.querySelectorAll(selector)].at(-1);  // before it stands that of all signs
  const table = last("table.searched"), field = last(".tools input"), seen = {};
  const look = name => seen[name] = [...table.tBodies[0].rows].map(row => row.cells[0].textContent).join(" ");
  const click = name => [...table.tHead.rows[0].cells].find(head => head.textContent === name).click();
  const type = text => { field.value = text; field.dispatchEvent(new Event("input")); };
  look("begin"); click("trial"); look("down"); click("trial"); look("up"); click("accuracy"); look("accuracies");
  click("trial"); type("complete"); look("complete"); type("accuracy>=0.64 state=COMPLETE"); look("best");
  type("runtimeerror"); look("reasons"); type("accuracy<0.64 trial<=2"); look("low"); type("nothing"); look("none");
  document.title = "seen: " + JSON.stringify(seen);
});
</script>"""


@pytest.mark.slow
def test_a_browser_sorts_and_filters_the_trials(text: str, tmp_path: Path) -> None:
    page, said = _browse(text, SEARCHES, tmp_path)
    assert "CONSOLE" not in said
    found = re.search(r"<title>seen: (.*)</title>", page)
    assert found is not None
    assert json.loads(found[1]) == {
        "begin": "6 4 0 5 7 1 3  2 ",  # a reason has a line of its own below its trial
        "down": "7 6 5 4 3  2  1 0",
        "up": "0 1 2  3  4 5 6 7",
        "accuracies": "6 4 0 5 7 1 3  2 ",
        "complete": "6 4 0",
        "best": "6 4",
        "reasons": "3  2 ",
        "low": "1 0",
        "none": "",
    }


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", "<img src='http://127.0.0.1:9/x.png'><script>nowhere()</script>"])
def test_a_browser_without_network_draws_it_and_complains_of_nothing(text: str, fault: str, tmp_path: Path) -> None:
    page, said = _browse(text, WATCH + fault, tmp_path)
    seen = re.findall(r"<title>seen: (.*)</title>", page)
    assert page.count('class="js-plotly-plot') + page.count('js-plotly-plot"') >= len(Page(text).figures)
    assert ("CONSOLE" in said) == bool(fault), said
    assert len(seen) == 1
    assert (seen[0] != "[]") == bool(fault)
