"""A packed dataset, memory-mapped, and its participants dealt into folds.

On disk (written by trainer.data.packing): frames.npy float32 [F, 85, 2], sequences.parquet with one row a
sequence, manifest.json. Opening costs the same at any size, and processes on one machine share the frames
through the page cache.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow.parquet as pq

from trainer.common.errors import UserError
from trainer.common.storage import is_uri
from trainer.data.fetch import fetch
from trainer.data.manifest import FORMAT_VERSION, FRAMES, MANIFEST, SEQUENCES, fingerprint
from trainer.landmarks import NUM_LANDMARKS, ROWS


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
    def open(cls, path: Path | str) -> Self:
        """Open a packed dataset by its path or URI; one behind a URI is fetched once, for all processes of a machine.

        Raises UserError if it is absent, unfinished or of another format, or if what was fetched is not what its
        manifest says.

        >>> dataset = PackedDataset.open("results/data/asl-signs")  # doctest: +SKIP
        >>> dataset.sequence(0).shape  # doctest: +SKIP
        (23, 85, 2)
        """
        source = str(path) if is_uri(str(path)) else str(Path(path).resolve())
        path = fetch(source) if is_uri(source) else Path(path)
        manifest = _read_manifest(path)
        try:
            frames = np.load(path / FRAMES, mmap_mode="r", allow_pickle=False)
            table = pq.read_table(path / SEQUENCES)
            columns = {
                name: table[name].to_numpy().astype(np.int64, copy=False)
                for name in ("start", "length", "label", "participant_id", "sequence_id")
            }
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: cannot read the packed dataset ({error}); pack it again with trainer.pack"
            ) from error
        expected = (manifest["num_frames"], NUM_LANDMARKS, 2)
        if frames.shape != expected or frames.dtype != np.float32 or len(table) != manifest["num_sequences"]:
            raise UserError(f"{path}: the files do not fit {MANIFEST}; pack it again with trainer.pack")
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

    def sequence(self, index: int) -> np.ndarray:
        """Frames of one sequence: float32 [n, 85, 2], a view."""
        start = self.starts[index]
        return self.frames[start : start + self.lengths[index]]

    def folds(self, num_folds: int) -> list[np.ndarray]:
        """Deal the participants into folds: a list of sorted participant ids (int64) for each fold.

        The participant with the most sequences not yet dealt goes to the fold with the fewest, so folds
        come out even; the deal depends on the data alone. Raises UserError with the field num_folds if there are fewer
        participants than folds, and with the field data if there is but one, of whom nothing can be held out.
        """
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
        held_out = np.isin(self.participants, self.folds(num_folds)[fold])
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: not a packed dataset (no {MANIFEST}); make one with: python -m trainer.pack SOURCE {path}"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path / MANIFEST}: cannot be read ({error}); pack it again with trainer.pack") from error
    if manifest.get("format_version") != FORMAT_VERSION or tuple(manifest.get("landmark_ids", ())) != ROWS:
        raise UserError(f"{path}: packed in another format; pack it again with this version of trainer.pack")
    return manifest


def typical_lengths(lengths: np.ndarray, count: int) -> list[int]:
    """``count`` lengths that stand for all of them int64 [N]: evenly spaced quantiles, ascending.

    >>> typical_lengths(np.arange(1, 101), 4)
    [13, 38, 63, 88]
    """
    levels = (np.arange(count) + 0.5) / count
    return [int(length) for length in np.quantile(lengths, levels, method="inverted_cdf")]
