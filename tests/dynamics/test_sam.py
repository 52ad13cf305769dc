"""SAM against its formula and against its edge of stability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    Descent,
    FullGradient,
    HeavyBall,
    MinibatchGradient,
    SharpnessAware,
    gradient_descent,
    sam,
)
from sgdsim.testing._dense import dense_gradients

pytestmark = pytest.mark.usefixtures("x64")

ETA, RADIUS = 0.1, 0.3


def flat(theta) -> np.ndarray:
    return np.asarray(ravel_pytree(theta)[0])


@pytest.mark.parametrize("normalised", [True, False])
def test_step_by_hand_on_a_batch(network_problem, normalised):
    problem, theta = network_problem
    rows = np.array([5, 0, 5])
    unravel = ravel_pytree(theta)[1]

    def gradient(point):
        return dense_gradients(problem, unravel(jnp.asarray(point)))[rows].mean(axis=0)

    here = gradient(flat(theta))
    uphill = RADIUS * here / (np.linalg.norm(here) if normalised else 1.0)
    expected = flat(theta) - ETA * gradient(flat(theta) + uphill)

    stepper = sam(ETA, RADIUS, MinibatchGradient(3), normalised)
    moved, _ = stepper.step(problem, stepper.start(problem, theta), jnp.asarray(rows))
    np.testing.assert_allclose(flat(moved.theta), expected, rtol=0, atol=1e-14)


def test_momentum_takes_the_gradient_uphill(network_problem):
    problem, theta = network_problem
    unravel = ravel_pytree(theta)[1]
    rule = SharpnessAware(RADIUS, normalised=False, rule=HeavyBall(0.9))
    stepper = Descent(ETA, FullGradient(), rule)
    iterate = stepper.start(problem, theta)
    expected, velocity = flat(theta), 0.0
    for _ in range(3):
        iterate, risk = stepper.step(problem, iterate, ())
        here = dense_gradients(problem, unravel(jnp.asarray(expected))).mean(axis=0)
        risk_before = problem.empirical_risk(unravel(jnp.asarray(expected)))
        assert risk is not None
        np.testing.assert_allclose(risk, risk_before, rtol=1e-12)
        uphill = unravel(jnp.asarray(expected + RADIUS * here))
        velocity = 0.9 * velocity + dense_gradients(problem, uphill).mean(axis=0)
        expected = expected - ETA * velocity
    np.testing.assert_allclose(flat(iterate.theta), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("offset", [0.0, 1e-25])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_at_a_minimum_it_is_gradient_descent(quadratic, offset, dtype):
    """No direction to normalise, exactly or because its square underflows in float32."""
    problem, *_ = quadratic([[1.0]], [[0.0]])
    problem, theta = problem.astype(dtype), jnp.full((1,), offset, dtype)
    stepper = sam(ETA, RADIUS)
    moved, _ = stepper.step(problem, stepper.start(problem, theta), ())
    if offset == 0.0:
        expected, _ = gradient_descent(ETA).step(problem, stepper.start(problem, theta), ())
        np.testing.assert_array_equal(moved.theta, expected.theta)
    assert np.all(np.abs(moved.theta) <= ETA * RADIUS)


def slope(stepper, problem) -> float:
    """Derivative of a step at the minimum of a one-dimensional quadratic."""

    def move(theta):
        return stepper.step(problem, stepper.start(problem, theta), ())[0].theta

    return float(jax.jacobian(move)(jnp.zeros(1))[0, 0])


def test_edge_of_the_unnormalised_form(quadratic):
    """C14: at the edge, below that of gradient descent, a step is theta -> -theta."""
    edge = (np.sqrt(1 + 8 * RADIUS / ETA) - 1) / (2 * RADIUS)
    assert edge < 0.6 * 2 / ETA
    stepper = sam(ETA, RADIUS, normalised=False)
    slopes = [slope(stepper, quadratic([[r * edge]], [[0.0]])[0]) for r in (0.999, 1.0, 1.001)]
    np.testing.assert_allclose(slopes[1], -1, rtol=1e-12)
    assert slopes[0] > -1 > slopes[2]


@pytest.mark.parametrize("radius", [0.1, 1.0])
def test_edge_of_the_normalised_form(quadratic, radius):
    """C14: at the edge, which moves with the size of the gradient, a step is theta -> -theta."""
    size = 2.0
    edge = size / (2 * radius) * (np.sqrt(1 + 8 * radius / (ETA * size)) - 1)
    problem, *_ = quadratic([[edge]], [[0.0]])
    theta, stepper = jnp.full((1,), size / edge), sam(ETA, radius)
    moved, _ = stepper.step(problem, stepper.start(problem, theta), ())
    np.testing.assert_allclose(moved.theta, -theta, rtol=1e-12)


def test_impossible_radii_are_refused():
    for bad in (0.0, -0.1, float("inf")):
        with pytest.raises(ValueError, match="radius must be a positive finite number"):
            sam(0.1, bad)
