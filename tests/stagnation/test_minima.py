"""Minima are minima, saddles are left, and a loss without a minimum is an error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim._errors import SgdsimError
from sgdsim.dynamics import MinibatchNoise
from sgdsim.problems import Network, Problem, cross_entropies, digits, random_network
from sgdsim.stagnation import find_minimum, hessian_spectrum
from sgdsim.testing._dense import dense_covariance, dense_gradients, dense_hessian

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


def test_softmax_on_a_few_digits():
    task = digits(training=60, reference=10, split_seed=0, ridge=0.05)
    problem = task.problem(task.training).astype(jnp.float64)
    start = random_network(jax.random.key(0), (65, 10), gain=1.0)
    found = find_minimum(problem, start)
    gradient = dense_gradients(problem, found.theta).mean(axis=0)
    assert np.linalg.norm(gradient) < 1e-8
    np.testing.assert_allclose(found.gradient_norm, np.linalg.norm(gradient), atol=1e-12)
    np.testing.assert_allclose(found.risk, problem.empirical_risk(found.theta), rtol=1e-14)
    # Strongly convex: the minimum is unique, whatever the start.
    other = find_minimum(problem, random_network(jax.random.key(1), (65, 10), gain=5.0))
    distance = np.linalg.norm(found.theta.weights[0] - other.theta.weights[0])
    assert distance < (found.gradient_norm + other.gradient_norm) / 0.05 + 1e-12
    # Shifting all logits together leaves the cross-entropy: the smallest eigenvalue is the ridge.
    smallest, residual = found.spectrum.smallest
    np.testing.assert_allclose(smallest, 0.05, rtol=1e-8)
    assert residual < 1e-6


def test_network_minimum_against_the_dense_spectrum(network_problem):
    problem, start = network_problem
    problem = Problem(problem.losses, problem.data, jnp.asarray(0.02))
    found = find_minimum(problem, start)
    assert np.linalg.norm(dense_gradients(problem, found.theta).mean(axis=0)) < 1e-8
    exact = np.linalg.eigvalsh(dense_hessian(problem, found.theta))
    assert exact[0] > -1e-9
    (smallest, _), (largest, _) = found.spectrum.smallest, found.spectrum.largest
    np.testing.assert_allclose([smallest, largest], exact[[0, -1]], rtol=1e-8, atol=1e-10)


def double_well(theta, rows):
    return 0.25 * (theta["x"] ** 2 - 1) ** 2 + 0.5 * theta["y"] ** 2 + 0 * rows


@pytest.mark.parametrize("y", [0.0, 0.5])
def test_a_saddle_is_left_along_the_negative_curvature(y):
    """By symmetry the descent from x = 0 ends in the saddle between the wells."""
    problem = Problem(double_well, jnp.zeros(1))
    found = find_minimum(problem, {"x": jnp.zeros(()), "y": jnp.asarray(y)})
    np.testing.assert_allclose(abs(found.theta["x"]), 1.0, rtol=1e-8)
    np.testing.assert_allclose(found.theta["y"], 0.0, atol=1e-8)
    np.testing.assert_allclose(found.spectrum.values, [1.0, 2.0], rtol=1e-6)
    assert found.risk < 1e-15


def test_a_maximum_is_left_too():
    """All eigenvalues are equal and negative: one product is the whole Krylov space."""
    problem = Problem(
        lambda theta, rows: 0.25 * jnp.sum((theta**2 - 1) ** 2) + 0 * rows, jnp.zeros(1)
    )
    found = find_minimum(problem, jnp.zeros(3))
    np.testing.assert_allclose(jnp.abs(found.theta), 1.0, rtol=1e-8)


def test_an_endless_slope_has_no_minimum():
    problem = Problem(lambda theta, rows: theta + 0 * rows, jnp.zeros(2))
    with pytest.raises(SgdsimError, match=r"gradient norm stays at 1\.00e\+00, above the toler"):
        find_minimum(problem, jnp.zeros(()), max_iterations=20)


def test_separable_logistic_regression_has_no_minimum():
    """The risk falls for ever; the message gives the gradient norm and what to change."""
    rows = digits(training=30, reference=10, split_seed=0, ridge=0.0).training
    problem = Problem(cross_entropies, rows).astype(jnp.float64)
    with pytest.raises(SgdsimError) as caught:
        find_minimum(problem, Network((jnp.zeros((10, 65)),)), tolerance=1e-14, max_iterations=3)
    norm = float(str(caught.value).split("stays at ")[1].split(",")[0])
    assert 1e-14 < norm < 1.0
    assert "raise minimum.max_iterations (now 3)" in str(caught.value)


def test_a_maximum_without_a_minimum_anywhere():
    """A maximum with endless slopes on both sides."""
    problem = Problem(lambda theta, rows: -jnp.cosh(theta) + 0 * rows, jnp.zeros(1))
    with pytest.raises(SgdsimError, match="no minimum found"):
        find_minimum(problem, jnp.zeros(()), max_iterations=5)


def test_spectrum_of_a_saddle():
    problem = Problem(double_well, jnp.zeros(1))
    found = hessian_spectrum(problem, {"x": jnp.zeros(()), "y": jnp.zeros(())}, 2)
    np.testing.assert_allclose(found.values, [-1.0, 1.0], rtol=1e-12)


def test_the_numbers_of_the_built_in_scenario():
    """Ridge 0.02 on 1000 digits: curvature and per-row noise at the minimum."""
    task = digits(training=1000, reference=400, split_seed=0, ridge=0.02)
    problem = task.problem(task.training).astype(jnp.float64)
    start = random_network(jax.random.key(0), (65, 10), gain=1.0)
    found = find_minimum(problem, start)
    assert found.gradient_norm < 1e-8
    noise = dense_covariance(problem, found.theta)
    numbers = {
        "mu": (found.spectrum.smallest[0], 0.0200),
        "sharpness": (found.spectrum.largest[0], 0.0383),
        "noise trace": (MinibatchNoise(1.0).trace(problem, found.theta), 0.211),
        "noise operator norm": (np.linalg.eigvalsh(noise)[-1], 0.02115),
    }
    for name, (value, expected) in numbers.items():
        np.testing.assert_allclose(value, expected, rtol=0.01, err_msg=name)
    np.testing.assert_allclose(numbers["noise trace"][0], np.trace(noise), rtol=1e-10)

    known = task.known_curvature(start)
    assert known is not None
    mu, beta = known
    np.testing.assert_allclose(found.spectrum.smallest[0], mu, rtol=1e-6)
    assert numbers["sharpness"][0] <= beta
    inputs = np.asarray(task.training.inputs)
    top = np.linalg.eigvalsh(inputs.T @ inputs / 1000)[-1]
    np.testing.assert_allclose(beta, 0.02 + top / 2, rtol=1e-12)
