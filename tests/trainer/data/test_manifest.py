"""The identity of a packed dataset."""

from trainer.data.manifest import fingerprint


def test_the_fingerprint_is_the_two_hashes() -> None:
    hashes = {"frames.npy": "a" * 64, "sequences.parquet": "b" * 64}
    assert fingerprint({"sha256": hashes}) == "a" * 32 + "b" * 32
