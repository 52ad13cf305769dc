"""The preconditioner is what the steps of the optimizer divide by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim import Problem, gradient_descent
from sgdsim.dynamics import (
    Constant,
    Scheduled,
    WeightDecay,
    WithPast,
    adam,
    heavy_ball,
    preconditioner,
    rmsprop,
)

PROBLEM = Problem(lambda theta, z: theta @ z.T, jnp.array([[2.0, -0.5]]))
START = jnp.array([1.0, 1.0])


def after(stepper, steps):
    iterate = stepper.start(PROBLEM, START)
    for step in range(steps):
        randomness = stepper.draw(jax.random.key(0), jnp.asarray(step), PROBLEM, iterate.theta)
        iterate, _ = stepper.step(PROBLEM, iterate, randomness)
    return iterate


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_step_of_rmsprop_is_the_gradient_over_it(steps):
    stepper = rmsprop(0.1, decay=0.9, epsilon=1e-3)
    before, now = after(stepper, steps - 1), after(stepper, steps)
    moved = np.asarray(before.theta - now.theta) / 0.1
    scale = np.asarray(preconditioner(stepper, now))
    np.testing.assert_allclose(np.array([2.0, -0.5]) / moved, scale, 1e-4)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_step_of_adam_is_the_averaged_gradient_over_it(steps):
    stepper = adam(0.1, b1=0.6, b2=0.9, epsilon=1e-3)
    before, now = after(stepper, steps - 1), after(stepper, steps)
    moved = np.asarray(before.theta - now.theta) / 0.1
    average = np.array([2.0, -0.5]) * (1 - 0.6**steps)  # of a constant gradient
    np.testing.assert_allclose(average / moved, np.asarray(preconditioner(stepper, now)), 1e-4)


@pytest.mark.parametrize("stepper", [adam(0.1), rmsprop(0.1)])
def test_it_is_unknown_before_the_first_step(stepper):
    assert np.isnan(np.asarray(preconditioner(stepper, after(stepper, 0)))).all()


@pytest.mark.parametrize("stepper", [gradient_descent(0.1), heavy_ball(0.1, 0.9)])
def test_other_processes_have_none(stepper):
    assert preconditioner(stepper, after(stepper, 1)) is None


def test_modifiers_around_the_optimizer_do_not_matter():
    plain = adam(0.1)
    wrapped = WithPast(Scheduled(WeightDecay(plain, 1e-9), Constant(0.1)))
    found = np.asarray(preconditioner(wrapped, after(wrapped, 3)))
    np.testing.assert_allclose(found, np.asarray(preconditioner(plain, after(plain, 3))), 1e-5)
