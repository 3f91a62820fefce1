"""The sequences that a study holds out, in the order of the rows of every trial's val_probs.npy: validation.parquet."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.common.errors import UserError, first_line
from trainer.common.fields import to_count
from trainer.common.files import atomic_path, sha256, special
from trainer.data.dataset import PackedDataset
from trainer.rundir import BRING_BACK


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Held-out sequences; int64 [N] each.

    Where every trial holds out the same fold, these are its sequences. Where the folds are held out in turn, they are
    all sequences, and the rows of a trial's val_probs.npy are those of its own fold, in this order.
    """

    sequence_ids: np.ndarray
    participants: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    """Frames"""
    folds: np.ndarray | None = None
    """The fold of each, if the folds are held out in turn"""

    @classmethod
    def of(cls, dataset: PackedDataset, num_folds: int, fold: int | None = None) -> Self:
        """The sequences that a dataset holds out in a fold; in all folds, one after another, without one."""
        folds = np.empty(len(dataset), np.int64)
        for its in range(num_folds):
            folds[dataset.split(num_folds, its)[1]] = its
        held_out = np.arange(len(dataset)) if fold is None else np.flatnonzero(folds == fold)
        return cls(
            sequence_ids=dataset.sequence_ids[held_out],
            participants=dataset.participants[held_out],
            labels=dataset.labels[held_out],
            lengths=dataset.lengths[held_out],
            folds=folds if fold is None else None,
        )

    def at(self, rows: np.ndarray) -> Self:
        """Some of the sequences, by their places int64 [n], as the ones that all trials hold out."""
        return dataclasses.replace(
            self,
            sequence_ids=self.sequence_ids[rows],
            participants=self.participants[rows],
            labels=self.labels[rows],
            lengths=self.lengths[rows],
            folds=None,
        )

    @classmethod
    def read(cls, path: Path, num_signs: int, digest: str | None = None) -> Self:
        """The held-out sequences, whose labels are indices of ``num_signs`` signs.

        Raises UserError if the file is not there, broken, or of another SHA-256 than ``digest``.
        """
        to_count(num_signs, "num_signs")
        if not path.exists():
            raise UserError(f"{path}: there is no such file; a study of search.run has it: bring it back")
        if wrong := special(path):
            raise UserError(f"{path}: {wrong}; {BRING_BACK}")
        try:
            if digest is not None and sha256(path) != digest:
                raise UserError(f"{path}: changed since the search wrote it; {BRING_BACK}")
            table = pq.read_table(path)
            columns = ["sequence_id", "participant_id", "label", "length"]
            columns += ["fold"] * ("fold" in table.column_names)
            for name in columns:
                if not pa.types.is_integer(table[name].type) or table[name].null_count:
                    raise ValueError(f"column {name!r} must hold whole numbers")
            ids, participants, labels, lengths, *folds = (table[name].to_numpy().astype(np.int64) for name in columns)
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise UserError(f"{path}: cannot be read ({first_line(error)}); is this a study of search.run?") from error
        if not len(labels) or labels.min() < 0 or labels.max() >= num_signs:
            raise UserError(f"{path}: label: must be indices of the {num_signs} signs of study.json")
        fold = folds[0] if folds else None
        return cls(sequence_ids=ids, participants=participants, labels=labels, lengths=lengths, folds=fold)

    def write(self, path: Path, label_names: tuple[str, ...]) -> None:
        """Write validation.parquet, with the name of each label beside it."""
        columns = {
            "sequence_id": self.sequence_ids,
            "participant_id": self.participants,
            "label": self.labels,
            "sign": [label_names[label] for label in self.labels],
            "length": self.lengths,
        }
        if self.folds is not None:
            columns["fold"] = self.folds
        with atomic_path(path) as temporary:
            pq.write_table(pa.table(columns), temporary)

    @staticmethod
    def signs_of(path: Path) -> dict[int, str]:
        """What a validation.parquet calls each label; empty if an earlier version wrote it."""
        table = pq.read_table(path)
        if "sign" not in table.column_names:
            return {}
        return dict(zip(table["label"].to_pylist(), table["sign"].to_pylist(), strict=True))
