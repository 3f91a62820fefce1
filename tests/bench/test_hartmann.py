"""The Hartmann functions, against mf-prior-bench's own numbers.

These are those of its generators with no noise, at fidelities 4, 11, 33 and 100, which are epochs 1, 3, 9 and 27:
`-MFHartmann3(n_fidelities=100, fidelity_bias=2.5, fidelity_noise=0.0)(z, point)`, mf-prior-bench 1.10.0.
"""

import numpy as np
import pytest

from tests.bench.hartmann import DISTANCE, Hartmann

THEIRS = [
    (3, 2.5, (0.2, 0.5, 0.8), (0.653964, 1.559514, 2.542952, 3.535388)),
    (3, 3.5, (0.2, 0.5, 0.8), (-0.498605, 0.769164, 2.145978, 3.535388)),
    (3, 3.5, (0.5, 0.5, 0.5), (-0.120693, 0.114607, 0.370146, 0.628022)),
    (6, 2.5, (0.2, 0.2, 0.4, 0.3, 0.3, 0.6), (0.968451, 1.650086, 2.390352, 3.137389)),
    (6, 3.5, (0.2, 0.2, 0.4, 0.3, 0.3, 0.6), (0.100876, 1.055165, 2.091537, 3.137389)),
    (6, 2.5, (0.5, 0.5, 0.5, 0.5, 0.5, 0.5), (0.141759, 0.256014, 0.380097, 0.505315)),
]
BEST = {3: (0.114614, 0.555649, 0.852547), 6: (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)}


@pytest.mark.parametrize(("dimensions", "bias", "point", "values"), THEIRS)
def test_values_are_those_of_mf_prior_bench(
    dimensions: int, bias: float, point: tuple[float, ...], values: tuple[float, ...]
) -> None:
    found = Hartmann(dimensions, bias, noise=2.0).expected(np.array(point))
    assert found[[0, 2, 8, 26]] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("dimensions", [3, 6])
def test_the_published_point_is_the_published_optimum(dimensions: int) -> None:
    function = Hartmann(dimensions, 2.5, 2.0)
    assert function.expected(np.array(BEST[dimensions]))[-1] == pytest.approx(function.optimum, abs=1e-5)
    others = np.random.default_rng(0).random((500, dimensions))
    assert max(function.expected(other)[-1] for other in others) < function.optimum


def test_noise_only_lowers_values_and_ends_with_the_last_epoch() -> None:
    function, point = Hartmann(3, 2.5, noise=2.0), np.array([0.2, 0.5, 0.8])
    rng = np.random.default_rng(0)
    lost = function.expected(point) - np.array([function.train(point, rng) for _ in range(4000)])
    assert (lost >= 0).all()
    assert (lost[:, -1] == 0).all()
    assert lost.mean(axis=0) == pytest.approx(2.0 * DISTANCE * np.sqrt(2 / np.pi), abs=0.04)  # of a half-normal
