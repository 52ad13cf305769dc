"""The gradient noise has the covariance that its model states: exactly, and in the draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    IsotropicNoise,
    Iterate,
    MinibatchNoise,
    build_noise,
    gaussian_sgd,
    per_sample_square_norms,
)
from sgdsim.scenario import load_scenario
from sgdsim.testing._dense import dense_covariance, dense_gradients

pytestmark = pytest.mark.usefixtures("x64")

ETA, BATCH, VARIANCE, DRAWS = 0.3, 2.5, 0.4, 20_000


def affine_map(problem, theta, noise):
    """One step as ``normals -> theta'``: its value at zero and its matrix, both flat."""
    stepper = gaussian_sgd(ETA, noise)
    zero = jax.tree.map(
        jnp.zeros_like, noise.draw(jax.random.key(0), jnp.asarray(0), problem, theta)
    )
    flat, unravel = ravel_pytree(zero)

    def move(normals):
        return ravel_pytree(stepper.step(problem, Iterate(theta), unravel(normals))[0].theta)[0]

    return jax.jit(move), jax.jit(jax.jacfwd(move))(flat), flat


def covariance_of(kind, problem, theta):
    if kind == "minibatch":
        return dense_covariance(problem, theta) / BATCH
    return VARIANCE * np.eye(ravel_pytree(theta)[0].size)


def noise_of(kind, factor: float = 1.0):
    """The noise model, its variance multiplied by ``factor``."""
    if kind == "minibatch":
        return MinibatchNoise(BATCH / factor)
    return IsotropicNoise(VARIANCE * factor)


class UncentredNoise(MinibatchNoise):
    """A classic mistake: normals that are not centred, hence second moment for covariance."""

    def increment(self, problem, theta, normals, clock):
        h, eta = clock
        losses, pullback = jax.vjp(problem.per_sample_losses, theta)
        scale = jnp.sqrt(eta * h / (problem.n * self.batch_size))
        return pullback(scale * normals - h / problem.n)[0], jnp.mean(losses)


@pytest.mark.parametrize("kind", ["minibatch", "isotropic"])
def test_step_is_affine_in_the_normals_with_the_exact_covariance(network_problem, getkey, kind):
    problem, theta = network_problem
    move, matrix, zero = affine_map(problem, theta, noise_of(kind))
    normals = jax.random.normal(getkey(), zero.shape)
    # Affine in centred normals: the mean of the step is the plain gradient step.
    np.testing.assert_allclose(move(normals), move(zero) + matrix @ normals, atol=1e-12)
    gradient = dense_gradients(problem, theta).mean(axis=0)
    np.testing.assert_allclose(
        move(zero), ravel_pytree(theta)[0] - ETA * gradient, rtol=1e-12, atol=1e-12
    )
    covariance = covariance_of(kind, problem, theta)
    np.testing.assert_allclose(matrix @ matrix.T, ETA**2 * covariance, rtol=0, atol=1e-12)


def test_the_exact_comparison_rejects_uncentred_normals(network_problem):
    problem, theta = network_problem
    _, matrix, _ = affine_map(problem, theta, UncentredNoise(BATCH))
    covariance = ETA**2 * covariance_of("minibatch", problem, theta)
    assert np.abs(matrix @ matrix.T - covariance).max() > 1e-3


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["minibatch", "isotropic"])
def test_draws_have_mean_zero_and_the_covariance(network_problem, z_of_covariance, getkey, kind):
    problem, theta = network_problem
    key = getkey()
    gradient = dense_gradients(problem, theta).mean(axis=0)

    def noise_draws(noise):
        stepper = gaussian_sgd(ETA, noise)

        def draw(step):
            normals = stepper.draw(key, step, problem, theta)
            return ravel_pytree(stepper.step(problem, Iterate(theta), normals)[0].theta)[0]

        moved = jax.jit(jax.vmap(draw))(jnp.arange(DRAWS))
        return (np.asarray(ravel_pytree(theta)[0]) - np.asarray(moved)) / ETA - gradient

    covariance = covariance_of(kind, problem, theta)
    assert np.abs(z_of_covariance(noise_draws(noise_of(kind)), covariance)).max() < 5
    mutant = z_of_covariance(noise_draws(noise_of(kind, factor=0.9)), covariance)
    assert mutant.min() < -5


@pytest.mark.parametrize("kind", ["minibatch", "isotropic"])
def test_covariance_operator_and_trace(network_problem, kind):
    problem, theta = network_problem
    noise = noise_of(kind)
    flat, unravel = ravel_pytree(theta)

    @jax.jit
    def columns_of(theta):
        product = noise.covariance(problem, theta)
        return jax.lax.map(lambda v: ravel_pytree(product(unravel(v)))[0], jnp.eye(flat.size))

    columns = columns_of(theta)
    expected = covariance_of(kind, problem, theta)
    np.testing.assert_allclose(columns, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(noise.trace(problem, theta), np.trace(expected), rtol=1e-12)


@pytest.mark.parametrize("block", [1, 3, 7, 125, None])
def test_per_sample_square_norms_do_not_depend_on_the_block(network_problem, block):
    problem, theta = network_problem
    expected = np.sum(dense_gradients(problem, theta) ** 2, axis=1)
    np.testing.assert_allclose(per_sample_square_norms(problem, theta, block), expected, rtol=1e-12)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan])
def test_impossible_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="batch_size must be a positive finite number, got"):
        MinibatchNoise(float(bad))
    with pytest.raises(ValueError, match="variance must be a positive finite number, got"):
        IsotropicNoise(float(bad))


def scenario(*dynamics: str):
    table = f"dynamics={{{', '.join(dynamics)}, learning_rate=0.5}}"
    # Without noise there is no automatic radius.
    return load_scenario("stagnation", [table, "stagnation.radius=1.0"])


def test_noise_of_a_scenario():
    gaussian = build_noise(scenario("kind='gaussian_sgd'", "batch_size=16"))
    assert isinstance(gaussian, MinibatchNoise)
    assert float(gaussian.batch_size) == 16
    isotropic = build_noise(
        scenario("kind='sde'", "substeps=2", "noise={kind='isotropic', variance=0.25}")
    )
    assert isinstance(isotropic, IsotropicNoise)
    assert float(isotropic.variance) == 0.25
    assert build_noise(scenario("kind='gd'")) is None


@pytest.mark.parametrize(
    ("batch", "replacement", "expected"),
    [(16, "true", 16.0), (16, "false", 16 * 999 / 984), (1, "false", 1.0), (1000, "false", None)],
)
def test_covariance_of_minibatch_sgd_in_a_scenario(batch, replacement, expected):
    """Without replacement the covariance is C/B (n-B)/(n-1), here with n = 1000."""
    noise = build_noise(scenario("kind='sgd'", f"batch_size={batch}", f"replacement={replacement}"))
    if expected is None:
        assert noise is None
    else:
        assert isinstance(noise, MinibatchNoise)
        np.testing.assert_allclose(noise.batch_size, expected, rtol=1e-6)
