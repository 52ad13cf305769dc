"""What a probe measures, against dense matrices and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.curvature import batch_sharpness, hessian_trace
from sgdsim.problems import Problem
from sgdsim.testing._dense import dense_gradients, dense_hessian

pytestmark = pytest.mark.usefixtures("x64")

BATCH = 2.5


@pytest.fixture(scope="module")
def hessian(network_problem):
    return dense_hessian(*network_problem)


@pytest.mark.statistical
def test_hessian_trace_is_unbiased_with_the_standard_error_it_states(
    network_problem, hessian, getkey
):
    """Signs have the variance 2 sum of squared off-diagonal entries."""
    probes = 4000
    problem, theta = network_problem
    estimate = jax.jit(lambda key: hessian_trace(problem, theta, key, probes))(getkey())
    exact = np.trace(hessian)
    assert abs(estimate.value - exact) < 5 * estimate.stderr
    off = hessian - np.diag(np.diag(hessian))
    np.testing.assert_allclose(estimate.stderr, np.sqrt(2 * np.sum(off**2) / probes), rtol=0.1)
    # The mutant: a trace that is wrong by a tenth.
    assert abs(0.9 * estimate.value - exact) > 5 * estimate.stderr


def test_hessian_trace_is_exact_for_a_diagonal_hessian(getkey):
    scales = jnp.array([1.0, -2.0, 7.0])
    problem = Problem(lambda t, z: 0.5 * jnp.sum(scales * t**2) + z, jnp.zeros(2))
    estimate = hessian_trace(problem, jnp.ones(3), getkey(), 3)
    np.testing.assert_allclose(estimate.value, 6.0, rtol=1e-14)
    np.testing.assert_allclose(estimate.stderr, 0.0, atol=1e-14)


def test_batch_sharpness_against_brute_force(network_problem, getkey):
    problem, theta = network_problem
    key, size, batches = getkey(), 3, 20
    estimate = batch_sharpness(problem, theta, key, size, batches)
    gradients = dense_gradients(problem, theta)
    hessian_of_row = np.stack(
        [dense_hessian(problem.take(jnp.array([row])), theta) for row in range(problem.n)]
    )
    draws = []
    for one in jax.random.split(key, batches):
        rows = np.asarray(jax.random.randint(one, (size,), 0, problem.n))
        gradient, hessian = gradients[rows].mean(axis=0), hessian_of_row[rows].mean(axis=0)
        draws.append(gradient @ hessian @ gradient / (gradient @ gradient))
    np.testing.assert_allclose(estimate.value, np.mean(draws), rtol=1e-10)
    np.testing.assert_allclose(estimate.stderr, np.std(draws, ddof=1) / np.sqrt(batches), rtol=1e-8)


def test_batch_sharpness_along_one_eigenvector(getkey):
    """All gradients of a scalar quadratic see its curvature, whatever the batch."""
    problem = Problem(lambda t, z: 1.5 * (t - z) ** 2, jnp.array([1.0, 2.0, 5.0]))
    estimate = batch_sharpness(problem, jnp.asarray(-1.0), getkey(), 2, 10)
    np.testing.assert_allclose(estimate.value, 3.0, rtol=1e-14)
