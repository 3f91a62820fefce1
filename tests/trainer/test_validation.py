"""validation.parquet: what is held out, in the order of every trial's predictions."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.common.errors import UserError
from trainer.common.files import sha256
from trainer.data.dataset import PackedDataset
from trainer.studydir import VALIDATION, StudyDir
from trainer.validation import Validation


def test_validation_is_what_the_fold_holds_out(packed: PackedDataset, tmp_path: Path) -> None:
    study = StudyDir(tmp_path)
    held_out = Validation.of(packed, num_folds=3, fold=1)
    study.write_validation(held_out, packed.sign_names)
    found = study.read_validation(packed.num_signs)
    _, indices = packed.split(3, 1)
    np.testing.assert_array_equal(found.sequence_ids, packed.sequence_ids[indices])
    np.testing.assert_array_equal(found.labels, packed.labels[indices])
    np.testing.assert_array_equal(found.lengths, held_out.lengths)
    np.testing.assert_array_equal(found.participants, held_out.participants)
    with pytest.raises(UserError, match="label: must be indices of the 1 signs"):
        study.read_validation(1)
    digest = sha256(tmp_path / VALIDATION)
    assert len(study.read_validation(packed.num_signs, digest).labels) == len(found.labels)
    pq.write_table(pq.read_table(tmp_path / VALIDATION).replace_schema_metadata({"a": "b"}), tmp_path / VALIDATION)
    with pytest.raises(UserError, match=r"validation.parquet: changed since the search wrote it; bring the file back"):
        study.read_validation(packed.num_signs, digest)
    (tmp_path / VALIDATION).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"validation.parquet: cannot be read"):
        study.read_validation(packed.num_signs)


def test_validation_of_other_types_is_named(packed: PackedDataset, tmp_path: Path) -> None:
    study = StudyDir(tmp_path)
    study.write_validation(Validation.of(packed, num_folds=3, fold=1), packed.sign_names)
    table = pq.read_table(tmp_path / VALIDATION)
    for values in (pa.array(["1"] * len(table)), pa.array([0.5] * len(table)), pa.nulls(len(table), pa.int64())):
        pq.write_table(table.set_column(2, "label", values), tmp_path / VALIDATION)
        with pytest.raises(
            UserError, match=r"validation\.parquet: cannot be read \(column 'label' must hold whole num"
        ):
            study.read_validation(packed.num_signs)


def test_where_folds_are_held_out_in_turn_every_sequence_has_its_fold(packed: PackedDataset, tmp_path: Path) -> None:
    Validation.of(packed, num_folds=3).write(tmp_path / VALIDATION, packed.sign_names)
    found = Validation.read(tmp_path / VALIDATION, packed.num_signs)
    np.testing.assert_array_equal(found.sequence_ids, packed.sequence_ids)
    assert found.folds is not None
    for fold in range(3):
        _, rows = packed.split(3, fold)
        np.testing.assert_array_equal(np.flatnonzero(found.folds == fold), rows)
        own = found.at(rows)
        np.testing.assert_array_equal(own.labels, Validation.of(packed, 3, fold).labels)
        assert own.folds is None
    assert Validation.of(packed, 3, 0).folds is None
    table = pq.read_table(tmp_path / VALIDATION)
    pq.write_table(table.set_column(5, "fold", pa.array([None] * len(table), pa.int64())), tmp_path / VALIDATION)
    with pytest.raises(UserError, match=r"cannot be read \(column 'fold' must hold whole numbers\)"):
        Validation.read(tmp_path / VALIDATION, packed.num_signs)


def test_what_each_label_is_called_is_told_where_the_file_says_so(packed: PackedDataset, tmp_path: Path) -> None:
    path = tmp_path / VALIDATION
    Validation.of(packed, 3, 0).write(path, packed.sign_names)
    assert Validation.signs_of(path) == {label: packed.sign_names[label] for label in sorted(Validation.signs_of(path))}
    pq.write_table(pq.read_table(path).drop_columns(["sign"]), path)
    assert Validation.signs_of(path) == {}
