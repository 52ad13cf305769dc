"""The linearised second moment, matrix-free, against dense Lyapunov solutions and recursions."""

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.problems import Problem
from sgdsim.stagnation import (
    SpectralMeasure,
    linearised_mean_squared_distance,
    noise_spectral_measure,
)
from sgdsim.testing._dense import dense_covariance, dense_hessian, discrete_lyapunov

pytestmark = pytest.mark.usefixtures("x64")

ETA, BATCH = 0.05, 3.0


@pytest.fixture(scope="module")
def dense(network_problem):
    """Hessian and covariance of the network, the Hessian moved to be positive definite."""
    problem, theta = network_problem
    shifted = Problem(problem.losses, problem.data, jnp.asarray(2.0))
    hessian = dense_hessian(shifted, theta)
    assert np.linalg.eigvalsh(hessian)[0] > 0.1
    return shifted, theta, hessian, dense_covariance(shifted, theta)


def recursion(hessian, covariance, eta, batch, steps):
    """Iterate S' = (I - eta H) S (I - eta H) + eta^2 C / B from zero, traces of all S."""
    transition = np.eye(len(hessian)) - eta * hessian
    s, traces = np.zeros_like(hessian), [0.0]
    for _ in range(steps):
        s = transition @ s @ transition + eta**2 * covariance / batch
        traces.append(np.trace(s))
    return np.array(traces)


@pytest.mark.parametrize(("depth", "block"), [(20, 25), (20, 3), (8, 7)])
def test_against_the_dense_equations(dense, depth, block):
    problem, theta, hessian, covariance = dense
    measure = noise_spectral_measure(problem, theta, depth, block)
    assert measure.nodes.shape == measure.weights.shape == (7 * depth,)
    np.testing.assert_allclose(measure.weights.sum(), np.trace(covariance), rtol=1e-12)
    for power in (1, 2, 5):  # exact for polynomials of degree 2 depth - 1
        moment = np.trace(np.linalg.matrix_power(hessian, power) @ covariance)
        np.testing.assert_allclose(measure.weights @ measure.nodes**power, moment, rtol=1e-10)

    steps = np.array([0, 1, 2, 10, 57])
    found = linearised_mean_squared_distance(measure, ETA, BATCH, np.append(steps, np.inf))
    exact = recursion(hessian, covariance, ETA, BATCH, 57)[steps]
    stationary = np.trace(discrete_lyapunov(hessian, covariance / BATCH, ETA))
    np.testing.assert_allclose(found, np.append(exact, stationary), rtol=1e-9, atol=1e-15)


def test_it_is_not_the_law_of_the_sde(dense):
    """Near the edge of stability h S + S h = eta C / B would be far off."""
    problem, theta, hessian, covariance = dense
    eta = 1.8 / np.linalg.eigvalsh(hessian)[-1]
    measure = noise_spectral_measure(problem, theta, 20)
    found = linearised_mean_squared_distance(measure, eta, BATCH, np.array([np.inf]))
    stationary = np.trace(discrete_lyapunov(hessian, covariance / BATCH, eta))
    np.testing.assert_allclose(found, stationary, rtol=1e-9)
    continuous = eta / (2 * BATCH) * np.trace(np.linalg.solve(hessian, covariance))
    assert continuous < 0.8 * stationary


@pytest.mark.parametrize("node", [0.0, 1e-16, 1e-13, 1e-11, 1e-6, -1e-11])
def test_flat_directions_diffuse(node):
    """With h -> 0 the mean square grows as k eta^2 w / B."""
    measure = SpectralMeasure(np.array([node]), np.array([2.0]))
    steps = np.array([0, 1, 10, 1000])
    found = linearised_mean_squared_distance(measure, 0.1, 4.0, steps)
    np.testing.assert_allclose(found, steps * 0.01 / 4 * 2, rtol=1e-3)


def test_flat_directions_have_no_stationary_law_unless_nothing_moves_them():
    nodes, steps = np.array([0.0, 1.0]), np.array([5, np.inf])
    moved = linearised_mean_squared_distance(
        SpectralMeasure(nodes, np.array([1e-3, 1.0])), 0.1, 4.0, steps
    )
    assert np.isfinite(moved[0])
    assert np.isposinf(moved[1])
    still = linearised_mean_squared_distance(
        SpectralMeasure(nodes, np.array([0.0, 1.0])), 0.1, 4.0, steps
    )
    np.testing.assert_allclose(still[1], 0.1**2 / 4 / (1 - 0.9**2), rtol=1e-12)


@pytest.mark.parametrize("product", [2.0, 2.1, 3.0])
def test_beyond_the_edge_of_stability(product):
    eta, steps = 0.5, np.array([0, 1, 2, 30])
    measure = SpectralMeasure(np.array([product / eta, 1.0]), np.array([2.0, 1.0]))
    found = linearised_mean_squared_distance(measure, eta, 4.0, np.append(steps, np.inf))
    hessian, covariance = np.diag(measure.nodes), np.diag(measure.weights)
    exact = recursion(hessian, covariance, eta, 4.0, 30)[steps]
    np.testing.assert_allclose(found[:-1], exact, rtol=1e-12)
    assert np.isposinf(found[-1])


def test_a_row_without_noise_adds_nothing(quadratic):
    """The middle row has the mean gradient: its Lanczos run would start at zero."""
    problem, hessian, covariance = quadratic([[2.0, 0.0], [0.0, 1.0]], [[-1, -1], [0, 0], [1, 1]])
    measure = noise_spectral_measure(problem, jnp.zeros(2), 2)
    assert np.all(np.isfinite(measure.nodes))
    found = linearised_mean_squared_distance(measure, 0.1, 4.0, np.array([np.inf]))
    stationary = np.trace(discrete_lyapunov(hessian, covariance / 4, 0.1))
    np.testing.assert_allclose(found, stationary, rtol=1e-12)


def test_integer_rows_and_custom_parameters():
    """Rows of any dtype pass through the loop over rows."""
    data = {"group": jnp.array([0, 1, 1, 0, 1]), "value": jnp.array([1.0, -1.0, 2.0, 0.5, 0.0])}

    def losses(theta, rows):
        return 0.5 * (theta["mean"][rows["group"]] - rows["value"]) ** 2

    problem, theta = Problem(losses, data, 0.2), {"mean": jnp.array([0.3, 0.1])}
    hessian, covariance = dense_hessian(problem, theta), dense_covariance(problem, theta)
    found = linearised_mean_squared_distance(
        noise_spectral_measure(problem, theta), 0.5, 2.0, np.array([3, np.inf])
    )
    exact = recursion(hessian, covariance, 0.5, 2.0, 3)[-1]
    stationary = np.trace(discrete_lyapunov(hessian, covariance / 2, 0.5))
    np.testing.assert_allclose(found, [exact, stationary], rtol=1e-10)
