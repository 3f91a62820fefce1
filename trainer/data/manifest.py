"""The files of a packed dataset, and what identifies it."""

from typing import Any, Final

FORMAT_VERSION: Final = 1
FRAMES, SEQUENCES, MANIFEST = "frames.npy", "sequences.parquet", "manifest.json"


def fingerprint(manifest: dict[str, Any]) -> str:
    """Identity of a packed dataset's content: the two SHA-256 of its manifest, joined."""
    hashes = manifest["sha256"]
    return f"{hashes[FRAMES][:32]}{hashes[SEQUENCES][:32]}"
