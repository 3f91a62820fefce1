"""A packed dataset, memory-mapped, and its participants dealt into folds.

On disk (written by trainer.data.packing): frames.npy float32 [F, 85, 2], sequences.parquet with one row a
sequence, manifest.json. Processes on one machine share the frames through the page cache; the first of them checks
the files against the manifest's hashes (trainer.data.manifest).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.common.errors import DatasetChangedError, UserError, first_line
from trainer.common.fields import to_count, to_place
from trainer.common.storage import is_uri
from trainer.common.strict import MOST_INT, check_type, described, read_array
from trainer.data.fetch import fetch
from trainer.data.manifest import FRAMES, MANIFEST, SEQUENCES, fingerprint, read_manifest, verify, verify_once
from trainer.landmarks import NUM_LANDMARKS


@dataclass(frozen=True)
class PackedDataset:
    """Sequences of normalised landmarks, end to end in one array. All per-sequence arrays share one order.

    >>> dataset = PackedDataset.open("results/data/asl-signs")  # doctest: +SKIP
    >>> dataset.sequence(0).shape  # doctest: +SKIP
    (23, 85, 2)
    """

    path: Path
    frames: np.ndarray
    """float32 [F, 85, 2], read-only; frames of sequence i are starts[i] : starts[i] + lengths[i]"""
    starts: np.ndarray
    """int64 [N]"""
    lengths: np.ndarray
    """int64 [N], frames of each sequence"""
    labels: np.ndarray
    """int64 [N], index into sign_names"""
    participants: np.ndarray
    """int64 [N], participant_id"""
    sequence_ids: np.ndarray
    """int64 [N]"""
    sign_names: tuple[str, ...]
    fingerprint: str
    """SHA-256 of frames.npy and sequences.parquet, as the manifest states them"""
    source: str = ""
    """Where every machine finds it: the URI that it was fetched from (trainer.common.storage), else the path"""

    def __repr__(self) -> str:
        return f"PackedDataset({self.source or str(self.path)!r}: {len(self)} sequences, {self.num_signs} signs)"

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_signs(self) -> int:
        return len(self.sign_names)

    @classmethod
    def open(cls, path: Path | str, patience: float = 0.0) -> Self:
        """Open a packed dataset by its path or URI; one behind a URI is fetched once, for all processes of a machine.

        Storage that is out of reach is tried again for ``patience`` seconds. Raises UserError if the dataset is absent,
        unfinished or of another format, and DatasetChangedError if a file is not what the manifest says. Large files
        are hashed once on a machine, and again when they were touched.

        >>> dataset = PackedDataset.open("results/data/asl-signs")  # doctest: +SKIP
        >>> dataset.sequence(0).shape  # doctest: +SKIP
        (23, 85, 2)
        """
        place = to_place(path, "path")
        check_type("patience", patience, float)
        source = place if is_uri(place) else str(Path(place).resolve())
        path = fetch(source, patience) if is_uri(source) else Path(place)
        manifest = read_manifest(path)
        verify_once(path)
        try:
            frames = read_array(path / FRAMES)
            table = pq.read_table(path / SEQUENCES)
            columns = _read_columns(table)
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise UserError(
                f"{path}: cannot read the packed dataset ({first_line(error)}); pack it again with trainer.pack"
            ) from error
        expected = (manifest["num_frames"], NUM_LANDMARKS, 2)
        if frames.shape != expected or frames.dtype != np.float32 or not _fits(columns, manifest):
            raise UserError(f"{path}: the files do not fit {MANIFEST}; pack it again with trainer.pack")
        _require_names(path, table, manifest["label_names"])
        return cls(
            path=path.resolve(),
            frames=frames,
            starts=columns["start"],
            lengths=columns["length"],
            labels=columns["label"],
            participants=columns["participant_id"],
            sequence_ids=columns["sequence_id"],
            sign_names=tuple(manifest["label_names"]),
            fingerprint=fingerprint(manifest),
            source=source,
        )

    def verify(self) -> None:
        """Read both files whole, whatever was found before.

        Raises DatasetChangedError if they are not what they were at the opening, and UserError if they are gone.
        """
        if fingerprint(read_manifest(self.path)) != self.fingerprint:
            raise DatasetChangedError(f"{self.path}: another dataset has been packed there meanwhile; start again")
        verify(self.path)

    def sequence(self, index: int) -> np.ndarray:
        """Frames of one sequence: float32 [n, 85, 2], a view."""
        index = to_count(index, "index", least=-len(self), most=len(self) - 1)
        start = self.starts[index]
        return self.frames[start : start + self.lengths[index]]

    def folds(self, num_folds: int) -> list[np.ndarray]:
        """Deal the participants into folds: a list of sorted participant ids (int64) for each fold.

        The participant with the most sequences not yet dealt goes to the fold with the fewest, so folds
        come out even; the deal depends on the data alone. Raises UserError with the field num_folds if there are fewer
        participants than folds, and with the field data if there is but one, of whom nothing can be held out.
        """
        num_folds = to_count(num_folds, "num_folds", most=MOST_INT)
        ids, counts = np.unique(self.participants, return_counts=True)
        if len(ids) < 2:
            raise UserError(
                f"{self.path}: all sequences are of one participant, and some participants must be held out; give a "
                "dataset of at least 2",
                field="data",
            )
        if len(ids) < num_folds:
            fitting = "2" if len(ids) == 2 else f"2 to {len(ids)}"
            raise UserError(
                f"{self.path}: {len(ids)} participants cannot be dealt into {num_folds} folds; choose {fitting}",
                field="num_folds",
            )
        folds: list[list[int]] = [[] for _ in range(num_folds)]
        sizes = [0] * num_folds
        for index in np.lexsort((ids, -counts)):
            fold = sizes.index(min(sizes))
            folds[fold].append(int(ids[index]))
            sizes[fold] += int(counts[index])
        return [np.array(sorted(fold), dtype=np.int64) for fold in folds]

    def split(self, num_folds: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of training and of validation sequences, int64, ascending; no participant is in both."""
        folds = self.folds(num_folds)
        held_out = np.isin(self.participants, folds[to_count(fold, "fold", least=0, most=len(folds) - 1)])
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _read_columns(table: pa.Table) -> dict[str, np.ndarray]:
    """Columns of sequences.parquet by name: int64 [N] each. Raises ValueError if one has an empty field."""
    columns = {}
    for name in ("start", "length", "label", "participant_id", "sequence_id"):
        if table[name].null_count or not pa.types.is_integer(table[name].type):
            raise ValueError(f"column {name!r} must hold integers")
        columns[name] = table[name].to_numpy().astype(np.int64, copy=False)
    return columns


