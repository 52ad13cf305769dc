"""Gradient noise at an iterate, against dense matrices."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import IsotropicNoise, MinibatchNoise, noise_alignment, probe_noise
from sgdsim.testing._dense import dense_covariance, dense_hessian

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

BATCH = 2.5


@pytest.fixture(scope="module")
def hessian(network_problem):
    return dense_hessian(*network_problem)


def test_noise_probe_against_dense_eigenvalues(network_problem, getkey):
    problem, theta = network_problem
    dense = dense_covariance(problem, theta) / BATCH
    # Seven rows: the covariance has rank six, and the Krylov space ends before depth twelve.
    found = probe_noise(MinibatchNoise(BATCH), problem, theta, getkey())
    np.testing.assert_allclose(found.operator_norm, np.linalg.eigvalsh(dense)[-1], rtol=1e-10)
    np.testing.assert_allclose(found.trace, np.trace(dense), rtol=1e-12)
    assert found.operator_norm_residual <= 1e-8

    short = probe_noise(MinibatchNoise(BATCH), problem, theta, getkey(), depth=2)
    assert short.operator_norm <= found.operator_norm
    assert abs(short.operator_norm - found.operator_norm) <= short.operator_norm_residual


def test_noise_probe_of_isotropic_noise(network_problem, getkey):
    problem, theta = network_problem
    found = probe_noise(IsotropicNoise(0.3), problem, theta, getkey())
    np.testing.assert_allclose(found.operator_norm, 0.3, rtol=1e-12)
    np.testing.assert_allclose(found.trace, 0.3 * 20, rtol=1e-12)


def test_noise_alignment(network_problem, hessian):
    problem, theta = network_problem
    direction = np.linalg.eigh(hessian)[1][:, -1]
    tree = ravel_pytree(theta)[1](jnp.asarray(direction))
    dense = dense_covariance(problem, theta) / BATCH
    noise = MinibatchNoise(BATCH)
    found = noise_alignment(noise, problem, theta, tree, noise.trace(problem, theta))
    np.testing.assert_allclose(found, direction @ dense @ direction / np.trace(dense), rtol=1e-10)
    noise = IsotropicNoise(0.3)
    found = noise_alignment(noise, problem, theta, tree, noise.trace(problem, theta))
    np.testing.assert_allclose(found, 1 / 20, rtol=1e-12)
