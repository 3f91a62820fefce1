"""submission.zip: writing it, reading it, and holding it against the contest's contract.

The zip holds model.tflite and nothing else. The names of the signs travel inside model.tflite, as TFLite's own
metadata tools put them there: labels.txt in a zip appended to the FlatBuffer, which runtimes do not look at.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ensemble.runtime import INPUT_SHAPE, Model
from trainer.cli import UserError
from trainer.files import write_bytes
from trainer.landmarks import FACE_ROWS, LEFT_HAND_ROWS, NUM_ROWS, RIGHT_HAND_ROWS

MODEL: Final = "model.tflite"
LABELS: Final = "labels.txt"
CONTEST_RUNTIME: Final = (2, 9, 1)
LONGEST: Final = 600  # frames; the contest's longest sequence has 537
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the zip format's first date: equal content makes equal files


def with_labels(model: bytes, label_names: Sequence[str]) -> bytes:
    """The .tflite file with the signs' names, in the order of its outputs, attached."""
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS, _EPOCH), "\n".join(label_names))
    return file.getvalue()


def read_labels(model: bytes) -> list[str] | None:
    """The names attached to a .tflite file, or None if it has none."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            return archive.read(LABELS).decode().split("\n")
    except (zipfile.BadZipFile, KeyError):
        return None


def write(path: Path, model: bytes) -> None:
    """Write submission.zip, whole or not at all."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        entry = zipfile.ZipInfo(MODEL, _EPOCH)
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, model, zipfile.ZIP_DEFLATED)
    write_bytes(path, file.getvalue())


def read(path: Path) -> bytes:
    """The .tflite file in a submission.zip, or a .tflite file itself. Raises UserError naming what is wrong."""
    try:
        if path.suffix == ".tflite":
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            return archive.read(MODEL)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; make one with: python -m ensemble.select --budget") from error
    except IsADirectoryError as error:
        inside = sorted(path.glob("*/submission.zip")) or sorted(path.glob("submission.zip"))
        hint = f"give {inside[0]}" if inside else "give a submission.zip or a .tflite file"
        raise UserError(f"{path}: is a folder; {hint}") from error
    except KeyError as error:
        raise UserError(f"{path}: holds no {MODEL}; make one with: python -m ensemble.select") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a submission.zip or a .tflite file") from error


@dataclass(frozen=True)
class Check:
    """One clause of the contract."""

    clause: str
    found: str
    holds: bool


def check(path: Path, num_signs: int) -> list[Check]:
    """Play the contest's evaluator on a submission.zip: its layout, signature, and outputs for all kinds of sequences.

    Raises UserError if the file cannot be run at all. Size and time depend on the budget and are checked with it.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    content = read(path)
    model = Model(content)
    version = min_runtime_version(content)
    shape = (*model.input_shape, model.input_dtype.name)
    return [
        Check(f"the zip holds {MODEL} alone", ", ".join(names), names == [MODEL]),
        Check("input of any length", str(shape), shape == (*INPUT_SHAPE, "float32")),
        Check("runs on TFLite 2.9.1", f"from {'.'.join(map(str, version))}", version <= CONTEST_RUNTIME),
        *(_check_output(kind, model(frames), num_signs) for kind, frames in evaluator_sequences()),
    ]


def _check_output(kind: str, probs: np.ndarray, num_signs: int) -> Check:
    holds = (
        probs.shape == (num_signs,)
        and probs.dtype == np.float32
        and bool(np.isfinite(probs).all())
        and bool((probs >= 0).all())
        and abs(float(probs.sum()) - 1) < 1e-3
    )
    return Check(f"probabilities for {kind}", f"{probs.dtype}{list(probs.shape)}, sum {probs.sum():.6f}", holds)


def evaluator_sequences() -> Iterator[tuple[str, np.ndarray]]:
    """Sequences that a contest's file must survive: (what is special, float32 [n, 543, 3])."""
    rng = np.random.default_rng(0)
    for length in (1, 2, 3, 21, 38, 139, 511, 512, 513, 537, LONGEST):
        frames = rng.random((length, NUM_ROWS, 3), dtype=np.float32)
        frames[rng.random(length) < 0.5, LEFT_HAND_ROWS[0] : LEFT_HAND_ROWS[-1] + 1] = np.nan
        yield f"{length} frames", frames
    missing: dict[str, list[Sequence[int]]] = {
        "no face": [FACE_ROWS],
        "no hands": [LEFT_HAND_ROWS, RIGHT_HAND_ROWS],
        "nothing": [range(NUM_ROWS)],
    }
    for kind, groups in missing.items():
        frames = rng.random((21, NUM_ROWS, 3), dtype=np.float32)
        for rows in groups:
            frames[:, list(rows)] = np.nan
        yield kind, frames


def min_runtime_version(model: bytes) -> tuple[int, ...]:
    """The oldest TFLite release that a .tflite file says it needs. Raises UserError if it does not say."""
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.Model.GetRootAs(model, 0)
    for i in range(parsed.MetadataLength()):
        entry = parsed.Metadata(i)
        if entry.Name() == b"min_runtime_version":
            text = parsed.Buffers(entry.Buffer()).DataAsNumpy().tobytes().rstrip(b"\0").decode()
            return tuple(int(part) for part in text.split("."))
    raise UserError(f"{MODEL}: states no min_runtime_version")
