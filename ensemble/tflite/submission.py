"""submission.zip: writing it and reading it. What the contest asks of it is checked by ensemble.check.

The zip holds model.tflite and nothing else. The names of the signs travel inside model.tflite, as TFLite's own
metadata tools put them there: labels.txt in a zip appended to the FlatBuffer, which runtimes do not look at.
"""

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trainer.common.errors import UserError
from trainer.common.files import write_bytes

MODEL: Final = "model.tflite"
LABELS: Final = "labels.txt"
BROKEN_ZIP: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeDecodeError)
"""What zipfile raises on a file that is damaged, encrypted, or packed in a way that it does not know"""
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
            text = archive.read(LABELS).decode()
    except (KeyError, *BROKEN_ZIP):
        return None
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


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
    except (OSError, *BROKEN_ZIP) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a submission.zip or a .tflite file") from error


def min_runtime_version(model: bytes) -> tuple[int, ...] | None:
    """The oldest TFLite release that a .tflite file says it needs; None if it names none."""
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.Model.GetRootAs(model, 0)
    for i in range(parsed.MetadataLength()):
        entry = parsed.Metadata(i)
        if entry.Name() == b"min_runtime_version":
            text = parsed.Buffers(entry.Buffer()).DataAsNumpy().tobytes().rstrip(b"\0").decode()
            parts = text.split(".")
            return tuple(map(int, parts)) if all(map(str.isdecimal, parts)) else None
    return None
