"""C3 to C5, C8, C9 against dense moment maps by quadrature and against Lyapunov solvers."""

import itertools
import math

import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov

from sgdsim.stability import (
    heavy_ball_sde_variance,
    heavy_ball_variance,
    homogenised_gauge,
    homogenised_threshold,
    mean_square_gauge,
    mean_square_threshold,
    stationary_excess_risk,
    stationary_variance,
)

HARMONIC = 1 / np.arange(1, 65)
SPECTRUM = np.array([1.3, 0.4, 0.2])
H = np.diag(SPECTRUM)


def fourth_moments() -> np.ndarray:
    """Matrix of S -> E[x x^T S x x^T] for Gaussian x by quadrature, exact for polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    weights = weights / weights.sum()
    total = np.zeros((9, 9))
    for indices in itertools.product(range(4), repeat=3):
        x = np.sqrt(SPECTRUM) * nodes[list(indices)]
        outer = np.outer(x, x)
        total += weights[list(indices)].prod() * np.kron(outer, outer)
    return total


FOURTH = fourth_moments()
ONE = np.eye(9)
DRIFT = np.kron(H, np.eye(3)) + np.kron(np.eye(3), H)


def second_moment_map(eta: float, batch: float) -> np.ndarray:
    """Of theta -> theta - eta H_B theta, H_B the mean of x x^T over independent rows."""
    square = FOURTH / batch + (1 - 1 / batch) * np.kron(H, H)
    return ONE - eta * DRIFT + eta**2 * square


def svag_map(eta: float, batch: float, l: float) -> np.ndarray:
    """Of theta -> theta - eta/l (w1 H_1 + w2 H_2) theta with two batches."""
    h = eta / l
    w1, w2 = (1 + math.sqrt(2 * l - 1)) / 2, (1 - math.sqrt(2 * l - 1)) / 2
    square = FOURTH / batch + (1 - 1 / batch) * np.kron(H, H)
    crossed = 2 * w1 * w2 * np.kron(H, H)
    return ONE - h * DRIFT + h**2 * ((w1**2 + w2**2) * square + crossed)


def euler_map(eta: float, batch: float, m: float) -> np.ndarray:
    """Of one Euler step of length eta/m with the covariance of the minibatch gradient."""
    h = eta / m
    noise = (FOURTH - np.kron(H, H)) / batch
    mean = np.kron(np.eye(3) - h * H, np.eye(3) - h * H)
    return mean + eta * h * noise


def radius(matrix: np.ndarray) -> float:
    return np.abs(np.linalg.eigvals(matrix)).max()


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_sgd_loses_its_second_moment_at_the_threshold(batch):
    eta = mean_square_threshold(SPECTRUM, batch)
    assert abs(radius(second_moment_map(eta, batch)) - 1) < 1e-6
    assert radius(second_moment_map(0.999 * eta, batch)) < 1 - 1e-5
    assert radius(second_moment_map(1.001 * eta, batch)) > 1 + 1e-5
    assert float(mean_square_gauge(SPECTRUM, None, eta, batch).low) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("substeps", [1, 3, 10.0])
@pytest.mark.parametrize("build", [svag_map, euler_map])
def test_svag_and_euler_share_the_threshold_with_their_substeps(build, substeps):
    eta = mean_square_threshold(SPECTRUM, 2, substeps=substeps)
    assert abs(radius(build(eta, 2, substeps)) - 1) < 1e-6
    assert radius(build(1.001 * eta, 2, substeps)) > 1 + 1e-6


@pytest.mark.parametrize("batch", [1, 16])
def test_both_sdes_lose_their_second_moment_at_their_thresholds(batch):
    def growth(noise, eta):
        return np.real(np.linalg.eigvals(-DRIFT + eta / batch * noise)).max()

    eta = mean_square_threshold(SPECTRUM, batch, substeps=math.inf)
    exact = FOURTH - np.kron(H, H)
    assert abs(growth(exact, eta)) < 1e-6
    assert growth(exact, 1.001 * eta) > 1e-5
    # C9 leaves out grad L grad L^T: the covariance 2 L H / B with 2 L = tr(H S).
    homogenised = np.outer(H.ravel(), H.ravel())
    eta = homogenised_threshold(SPECTRUM.sum(), batch)
    assert abs(growth(homogenised, eta)) < 1e-6
    assert growth(homogenised, 1.001 * eta) > 1e-5
    assert homogenised_gauge(SPECTRUM.sum(), eta, batch) == pytest.approx(1)


@pytest.mark.parametrize(
    ("batch", "sgd", "sde", "homogenised"),
    [
        (1, 0.360, 0.391, 0.422),
        (4, 1.083, 1.563, 1.686),
        (16, 1.745, 6.252, 6.75),
        (64, 1.937, 25.01, 26.98),
    ],
)
def test_thresholds_of_the_harmonic_spectrum(batch, sgd, sde, homogenised):
    """The numbers of C8 and C9, and the map of the 64 diagonal second moments at the root."""
    eta = mean_square_threshold(HARMONIC, batch)
    assert eta == pytest.approx(sgd, abs=6e-4)
    assert mean_square_threshold(HARMONIC, batch, substeps=math.inf) == pytest.approx(sde, rel=1e-3)
    assert homogenised_threshold(HARMONIC.sum(), batch) == pytest.approx(homogenised, rel=1e-3)
    kept = np.diag(1 - 2 * eta * HARMONIC + eta**2 * (1 + 1 / batch) * HARMONIC**2)
    moved = eta**2 / batch * np.outer(HARMONIC, HARMONIC)
    assert abs(radius(kept + moved) - 1) < 1e-6


def test_threshold_survives_extreme_spectra():
    """Next to the pole, far below it, with several largest eigenvalues and without a limit."""
    assert mean_square_threshold([1.0], 1e12) == pytest.approx(2, rel=1e-9)
    assert mean_square_threshold([1.0, 1.0, 1e-12], 1e12) == pytest.approx(2, rel=1e-9)
    assert mean_square_threshold([1.0, np.nextafter(1.0, 0.0)], 2) == pytest.approx(0.8)
    assert mean_square_threshold(np.full(10**5, 1.0), 1) == pytest.approx(2e-5, rel=1e-4)
    assert mean_square_threshold([0.25, -3.0, 0.0], 1) == mean_square_threshold([0.25], 1)
    with pytest.raises(ValueError, match="must contain a positive one"):
        mean_square_threshold([0.0, -1.0], 4)


@pytest.mark.parametrize("substeps", [1, 4, math.inf])
def test_known_eigenvalues_and_trace_enclose_the_gauge(substeps):
    exact = mean_square_gauge(HARMONIC, None, 0.9, 8, substeps=substeps)
    assert exact.low == exact.high
    widths = []
    for k in (1, 4, 16, 64):
        low, high = mean_square_gauge(HARMONIC[:k], HARMONIC.sum(), 0.9, 8, substeps=substeps)
        assert low <= exact.low * (1 + 1e-12)
        assert high >= exact.low * (1 - 1e-12)
        widths.append(float(high - low))
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0
    assert widths[-1] < 1e-12


def test_gauge_of_many_probes_at_once():
    spectra = np.array([[1.0, 0.5], [3.0, 0.5], [np.nan, 1.0], [0.0, -0.5]])
    low, high = mean_square_gauge(spectra, [2.0, 4.0, 2.0, -0.5], [1.0, 1.0, 1.0, 0.1], 2)
    one_by_one = mean_square_gauge(spectra[0], 2.0, 1.0, 2)
    np.testing.assert_allclose([low[0], high[0]], one_by_one)
    assert low[0] < high[0]
    assert np.isinf([low[1], high[1]]).all()
    assert np.isnan([low[2], high[2]]).all()
    assert low[3] == high[3] == 0


@pytest.mark.parametrize("batch", [1, 8])
def test_stationary_excess_risk_solves_the_moment_equation(batch):
    """Label noise s^2 adds eta^2 s^2 H / B to the second moments at every step."""
    eta, label = 0.5 * mean_square_threshold(SPECTRUM, batch), 0.7
    source = label * H.ravel() / batch
    discrete = np.linalg.solve(ONE - second_moment_map(eta, batch), eta**2 * source)
    noise = (FOURTH - np.kron(H, H)) / batch
    continuous = np.linalg.solve(DRIFT - eta * noise, eta * source)
    for moments, substeps in ((discrete, 1), (continuous, math.inf)):
        gauge = mean_square_gauge(SPECTRUM, None, eta, batch, substeps=substeps).low
        risk = H.ravel() @ moments
        assert risk / label == pytest.approx(float(stationary_excess_risk(gauge)), rel=1e-9)
    assert stationary_excess_risk([1.0, 1.5]).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("product", [0.1, 1.5, 1.8])
def test_stationary_variance_solves_the_lyapunov_equations(product):
    h, s2, m = 2.5, 0.3, 4
    eta = product / h
    for steps in (1, m):
        contraction, noise = np.array([[1 - eta * h / steps]]), np.array([[eta**2 / steps * s2]])
        expected = solve_discrete_lyapunov(contraction, noise)[0, 0]
        assert stationary_variance(eta, h, s2, substeps=steps) == pytest.approx(expected, rel=1e-9)
    expected = solve_continuous_lyapunov(np.array([[-h]]), np.array([[-eta * s2]]))[0, 0]
    assert stationary_variance(eta, h, s2, substeps=math.inf) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("eta", "b"), [(2.0, 0.9), (0.3, 0.5), (1.2, 0.0)])
def test_heavy_ball_variances_solve_the_lyapunov_equations(eta, b):
    h, s2 = 1.0, 1.0
    update, drive = np.array([[1 + b - eta * h, -b], [1.0, 0.0]]), np.diag([eta**2 * s2, 0.0])
    discrete = solve_discrete_lyapunov(update, drive)[0, 0]
    assert heavy_ball_variance(eta, b, h, s2) == pytest.approx(discrete, rel=1e-9)
    flow = np.array([[0.0, 1.0], [-h, -(1 - b) / math.sqrt(eta)]])
    continuous = solve_continuous_lyapunov(flow, -np.diag([0.0, math.sqrt(eta) * s2]))[0, 0]
    assert heavy_ball_sde_variance(eta, b, h, s2) == pytest.approx(continuous, rel=1e-9)


def test_variances_of_the_table():
    """C5: 21.1 against the 10.0 of the SDE."""
    assert heavy_ball_variance(2.0, 0.9, 1.0, 1.0) == pytest.approx(21.1, abs=0.05)
    assert heavy_ball_sde_variance(2.0, 0.9, 1.0, 1.0) == pytest.approx(10.0)


def test_no_stationary_law_has_infinite_variance():
    assert stationary_variance(2.0, 1.0, 1.0) == math.inf
    assert stationary_variance(2.0, 1.0, 1.0, substeps=math.inf) == 1.0
    assert heavy_ball_variance(3.8, 0.9, 1.0, 1.0) == math.inf
    flat = [stationary_variance(1.0, 0.0, 1.0), heavy_ball_variance(1.0, 0.9, 0.0, 1.0)]
    assert [*flat, heavy_ball_sde_variance(1.0, 0.9, -1.0, 1.0)] == [math.inf] * 3
