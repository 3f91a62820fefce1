"""What a manifest says is checked, and the files are held against it: always when asked, else once on a machine."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainer.common import files
from trainer.common.errors import DatasetChangedError, UserError
from trainer.data import manifest
from trainer.data.dataset import PackedDataset
from trainer.data.manifest import fingerprint, read_manifest, remember, verify, verify_once
from trainer.data.packing import pack


@pytest.fixture
def copy(packed: PackedDataset, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed.path, tmp_path / "copy"))


@pytest.fixture
def hashed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed so far; verdicts are kept in an empty cache, on files of any size."""
    names = []

    def count(path: Path) -> str:
        names.append(path.name)
        return files.sha256(path)

    monkeypatch.setattr(manifest, "sha256", count)
    monkeypatch.setattr(manifest, "REMEMBERED_FROM", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy.parent / "cache"))
    return names


BOTH = ["frames.npy", "sequences.parquet"]


@pytest.mark.parametrize("name", ["manifest.json", *BOTH])
def test_a_pipe_is_not_waited_for(name: str, copy: Path) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(UserError, match=rf"{name}:? cannot be read \((it )?is a pipe, not a file\); pack it again"):
        PackedDataset.open(copy)


def test_the_fingerprint_is_the_two_hashes() -> None:
    hashes = {"frames.npy": "a" * 64, "sequences.parquet": "b" * 64}
    assert fingerprint({"sha256": hashes}) == "a" * 32 + "b" * 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: [], "must hold an object, not a list"),
        (lambda _: None, "must hold an object, not a NoneType"),
        (lambda known: known | {"landmark_ids": 85}, "packed in another format"),
        (lambda known: known | {"num_frames": "7"}, "lacks num_frames, a number"),
        (lambda known: {key: value for key, value in known.items() if key != "num_sequences"}, "lacks num_sequences"),
        (lambda known: known | {"label_names": "abcdef"}, "lacks label_names"),
        (lambda known: known | {"label_names": ["a", "a"]}, "lacks label_names"),
        (lambda known: known | {"label_names": [["a"]]}, "lacks label_names"),
        (lambda known: known | {"label_names": ["a\x85b"]}, r"label_names: 'a\\x85b' has a character that ends a line"),
        (lambda known: {key: value for key, value in known.items() if key != "sha256"}, "SHA-256 of frames.npy"),
        (lambda known: known | {"sha256": ["a", "b"]}, "SHA-256 of frames.npy"),
        (lambda known: known | {"sha256": {"frames.npy": "a" * 64}}, "SHA-256 of sequences.parquet"),
        (lambda known: known | {"sha256": dict.fromkeys(BOTH, 64 * "g")}, "SHA-256 of frames.npy"),
    ],
)
def test_a_manifest_of_other_content_is_refused(change: Callable[[Any], Any], message: str, copy: Path) -> None:
    known = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(change(known)))
    with pytest.raises(UserError, match=f"{copy}: .*{message}.*; pack it again with trainer.pack"):
        read_manifest(copy)
    with pytest.raises(UserError, match=message):
        PackedDataset.open(copy)


def test_a_manifest_of_brackets_alone_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        read_manifest(copy)


def shuffle_rows(copy: Path) -> None:
    pd.read_parquet(copy / "sequences.parquet").sample(frac=1, random_state=0).to_parquet(copy / "sequences.parquet")


def reverse_frames(copy: Path) -> None:
    np.save(copy / "frames.npy", np.load(copy / "frames.npy")[::-1].copy())


def make_nan(copy: Path) -> None:
    np.save(copy / "frames.npy", np.load(copy / "frames.npy") * np.float32(np.nan))


@pytest.mark.usefixtures("hashed")
@pytest.mark.parametrize("limit", [0, 2**60], ids=["remembered", "small"])
@pytest.mark.parametrize(
    ("harm", "name"),
    [(shuffle_rows, "sequences.parquet"), (reverse_frames, "frames.npy"), (make_nan, "frames.npy")],
)
def test_a_file_changed_after_packing_is_named(
    harm: Callable[[Path], None], name: str, limit: int, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "REMEMBERED_FROM", limit)
    PackedDataset.open(copy)
    harm(copy)
    for _ in range(2):  # a verdict of guilt is not kept as one of innocence
        with pytest.raises(DatasetChangedError, match=f"{copy / name}: changed since it was packed"):
            PackedDataset.open(copy)


def test_large_files_are_hashed_once_on_a_machine(copy: Path, hashed: list[str]) -> None:
    with ThreadPoolExecutor(4) as pool:  # they all wait for the first
        list(pool.map(PackedDataset.open, [copy] * 4))
    assert hashed == BOTH
    PackedDataset.open(copy)
    assert hashed == BOTH


def test_touched_files_and_another_manifest_are_hashed_again(copy: Path, hashed: list[str]) -> None:
    verify_once(copy)
    about = (copy / "frames.npy").stat()
    os.utime(copy / "frames.npy", ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    verify_once(copy)
    assert hashed == 2 * BOTH
    shutil.copy2(copy / "frames.npy", copy.parent / "other")
    (copy.parent / "other").replace(copy / "frames.npy")  # same size and time of change, another file
    verify_once(copy)
    assert hashed == 3 * BOTH
    known = json.loads((copy / "manifest.json").read_text())
    known["sha256"]["sequences.parquet"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(known))
    with pytest.raises(DatasetChangedError, match=r"sequences\.parquet: changed"):
        verify_once(copy)


def test_verify_hashes_whatever_is_remembered(copy: Path, hashed: list[str]) -> None:
    verify_once(copy)
    verify(copy)
    assert hashed == 2 * BOTH


def test_what_was_just_written_needs_no_second_hash(generated: Path, copy: Path, hashed: list[str]) -> None:
    pack(generated, copy.parent / "new")  # hashes what it writes
    PackedDataset.open(copy.parent / "new")
    remember(copy)
    verify_once(copy)
    assert hashed == []


@pytest.mark.parametrize("cache", ["file", "broken", "deep"])
def test_a_cache_that_cannot_be_used_costs_only_time(cache: str, copy: Path, hashed: list[str]) -> None:
    root = copy.parent / "cache"
    if cache == "file":
        root.write_text("no folder")
    else:
        verify_once(copy)
        hashed.clear()
        (verdict,) = root.rglob("state.json")
        verdict.write_text("{" if cache == "broken" else "[" * 100_000)
    verify_once(copy)
    assert hashed == BOTH


def test_small_files_leave_nothing_in_the_cache(copy: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "REMEMBERED_FROM", 2**24)
    for _ in range(2):
        PackedDataset.open(copy)
    assert hashed == 2 * BOTH
    assert not (copy.parent / "cache").exists()
