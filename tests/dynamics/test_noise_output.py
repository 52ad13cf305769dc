"""Noise through the outputs: what problems it accepts, and what it is made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import HessianAlignedNoise, LabelNoise, MinibatchNoise
from sgdsim.problems import OutputLoss, Problem
from sgdsim.testing._dense import dense_gradients, dense_hessian, dense_hessian_aligned

pytestmark = pytest.mark.usefixtures("x64")

MODELS = [HessianAlignedNoise(2, "mse"), HessianAlignedNoise(2, "cross_entropy"), LabelNoise(2, 1)]


def linear_problem(random, n, p, noise):
    """Linear regression with independent residuals; one output."""
    inputs = random.normal(size=(n, p))
    rows = (jnp.asarray(inputs), jnp.asarray(noise * random.normal(size=n)))
    losses = OutputLoss(
        lambda theta, rows: (rows[0] @ theta)[:, None],
        lambda outputs, rows: 0.5 * (outputs[:, 0] - rows[1]) ** 2,
    )
    return Problem(losses, rows)


@pytest.mark.statistical
def test_hessian_aligned_noise_is_minibatch_noise_where_its_assumption_holds():
    """At the minimum of a regression whose residuals do not depend on the inputs."""
    problem = linear_problem(np.random.default_rng(5), 20_000, 3, noise=0.6)
    theta, batch = jnp.zeros(3), 2
    aligned = HessianAlignedNoise(batch, "mse").covariance(problem, theta)
    minibatch = MinibatchNoise(batch).covariance(problem, theta)
    inputs, residuals = map(np.asarray, problem.data)

    def z_score(direction, factor):
        excess = (residuals**2 - np.mean(residuals**2)) * (inputs @ direction) ** 2
        error = excess.std() / np.sqrt(problem.n) / batch
        return direction @ (minibatch(direction) - factor * aligned(direction)) / error

    directions = [jnp.eye(3)[0], jnp.eye(3)[1], jnp.ones(3), jnp.array([1.0, -2.0, 0.5])]
    assert max(abs(z_score(u, 1.0)) for u in directions) < 5
    assert min(abs(z_score(u, 1.2)) for u in directions) > 5
    # Mori et al., equation 12: (2 L / B) H.
    risk = 2 * float(problem.empirical_risk(theta)) / batch
    columns = jax.vmap(aligned)(jnp.eye(3))
    np.testing.assert_allclose(columns, risk * dense_hessian(problem, theta), rtol=1e-12)


def test_cross_entropy_form_is_the_second_moment_of_labels_drawn_from_the_model(network_problem):
    problem, theta = network_problem
    problem = Problem(problem.losses, problem.data)
    probabilities = np.asarray(jax.nn.softmax(theta(problem.data.inputs)))
    expected = 0.0
    for label in range(2):
        targets = jnp.zeros_like(problem.data.targets).at[:, label].set(1.0)
        rows = type(problem.data)(problem.data.inputs, targets)
        gradients = dense_gradients(Problem(problem.losses, rows), theta)
        expected += gradients.T @ (probabilities[:, [label]] * gradients) / problem.n
    found = dense_hessian_aligned(problem, theta, 1.0, "cross_entropy")
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_cross_entropy_form_survives_saturated_outputs(network_problem):
    problem, theta = network_problem
    theta = jax.tree.map(lambda a: (1e4 * a).astype(jnp.float32), theta)
    problem, noise = problem.astype(jnp.float32), HessianAlignedNoise(1, "cross_entropy")

    @jax.jit
    def everything(theta):
        normals = noise.draw(jax.random.key(0), jnp.asarray(0), problem, theta)
        correction = noise.ito_correction(problem, theta, 0.1)
        return ravel_pytree((noise.root(problem, theta, normals), correction))[0]

    assert jnp.isfinite(everything(theta)).all()


@pytest.mark.parametrize("noise", MODELS)
def test_problems_without_visible_outputs_are_refused(network_problem, noise):
    problem, theta = network_problem
    plain = Problem(lambda theta, rows: problem.losses(theta, rows), problem.data)
    message = r"acts through the outputs .* make them an OutputLoss\(outputs, loss\)"
    with pytest.raises(ValueError, match=message):
        noise.draw(jax.random.key(0), jnp.asarray(0), plain, theta)
    with pytest.raises(ValueError, match=message):
        noise.trace(plain, theta)

    flat = OutputLoss(lambda t, rows: t(rows.inputs)[:, 0], lambda f, rows: f)
    with pytest.raises(ValueError, match=r"outputs of the problem have shape \(7,\)"):
        noise.diagonal(Problem(flat, problem.data), theta)


def test_impossible_numbers_and_forms_are_refused():
    with pytest.raises(ValueError, match="form must be one of mse, cross_entropy, got 'logistic'"):
        HessianAlignedNoise(2, "logistic")
    with pytest.raises(ValueError, match="batch_size must be a positive finite number"):
        HessianAlignedNoise(0, "mse")
    with pytest.raises(ValueError, match="std must be a positive finite number"):
        LabelNoise(2, -0.1)
    problem = linear_problem(np.random.default_rng(5), 4, 3, noise=0.6)
    with pytest.raises(ValueError, match="cross-entropy form needs one output per class"):
        HessianAlignedNoise(2, "cross_entropy").trace(problem, jnp.zeros(3))
