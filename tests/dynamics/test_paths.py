"""Equations with different substeps on one Brownian path."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.dynamics import (
    SDE,
    AdamSDE,
    BoxProjection,
    Constant,
    IsotropicNoise,
    MinibatchNoise,
    Projected,
    RMSPropSDE,
    Scheduled,
    StudentNoise,
    UnderdampedSDE,
    gaussian_sgd,
    minibatch_sgd,
    on_one_path,
)
from sgdsim.problems import Problem

pytestmark = pytest.mark.usefixtures("x64")

ETA, NOISE = 0.1, IsotropicNoise(0.5)


def ends(stepper, key, steps=6, count=400):
    """Final points of so many independent coordinates on a quadratic."""
    problem = Problem(lambda theta, z: 0.5 * jnp.sum(theta**2) + 0 * z, jnp.zeros(1))

    def body(iterate, k):
        draw = stepper.draw(key, k, problem, iterate.theta)
        return stepper.step(problem, iterate, draw)[0], None

    run = jax.jit(lambda iterate: jax.lax.scan(body, iterate, jnp.arange(steps))[0].theta)
    return np.asarray(run(stepper.start(problem, jnp.ones(count))))


def test_gaussian_sgd_and_its_sde_see_one_path(getkey):
    key = getkey()
    given = {"SGD": gaussian_sgd(ETA, NOISE), "SDE": SDE(ETA, NOISE, 4)}
    paired = on_one_path(given)
    explicit = [gaussian_sgd(ETA, NOISE, resolution=4), SDE(ETA, NOISE, 4, resolution=4)]
    for stepper, expected in zip(paired.values(), explicit, strict=True):
        np.testing.assert_array_equal(ends(stepper, key), ends(expected, key))
    correlation = np.corrcoef([ends(stepper, key) for stepper in paired.values()])[0, 1]
    assert correlation > 0.99
    apart = np.corrcoef([ends(stepper, key) for stepper in given.values()])[0, 1]
    assert abs(apart) < 5 / np.sqrt(400)


def test_the_distance_shrinks_with_the_step(getkey):
    """Strong order one of Euler with additive noise: a quarter of the step, about a quarter."""
    key = getkey()
    steppers = on_one_path([SDE(ETA, NOISE, m) for m in (1, 4, 16, 256)])
    *coarse, fine = (ends(stepper, key) for stepper in steppers)
    errors = [np.sqrt(np.mean((path - fine) ** 2)) for path in coarse]
    assert all(3 < a / b < 5 for a, b in itertools.pairwise(errors)), errors


def test_every_equation_gets_the_least_common_multiple():
    minibatch = MinibatchNoise(4)
    steppers = {
        "modified": Scheduled(Projected(SDE(ETA, minibatch, 4), BoxProjection(-1, 1)), Constant(1)),
        "underdamped": UnderdampedSDE(ETA, 0.9, minibatch, 2, resolution=6),
        "rmsprop": RMSPropSDE(ETA, minibatch),
        "adam": AdamSDE(ETA, minibatch, substeps=3),
        "heavy": SDE(ETA, StudentNoise(minibatch, 3.0)),
        "sgd": minibatch_sgd(ETA, 4),
    }
    found = on_one_path(steppers)
    assert list(found) == list(steppers)
    assert found["modified"].stepper.stepper.resolution == 12
    assert found["modified"].stepper.stepper.substeps == 4
    assert found["modified"].schedule == steppers["modified"].schedule
    for name in ("underdamped", "rmsprop", "adam"):
        assert found[name].resolution == 12
    assert found["heavy"] == steppers["heavy"]
    assert found["sgd"] == steppers["sgd"]


def test_a_single_equation_stays_as_it_is():
    steppers = [SDE(ETA, NOISE, 4), minibatch_sgd(ETA, 4)]
    assert on_one_path(steppers) == steppers


def test_every_learning_rate_has_a_grid_of_its_own():
    """The time of a step is the learning rate: paths of different rates have nothing in common."""
    steppers = [gaussian_sgd(0.1, NOISE), SDE(0.1, NOISE, 4), gaussian_sgd(0.2, NOISE)]
    found = on_one_path(steppers)
    assert [getattr(stepper, "resolution") for stepper in found] == [4, 4, None]  # noqa: B009
