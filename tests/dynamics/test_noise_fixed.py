"""Noise with a given matrix: what counts as a covariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.dynamics import ConstantNoise, LangevinNoise
from sgdsim.problems import Problem

pytestmark = pytest.mark.usefixtures("x64")

# As numpy arrays: these are made before double precision is on.
PROBLEM = Problem(lambda theta, z: theta["a"] ** 2 + jnp.sum(theta["b"] ** 2) - z, np.zeros(3))
THETA = {"a": np.ones(()), "b": np.ones(2)}


def test_rows_of_the_matrix_follow_the_flat_parameters():
    matrix = np.array([[4.0, 2.0, 0.0], [2.0, 3.0, -1.0], [0.0, -1.0, 2.0]])
    noise = ConstantNoise.from_covariance(matrix, THETA)
    image = noise.covariance(PROBLEM, THETA)({"a": jnp.asarray(1.0), "b": jnp.zeros(2)})
    np.testing.assert_allclose(image["a"], 4.0, rtol=1e-12)
    np.testing.assert_allclose(image["b"], [2.0, 0.0], atol=1e-12)


def test_no_noise_at_all():
    noise = ConstantNoise.from_covariance(np.zeros((3, 3)), THETA)
    assert noise.trace(PROBLEM, THETA) == 0
    assert not noise.sample(jax.random.key(0), PROBLEM, THETA)["b"].any()


def test_matrices_that_are_no_covariances_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\), but theta has 3 parameters"):
        ConstantNoise.from_covariance(np.eye(2), THETA)
    with pytest.raises(ValueError, match=r"not symmetric and finite: it differs .* by 1"):
        ConstantNoise.from_covariance(np.eye(3) + np.eye(3, k=1), THETA)
    with pytest.raises(ValueError, match="not symmetric and finite"):
        ConstantNoise.from_covariance(np.full((3, 3), np.nan), THETA)
    with pytest.raises(ValueError, match=r"negative eigenvalue -0\.5"):
        ConstantNoise.from_covariance(np.diag([1.0, -0.5, 2.0]), THETA)


def test_a_factor_that_does_not_fit_is_refused():
    wrong = [
        {"a": jnp.ones(2), "b": jnp.ones((2, 3))},  # not one number of columns
        {"a": jnp.ones(2), "b": jnp.ones((3, 2))},
        {"a": jnp.ones(2)},
    ]
    for factor in wrong:
        with pytest.raises(ValueError, match="do not fit the parameters of shape"):
            ConstantNoise(factor).draw(jax.random.key(0), jnp.asarray(0), PROBLEM, THETA)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan])
def test_impossible_temperatures_are_refused(bad):
    with pytest.raises(ValueError, match="inverse_temperature must be a positive finite number"):
        LangevinNoise(float(bad), 0.1)
    with pytest.raises(ValueError, match="learning_rate must be a positive finite number"):
        LangevinNoise(1.0, float(bad))
