"""Derivatives, spectral radii and many steps, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.dynamics import MinibatchGradient, adam, gradient_descent, heavy_ball
from sgdsim.problems import LeastSquares, Quadratic
from sgdsim.selftest import after, crossing, derivative, spectral_radius, variance

pytestmark = pytest.mark.usefixtures("x64")


def test_derivative_of_heavy_ball():
    """In the order parameters, memory: theta' = theta - eta (h theta + b m), m' = h theta + b m."""
    h, eta, b = 3.0, 0.2, 0.9
    problem, stepper = Quadratic([h]).problem(), heavy_ball(eta, b)
    found = derivative(stepper, problem, stepper.start(problem, jnp.zeros(1)))
    np.testing.assert_allclose(found, [[1 - eta * h, -eta * b], [h, b]], rtol=1e-12)


def test_derivative_on_a_batch():
    rows = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])
    problem = LeastSquares(jnp.asarray(rows), jnp.zeros(3)).problem()
    stepper = heavy_ball(0.1, 0.0, MinibatchGradient(2))
    start = stepper.start(problem, jnp.zeros(2))
    found = derivative(stepper, problem, start, jnp.array([0, 2]))
    hessian = (np.outer(rows[0], rows[0]) + np.outer(rows[2], rows[2])) / 2
    np.testing.assert_allclose(found[:2, :2], np.eye(2) - 0.1 * hessian, rtol=1e-12)


def test_counters_are_no_part_of_the_derivative():
    problem, stepper = Quadratic([2.0]).problem(), adam(0.1)
    found = derivative(stepper, problem, stepper.start(problem, jnp.ones(1)))
    assert found.shape == (3, 3)


def test_spectral_radius_of_a_rotation():
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(spectral_radius(1.7 * turn), 1.7, rtol=1e-12)


def test_crossing_keeps_the_digits_of_a_small_root():
    found = crossing(lambda x: jnp.array([[0.5, 0.0], [0.0, x / 3e-9]]), 0.0, 1.0)
    np.testing.assert_allclose(found, 3e-9, rtol=1e-9)


def test_crossing_needs_both_sides():
    with pytest.raises(ValueError, match="sign"):
        crossing(lambda x: jnp.array([[0.5 * x]]), 0.0, 1.0)


def test_after_many_steps():
    problem = Quadratic([1.0, 4.0]).problem()
    found = after(gradient_descent(0.1), problem, jnp.array([1.0, 2.0]), 7)
    np.testing.assert_allclose(found, [0.9**7, 2 * 0.6**7], rtol=1e-12)


def test_variance_of_one_step():
    """From zero one step of SGD is at plus or minus eta."""
    from sgdsim.dynamics import minibatch_sgd

    found, error = variance(minibatch_sgd(0.5, 1), 0, 1)
    np.testing.assert_allclose(found, 0.25, rtol=1e-12)
    assert error < 1e-12
