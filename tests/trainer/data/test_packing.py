"""Packing against an independent computation, against every kind of bad input, and against being killed."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.common.errors import UserError
from trainer.common.files import sha256
from trainer.data import packing
from trainer.data.dataset import PackedDataset
from trainer.data.packing import pack

USED = [
    *(("face", index) for index in (13, 14, 33, 81, 95, 133, 145, 154, 157, 159, 161, 163, 178)),
    *(("face", index) for index in (191, 263, 311, 324, 362, 374, 381, 384, 386, 388, 390, 402, 415)),
    *(("left_hand", index) for index in range(21)),
    *(("pose", index) for index in range(17)),
    *(("right_hand", index) for index in range(21)),
]
HEAD = [place for place, (kind, index) in enumerate(USED) if kind == "face" or (kind == "pose" and index <= 10)]


def by_the_book(path: Path) -> np.ndarray:
    """What packing must make of a file, from all its rows by their names: float64 [n, 85, 2]."""
    table = pd.read_parquet(path).set_index(["frame", "type", "landmark_index"])[["x", "y"]].unstack([1, 2])
    points = np.stack([table[axis][USED].to_numpy() for axis in ("x", "y")], axis=-1)
    head = points[:, HEAD].reshape(-1, 2)
    offset = np.nanmean(head, axis=0) if not np.isnan(head).all() else np.zeros(2)
    return np.nan_to_num(points - offset)


def expect_by_the_book(source: Path, dataset: PackedDataset, label_names: list[str], every: int) -> None:
    lines = pd.read_csv(source / "train.csv").query("sign in @label_names")
    assert dataset.sign_names == tuple(label_names)
    np.testing.assert_array_equal(dataset.sequence_ids, lines.sequence_id)
    np.testing.assert_array_equal(dataset.participants, lines.participant_id)
    np.testing.assert_array_equal(dataset.labels, lines.sign.map(label_names.index))
    np.testing.assert_array_equal(dataset.starts, np.cumsum(dataset.lengths) - dataset.lengths)
    assert dataset.lengths.sum() == len(dataset.frames)
    for index in range(0, len(lines), every):
        expected = by_the_book(source / lines.path.iloc[index])
        np.testing.assert_allclose(dataset.sequence(index), expected, atol=1e-6, err_msg=lines.path.iloc[index])


def test_generated_data_by_the_book(generated: Path, packed: PackedDataset) -> None:
    expect_by_the_book(generated, packed, [f"sign{number:03}" for number in range(6)], every=2)


def test_real_data_by_the_book(real_sample: Path, tmp_path: Path) -> None:
    assert pack(real_sample, tmp_path, signs=["thankyou", "hello"]) == []
    expect_by_the_book(real_sample, PackedDataset.open(tmp_path), ["hello", "thankyou"], every=5)


def test_all_signs_of_the_map_keep_their_index(real_sample: Path, tmp_path: Path) -> None:
    pack(real_sample, tmp_path)
    dataset = PackedDataset.open(tmp_path)
    index_of = json.loads((real_sample / "sign_to_prediction_index_map.json").read_text())
    assert dataset.num_signs == 250
    lines = pd.read_csv(real_sample / "train.csv")
    np.testing.assert_array_equal(dataset.labels, lines.sign.map(index_of))


def test_the_manifest_and_the_table_say_what_is_there(generated: Path, packed: PackedDataset) -> None:
    manifest = json.loads((packed.path / "manifest.json").read_text())
    assert manifest["num_sequences"] == 72
    assert manifest["num_frames"] == len(packed.frames)
    assert manifest["num_participants"] == 6
    assert manifest["skipped"] == []
    for name in ("frames.npy", "sequences.parquet"):
        assert manifest["sha256"][name] == sha256(packed.path / name)
    table = pq.read_table(packed.path / "sequences.parquet")
    assert table.column_names == ["sequence_id", "participant_id", "sign", "label", "start", "length"]
    assert table["sign"].to_pylist() == pd.read_csv(generated / "train.csv").sign.tolist()
    assert {path.name for path in packed.path.iterdir()} == {"frames.npy", "sequences.parquet", "manifest.json"}


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_writes_the_same_bytes(
    workers: int, generated: Path, packed: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "FILES_PER_TASK", 5)
    pack(generated, tmp_path, workers=workers)
    for path in packed.path.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


# Bad input. Each of these harms one file of the dataset, and says what the message must hold.


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def set_column(table: pa.Table, name: str, values: object) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def with_value(table: pa.Table, name: str, value: float) -> pa.Table:
    values = table[name].to_numpy().copy()
    values[14] = value
    return set_column(table, name, values)


def flip_bytes(path: Path, first: int, count: int) -> None:
    content = bytearray(path.read_bytes())
    content[first : first + count] = bytes(byte ^ 0xA5 for byte in content[first : first + count])
    path.write_bytes(content)


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (Path.unlink, "no such file"),
    "empty file": (lambda path: path.write_bytes(b""), "not a readable parquet file"),
    "text": (lambda path: path.write_text("frame,row_id,type\n" * 9), "not a readable parquet file"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), "not a readable parquet file"),
    "end cut off": (lambda path: os.truncate(path, path.stat().st_size - 4), "not a readable parquet file"),
    "footer garbled": (lambda path: flip_bytes(path, path.stat().st_size - 300, 200), "not a readable parquet file"),
    "a folder": (become_a_folder, "not a readable parquet file"),
    "no rows": (lambda path: rewrite(path, lambda table: table.slice(0, 0)), "no frames"),
    "wrong width": (lambda path: rewrite(path, lambda table: table.slice(0, 1000)), " has 457 landmarks, not 543"),
    "542 landmarks": (
        lambda path: rewrite(path, lambda table: table.filter(pa.compute.not_equal(table["landmark_index"], 467))),
        " has 542 landmarks, not 543",
    ),
    "no x": (lambda path: rewrite(path, lambda table: table.drop(["x"])), "no column 'x'"),
    "no y": (lambda path: rewrite(path, lambda table: table.drop(["y"])), "no column 'y'"),
    "no type": (lambda path: rewrite(path, lambda table: table.drop(["type"])), "no column 'type'"),
    "x as text": (
        lambda path: rewrite(path, lambda table: set_column(table, "x", table["x"].cast(pa.string()))),
        "'x' holds string",
    ),
    "type as number": (
        lambda path: rewrite(path, lambda table: set_column(table, "type", np.zeros(len(table)))),
        "type 0.0, landmark_index 0 is no landmark of the contest",
    ),
    "infinite": (lambda path: rewrite(path, lambda table: with_value(table, "y", np.inf)), "y of face 14 is inf"),
    "beyond float32": (lambda path: rewrite(path, lambda table: with_value(table, "x", 1e300)), "x of face 14 is inf"),
    "in pixels": (
        lambda path: rewrite(path, lambda table: set_column(table, "x", table["x"].to_numpy() * 1920)),
        "not pixels",
    ),
}


REORDERINGS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "reversed": lambda table: table.take(np.arange(len(table))[::-1]),
    "two rows swapped": lambda table: table.take([1, 0, *range(2, len(table))]),
    "pose first": lambda table: table.take(
        pa.compute.sort_indices(table, [("frame", "ascending"), ("type", "descending")])
    ),
    "type as bytes": lambda table: set_column(table, "type", table["type"].cast(pa.binary())),
    "as pandas writes it": lambda table: pa.Table.from_pandas(
        table.to_pandas().astype({"type": "category", "landmark_index": "int64"})
    ),
}


@pytest.mark.parametrize("order", REORDERINGS)
def test_files_of_other_rows_or_types_are_packed_as_the_contests(
    order: str, source: Path, tmp_path: Path, packed: PackedDataset
) -> None:
    for path in paths_of(source):
        rewrite(source / path, REORDERINGS[order])
    assert pack(source, tmp_path / "out") == []
    np.testing.assert_array_equal(PackedDataset.open(tmp_path / "out").frames, packed.frames[: packed.starts[12]])


@pytest.fixture
def source(generated: Path, tmp_path: Path) -> Path:
    """A folder of twelve sequences that a test may harm."""
    copy = tmp_path / "source"
    lines = pd.read_csv(generated / "train.csv").head(12)
    copy.mkdir()
    lines.to_csv(copy / "train.csv", index=False)
    shutil.copy(generated / "sign_to_prediction_index_map.json", copy)
    for path in lines.path:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(generated / path, copy / path)
    return copy


def paths_of(source: Path) -> list[str]:
    return pd.read_csv(source / "train.csv").path.tolist()


@pytest.mark.parametrize("harm", HARMS)
def test_a_bad_file_is_named_or_left_out(harm: str, source: Path, tmp_path: Path, packed: PackedDataset) -> None:
    inflict, message = HARMS[harm]
    bad = paths_of(source)[5]
    inflict(source / bad)
    out = tmp_path / "out"
    with pytest.raises(UserError, match=f"{bad}: .*{message}.*skip_bad"):
        pack(source, out)
    with pytest.raises(UserError, match="not a packed dataset"):
        PackedDataset.open(out)

    assert [(path, message in reason) for path, reason in pack(source, out, skip_bad=True)] == [(bad, True)]
    dataset = PackedDataset.open(out)
    kept = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(dataset.sequence_ids, packed.sequence_ids[kept])
    np.testing.assert_array_equal(dataset.frames, np.concatenate([packed.sequence(index) for index in kept]))


LINES: dict[str, tuple[str, str]] = {
    "../elsewhere.parquet,1,1,sign000": ("../elsewhere.parquet", "the path leaves the folder"),
    "/etc/hostname,1,1,sign000": ("/etc/hostname", "the path leaves the folder"),
    "a/../../b.parquet,1,1,sign000": ("a/../../b.parquet", "the path leaves the folder"),
    "other.parquet,1,1,nosuch": ("other.parquet", "its sign 'nosuch' is not in sign_to_prediction_index_map.json"),
}


@pytest.mark.parametrize("line", LINES)
def test_a_bad_line_is_named_or_left_out(line: str, source: Path, tmp_path: Path) -> None:
    with (source / "train.csv").open("a") as file:
        file.write(line + "\n")
    path, reason = LINES[line]
    with pytest.raises(UserError, match=f"train.csv: {path}: {reason}"):
        pack(source, tmp_path / "out")
    assert pack(source, tmp_path / "out", skip_bad=True) == [(path, reason)]
    assert len(PackedDataset.open(tmp_path / "out")) == 12


@pytest.mark.parametrize(
    ("same_person", "said"),
    [
        (False, "1 file has the same frames as another, under another participant,"),
        (True, "1 file has the same frames as another,"),
    ],
)
def test_the_same_recording_under_two_paths_is_told(
    same_person: bool, said: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pd.read_csv(source / "train.csv").iloc[0]
    os.link(source / first.path, source / "again.parquet")
    person = first.participant_id if same_person else 999
    with (source / "train.csv").open("a") as file:
        file.write(f"again.parquet,{person},999,sign000\n")
    assert pack(source, tmp_path / "out") == []
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert f"{source}: {said} such as again.parquet and {first.path}; remove one of each from train.csv" in line


def test_duplicates_are_named_or_left_out(source: Path, tmp_path: Path) -> None:
    first, second = paths_of(source)[:2]
    second_id = Path(second).stem
    with (source / "train.csv").open("a") as file:
        file.write(
            f"./{first},{Path(first).parent.name},{Path(first).stem},sign000\nother.parquet,1,{second_id},sign000\n"
        )
    with pytest.raises(UserError, match="the path is listed twice"):
        pack(source, tmp_path / "out")
    reasons = ["the path is listed twice", f"its sequence_id {second_id} is also that of {second}"]
    assert [reason for _, reason in pack(source, tmp_path / "out", skip_bad=True)] == reasons
    assert len(PackedDataset.open(tmp_path / "out")) == 12


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", None, r"source: not the contest's folder \(no train.csv\); give"),
        ("train.csv", "", "train.csv: cannot be read"),
        ("train.csv", "path,participant_id,sequence_id\na.parquet,1,1\n", "train.csv: no column 'sign'"),
        (
            "train.csv",
            "path,participant_id,sequence_id,sign\na.parquet,one,1,x\n",
            "participant_id' holds 'one', not a",
        ),
        ("train.csv", "path,participant_id,sequence_id,sign\na.parquet,,1,x\n", "'participant_id' has an empty field"),
        ("train.csv", "path,participant_id,sequence_id,sign\n", "train.csv: lists no sequence"),
        (
            "sign_to_prediction_index_map.json",
            None,
            r"source: not the contest's folder \(no sign_to_\w+_map.json\); give",
        ),
        ("sign_to_prediction_index_map.json", "{", "index_map.json: cannot be read"),
        (
            "sign_to_prediction_index_map.json",
            '{"a": 0, "b\\nc": 1}',
            r"index_map.json: the name 'b\\nc' has a character that ends a line; rename that sign",
        ),
        ("sign_to_prediction_index_map.json", "[]", "index_map.json: must map each sign"),
        ("sign_to_prediction_index_map.json", '{"a": 0, "b": 2}', "index_map.json: must map each sign"),
        ("sign_to_prediction_index_map.json", '{"a": 0, "b": "1"}', "index_map.json: must map each sign"),
    ],
)
def test_a_broken_index_is_named(name: str, content: str | None, message: str, source: Path, tmp_path: Path) -> None:
    if content is None:
        (source / name).unlink()
    else:
        (source / name).write_text(content)
    with pytest.raises(UserError, match=message):
        pack(source, tmp_path / "out", skip_bad=True)


def test_not_one_good_file_is_an_error(source: Path, tmp_path: Path) -> None:
    for path in paths_of(source):
        (source / path).unlink()
    with pytest.raises(UserError, match=r"not one sequence is right.*no such file"):
        pack(source, tmp_path / "out", skip_bad=True)


def test_an_unknown_sign_is_answered_with_the_nearest(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"signs: .*no sign 'sgn003'; did you mean 'sign003'\?"):
        pack(source, tmp_path / "out", signs=["sgn003"])


@pytest.mark.parametrize("signs", ["sign000", [], ()])
def test_signs_are_a_list_of_names(signs: Any, source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^signs: must be a list of names, such as \['sign000'\], not"):
        pack(source, tmp_path / "out", signs=signs)
    with pytest.raises(UserError, match=r"^signs: .* has no sign 3"):
        pack(source, tmp_path / "out", signs=[3])  # type: ignore[list-item]


def test_signs_may_come_from_anything_that_gives_them_once(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "list", signs=["sign000", "sign001"])
    pack(source, tmp_path / "iterator", signs=iter(["sign001", "sign000"]))
    assert PackedDataset.open(tmp_path / "iterator").fingerprint == PackedDataset.open(tmp_path / "list").fingerprint


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_workers_are_a_number_of_processes(workers: Any, source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^workers: must be a whole number of at least 1, not"):
        pack(source, tmp_path / "out", workers=workers)
    assert not (tmp_path / "out").exists()


# What OUT may hold already.


def test_the_same_content_is_done_and_untouched(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / paths_of(source)[3]).unlink()
    skipped = pack(source, tmp_path / "out", skip_bad=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    assert pack(source, tmp_path / "out", skip_bad=True) == skipped
    assert "already packed from the same content" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_another_dataset_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(source, out, signs=["sign000", "sign001"])
    before = (out / "frames.npy").read_bytes()
    with pytest.raises(UserError, match="already holds something else"):
        pack(source, out)
    of_sign = pd.read_csv(source / "train.csv").query("sign == 'sign000'").path.iloc[0]
    rewrite(source / of_sign, lambda table: table.slice(0, 543))
    with pytest.raises(UserError, match="already holds something else"):
        pack(source, out, signs=["sign000", "sign001"])
    assert (out / "frames.npy").read_bytes() == before


def test_a_damaged_dataset_is_not_called_done(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "out")
    flip_bytes(tmp_path / "out" / "frames.npy", 5000, 1)
    with pytest.raises(UserError, match="damaged"):
        pack(source, tmp_path / "out")


def test_a_folder_with_anything_else_in_it_is_left_alone(source: Path, tmp_path: Path) -> None:
    before = sorted(source.rglob("*"))
    with pytest.raises(UserError, match="not empty"):
        pack(source, source)
    assert sorted(source.rglob("*")) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^out: .*file: is a file, not a folder; name another folder"):
        pack(source, tmp_path / "file")


def test_two_packers_do_not_meet(source: Path, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is packing"):
            pack(source, tmp_path)
    assert not (tmp_path / "frames.npy").exists()


# Being killed.


def pack_until(event: int, source: Path, out: Path) -> bool:
    """Pack in a child that is killed when it opens, makes, renames or removes a file for that time. Whether it was."""
    child = os.fork()
    if child == 0:
        events = iter(range(event))

        def watch(name: str, _: tuple[object, ...]) -> None:
            if name in ("open", "os.rename", "os.remove", "os.mkdir") and next(events, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        with contextlib.suppress(BaseException):
            pack(source, out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_killed_at_any_moment_it_leaves_no_dataset_or_all_of_it(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "whole")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    out, event, unfinished = tmp_path / "out", 0, 0
    while pack_until(event, source, out):
        with contextlib.suppress(UserError):
            assert PackedDataset.open(out).fingerprint == PackedDataset.open(tmp_path / "whole").fingerprint
        if event % 2:  # half of the time a second one is killed over what the first one left
            pack_until(event + 3, source, out)
        if out.exists() and not (out / "manifest.json").exists():
            unfinished += 1
        pack(source, out)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
        shutil.rmtree(out)
        event += 1
    assert unfinished > 5
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_as_many_processes_read_as_are_worth_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert [packing.useful_workers(count) for count in (1, 1999, 2000, 94_477)] == [1, 1, 2, 3]
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert packing.useful_workers(94_477) == 4
