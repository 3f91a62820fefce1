"""The report: whole, honest and self-contained, of studies in every condition, and as a browser shows it."""

import dataclasses
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState

import search.report
import search.table
from search.problem.space import DEFAULT_SPACE, Space
from search.record.request import Request
from search.show import figures, report_page
from tests.outcomes import metrics_of, result_of
from tests.search.studies import open_study
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.rundir import RunDir
from trainer.studydir import StudyDir

EPOCHS = 6
REASON = "RuntimeError: <script>alert('x')</script> & \"quotes\""
VOID = {"meta", "link", "br", "wbr"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Page(HTMLParser):
    """Reads HTML strictly: every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.cells: list[list[str]] = []
        self.styles: list[str | None] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
            self.styles.append(dict(attrs).get("class"))
        if tag == "td":
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells[-1][-1] += data
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    @property
    def trials(self) -> dict[int, tuple[str | None, list[str]]]:
        """Class and cells of the lines of the table of trials, by number."""
        lines = zip(self.styles, self.cells, strict=True)
        states = {*(state.name for state in TrialState), "interrupted"}
        return {int(cells[0]): (style, cells) for style, cells in lines if style in states}

    @property
    def figures(self) -> list[dict[str, Any]]:
        return [json.loads(script) for script in self.scripts if script.startswith('{"data"')]


def _write_study(directory: Path, packed: Path, outcomes: list[str], *, asked: int | None = None) -> Path:
    """A study whose trials ended as ``outcomes`` say, each better than the one before."""
    directory.mkdir(parents=True)
    dataset = PackedDataset.open(packed)
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS).replace(num_signs=dataset.num_signs))
    asked = len(outcomes) if asked is None else asked
    options: dict[str, Any] = {"seed": 0, "sampler": "random", "pruner": "none", "recipe_points": False}
    Request.of(space=space, dataset=dataset, trials=asked, **options).write(StudyDir(directory))
    study = open_study(directory, space, trials=asked, **options)
    for place, outcome in enumerate(outcomes):
        assignment = study.ask()
        assert assignment is not None
        number, accuracy = assignment.number, 0.1
        for epoch in range(1, 1 + {"COMPLETE": EPOCHS, "PRUNED": 3, "RUNNING": 2, "FAIL": place % 2}[outcome]):
            accuracy = 0.3 + 0.01 * place + 0.05 * epoch
            study.run_dir(number).append_metrics(metrics_of(epoch, accuracy))
            study.report(number, metrics_of(epoch, accuracy))
        if outcome == "COMPLETE":
            study.complete(number, result_of(EPOCHS, accuracy))
        elif outcome == "PRUNED":
            study.prune(number, metrics_of(3, accuracy))
        elif outcome == "FAIL":
            study.fail(number, REASON)
    study.close()
    return directory


def _write_ensemble(directory: Path) -> None:
    """As ensemble.select leaves it, of the study's first trial."""
    row = {
        "kind": "single",
        "rule": "ours",
        "budget": None,
        "trials": ["0000"],
        "precisions": ["float16"],
        "counts": [1],
        "parameters": 1e6,
        "size": 2e6,
        "latency": 1.5,
        "val_accuracy": 0.6,
        "unseen_accuracy": None,
        "val_log_loss": 1.0,
        "rival_accuracy": None,
        "buys_more": True,
    }
    kinds = ("asked", "parameters", "size", "latency")
    bought = [row, *({**row, "kind": kind, "budget": "40MB", "unseen_accuracy": 0.55} for kind in kinds)]
    larger = {**bought[-1], "budget": "3.14159ms", "buys_more": False}  # buys the same
    more: dict[str, Any] = {
        "trials": ["0000", "0004"],
        "precisions": 2 * ["int8"],
        "counts": [1, 2],
        "rival_accuracy": 0.56,
    }
    bought += [larger, {**larger, **more, "buys_more": True}]
    bought += [
        {**larger, "rule": rule, "unseen_accuracy": there} for rule, there in (("top-k", 0.56), ("weighted", 0.5))
    ]
    member = {
        "trial": "0000",
        "precision": "float16",
        "count": 2,
        "parameters": 1e6,
        "size": 2e6,
        "latency": 1.5,
        "num_heads": 2,
        "num_layers": 6,
        "val_accuracy": 0.6,
        "val_log_loss": 1.0,
    }
    selection = {
        "format_version": 2,
        "created": "2026-01-01",
        "budget": "40MB",
        "members": [member],
        "cost": {"parameters": 1e6, "size": 2e6, "latency": 1.5},
        "accuracy": {"seen_by_selection": {"ensemble": 0.6}, "unseen_participants": {"ensemble": 0.5512}},
    }
    (directory / "ensemble").mkdir()
    pq.write_table(pa.Table.from_pylist(bought), directory / "ensemble" / "frontier.parquet")
    (directory / "ensemble" / "selection.json").write_text(json.dumps(selection))


def _write_report(directory: Path) -> str:
    with mock.patch("sys.argv", ["search.report", str(directory)]):
        search.report.main()
    return (directory / "report.html").read_text()


OUTCOMES = ["COMPLETE", "PRUNED", "FAIL", "FAIL", "COMPLETE", "PRUNED", "COMPLETE", "RUNNING"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    """Eight trials, of which the last is running, with an ensemble."""
    directory = _write_study(tmp_path_factory.mktemp("r") / "a <b>&amp; study", packed, OUTCOMES, asked=9)
    _write_ensemble(directory)
    return directory


@pytest.fixture(scope="module")
def text(study: Path) -> str:
    return _write_report(study)


def test_it_is_one_valid_page_that_refers_to_nothing_else(text: str) -> None:
    page = Page(text)
    assert page.tags["html"] == page.tags["body"] == page.tags["h1"] == 1
    assert sum("plotly.js v" in script[:500] for script in page.scripts) == 1
    outside = [item for item in page.attributes if item[1] in ("src", "href", "srcset", "data", "action", "poster")]
    assert outside == [("link", "href", "data:,")]
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text
    assert len(text) < 6e6


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


def test_of_too_many_trials_the_best_and_the_members_are_drawn_and_all_are_in_the_table(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_page, "MOST_CURVES", 2)
    directory = _write_study(tmp_path / "s", packed, ["COMPLETE", "FAIL", "PRUNED", "COMPLETE", "COMPLETE", "FAIL"])
    assert [curve.number for curve in report_page.Report.read(directory).curves] == [4, 3]
    assert "2 of 6 trials are drawn: the most accurate ones." in _write_report(directory)
    _write_ensemble(directory)  # whose member is trial 0
    text = _write_report(directory)
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
    text = _write_report(_write_study(tmp_path / "s", packed, ["COMPLETE", "COMPLETE", "COMPLETE"]))
    assert "latency" not in text.split("<script>")[0]
    assert "Ensemble" not in text.split("<script>")[0]
    assert "Finished." in text
    assert len(Page(text).figures) == 5


def test_a_search_for_latency_shows_its_estimates_and_its_front(tmp_path: Path, packed: Path) -> None:
    study = _write_study(tmp_path / "s", packed, ["COMPLETE", "COMPLETE", "COMPLETE"])
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


def test_of_an_ensemble_of_several_studies_no_latency_is_taken_for_a_trials() -> None:
    bought = [{"kind": "single", "trials": [name], "latency": 2.0} for name in ("other/0001", "0003")]
    assert report_page.Ensemble({}, bought).latencies == {3: 2.0}


@pytest.mark.parametrize(
    ("outcomes", "sentences"),
    [
        ([], ["No trial has started yet."]),
        (["COMPLETE"], ["at least 2 complete trials to tell, and there are 1."]),
        (["FAIL"], ["there are 0.", "No trial is complete yet.", "first epoch: 0."]),
        (["RUNNING"], ["No trial is complete yet."]),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(
    tmp_path: Path, packed: Path, outcomes: list[str], sentences: list[str]
) -> None:
    text = _write_report(_write_study(tmp_path / "s", packed, outcomes, asked=2))
    assert len(Page(text).trials) == len(outcomes)
    for sentence in sentences:
        assert sentence in text


def test_accuracies_of_people_that_were_trained_on_are_called_that(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = _write_study(tmp_path / "s", packed, ["COMPLETE"])
    held_out = "Accuracies are on participants that no trial was trained on."
    assert held_out in report_page.render(report_page.Report.read(directory))
    content = StudyDir(directory).read_request()
    StudyDir(directory).write_request(content | {"base_config": content["base_config"] | {"all_participants": True}})
    page = report_page.render(report_page.Report.read(directory))
    assert "These accuracies are of people that the trials were trained on." in page
    assert held_out not in page
    monkeypatch.setattr("sys.argv", ["search.table", str(directory)])
    search.table.main()
    assert "These accuracies are of people that the trials were trained on." in capsys.readouterr().out


def test_curves_come_from_the_study_where_a_trial_left_no_record(tmp_path: Path, packed: Path) -> None:
    directory = _write_study(tmp_path / "s", packed, ["COMPLETE", "PRUNED"])
    before = report_page.Report.read(directory).curves
    shutil.rmtree(directory / "trials" / "0000")
    (directory / "trials" / "0001" / "metrics.jsonl").write_text("not JSON\n")
    assert report_page.Report.read(directory).curves == before


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
    directory = _write_study(tmp_path / "s", packed, ["COMPLETE"])
    _write_ensemble(directory)
    report_page.Report.read(directory)
    path = directory / "ensemble" / "selection.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert report_page.Report.read(directory).ensemble is None
    assert re.search(rf"warning: .*selection\.json: {words}.*; run ensemble\.select again", capsys.readouterr().out)


def test_a_page_is_without_a_frontier_of_other_types(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = _write_study(tmp_path / "s", packed, ["COMPLETE"])
    _write_ensemble(directory)
    path = directory / "ensemble" / "frontier.parquet"
    table = pq.read_table(path)
    others: dict[str, list[Any]] = {"latency": ["fast"], "trials": [[]], "size": [float("nan")]}
    for column, values in others.items():
        other = table.set_column(table.column_names.index(column), column, pa.array(values * len(table)))
        pq.write_table(other, path)
        assert report_page.Report.read(directory).ensemble is None
        assert re.search(rf"frontier\.parquet: {column}: .*; run ensemble\.select again", capsys.readouterr().out)


def test_what_is_broken_is_refused(tmp_path: Path, packed: Path) -> None:
    with pytest.raises(UserError, match="holds no study"):
        report_page.Report.read(tmp_path)
    directory = _write_study(tmp_path / "s", packed, ["COMPLETE"])
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
  const table = document.querySelector("table.searched"), field = document.querySelector(".tools input"), seen = {};
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
        "begin": "6 4 0 5 1 7 3  2 ",  # a reason has a line of its own below its trial
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
