"""Third derivatives against closed forms, dense tensors and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.curvature import predicted_gap, self_stabilisation
from sgdsim.testing._dense import dense_gradients, dense_hessian

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")


def test_a_quartic_in_closed_form():
    """Of L = s(y) x^2/2 + c x^4/24 + a x^3/6 - b y at x: everything by hand."""
    s0, s1, a, b, c, x = 3.0, 0.7, 0.4, 1.3, 2.0, 0.25

    def risk(theta):
        u, y = theta
        return (s0 + s1 * y) * u**2 / 2 + a * u**3 / 6 + c * u**4 / 24 - b * y

    theta = jnp.array([x, 0.5])
    found = jax.jit(lambda theta: self_stabilisation(risk, theta, jnp.array([-2.0, 0.0])))(theta)
    sharpness = s0 + s1 * 0.5 + a * x + c * x**2 / 2
    slope = (s0 + s1 * 0.5) * x + a * x**2 / 2 + c * x**3 / 6
    np.testing.assert_allclose(found.sharpness, sharpness, rtol=1e-13)
    np.testing.assert_allclose(found.sharpness_gradient, [a + c * x, s1], rtol=1e-13)
    # The direction points down the first axis, so that odd orders along it change sign.
    np.testing.assert_allclose(found.slope, -slope, rtol=1e-13)
    np.testing.assert_allclose(found.third_derivative, -(a + c * x), rtol=1e-13)
    np.testing.assert_allclose(found.beta, s1**2, rtol=1e-13)
    np.testing.assert_allclose(found.alpha, -s1 * (s1 * x**2 / 2 - b), rtol=1e-13)


@pytest.fixture(scope="module")
def network(network_problem):
    """Problem, parameters, and the top eigenvector, as a pytree and as flat NumPy arrays."""
    problem, theta = network_problem
    unravel = ravel_pytree(theta)[1]
    top = np.linalg.eigh(dense_hessian(problem, theta))[1][:, -1]
    return problem, theta, unravel, top


@pytest.fixture(scope="module")
def measured(network):
    problem, theta, unravel, top = network
    measure = jax.jit(lambda theta, u: self_stabilisation(problem.empirical_risk, theta, u))
    return measure(theta, unravel(jnp.asarray(3 * top)))


def test_against_the_dense_third_derivative(network, measured):
    problem, theta, unravel, top = network
    flat = ravel_pytree(theta)[0]
    third = jax.jit(jax.jacfwd(jax.hessian(lambda v: problem.empirical_risk(unravel(v)))))(flat)
    of_sharpness = np.einsum("i,j,ijk->k", top, top, np.asarray(third))
    found = ravel_pytree(measured.sharpness_gradient)[0]
    np.testing.assert_allclose(found, of_sharpness, atol=1e-12)
    gradient = dense_gradients(problem, theta).mean(axis=0)
    projection = np.eye(len(top)) - np.outer(top, top)
    np.testing.assert_allclose(
        measured.alpha, -gradient @ projection @ of_sharpness, rtol=1e-10, atol=1e-14
    )
    np.testing.assert_allclose(measured.beta, of_sharpness @ projection @ of_sharpness, rtol=1e-10)
    np.testing.assert_allclose(measured.slope, gradient @ top, rtol=1e-10)
    np.testing.assert_allclose(measured.third_derivative, of_sharpness @ top, rtol=1e-10)
    # The projection matters here, so that a version without it would be seen.
    assert abs(measured.slope * measured.third_derivative) > 0.05 * abs(measured.alpha)


def test_gradient_of_the_largest_eigenvalue_by_differences(network, measured):
    """Of the eigenvalue itself, whose eigenvector moves with the parameters."""
    problem, theta, unravel, _ = network
    flat = np.asarray(ravel_pytree(theta)[0])

    def largest(v) -> float:
        return np.linalg.eigvalsh(dense_hessian(problem, unravel(jnp.asarray(v))))[-1]

    np.testing.assert_allclose(measured.sharpness, largest(flat), rtol=1e-12)
    gradient = np.asarray(ravel_pytree(measured.sharpness_gradient)[0])
    step = 1e-4
    for direction in np.random.default_rng(0).normal(size=(3, flat.size)):
        slope = (largest(flat + step * direction) - largest(flat - step * direction)) / (2 * step)
        np.testing.assert_allclose(gradient @ direction, slope, rtol=1e-5)


def test_alpha_is_the_rate_of_progressive_sharpening(network, measured):
    """Along the gradient flow with its part along ``u`` taken out."""
    problem, theta, unravel, top = network
    flat = np.asarray(ravel_pytree(theta)[0])
    gradient = dense_gradients(problem, theta).mean(axis=0)
    flow = -(gradient - (gradient @ top) * top)

    def largest(v) -> float:
        return np.linalg.eigvalsh(dense_hessian(problem, unravel(jnp.asarray(v))))[-1]

    step = 1e-4
    rate = (largest(flat + step * flow) - largest(flat - step * flow)) / (2 * step)
    np.testing.assert_allclose(measured.alpha, rate, rtol=1e-5)


def test_single_precision_and_a_direction_of_zeros():
    found = self_stabilisation(
        lambda t: jnp.sum(t**4), jnp.ones(2, jnp.float32), jnp.zeros(2, jnp.float32)
    )
    assert np.isnan(found.alpha)
    assert np.isnan(found.beta)
    found = self_stabilisation(
        lambda t: jnp.sum(t**4), jnp.ones(2, jnp.float32), jnp.array([1, 1], jnp.float32)
    )
    assert found.beta.dtype == found.alpha.dtype == jnp.float32
    np.testing.assert_allclose(found.sharpness, 12.0)


def test_the_predicted_gap_is_the_formula_and_no_verdict():
    assert predicted_gap(0.5, 2.0, 4.0, 0.1) == pytest.approx(0.025)
    gaps = jax.vmap(predicted_gap, in_axes=(None, 0, None, None))(0.5, jnp.array([-2.0, 0.0]), 4, 1)
    np.testing.assert_allclose(gaps, [-0.25, np.inf])
