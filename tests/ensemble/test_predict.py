"""The command that predicts files and the contest's folder."""

import csv
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ensemble.predict import main
from ensemble.ship import predictions
from ensemble.ship.predictions import Prediction
from ensemble.tflite import submission
from ensemble.tflite.runtime import Model
from tests.ensemble.conftest import lines_of
from trainer.common.errors import UserError
from trainer.data.landmark_files import read_raw


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    main()


def test_a_whole_folder(
    contest_folder: Path,
    zipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    content = submission.read(zipped)
    model, names = Model(content), submission.read_labels(content)
    assert names is not None
    lines = lines_of(contest_folder)
    expected, right = [], 0
    for row in lines:
        probs = model(read_raw(contest_folder / row["path"]))
        sign = names[int(probs.argmax())]
        right += sign == row["sign"]
        likeliest = [cell for i in np.argsort(-probs) for cell in (names[i], f"{probs[i]:.6f}")]
        begin = [str(contest_folder / row["path"]), row["sequence_id"], sign, f"{probs.max():.6f}", row["sign"]]
        expected.append([*begin, *likeliest, *[""] * (10 - len(likeliest))])
    assert 0 < right < len(lines)
    run(monkeypatch, zipped, contest_folder, "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as written:
        header, *rows = csv.reader(written)
    assert header[:7] == ["path", "sequence_id", "sign", "probability", "true_sign", "sign_1", "probability_1"]
    assert header[-2:] == ["sign_5", "probability_5"]
    assert rows == expected
    printed = capsys.readouterr().out
    assert re.search(r"the \d least accurate of 3 signs *\n *sign +sequences +accuracy +most often taken for", printed)
    assert f"accuracy {right / 12:.4f}: {right} of 12 sequences" in printed

    run(monkeypatch, zipped, contest_folder)
    printed_lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in printed_lines[:-1]] == [row[0] for row in expected]
    assert printed_lines[-1].startswith("accuracy")


def test_a_folder_without_labels(
    contest_folder: Path, zipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run(monkeypatch, zipped, contest_folder / "train_landmark_files")
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 12
    assert "accuracy" not in printed


def test_bad_files_are_named_and_the_others_predicted(
    contest_folder: Path,
    zipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    good = contest_folder / lines_of(contest_folder)[0]["path"]
    (tmp_path / "bad.parquet").write_bytes(b"nonsense")
    with pytest.raises(UserError) as refused:
        run(monkeypatch, zipped, tmp_path / "none.parquet", good, tmp_path / "bad.parquet")
    message = str(refused.value)
    assert message.startswith("2 of 3 files could not be used:\n")
    assert f"{tmp_path}/none.parquet: no such file" in message
    assert f"{tmp_path}/bad.parquet: not a readable parquet file" in message
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [str(good)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no parquet files"),
        (b"path,sign\na.parquet,hello\n", "train.csv: no column 'sequence_id'"),
        (b"path,sequence_id,sign\n\xff\n", "train.csv: line 2: cannot be read .*; mend that line"),
        (b"path,sequence_id,sign\n", "train.csv: lists no sequence; give"),
    ],
)
def test_says_what_is_wrong_with_a_folder(
    zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
):
    if content is not None:
        (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        run(monkeypatch, zipped, tmp_path)


def test_a_file_without_names_gives_indices(
    contest_folder: Path,
    zipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    content = submission.read(zipped)
    names = submission.read_labels(content)
    assert names is not None
    bare = tmp_path / "model.tflite"
    bare.write_bytes(content[: -len(submission.with_labels(b"", names))])
    file = contest_folder / lines_of(contest_folder)[0]["path"]
    run(monkeypatch, bare, file)
    found = capsys.readouterr().out.strip().split("\t")[1:]
    assert sorted(np.char.partition(found, " ")[:, 0].tolist()) == ["0", "1", "2"]


def test_where_to_write_is_checked_first(
    contest_folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("ensemble.ship.predictions.predict", None)  # nothing is
    with pytest.raises(UserError, match=r"--out: .*: is a folder; name a file in it"):
        run(monkeypatch, zipped, contest_folder, "--out", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"--out: .*pipe: is a pipe, not a file; name another file"):
        run(monkeypatch, zipped, contest_folder, "--out", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(UserError, match=r"--out: .*file: is a file, not a folder; name another folder"):
        run(monkeypatch, zipped, contest_folder, "--out", tmp_path / "file" / "x.csv")


def test_what_was_predicted_before_an_interruption_is_written_and_nothing_else_overwrites(
    contest_folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "x.csv"
    real, calls = predictions.predict, []

    def interrupted(*arguments: object) -> Prediction:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(predictions, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, zipped, contest_folder, "--out", out)
    written = out.read_text()
    assert len(written.splitlines()) == 1 + 3
    (tmp_path / "bad.parquet").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a readable parquet file"):
        run(monkeypatch, zipped, tmp_path / "bad.parquet", "--out", out)
    assert out.read_text() == written


def test_a_folder_is_read_as_packing_reads_it(
    contest_folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Rows in another order, and an index that a spreadsheet wrote: the same predictions."""
    run(monkeypatch, zipped, contest_folder, "--out", tmp_path / "expected.csv")
    copy = shutil.copytree(contest_folder, tmp_path / "copy")
    for path in copy.glob("train_landmark_files/*/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), path)
    (copy / "train.csv").write_text((copy / "train.csv").read_text().replace("/", "\\"), "utf-8-sig")
    run(monkeypatch, zipped, copy, "--out", tmp_path / "out.csv")
    expected = (tmp_path / "expected.csv").read_text().replace(str(contest_folder), str(copy))
    assert (tmp_path / "out.csv").read_text() == expected


def test_lines_and_files_that_packing_refuses_are_named_and_the_others_predicted(
    contest_folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = shutil.copytree(contest_folder, tmp_path / "copy")
    wild, empty, *_ = (copy / row["path"] for row in lines_of(copy))
    table = pq.read_table(wild)
    y = np.where(np.arange(len(table)) == 543 + 14, 3.4e38, table["y"].to_numpy())
    pq.write_table(table.set_column(table.column_names.index("y"), "y", pa.array(y)), wild)
    pq.write_table(table.slice(0, 0), empty)
    with (copy / "train.csv").open("a") as file:
        file.write(f"../elsewhere.parquet,1,1,sign000\n{','.join(lines_of(copy)[2].values())}\n")
    with pytest.raises(UserError) as refused:
        run(monkeypatch, zipped, copy, "--out", tmp_path / "out.csv")
    first, *faults = str(refused.value).splitlines()
    assert first == "4 of 14 files could not be used:"
    assert re.match(f"  {wild}: frame [0-9]+: y of face 14 is 3.4e\\+38; coordinates must be .*, not pixels", faults[0])
    assert faults[1].startswith(f"  {empty}: no frames; give landmark files")
    assert faults[2] == f"  {copy}/../elsewhere.parquet: the path leaves the folder; mend train.csv"
    assert faults[3].endswith(": the path is listed twice; mend train.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + 10


def test_many_bad_files_are_not_all_listed(tmp_path: Path, zipped: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError) as refused:
        run(monkeypatch, zipped, *(tmp_path / f"{n}.parquet" for n in range(70)))
    lines = str(refused.value).splitlines()
    assert len(lines) == 1 + 50 + 1
    assert lines[-1].strip() == "and 20 more"


def test_at_least_one_path_is_needed(zipped: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="the following arguments are required: PATH"):
        run(monkeypatch, zipped)


def test_files_may_stand_after_an_option(
    contest_folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = contest_folder / lines_of(contest_folder)[0]["path"]
    run(monkeypatch, zipped, "--out", tmp_path / "out.csv", path)
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2
