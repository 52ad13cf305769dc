"""Norms against closed forms and decimal arithmetic."""

from decimal import Decimal, getcontext

import numpy as np
import pytest

from sgdsim.bounds import layer_distances, layer_norms

getcontext().prec = 50


@pytest.mark.parametrize("seed", range(20))
def test_spectral_enclosure_of_rank_one_matrices(seed: int) -> None:
    random = np.random.default_rng(seed)
    u, v = random.integers(-50, 50, size=(2, 17))
    # Integer entries are exact, and ||u v^T|| = (|u|^2 |v|^2)^(1/2) can be had to 50 digits.
    exact = (Decimal(int(u @ u)) * Decimal(int(v @ v))).sqrt()
    norms = layer_norms([np.outer(u, v).astype(np.float64)])
    low, high = (Decimal(float(x[0])) for x in (norms.spectral_low, norms.spectral_high))
    assert low < exact < high
    assert high - low < exact * Decimal("1e-12")


def test_spectral_enclosure_of_a_hadamard_matrix() -> None:
    matrix = np.ones((1, 1))
    for _ in range(6):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    norms = layer_norms([3.0 * matrix])
    assert norms.spectral_low[0] < 24.0 < norms.spectral_high[0]
    assert norms.frobenius[0] == pytest.approx(3.0 * 64.0)
    assert norms.two_one[0] == pytest.approx(64 * 24.0)


def test_two_one_sums_over_output_rows() -> None:
    matrix = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    assert layer_norms([matrix]).two_one[0] == 7.0
    assert layer_norms([matrix.T]).two_one[0] == pytest.approx(3.0 + 4.0 + 2.0)


def test_leading_axes_and_float32() -> None:
    random = np.random.default_rng(3)
    weights = [random.normal(size=(4, 3, r, c)).astype(np.float32) for r, c in ((5, 6), (2, 5))]
    norms = layer_norms(weights)
    assert norms.frobenius.shape == (4, 3, 2)
    assert norms.shapes == ((5, 6), (2, 5))
    assert (norms.largest_dimension, norms.parameter_count) == (6, 40)
    for layer, matrix in enumerate(weights):
        single = np.linalg.norm(matrix[2, 1].astype(np.float64), 2)
        assert norms.spectral_high[2, 1, layer] == pytest.approx(single, rel=1e-12)
        assert norms.spectral_high.dtype == np.float64


def test_one_diverged_iterate_does_not_spoil_the_others() -> None:
    weights = np.ones((3, 2, 2))
    weights[1, 0, 0] = np.nan
    weights[2, 1, 1] = np.inf
    norms = layer_norms([weights])
    for array in (norms.spectral_low, norms.spectral_high, norms.frobenius, norms.two_one):
        np.testing.assert_equal(np.isnan(array[:, 0]), [False, True, True])
    distances = layer_distances([weights], [np.zeros((2, 2))])
    np.testing.assert_equal(distances.radius, [2.0, np.nan, np.nan])


def test_zero_matrix() -> None:
    norms = layer_norms([np.zeros((2, 3))])
    assert norms.spectral_high[0] == norms.frobenius[0] == norms.two_one[0] == 0.0


def test_distances() -> None:
    centre = [np.eye(2), np.zeros((1, 2))]
    iterate = [np.array([[4.0, 4.0], [0.0, 6.0]]), np.array([[0.0, 12.0]])]
    distances = layer_distances(iterate, centre)
    np.testing.assert_allclose(distances.frobenius, [50**0.5, 12.0])
    np.testing.assert_allclose(distances.two_one, [10.0, 12.0])
    assert float(distances.radius) == pytest.approx(194**0.5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "non-empty matrix"),
        ([(0, 3)], "non-empty matrix"),
        ([(5, 4), (2, 4)], "first layer first"),
        ([(3, 5, 4), (2, 2, 5)], "leading axes"),
    ],
)
def test_refuses_what_is_no_network(shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_norms([np.ones(shape) for shape in shapes])


def test_refuses_another_reference() -> None:
    with pytest.raises(ValueError, match="must have the layers"):
        layer_distances([np.ones((4, 2, 3))], [np.ones((3, 2))])
