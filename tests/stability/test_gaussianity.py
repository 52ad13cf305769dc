"""Shape of the minibatch noise against all batches, enumerated, and dense per-sample gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from sgdsim.dynamics import MinibatchNoise
from sgdsim.problems import Problem
from sgdsim.stability import noise_shape


@pytest.fixture(scope="module")
def regression(x64):
    random = np.random.default_rng(5)
    rows = {"x": jnp.asarray(random.normal(size=(5, 3))), "y": jnp.asarray(random.gamma(0.3, 1, 5))}

    def losses(theta, data):
        return 0.5 * (jnp.tanh(data["x"] @ theta["w"]) * theta["c"] - data["y"]) ** 2

    theta = {"w": jnp.asarray(random.normal(size=3)), "c": jnp.asarray(1.3)}
    return Problem(losses, rows, 0.2), theta, jnp.asarray(random.normal(size=(3, 4)))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_moments_are_those_of_all_batches(regression, batch):
    problem, theta, directions = regression
    flat, unravel = ravel_pytree(theta)
    gradients = jax.jacrev(lambda v: problem.per_sample_losses(unravel(v)))(flat)
    slopes = np.asarray(gradients @ directions.T)
    every = np.array(
        [slopes[list(rows)].mean(0) for rows in itertools.product(range(5), repeat=batch)]
    )
    shape = noise_shape(problem, theta, directions, batch)
    np.testing.assert_allclose(shape.variance, every.var(axis=0), rtol=1e-10)
    np.testing.assert_allclose(shape.skewness, stats.skew(every), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(shape.excess_kurtosis, stats.kurtosis(every), rtol=1e-9, atol=1e-12)
    # The data are such that the wrong powers of the batch size would show.
    assert np.abs(shape.skewness).max() > 0.05
    assert np.abs(shape.excess_kurtosis).max() > 0.05


def test_variance_is_the_quadratic_form_of_the_covariance(network_problem):
    problem, theta = network_problem
    flat, unravel = ravel_pytree(theta)
    direction = jnp.asarray(np.random.default_rng(2).normal(size=flat.shape))
    product = ravel_pytree(MinibatchNoise(4).covariance(problem, theta)(unravel(direction)))[0]
    shape = noise_shape(problem, theta, direction[None], 4)
    np.testing.assert_allclose(shape.variance[0], direction @ product, rtol=1e-10)


def test_direction_without_noise_has_no_shape(regression):
    problem, theta, directions = regression
    same_row = Problem(
        problem.losses, jax.tree.map(lambda a: a[:1].repeat(6, axis=0), problem.data)
    )
    shape = noise_shape(same_row, theta, directions, 2)
    assert np.isnan(shape.skewness).all()
    assert np.isnan(shape.excess_kurtosis).all()


def test_single_precision_stays_and_batch_size_is_traced(regression):
    problem, theta, directions = jax.tree.map(lambda a: a, regression)
    single = problem.astype(jnp.float32)
    theta = jax.tree.map(lambda a: a.astype(jnp.float32), theta)
    traces = []

    @jax.jit
    def shape(batch_size):
        traces.append(batch_size)
        return noise_shape(single, theta, directions.astype(jnp.float32), batch_size)

    one, four = shape(1.0), shape(4.0)
    assert len(traces) == 1
    assert {leaf.dtype for leaf in jax.tree.leaves(one)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(four.excess_kurtosis, one.excess_kurtosis / 4, rtol=1e-6)
    np.testing.assert_allclose(four.skewness, one.skewness / 2, rtol=1e-6)
