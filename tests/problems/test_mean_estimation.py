"""The generalization gap of noisy gradient descent where it is known exactly: mean estimation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim
from sgdsim.problems import Problem, squared_norm

DIMENSION, ROWS, ETA, VARIANCE, STEPS = 5, 50, 0.1, 0.3, 60


def losses(theta, rows):
    return 0.5 * jnp.sum((theta[None] - rows) ** 2, axis=1)


def gap_of_one_sample(key):
    """Gap at the last of 60 steps on 50 standard normal rows, from the origin."""
    of_rows, of_noise = jax.random.split(key)
    problem = Problem(losses, jax.random.normal(of_rows, (ROWS, DIMENSION)))
    stepper = sgdsim.gaussian_sgd(ETA, sgdsim.IsotropicNoise(VARIANCE))

    def step(iterate, number):
        randomness = stepper.draw(of_noise, number, problem, iterate.theta)
        return stepper.step(problem, iterate, randomness)[0], None

    start = stepper.start(problem, jnp.zeros(DIMENSION))
    theta = jax.lax.scan(step, start, jnp.arange(STEPS))[0].theta
    population = 0.5 * (squared_norm(theta) + DIMENSION)
    return population - problem.empirical_risk(theta)


@pytest.mark.statistical
def test_the_gap_of_noisy_descent_on_mean_estimation():
    """(1 - (1 - eta)^T) d/n = 0.0998203 (stagnation theory 13)."""
    gaps = np.asarray(
        jax.jit(jax.vmap(gap_of_one_sample))(jax.random.split(jax.random.key(0), 40_000))
    )
    expected = (1 - (1 - ETA) ** STEPS) * DIMENSION / ROWS
    assert expected == pytest.approx(0.0998203, abs=5e-8)
    stderr = gaps.std(ddof=1) / gaps.size**0.5
    assert abs(gaps.mean() - expected) < 5 * stderr
    # Half of it, the excess risk of the minimum itself, is refused.
    assert abs(gaps.mean() - expected / 2) > 5 * stderr
