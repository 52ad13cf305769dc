"""Fisher-Rao norm and gradient noise from explicit per-sample gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.networks import call_network, fisher_rao, gradient_noise
from sgdsim.problems import Network, Rows

pytestmark = pytest.mark.usefixtures("x64")


def task(activation):
    random = np.random.default_rng(4)
    weights = tuple(jnp.asarray(random.normal(size=s)) for s in [(6, 3), (5, 6), (4, 5)])
    rows = Rows(jnp.asarray(random.normal(size=(15, 3))), jnp.eye(4)[random.integers(0, 4, 15)])
    return Network(weights, activation), rows


def explicit_gradients(network, rows):
    """One row after another, with a loss written out."""
    flat, unravel = ravel_pytree(network)

    def loss(flat, x, y):
        logits = unravel(flat)(x[None])[0]
        return -jnp.log(jnp.exp(logits)[jnp.argmax(y)] / jnp.sum(jnp.exp(logits)))

    pairs = zip(rows.inputs, rows.targets, strict=True)
    return np.asarray(flat), np.array([jax.grad(loss)(flat, x, y) for x, y in pairs])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_fisher_rao_is_the_quadratic_form_of_the_fisher_matrix(activation):
    network, rows = task(activation)
    theta, gradients = explicit_gradients(network, rows)
    fisher = gradients.T @ gradients / len(gradients)
    found = float(fisher_rao(call_network, network, rows))
    assert found == pytest.approx(theta @ fisher @ theta, rel=1e-10)


def test_fisher_rao_of_a_relu_network_depends_on_its_outputs_alone():
    network, rows = task("relu")
    logits = np.asarray(call_network(network, jnp.asarray(rows.inputs)))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slopes = np.sum((p - np.asarray(rows.targets)) * logits, axis=1)
    assert float(fisher_rao(call_network, network, rows)) == pytest.approx(
        9 * np.mean(slopes**2), rel=1e-10
    )


def test_gradient_noise_is_the_trace_of_the_covariance():
    network, rows = task("tanh")
    _, gradients = explicit_gradients(network, rows)
    expected = np.trace(np.cov(gradients.T, bias=True))
    assert float(gradient_noise(call_network, network, rows)) == pytest.approx(expected, rel=1e-10)
