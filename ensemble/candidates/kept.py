"""Predictions that are kept from one selection to the next, in a study's folder.

A file is named by what the predictions come of, and by a SHA-256 of that name and of its own content. One that was
changed, cut off, or renamed is not found again, and what it held is worked out anew.
"""

import io
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from trainer.common.files import special, write_bytes

_DIGITS: Final = 32  # of a SHA-256, in hexadecimal


def key_of(content: bytes) -> str:
    """The first half of a SHA-256, which names predictions by all that they come of."""
    return sha256(content).hexdigest()[:_DIGITS]


def keep(folder: Path, key: str, probs: np.ndarray) -> Path:
    """Keep an array; returns where. Raises OSError."""
    buffer = io.BytesIO()
    np.save(buffer, probs, allow_pickle=False)
    path = folder / f"{key}-{key_of(key.encode() + buffer.getvalue())}.npy"
    write_bytes(path, buffer.getvalue())
    return path


def find(folders: Sequence[Path], key: str) -> list[Path]:
    """Where arrays of this key are kept, those whose content is as it was."""
    paths = (path for folder in folders for path in sorted(folder.glob(f"{key}-*.npy")))
    return [path for path in paths if path.stem == f"{key}-{_digest(key, path)}"]


def _digest(key: str, path: Path) -> str | None:
    if special(path):  # a pipe would be waited for
        return None
    try:
        return key_of(key.encode() + path.read_bytes())
    except OSError:  # not a file, or not for us
        return None
