"""All mutations by name, and those of each format."""

from typing import Final

from tests.fuzz.mutations import Mutation
from tests.fuzz.mutations.arrays import NPY, TENSORS
from tests.fuzz.mutations.containers import DATABASE, ZIP
from tests.fuzz.mutations.documents import JSON, LINES
from tests.fuzz.mutations.raw import RAW
from tests.fuzz.mutations.tables import PARQUET
from tests.fuzz.mutations.texts import CSV, TOML

MUTATIONS: Final[dict[str, Mutation]] = {
    **RAW, **JSON, **LINES, **CSV, **TOML, **PARQUET, **NPY, **TENSORS, **DATABASE, **ZIP,
}  # fmt: skip


def of_formats(*formats: str) -> list[str]:
    """Names of the mutations of some formats, such as "json" or "bytes"."""
    return [name for name in MUTATIONS if name.partition(":")[0] in formats]
