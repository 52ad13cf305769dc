"""Streams of sources, and label noise against labels that really are noisy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    FullGradient,
    GaussianGradient,
    IsotropicNoise,
    LabelNoise,
    LabelNoiseGradient,
    MinibatchGradient,
    MinibatchNoise,
    NoisyGradient,
    label_noise_sgd,
)
from sgdsim.problems import OutputLoss, Problem, Rows, cross_entropies
from sgdsim.testing._dense import dense_covariance, dense_gradients

pytestmark = pytest.mark.usefixtures("x64")

STD, BATCH = 0.7, 3


def flat(theta) -> np.ndarray:
    return np.asarray(ravel_pytree(theta)[0])


def squared_error_problem(network_problem):
    problem, theta = network_problem
    losses = OutputLoss(
        cross_entropies.outputs, lambda f, rows: 0.5 * jnp.sum((f - rows.targets) ** 2, axis=1)
    )
    return Problem(losses, problem.data, problem.ridge), theta


@pytest.mark.parametrize("kind", ["squared error", "cross-entropy"])
def test_label_noise_is_the_gradient_with_noisy_labels(network_problem, getkey, kind):
    problem, theta = network_problem
    if kind == "squared error":
        problem, theta = squared_error_problem(network_problem)
    source = LabelNoiseGradient(BATCH, STD)
    rows, normals = source.draw(getkey(), jnp.asarray(2), problem, theta)
    assert normals.shape == (BATCH, 2)
    found, risk = source.gradient(problem, theta, (rows, normals))
    noisy = Rows(problem.data.inputs[rows], problem.data.targets[rows] + STD * normals)
    expected = jax.grad(Problem(problem.losses, noisy, problem.ridge).empirical_risk)(theta)
    np.testing.assert_allclose(flat(found), flat(expected), rtol=0, atol=1e-14)
    assert risk is None


def test_label_noise_takes_the_batches_of_sgd(network_problem, getkey):
    problem, theta = network_problem
    key, step = getkey(), jnp.asarray(5)
    rows, _ = LabelNoiseGradient(BATCH, STD).draw(key, step, problem, theta)
    expected = MinibatchGradient(BATCH).draw(key, step, problem, theta)
    np.testing.assert_array_equal(rows, expected)


def test_normals_of_labels_are_not_those_of_gradient_noise(network_problem, getkey):
    problem, theta = network_problem
    key, step = getkey(), jnp.asarray(5)
    _, labels = LabelNoiseGradient(problem.n, STD).draw(key, step, problem, theta)
    for noise in (MinibatchNoise(BATCH), LabelNoise(BATCH, STD)):
        others = noise.draw(key, step, problem, theta)
        assert not np.intersect1d(np.ravel(labels), np.ravel(others)).size


@pytest.mark.statistical
def test_covariance_of_label_noise(network_problem, z_of_covariance, getkey):
    r"""Batch noise plus :math:`\frac{s^2}{Bn}\sum_i J_i^\top J_i`; neither alone."""
    problem, theta = squared_error_problem(network_problem)
    source, key = LabelNoiseGradient(BATCH, STD), getkey()
    draw = jax.jit(jax.vmap(lambda step: source.draw(key, step, problem, theta)))
    randomness = draw(jnp.arange(20_000))
    gradients = jax.jit(jax.vmap(lambda r: source.gradient(problem, theta, r)[0]))(randomness)
    noise = np.asarray(jax.vmap(lambda g: ravel_pytree(g)[0])(gradients))
    noise = noise - dense_gradients(problem, theta).mean(axis=0)

    vector, unravel = ravel_pytree(theta)
    outputs = cross_entropies.outputs
    jacobian = np.asarray(jax.jacrev(lambda v: outputs(unravel(v), problem.data))(vector))
    of_labels = STD**2 * np.einsum("ikp,ikq->pq", jacobian, jacobian) / problem.n / BATCH
    of_batches = dense_covariance(problem, theta) / BATCH
    assert np.abs(z_of_covariance(noise, of_batches + of_labels, gaussian=False)).max() < 5
    for wrong in (of_batches + 1.3**2 * of_labels, of_batches, of_labels):
        assert np.abs(z_of_covariance(noise, wrong, gaussian=False)).max() > 5


def test_label_noise_needs_outputs(getkey):
    problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.zeros(4))
    stepper = label_noise_sgd(0.1, 2, 0.5)
    with pytest.raises(ValueError, match="label noise needs a problem whose losses is an Output"):
        stepper.draw(getkey(), jnp.asarray(0), problem, jnp.zeros(()))


def test_impossible_label_noise_is_refused():
    with pytest.raises(ValueError, match="std must be a positive finite number, got -1"):
        LabelNoiseGradient(2, -1.0)
    with pytest.raises(ValueError, match="batch_size must be a positive integer, got 0"):
        LabelNoiseGradient(0, 1.0)


def mean_of_normals_in_batch(rows, normals):
    """Z-score of the normals that the rows of a batch point at; zero if independent."""
    picked = np.take_along_axis(np.asarray(normals), np.asarray(rows), axis=1)
    return picked.mean() * np.sqrt(picked.size)


@pytest.mark.statistical
def test_batches_are_independent_of_the_normals_of_a_step(getkey):
    """Both hang on the key of the step; drawn the plain way they are strongly dependent."""
    n, count, key = 16, 4000, getkey()
    theta = {"a": jnp.zeros(n, jnp.float32), "b": jnp.zeros(n, jnp.float32)}
    problem = Problem(lambda theta, z: jnp.sum(theta["a"]) - z, jnp.zeros(n))
    batches, noise = MinibatchGradient(4, replacement=False), IsotropicNoise(1.0)

    def draw(step):
        plain = jax.random.choice(jax.random.fold_in(key, step), n, (4,), replace=False)
        rows = batches.draw(key, step, problem, theta)
        return rows, plain, noise.draw(key, step, problem, theta)

    rows, plain, normals = jax.jit(jax.vmap(draw))(jnp.arange(count))
    z = [mean_of_normals_in_batch(rows, leaf) for leaf in normals.values()]
    assert np.abs(z).max() < 5
    trap = [mean_of_normals_in_batch(plain, leaf) for leaf in normals.values()]
    assert np.abs(trap).max() > 5


@pytest.mark.statistical
def test_noise_on_top_of_noise_adds_up(getkey):
    """Variances add, as the two streams are independent; the same normals would add roots."""
    problem = Problem(lambda theta, z: jnp.sum(theta) - z, jnp.zeros(1))
    theta, key, count = jnp.zeros(8), getkey(), 4000
    source = NoisyGradient(GaussianGradient(IsotropicNoise(0.5)), IsotropicNoise(0.5))

    def noise(step):
        randomness = source.draw(key, step, problem, theta)
        return source.gradient(problem, theta, randomness)[0] - 1.0

    draws = np.asarray(jax.jit(jax.vmap(noise))(jnp.arange(count)))
    error = np.sqrt(2 / draws.size)
    assert abs(draws.var() - 1) < 5 * error
    assert 2 - draws.var() > 5 * error  # (2 sqrt 0.5)^2 = 2


def test_full_gradient_plus_noise(network_problem, getkey):
    problem, theta = network_problem
    source = NoisyGradient(FullGradient(), IsotropicNoise(0.25))
    randomness = source.draw(getkey(), jnp.asarray(1), problem, theta)
    found, risk = source.gradient(problem, theta, randomness)
    expected = dense_gradients(problem, theta).mean(axis=0) + 0.5 * flat(randomness[1])
    np.testing.assert_allclose(flat(found), expected, atol=1e-14)
    assert risk is not None
    np.testing.assert_allclose(risk, problem.empirical_risk(theta), rtol=1e-14)
