"""Fixtures for all packages: a tiny generated dataset in both its forms, and the real sample where there is one."""

from pathlib import Path

import pytest
from hypothesis import settings

from trainer.data.dataset import PackedDataset
from trainer.data.packing import pack
from trainer.synthetic.generate import synthesize

REAL_SAMPLE = Path(__file__).parents[1] / ".." / "shared" / "asl-signs-sample"

settings.register_profile("unhurried", deadline=None)  # a first call compiles, and machines are busy
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated folder in the contest's layout: 6 signs by 6 participants, twice each. Not to be written to."""
    source = tmp_path_factory.mktemp("generated") / "asl-signs"
    synthesize(source, num_signs=6, num_participants=6, repeats=2, seed=0)
    return source


@pytest.fixture(scope="session")
def packed(generated: Path) -> PackedDataset:
    """The generated folder, packed."""
    out = generated.parent / "packed"
    pack(generated, out)
    return PackedDataset.open(out)


@pytest.fixture(scope="session")
def real_sample() -> Path:
    """The folder of real sequences, in the contest's layout. Skips where it is absent."""
    if not (REAL_SAMPLE / "train.csv").exists():
        pytest.skip(f"needs the sample of real sequences at {REAL_SAMPLE}")
    return REAL_SAMPLE.resolve()
