"""The command that builds a submission, end to end, on a study of random classifiers."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ensemble.evaluation import frontier
from ensemble.select import main
from ensemble.selection import baselines
from ensemble.ship import contract, pipeline, summary
from ensemble.ship.contract import Check
from ensemble.tflite import latency, submission
from ensemble.tflite.runtime import Model
from tests.ensemble.conftest import change_fields, flip_bit
from trainer.common.errors import UserError
from trainer.data.dataset import PackedDataset
from trainer.landmarks import NUM_ROWS
from trainer.studydir import Folder

TITLES = ("members", "what a budget buys", "accuracy")


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(study, tmp_path / "results" / "small")


@pytest.fixture(autouse=True)
def small_frontier(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes most of the time."""
    monkeypatch.setattr(frontier, "LEVELS", 3)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["select", *map(str, arguments)])
    main()


def contest_file(path: Path, frames: int) -> np.ndarray:
    """Write random landmarks in the contest's layout; gives them as float32 [frames, 543, 3]."""
    raw = np.random.default_rng(frames).random((frames, NUM_ROWS, 3))
    raw[:, 468:489] = np.nan
    columns = {name: raw[:, :, axis].reshape(-1) for axis, name in enumerate("xyz")}
    pq.write_table(pa.table({"frame": np.repeat(np.arange(frames), NUM_ROWS).astype(np.int16), **columns}), path)
    return raw.astype(np.float32)


