"""Low-rank noise where the spectrum is awkward: too few eigenvalues, no noise, a short search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.dynamics import DiagonalNoise, LowRankNoise
from sgdsim.problems import Problem
from sgdsim.testing._dense import dense_covariance, dense_low_rank, dense_root

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")


def covariance_of(noise, problem, theta):
    """Dense covariance from the root."""
    normals = jax.tree.map(jnp.zeros_like, theta)
    matrix = dense_root(lambda t, xi: noise.root(problem, t, xi), theta, normals)
    return matrix @ matrix.T


@pytest.mark.parametrize("rank", [6, 9])
def test_all_of_a_covariance_of_few_rows(network_problem, rank):
    """Seven rows: six eigenvalues, and nothing is left to spread."""
    found = covariance_of(LowRankNoise(1, rank), *network_problem)
    np.testing.assert_allclose(found, dense_covariance(*network_problem), atol=1e-12)


def test_a_short_search_keeps_the_trace_and_stays_below(network_problem):
    problem, theta = network_problem
    dense = dense_covariance(problem, theta)
    found = covariance_of(LowRankNoise(1, rank=2, products=2), problem, theta)
    exact = dense_low_rank(dense, 2)
    assert np.abs(found - exact).max() > 1e-6  # or the search was not short
    np.testing.assert_allclose(np.trace(found), np.trace(dense), rtol=1e-12)
    values = np.linalg.eigvalsh(found)
    assert values[0] >= 0
    assert values[-2:].sum() <= np.linalg.eigvalsh(dense)[-2:].sum()


def test_missing_ritz_vectors_are_not_taken_for_eigenvectors(quadratic):
    """The Krylov space ends after two products; zero vectors have values above the second."""
    centres = 3.0 * np.eye(5)[[0, 0, 1, 1]] * np.array([4.0, -4.0, 1.0, -1.0])[:, None]
    problem, _, dense = quadratic(np.eye(5), centres)
    found = covariance_of(LowRankNoise(1, rank=3), problem, jnp.zeros(5))
    np.testing.assert_allclose(found, dense, atol=1e-12)


@pytest.mark.parametrize("noise", [LowRankNoise(1, rank=2), DiagonalNoise(1)])
def test_no_noise_where_all_gradients_agree(noise):
    problem = Problem(lambda theta, z: jnp.sum(theta**2) + 0 * z, jnp.zeros(4))
    found = covariance_of(noise, problem, jnp.arange(3.0))
    assert not found.any()


def test_impossible_ranks_are_refused(network_problem):
    with pytest.raises(ValueError, match="rank must be a positive integer, got 0"):
        LowRankNoise(1, 0)
    with pytest.raises(ValueError, match="products = 2 cannot resolve rank = 3 eigenpairs"):
        LowRankNoise(1, 3, products=2)
    with pytest.raises(ValueError, match="rank = 20 leaves nothing to approximate with 20"):
        LowRankNoise(1, 20).diagonal(*network_problem)
    with pytest.raises(ValueError, match="batch_size must be a positive finite number"):
        LowRankNoise(-1.0, 3)
    with pytest.raises(ValueError, match="batch_size must be a positive finite number"):
        DiagonalNoise(0)
