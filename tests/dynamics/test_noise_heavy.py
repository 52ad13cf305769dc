"""Heavy-tailed noise has the law it states: along every direction, and jointly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    IsotropicNoise,
    MinibatchNoise,
    StableNoise,
    StudentNoise,
    gaussian_sgd,
)
from sgdsim.dynamics._steppers import Iterate
from sgdsim.testing._dense import dense_covariance, dense_gradients

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

ETA, BATCH, ALPHA, DEGREES, DRAWS = 0.3, 2.5, 1.6, 4.5, 20_000
PROBABILITIES = np.array([0.003, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 0.997])


class IndependentTails(StudentNoise):
    """A mistake: one multiplier per normal, which is not elliptically contoured."""

    def draw(self, key, counter, problem, theta):
        normals = self.base.draw(key, counter, problem, theta)
        keys = jax.random.split(jax.random.fold_in(key, counter), normals.size)
        return normals * jax.vmap(lambda key: self._multiplier(key, normals.dtype))(keys)


@pytest.fixture(scope="module")
def projections(network_problem):
    """Steps of SGD with a noise model, projected on directions where the covariance is one."""
    problem, theta = network_problem
    covariance = dense_covariance(problem, theta) / BATCH
    gradient = dense_gradients(problem, theta).mean(axis=0)
    directions = np.random.default_rng(12).normal(size=(len(covariance), 4))
    directions /= np.sqrt(np.einsum("pd,pq,qd->d", directions, covariance, directions))

    @jax.jit
    def project(noise, key):
        stepper = gaussian_sgd(ETA, noise)

        def draw(step):
            normals = stepper.draw(key, step, problem, theta)
            moved = stepper.step(problem, Iterate(theta), normals)[0].theta
            noise = (ravel_pytree(theta)[0] - ravel_pytree(moved)[0]) / ETA - gradient
            return noise @ directions

        return jax.vmap(draw)(jnp.arange(DRAWS))

    return project


def z_of_distribution(draws, law):
    """Share of the draws below quantiles of the law, one column per direction."""
    below = draws[None] <= law.ppf(PROBABILITIES)[:, None, None]
    spread = np.sqrt(PROBABILITIES * (1 - PROBABILITIES) / len(draws))[:, None]
    return (below.mean(axis=1) - PROBABILITIES[:, None]) / spread


def student_law(degrees):
    return scipy.stats.t(degrees, scale=np.sqrt((degrees - 2) / degrees))


@pytest.mark.statistical
def test_student_noise_along_directions(projections, getkey):
    base, key = MinibatchNoise(jnp.asarray(BATCH)), getkey()
    draws = projections(StudentNoise(base, jnp.asarray(DEGREES)), key)
    assert np.abs(z_of_distribution(draws, student_law(DEGREES))).max() < 5
    # The multiplier without the rescaling that keeps the variance, the Gaussian model, and tails
    # of their own in every row.
    unscaled = scipy.stats.t(DEGREES)
    assert np.abs(z_of_distribution(draws, unscaled)).max() > 5
    assert np.abs(z_of_distribution(projections(base, key), student_law(DEGREES))).max() > 5
    independent = projections(IndependentTails(base, jnp.asarray(DEGREES)), key)
    assert np.abs(z_of_distribution(independent, student_law(DEGREES))).max() > 5


@pytest.mark.statistical
def test_student_noise_keeps_the_covariance(network_problem, z_of_covariance, getkey):
    problem, theta = network_problem
    covariance, key = dense_covariance(problem, theta) / BATCH, getkey()

    def draws(factor):
        noise = StudentNoise(MinibatchNoise(BATCH / factor), 12.0)
        sample = jax.vmap(lambda key: ravel_pytree(noise.sample(key, problem, theta))[0])
        return jax.jit(sample)(jax.random.split(key, DRAWS))

    assert np.abs(z_of_covariance(draws(1.0), covariance, gaussian=False)).max() < 5
    assert z_of_covariance(draws(0.85), covariance, gaussian=False).min() < -5


@pytest.mark.statistical
def test_stable_noise_along_directions(projections, getkey):
    """Quantiles of an independent implementation; the scale of the model is sqrt(1/2)."""
    base, key = MinibatchNoise(jnp.asarray(BATCH)), getkey()
    draws = projections(StableNoise(base, jnp.asarray(ALPHA)), key)
    law = scipy.stats.levy_stable(ALPHA, 0.0, scale=np.sqrt(0.5))
    assert np.abs(z_of_distribution(draws, law)).max() < 5
    for wrong in (
        scipy.stats.levy_stable(ALPHA, 0.0),
        scipy.stats.levy_stable(ALPHA + 0.1, 0.0, scale=np.sqrt(0.5)),
    ):
        assert np.abs(z_of_distribution(draws, wrong)).max() > 5


@pytest.mark.statistical
@pytest.mark.parametrize("alpha", [1.1, 1.6, 1.95])
def test_characteristic_function_of_stable_noise(projections, getkey, alpha):
    """Along directions it determines the joint law (Cramer and Wold)."""
    draws = np.asarray(projections(StableNoise(MinibatchNoise(BATCH), alpha), getkey()))
    t = np.array([0.2, 0.7, 1.5, 3.0])[:, None]

    def z_scores(alpha):
        expected = np.exp(-((t**2 / 2) ** (alpha / 2)))
        waves = np.cos(t[..., None] * draws.T)
        # Var cos(tX) from the characteristic function at 2t.
        spread = (1 + np.exp(-((2 * t**2) ** (alpha / 2)))) / 2 - expected**2
        return (waves.mean(axis=-1) - expected) / np.sqrt(spread / DRAWS)

    assert np.abs(z_scores(alpha)).max() < 5
    assert np.abs(z_scores(alpha - 0.08)).max() > 5


@pytest.mark.parametrize(
    "noise", [lambda b: StudentNoise(b, 1e9), lambda b: StableNoise(b, 2 - 1e-9)]
)
def test_the_gaussian_limit(network_problem, noise):
    problem, theta = network_problem
    base = MinibatchNoise(BATCH)
    arguments = (jax.random.key(3), jnp.asarray(5), problem, theta)
    np.testing.assert_allclose(noise(base).draw(*arguments), base.draw(*arguments), rtol=1e-3)


def test_moments_and_flags(network_problem):
    problem, theta = network_problem
    base = MinibatchNoise(BATCH)
    student, stable = StudentNoise(base, 3.0), StableNoise(base, 1.5)
    assert student.trace(problem, theta) == base.trace(problem, theta)
    for found, expected in [
        (student.diagonal(problem, theta), base.diagonal(problem, theta)),
        (student.covariance(problem, theta)(theta), base.covariance(problem, theta)(theta)),
    ]:
        np.testing.assert_array_equal(ravel_pytree(found)[0], ravel_pytree(expected)[0])
    assert stable.trace(problem, theta) == np.inf
    assert (ravel_pytree(stable.diagonal(problem, theta))[0] == np.inf).all()
    with pytest.raises(ValueError, match="no covariance, its variances are infinite; the scale"):
        stable.covariance(problem, theta)
    for noise in (student, stable):
        assert not noise.brownian
        assert not noise.additive
        assert type(noise)(IsotropicNoise(1.0), 1.9 if noise is stable else 3.0).additive
        with pytest.raises(NotImplementedError, match="no continuous-time limit"):
            noise.ito_correction(problem, theta, ETA)


@pytest.mark.parametrize(
    "heavy", [StudentNoise(IsotropicNoise(1.0), 2.1), StableNoise(IsotropicNoise(1.0), 1.01)]
)
def test_single_precision_stays_single_and_finite(network_problem, heavy):
    problem, theta = network_problem
    theta = jax.tree.map(lambda a: a.astype(jnp.float32), theta)
    draw = jax.vmap(lambda step: heavy.draw(jax.random.key(0), step, problem, theta))
    draws = jax.jit(draw)(jnp.arange(100_000))
    assert {leaf.dtype for leaf in jax.tree.leaves(draws)} == {np.dtype("float32")}
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(draws))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_stable_noise_is_finite_at_the_ends_of_the_uniform_numbers(monkeypatch, dtype, share):
    """They are too rare to be met by drawing."""

    def uniform(key, shape, dtype, minval=0.0):
        return jnp.full(shape, minval + share * (1 - jnp.finfo(dtype).eps - minval), dtype)

    monkeypatch.setattr(jax.random, "uniform", uniform)
    noise = StableNoise(IsotropicNoise(1.0), 1.3)
    multiplier = noise._multiplier(jax.random.key(0), dtype)
    assert multiplier.dtype == dtype
    assert 0 < multiplier < np.inf


def test_impossible_numbers_are_refused():
    base = IsotropicNoise(1.0)
    for bad in (2, 2.0, 0.0, -3.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="degrees must be a finite number above 2, got"):
            StudentNoise(base, bad)
    for bad in (2, 1, 0.5, 2.5, np.nan):
        with pytest.raises(ValueError, match="alpha must lie strictly between 1 and 2, got"):
            StableNoise(base, bad)
    with pytest.raises(ValueError, match="but StudentNoise already is; give a Gaussian one"):
        StableNoise(StudentNoise(base, 3.0), 1.5)
