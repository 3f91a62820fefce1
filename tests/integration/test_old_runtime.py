"""Files run on the contest's runtime and on the oldest that pip installs, and predict what they do on LiteRT."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench.old_runtime import VERSIONS, NotInstallableError, compare, install, random_models, run_old, sequences


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_predicts_the_same_on_an_old_runtime(version: str, tmp_path: Path):
    try:
        python = install(version, tmp_path / "environment")
    except NotInstallableError as error:
        pytest.skip(str(error))
    given = sequences([1, 2, 3, 21, 38, 511, 512, 513, 600])
    nothing = given[0][:0]
    for name, content in random_models().items():
        found = compare(python, content, given)
        assert found["same_sign"] == 1, name
        assert found["largest_difference"] < (0.05 if name.startswith("int8") else 1e-5), name
        if version != "2.7.0":  # it refuses a sequence of no frames by itself
            mixed = run_old(python, content, [frames for each in given for frames in (nothing, each)])[0]
            assert np.isfinite(mixed).all(), name
            np.testing.assert_array_equal(mixed[1::2], run_old(python, content, given)[0], name)