def test_from_study_to_predictions(copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(copy.parent.parent)
    run(monkeypatch, "--budget", "800K,100ms,3models", "--precision", "float16", "int8", "--verbose")
    printed = capsys.readouterr().out
    assert "0004" in printed
    out = copy / "ensemble"
    about = json.loads((out / "selection.json").read_text())
    assert about["budget"] == "800K,100ms,3models"
    assert 1 <= len(about["members"]) <= 3
    assert about["cost"]["parameters"] <= 800e3
    assert about["cost"]["size"] == len(submission.read(out / "submission.zip"))
    assert about["agreement_with_pytorch"]["same_sign"] >= 35 / 36
    assert set(about["left_out"]) | {member["trial"] for member in about["members"]} == {f"{i:04d}" for i in range(5)}
    assert about["accuracy"]["seen_by_selection"]["ensemble"] >= about["accuracy"]["seen_by_selection"]["single"]

    rows = pq.read_table(out / "frontier.parquet").to_pylist()
    assert [row["kind"] for row in rows].count("single") == 8
    asked = next(row for row in rows if row["kind"] == "asked")
    assert asked["parameters"] == about["cost"]["parameters"]
    assert asked["unseen_accuracy"] == about["accuracy"]["unseen_participants"]["ensemble"]
    for kind in ("parameters", "size", "latency"):
        budgets = [row["budget"] for row in rows if row["kind"] == kind and row["rule"] == "ours"]
        assert 1 <= len(set(budgets)) == len(budgets) <= frontier.LEVELS
        assert [row["rule"] for row in rows if row["kind"] == kind] == len(budgets) * ["ours", *baselines.RIVALS]
        ours = [row for row in rows if row["kind"] == kind and row["rule"] == "ours"]
        bought = [row["val_accuracy"] - 10 / 36 * row["val_log_loss"] for row in ours]
        assert (np.diff(bought) >= -1e-5).all()

    raws = [contest_file(copy / f"{n}.parquet", n) for n in (1, 30)]
    monkeypatch.setattr(
        sys, "argv", ["predict", str(out / "submission.zip"), *(f"{copy}/{n}.parquet" for n in (1, 30))]
    )
    monkeypatch.delitem(sys.modules, "ensemble.predict", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("ensemble.predict", run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    model = Model(submission.read(out / "submission.zip"))
    names = json.loads((copy / "study.json").read_text())["label_names"]
    for line, raw in zip(printed.splitlines(), raws, strict=True):
        probs = model(raw)
        path, first, *others = line.split("\t")
        assert Path(path).exists()
        assert first == f"{names[probs.argmax()]} {probs.max():.3f}"
        assert len(others) == 4


def test_the_answer_comes_first_and_details_are_for_who_asks(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    details = ("selected by: ", "file: ", "contest's contract: ", "left out: not finished")
    arguments = ("--results", copy, "--precision", "float32", "--budget", "1models")
    run(monkeypatch, *arguments)
    brief = capsys.readouterr().out.splitlines()
    run(monkeypatch, *arguments, "--verbose")
    verbose = capsys.readouterr().out.splitlines()
    for printed in (brief, verbose):
        (place,) = [place for place, line in enumerate(printed) if " on people it never saw: " in line]
        assert re.fullmatch(
            r"1 model, \S+ MB, \S+ ms a sequence, 0\.\d{4} \(.* to .*\) on .*submission.zip", printed[place]
        )
        assert not [line for line in printed[:place] if not re.match(r"study |.*: \d+/\d+", line)]
        assert [line.strip() for line in printed if line.strip() in TITLES] == list(TITLES)
        assert f"next: python -m ensemble.check {copy / 'ensemble' / 'submission.zip'}" in printed
    for head in details:
        assert not [line for line in brief if line.startswith(head)]
        assert [line for line in verbose if line.startswith(head)]


def test_what_an_earlier_ensemble_was_is_said_where_another_replaces_it(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "300")
    arguments = ("--results", copy, "--precision", "float32", "--budget", "1models")
    for _ in range(2):  # at first there is none, and then it is the same
        run(monkeypatch, *arguments)
        assert "replaced: " not in capsys.readouterr().out
    before = json.loads((copy / "ensemble" / "selection.json").read_text())
    first = before["members"][0]["trial"]
    run(monkeypatch, *arguments, "--ignore", first)
    printed = capsys.readouterr().out
    accuracy = before["accuracy"]["unseen_participants"]["ensemble"]
    said = (
        f"replaced: an earlier ensemble of {first} (float32), {accuracy:.4f} on people it never saw; --out keeps both"
    )
    assert said in printed
    assert "ignored" not in printed  # of which no warning is needed
    (copy / "ensemble" / "selection.json").write_text("{}")
    run(monkeypatch, *arguments)
    assert "replaced: " not in capsys.readouterr().out


def test_json_is_what_selection_json_says_and_alone_on_stdout(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(summary, "CONTEST", "1KB,100ms")
    run(monkeypatch, "--results", copy, "--precision", "float32", "--budget", "3models", "--json")
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    about = json.loads((copy / "ensemble" / "selection.json").read_text())
    assert told.pop("path") == str(copy / "ensemble" / "submission.zip")
    (warning,) = [line for line in told.pop("warnings") if "contest" in line]
    assert warning.startswith("over the contest's limits: size ")
    assert told == {name: about[name] for name in told}
    assert set(about) - set(told) == {"format_version", "files", "checksum"}
    assert "study " in printed.err


def test_a_best_single_model_that_does_not_ship_has_a_line_and_a_name(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run(monkeypatch, "--results", copy, "--precision", "float32", "--prefer", "accuracy")
    assert re.search(r"^best single model, 000\d float32 ", capsys.readouterr().out, re.MULTILINE)


def test_selects_from_several_studies(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = shutil.copytree(copy, tmp_path / "results" / "other")
    for number in ("0000", "0001"):
        shutil.rmtree(copy / "trials" / number)
    for number in ("0002", "0003"):
        shutil.rmtree(other / "trials" / number)
    results = ("--results", copy, "--results", other, "--precision", "float16")
    with pytest.raises(UserError, match="--out: these are 2 studies: say which folder to write to"):
        run(monkeypatch, *results)
    out = tmp_path / "both"
    run(monkeypatch, *results, "--out", out)
    about = json.loads((out / "selection.json").read_text())
    assert about["studies"] == ["small", "other"]
    names = {"small/0002", "small/0003", "small/0004", "other/0000", "other/0001", "other/0004"}
    assert set(about["left_out"]) | {member["trial"] for member in about["members"]} == names
    singles = [row for row in pq.read_table(out / "frontier.parquet").to_pylist() if row["kind"] == "single"]
    assert [row["trials"] for row in singles] == [["small/0002"], ["small/0003"], ["other/0000"], ["other/0001"]]
    for study in (copy, other):
        assert not (study / "ensemble" / "submission.zip").exists()


def test_the_dataset_may_have_moved(copy: Path, tmp_path: Path, packed: PackedDataset, monkeypatch: pytest.MonkeyPatch):
    change_fields(copy / "study.json", data="gone")
    with pytest.raises(UserError, match="gone: not a packed dataset"):
        run(monkeypatch, "--results", copy, "--precision", "int8")
    with pytest.raises(UserError, match=f"--data: {tmp_path}: not a packed dataset"):
        run(monkeypatch, "--results", copy, "--precision", "int8", "--data", tmp_path)
    run(monkeypatch, "--results", copy, "--precision", "int8", "--data", packed.path)
    assert json.loads((copy / "ensemble" / "selection.json").read_text())["members"][0]["precision"] == "int8"


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_every_precision_can_be_shipped(copy: Path, precision: str, monkeypatch: pytest.MonkeyPatch):
    run(monkeypatch, "--results", copy, "--precision", precision)
    about = json.loads((copy / "ensemble" / "selection.json").read_text())
    assert {member["precision"] for member in about["members"]} == {precision}
    assert (
        about["agreement_with_pytorch"]["largest_difference"]
        < {"float32": 1e-5, "float16": 1e-3, "int8": 0.05}[precision]
    )


def test_a_study_that_cannot_be_written_stays_as_it_is(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    monkeypatch.setattr(Folder, "can_write", lambda *_: False)
    out = tmp_path / "out"
    run(monkeypatch, "--results", copy, "--precision", "float16", "--out", out)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    (kept,) = (out / "measured").iterdir()
    assert (kept / "ensemble" / "costs.json").exists()
    assert (out / "submission.zip").exists()


def test_what_an_earlier_selection_left_behind_a_uri_stays_where_out_is_given(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ("--results", f"file://{copy}", "--precision", "float32")
    run(monkeypatch, *arguments)
    (copy / "ensemble" / "submission.zip").write_bytes(b"another's")
    run(monkeypatch, *arguments, "--budget", "1models", "--out", tmp_path / "out")
    assert (copy / "ensemble" / "submission.zip").read_bytes() == b"another's"
    assert (tmp_path / "out" / "submission.zip").exists()


def test_selects_again_where_the_merged_file_is_too_slow(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As if time grew faster than size: members together take longer than the sum of each alone."""

    def slow(content: bytes, *_: object, **__: object) -> latency.Latency:
        milliseconds = 10 * (len(content) / 1e6) ** 1.5
        return latency.Latency(mean=milliseconds, median=milliseconds, p95=milliseconds)

    monkeypatch.setattr(latency, "measure", slow)
    selection = copy / "ensemble" / "selection.json"
    run(monkeypatch, "--results", copy, "--precision", "float32", "--prefer", "accuracy")
    unlimited = json.loads(selection.read_text())
    assert len(unlimited["members"]) > 1
    limit = 0.9 * unlimited["cost"]["latency"]  # what the members take alone adds up to less
    assert sum(member["latency"] for member in unlimited["members"]) < limit
    capsys.readouterr()
    run(monkeypatch, "--results", copy, "--budget", f"{limit:.6f}ms", "--precision", "float32", "--prefer", "accuracy")
    assert "breaks the budget (latency" in capsys.readouterr().out
    about = json.loads(selection.read_text())
    assert 0 < about["cost"]["latency"] <= limit
    rows = pq.read_table(copy / "ensemble" / "frontier.parquet").to_pylist()
    asked = next(row for row in rows if (row["kind"], row["rule"]) == ("asked", "ours"))
    assert asked["trials"] == [member["trial"] for member in about["members"]]
    assert asked["val_accuracy"] == pytest.approx(about["accuracy"]["seen_by_selection"]["ensemble"])
    assert asked["unseen_accuracy"] == about["accuracy"]["unseen_participants"]["ensemble"]


def test_ends_where_only_the_merged_file_takes_time(copy: Path, monkeypatch: pytest.MonkeyPatch):
    """As if all candidates were as quick as what they share when they were timed, and none is any more."""
    timed = iter([1.0] * 5)  # what all share, and four candidates

    def measured(*_: object, **__: object) -> latency.Latency:
        milliseconds = next(timed, 2.0)
        return latency.Latency(mean=milliseconds, median=milliseconds, p95=milliseconds)

    monkeypatch.setattr(latency, "measure", measured)
    with pytest.raises(UserError, match=r"no candidate fits; trial .* \(measured in the merged file\)"):
        run(monkeypatch, "--results", copy, "--budget", "1.5ms", "--precision", "float32")


@pytest.mark.parametrize("fault", ["contract", "interrupted"])
def test_what_an_earlier_selection_left_stands_until_all_is_done(
    copy: Path, monkeypatch: pytest.MonkeyPatch, fault: str
):
    arguments = ("--results", copy, "--precision", "float32", "--budget")
    run(monkeypatch, *arguments, "1models")
    out = copy / "ensemble"
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != "costs.json"}
    assert set(before) == {"submission.zip", "selection.json", "frontier.parquet"}

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if fault == "contract":
        monkeypatch.setattr(contract, "check", lambda *_: [Check("gives", "a NaN", False)])
        expected: type[BaseException] = UserError
    else:
        monkeypatch.setattr(pipeline, "unseen_accuracies", interrupt)
        expected = KeyboardInterrupt
    with pytest.raises(expected):
        run(monkeypatch, *arguments, "3models")
    assert {name: (out / name).read_bytes() for name in before} == before


def test_a_file_over_the_contests_limits_is_said_to_be(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(summary, "CONTEST", "1KB,100ms")
    run(monkeypatch, "--results", copy, "--precision", "float32", "--budget", "1models")
    assert re.search(r"over the contest's limits: size .* over 1KB", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "40MB", "100ms"], r"100ms: is more than is asked for; did you mean --budget 40MB,100ms\?"),
        (["-budget", "40MB"], r"-budget: there is no such option; did you mean --budget\?"),
        (["--budget", "40MB", ""], "'': is more than is asked for; a study is given with --results"),
        (["results/asl"], "results/asl: is more than is asked for; a study is given with --results"),
    ],
)
def test_a_word_too_many_is_told_where_it_belongs(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["select", *words])
    with pytest.raises(UserError, match=message):
        main()


def test_a_budget_nobody_fits_names_the_cheapest(copy: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"--budget: 1K: no candidate fits; trial 0000 comes closest \(param.* over 1K"):
        run(monkeypatch, "--results", copy, "--budget", "1K")
    assert not (copy / "ensemble" / "submission.zip").exists()


def test_what_is_wrong_with_trials_is_said_once_at_the_end(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    flip_bit(copy / "trials" / "0000" / "weights.safetensors", -10)
    shutil.copy(copy / "trials" / "0002" / "weights.safetensors", copy / "trials" / "0001")
    run(monkeypatch, "--results", copy, "--budget", "1models", "--precision", "float32")
    *before, left_out, believed = capsys.readouterr().out.splitlines()
    assert left_out.startswith("warning: left out, ")
    assert left_out.endswith(": 0001")
    assert believed == (
        "warning: not left out, as they predict what val_probs.npy says, though weights.safetensors: is not the file "
        "that the training left: 0000"
    )
    assert not [line for line in before if "weights.safetensors" in line]
    assert "not used: 4 of 5 trials; --verbose says why" in before
    run(monkeypatch, "--results", copy, "--budget", "1models", "--precision", "float32", "--verbose")
    *before, left_out, believed = capsys.readouterr().out.splitlines()
    assert not [line for line in before if "weights.safetensors" in line]
    assert [line for line in before if re.fullmatch("left out: not finished.*: 0004", line)]


def test_one_model_is_not_compared_with_itself(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run(monkeypatch, "--results", copy, "--budget", "1models", "--precision", "float32", "--verbose")
    printed = capsys.readouterr().out
    assert "file, 1 model " in printed
    assert "budget, 1 model " in printed
    assert "verdict: a single model ships: within the budget nothing" in printed
    assert "what ships, 1 model " in printed
    assert "best single model, " not in printed
    row = next(
        row for row in pq.read_table(copy / "ensemble" / "frontier.parquet").to_pylist() if row["kind"] == "asked"
    )
    score = row["val_accuracy"] - 10 / 36 * row["val_log_loss"]
    ours, single = map(float, re.findall(r"10 / sequences x mean log likelihood.*: (\S+); .*: (\S+)", printed)[0])
    assert ours == single == pytest.approx(score, abs=1e-3)


def test_what_was_measured_of_a_study_behind_a_uri_is_kept_there_if_nothing_fits(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="no candidate fits"):
        run(monkeypatch, "--results", f"file://{copy}", "--budget", "1K", "--precision", "float32")
    assert (copy / "ensemble" / "costs.json").exists()


@pytest.mark.parametrize("inside", ["", "below"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out: .*file: is a file, not a folder; name another folder"):
        run(monkeypatch, "--results", copy, "--out", tmp_path / "file" / inside)
    assert not (copy / "ensemble").exists()


def test_without_a_study_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"make one with: python -m search.run"):
        run(monkeypatch)


def test_errors_of_the_python_arguments_name_the_options(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for out in ((), ("--out", tmp_path / "out")):
        with pytest.raises(UserError, match="--results: the same study twice"):
            run(monkeypatch, "--results", copy, "--results", copy, *out)
    with pytest.raises(UserError, match="--threads: must be from 1 to 256"):
        run(monkeypatch, "--results", copy, "--threads", "1000")
    with pytest.raises(UserError, match=r"--budget: '40' is not a number with a unit"):
        run(monkeypatch, "--results", copy, "--budget", "40")
    with pytest.raises(UserError, match=r"--ship: .*holds no training on all participants"):
        run(monkeypatch, "--results", copy, "--ship", copy)


def test_a_budget_without_a_value_is_the_contests(copy: Path, monkeypatch: pytest.MonkeyPatch):
    run(monkeypatch, "--budget", "--results", copy, "--precision", "float16")
    assert json.loads((copy / "ensemble" / "selection.json").read_text())["budget"] == "40MB,100ms"


def test_a_folder_without_a_study_is_named_by_its_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^--results: \.: holds no study \(no study.json\); make one with"):
        run(monkeypatch, "--results", ".")
