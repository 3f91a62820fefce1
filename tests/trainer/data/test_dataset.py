"""The packed dataset as its readers see it: opening, and splitting by participant."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.trainer.conftest import write_dataset
from trainer.common.errors import DatasetChangedError, UserError
from trainer.common.files import sha256
from trainer.data.dataset import PackedDataset, typical_lengths


def test_opening_reads_no_frames(packed: PackedDataset) -> None:
    assert isinstance(packed.frames, np.memmap)
    assert not packed.frames.flags.writeable
    assert isinstance(packed.sequence(3), np.memmap)


def test_sequences_are_the_tables_own(packed: PackedDataset) -> None:
    table = pd.read_parquet(packed.path / "sequences.parquet")
    frames = np.load(packed.path / "frames.npy")
    assert len(packed) == len(table)
    assert packed.num_signs == 6
    for index, row in enumerate(table.itertuples()):
        np.testing.assert_array_equal(packed.sequence(index), frames[row.start : row.start + row.length])
        assert packed.sign_names[packed.labels[index]] == row.sign
        assert packed.participants[index] == row.participant_id


def test_the_fingerprint_is_that_of_the_content(packed: PackedDataset, tmp_path: Path) -> None:
    shutil.copytree(packed.path, tmp_path / "copy")
    assert PackedDataset.open(tmp_path / "copy").fingerprint == packed.fingerprint
    other = PackedDataset.open(write_dataset(tmp_path / "other"))
    assert len(other.fingerprint) == 64
    assert other.fingerprint != packed.fingerprint


def turn_names(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"label_names": manifest["label_names"][::-1]}))


def change_manifest(**values: object) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(manifest | values))

    return change


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: shutil.rmtree(path), "not a packed dataset"),
        (lambda path: (path / "manifest.json").unlink(), "not a packed dataset"),
        (
            lambda path: (path / "manifest.json").rename(path / "train.csv"),
            r"copy: is a folder to pack \(it has train.csv\), not .*: python -m trainer.pack (.*copy) \1-packed$",
        ),
        (lambda path: (path / "manifest.json").write_text('{"format'), "manifest.json cannot be read"),
        (change_manifest(format_version=0), "another format"),
        (change_manifest(landmark_ids=list(range(85))), "another format"),
        (change_manifest(num_frames=7), "do not fit"),
        (change_manifest(num_sequences=7), "do not fit"),
        (change_manifest(num_participants=7), "do not fit"),
        (
            turn_names,
            r"manifest.json: label_names: sign \d is 'sign\d+' there, and 'sign\d+' in sequences.parquet; pack",
        ),
        (lambda path: (path / "frames.npy").unlink(), "frames.npy: cannot be read"),
        (lambda path: (path / "sequences.parquet").unlink(), "sequences.parquet: cannot be read"),
        (lambda path: (path / "frames.npy").write_bytes(b""), "frames.npy: changed since it was packed"),
    ],
)
def test_what_is_no_dataset_is_refused(
    harm: Callable[[Path], object], message: str, packed: PackedDataset, tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(packed.path, path)
    harm(path)
    with pytest.raises(UserError, match=message) as caught:
        PackedDataset.open(path)
    assert str(path) in str(caught.value)


def replace_column(name: str, value: object) -> Callable[[Path], object]:
    def harm(path: Path) -> None:
        pd.read_parquet(path / "sequences.parquet").assign(**{name: value}).to_parquet(path / "sequences.parquet")

    return harm


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: (path / "frames.npy").write_bytes(b""), "cannot read the packed dataset"),
        (lambda path: np.save(path / "frames.npy", np.zeros((9, 85, 2))), "do not fit"),
        (lambda path: (path / "sequences.parquet").write_bytes(b"PAR1"), "cannot read the packed dataset"),
        (lambda path: pd.DataFrame({"start": [0]}).to_parquet(path / "sequences.parquet"), "cannot read the packed"),
        (replace_column("start", 2**40), "do not fit"),
        (replace_column("start", -1), "do not fit"),
        (replace_column("length", 0), "do not fit"),
        (replace_column("length", 2**62), "do not fit"),
        (replace_column("label", 6), "do not fit"),
        (replace_column("label", -1), "do not fit"),
        (replace_column("label", None), "column 'label' must hold integers"),
        (replace_column("label", 0.5), "column 'label' must hold integers"),
    ],
)
def test_content_that_makes_no_sense_is_refused_though_its_hash_is_right(
    harm: Callable[[Path], object], message: str, packed: PackedDataset, tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(packed.path, path)
    harm(path)
    hashes = {name: sha256(path / name) for name in ("frames.npy", "sequences.parquet")}
    change_manifest(sha256=hashes)(path)
    with pytest.raises(UserError, match=message) as caught:
        PackedDataset.open(path)
    assert str(path) in str(caught.value)


def test_an_open_dataset_is_verified_whole_when_asked(packed: PackedDataset, tmp_path: Path) -> None:
    shutil.copytree(packed.path, tmp_path / "copy")
    dataset = PackedDataset.open(tmp_path / "copy")
    dataset.verify()
    with (dataset.path / "frames.npy").open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    with pytest.raises(DatasetChangedError, match=r"copy/frames.npy: changed since it was packed .*; pack it again"):
        dataset.verify()
    shutil.rmtree(dataset.path)
    write_dataset(dataset.path)
    with pytest.raises(DatasetChangedError, match="another dataset has been packed there"):
        dataset.verify()


@pytest.mark.parametrize("num_folds", [2, 3, 6])
def test_every_participant_is_held_out_once_and_never_trained_on(num_folds: int, packed: PackedDataset) -> None:
    held_out = []
    for fold in range(num_folds):
        training, validation = packed.split(num_folds, fold)
        assert not set(packed.participants[training]) & set(packed.participants[validation])
        np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(len(packed)))
        assert (np.diff(training) > 0).all()
        assert (np.diff(validation) > 0).all()
        held_out.append(validation)
    np.testing.assert_array_equal(np.sort(np.concatenate(held_out)), np.arange(len(packed)))


def test_the_real_participants_make_even_folds(real_sample: Path, packed: PackedDataset) -> None:
    participants = pd.read_csv(real_sample / "full_index.csv.gz").participant_id.to_numpy()
    folds = dataclasses.replace(packed, participants=participants).folds(5)
    sizes = [np.isin(participants, fold).sum() for fold in folds]
    assert sum(sizes) == 94_477
    assert max(sizes) - min(sizes) < np.unique(participants, return_counts=True)[1].max()
    again = dataclasses.replace(packed, participants=participants[::-1]).folds(5)
    for fold, same in zip(folds, again, strict=True):
        np.testing.assert_array_equal(fold, same, "the order of the sequences changed the folds")


def test_more_folds_than_participants_are_refused(packed: PackedDataset) -> None:
    with pytest.raises(UserError, match=r"^num_folds: .*6 participants cannot be dealt into 7 folds; choose 2 to 6$"):
        packed.folds(7)
    two = dataclasses.replace(packed, participants=packed.participants % 2)
    with pytest.raises(UserError, match=r"2 participants cannot be dealt into 3 folds; choose 2$"):
        two.folds(3)
    assert sorted(len(fold) for fold in two.folds(2)) == [1, 1]


@pytest.mark.parametrize("num_folds", [1, 2, 5])
def test_one_participant_is_too_few_for_any_folds(num_folds: int, packed: PackedDataset) -> None:
    one = dataclasses.replace(packed, participants=np.zeros_like(packed.participants))
    with pytest.raises(UserError, match=r"^data: .*of one participant, .*; give a dataset of at least 2$"):
        one.split(num_folds, 0)


def test_typical_lengths_are_evenly_spaced_quantiles() -> None:
    lengths = np.random.default_rng(0).permutation(np.arange(1, 101))
    assert typical_lengths(lengths, 4) == [13, 38, 63, 88]
    assert typical_lengths(np.array([7]), 3) == [7, 7, 7]