def _fits(columns: dict[str, np.ndarray], manifest: dict[str, Any]) -> bool:
    """Whether there are as many sequences as stated, one after another, each once, and with labels that have a name."""
    starts, lengths, labels = (columns[name] for name in ("start", "length", "label"))
    ends = np.cumsum(lengths)
    return bool(
        len(starts) == manifest["num_sequences"] > 0
        and (lengths >= 1).all()
        and (starts == ends - lengths).all()
        and ends[-1] == manifest["num_frames"]
        and (labels >= 0).all()
        and (labels < len(manifest["label_names"])).all()
        and len(np.unique(columns["sequence_id"])) == len(starts)
        and manifest.get("num_participants") in (None, len(np.unique(columns["participant_id"])))
    )


def _require_names(path: Path, table: pa.Table, label_names: list[str]) -> None:
    """Raise UserError unless the manifest calls every sequence's sign as sequences.parquet does."""
    if "sign" not in table.column_names:
        raise UserError(f"{path / SEQUENCES}: has no column 'sign'; pack it again with trainer.pack")
    named, called = pa.array(label_names).take(table["label"].combine_chunks()), table["sign"].cast(pa.string())
    if (place := pc.index(pc.equal(named, called), False).as_py()) >= 0:
        raise UserError(
            f"{path / MANIFEST}: label_names: sign {table['label'][place]} is {described(named[place].as_py())} there, "
            f"and {described(called[place].as_py())} in {SEQUENCES}; pack it again with trainer.pack"
        )


def typical_lengths(lengths: np.ndarray, count: int) -> list[int]:
    """``count`` lengths that stand for all of them int64 [N]: evenly spaced quantiles, ascending.

    >>> typical_lengths(np.arange(1, 101), 4)
    [13, 38, 63, 88]
    """
    levels = (np.arange(count) + 0.5) / count
    return [int(length) for length in np.quantile(lengths, levels, method="inverted_cdf")]
