"""The last two iterates: steps do not change, and the midpoint lies between oscillations."""

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import Problem, gradient_descent, minibatch_sgd
from sgdsim.dynamics import CosineDecay, Scheduled, WithPast, adam, midpoint

PROBLEM = Problem(lambda theta, z: 0.5 * (theta[0] - z) ** 2, jnp.array([0.0, 1.0, 4.0]))
START = jnp.array([3.0])


def iterates(stepper, steps):
    key, iterate = jax.random.key(0), stepper.start(PROBLEM, START)
    found = [iterate]
    for step in range(steps):
        randomness = stepper.draw(key, jnp.asarray(step), PROBLEM, iterate.theta)
        iterate, _ = stepper.step(PROBLEM, iterate, randomness)
        found.append(iterate)
    return found


def test_steps_are_those_of_the_stepper_inside():
    inside = Scheduled(minibatch_sgd(0.5, 2), CosineDecay(0.5, steps=5))
    plain, kept = iterates(inside, 5), iterates(WithPast(inside), 5)
    assert [float(one.theta[0]) for one in plain] == [float(one.theta[0]) for one in kept]


def test_memory_of_the_stepper_inside_is_kept():
    plain, kept = iterates(adam(0.1), 4)[-1], iterates(WithPast(adam(0.1)), 4)[-1]
    np.testing.assert_array_equal(plain.memory.nu, kept.memory.inside.nu)


def test_past_is_what_the_iterates_were():
    found = iterates(WithPast(gradient_descent(0.3)), 4)
    assert found[4].memory.last == found[3].theta
    assert found[4].memory.before == found[2].theta


def test_past_of_the_start_is_the_start():
    start, first = iterates(WithPast(gradient_descent(0.3)), 1)
    assert start.memory.last == start.memory.before == START
    assert first.memory.last == first.memory.before == START


def test_midpoint_cancels_an_oscillation_of_period_two_and_a_drift_keeps_its_place():
    drift, swing = np.array([1.0, 1.2, 1.4]), np.array([0.5, -0.5, 0.5])
    before, last, now = jnp.asarray(drift + swing)[:, None]
    iterate = WithPast(gradient_descent(0.1)).start(PROBLEM, now)
    memory = iterate.memory._replace(last=last, before=before)
    np.testing.assert_allclose(midpoint(iterate._replace(memory=memory)), [1.2], rtol=1e-6)
