"""Predictions that are kept from one selection to the next."""

from pathlib import Path

import numpy as np
import pytest

from ensemble.candidates.kept import find, keep, key_of

KEY = key_of(b"a model")


def test_what_is_kept_is_found_in_any_of_the_folders(tmp_path: Path):
    probs = np.array([[0.25, 0.75]], np.float16)
    path = keep(tmp_path / "a", KEY, probs)
    assert find([tmp_path / "none", tmp_path / "a"], KEY) == [path]
    assert find([tmp_path / "a"], key_of(b"another")) == []
    np.testing.assert_array_equal(np.load(path), probs)
    assert keep(tmp_path / "a", KEY, probs) == path
    assert len(list((tmp_path / "a").iterdir())) == 1


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content[:-1] + b"\0", lambda _: b""])
def test_what_was_changed_is_not_found(tmp_path: Path, change):
    path = keep(tmp_path, KEY, np.array([[0.25, 0.75]], np.float16))
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    assert find([tmp_path], KEY) == []
    path.write_bytes(whole)
    assert find([tmp_path], KEY) == [path]
    other = key_of(b"another")
    path.rename(tmp_path / path.name.replace(KEY, other))
    assert find([tmp_path], other) == []
    path.mkdir()
    assert find([tmp_path], KEY) == []
