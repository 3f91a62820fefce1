"""Opening a packed dataset by a URI: fetched once, checked against its manifest. (tests.search.test_remote does S3.)"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from trainer.common.errors import UserError
from trainer.data.dataset import PackedDataset


@pytest.fixture
def uri(dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(dataset.path, tmp_path / "storage" / "packed")
    return (tmp_path / "storage" / "packed").as_uri()


def test_a_path_is_opened_in_place(dataset: PackedDataset) -> None:
    assert PackedDataset.open(dataset.path).path == PackedDataset.open(str(dataset.path)).path == dataset.path


def test_a_uri_is_fetched_once(dataset: PackedDataset, uri: str, tmp_path: Path) -> None:
    fetched = PackedDataset.open(uri)
    assert (fetched.source, fetched.fingerprint) == (uri, dataset.fingerprint)
    assert fetched.path.is_relative_to(tmp_path / "cache")
    (tmp_path / "storage" / "packed" / "frames.npy").unlink()
    assert PackedDataset.open(uri).path == fetched.path


def test_a_copy_that_was_changed_is_fetched_again(dataset: PackedDataset, uri: str) -> None:
    copy = PackedDataset.open(uri).path
    for name in ("frames.npy", "sequences.parquet"):
        (copy / name).write_bytes(b"harmed")
        np.testing.assert_array_equal(PackedDataset.open(uri).frames, dataset.frames)
    (copy / "manifest.json").write_text("{}")
    np.testing.assert_array_equal(PackedDataset.open(uri).labels, dataset.labels)


@pytest.mark.parametrize("name", ["frames.npy", "sequences.parquet"])
def test_a_file_that_is_not_what_the_manifest_says_is_refused(name: str, uri: str, tmp_path: Path) -> None:
    with (tmp_path / "storage" / "packed" / name).open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match=f"{name} is not what manifest.json says"):
        PackedDataset.open(uri)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a packed dataset"),
        ("{", "manifest.json cannot be read"),
        ("[]", "must hold an object"),
        ("{}", "format"),
    ],
)
def test_a_folder_without_a_whole_manifest_is_refused(
    content: str | None, message: str, uri: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "storage" / "packed" / "manifest.json"
    if content is None:
        manifest.unlink()
    else:
        manifest.write_text(content)
    with pytest.raises(UserError, match=message):
        PackedDataset.open(uri)
