"""The trace of a Hessian from a fixed number of products, against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.curvature import hessian_trace
from sgdsim.problems import Problem
from sgdsim.testing._dense import dense_hessian

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.statistical
def test_hessian_trace_is_unbiased_with_the_standard_error_it_states(network_problem, getkey):
    """Signs have the variance 2 sum of squared off-diagonal entries."""
    problem, theta = network_problem
    hessian = dense_hessian(problem, theta)
    probes, repeats = 16, 300
    estimate = jax.jit(
        lambda keys: jax.lax.map(lambda key: hessian_trace(problem, theta, key, probes), keys)
    )(jax.random.split(getkey(), repeats))
    off = hessian - np.diag(np.diag(hessian))
    spread = np.sqrt(2 * np.sum(off**2) / probes)
    z = (np.mean(estimate.value) - np.trace(hessian)) / (spread / np.sqrt(repeats))
    assert abs(z) < 4
    np.testing.assert_allclose(np.std(estimate.value), spread, rtol=0.15)
    np.testing.assert_allclose(np.sqrt(np.mean(estimate.stderr**2)), spread, rtol=0.15)
    # The mutant: a trace that is wrong by a tenth.
    z = (0.9 * np.mean(estimate.value) - np.trace(hessian)) / (spread / np.sqrt(repeats))
    assert abs(z) > 4


def test_hessian_trace_is_exact_for_a_diagonal_hessian(getkey):
    scales = jnp.array([1.0, -2.0, 7.0])
    problem = Problem(lambda t, z: 0.5 * jnp.sum(scales * t**2) + z, jnp.zeros(2))
    for probes in (2, 3):
        estimate = hessian_trace(problem, jnp.ones(3), getkey(), probes)
        np.testing.assert_allclose(estimate.value, 6.0, rtol=1e-14)
        np.testing.assert_allclose(estimate.stderr, 0.0, atol=1e-14)
