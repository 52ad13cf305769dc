"""Errors of random networks against those of a linear classifier in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from sgdsim.networks import call_network, gibbs_errors
from sgdsim.problems import Network, Rows

pytestmark = pytest.mark.usefixtures("x64")
SCALES = [0.05, 0.3, 2.0]


def task():
    random = np.random.default_rng(8)
    weights = random.normal(size=(3, 2, 4))
    rows = []
    for count in (30, 41):
        inputs = random.normal(size=(count, 4))
        labels = np.argmax(inputs @ weights[0].T, axis=1)  # right for the first network
        rows.append(Rows(jnp.asarray(inputs), jnp.eye(2)[labels]))
    return weights, stacked(weights), rows


def stacked(weights):
    """Networks of one layer along the leading axes of the matrices."""
    one = Network((jnp.eye(2),))
    return jax.tree.unflatten(jax.tree.structure(one), [jnp.asarray(weights)])


def exact(weights, rows):
    """Every answer is wrong with the probability that a normal margin is negative."""
    inputs, targets = np.asarray(rows.inputs), np.asarray(rows.targets)
    sign = targets[:, 0] - targets[:, 1]
    margins = sign * (inputs @ (weights[0] - weights[1]))
    lengths = np.linalg.norm(inputs, axis=1)
    return np.array([np.mean(norm.cdf(-margins / (np.sqrt(2) * s * lengths))) for s in SCALES])


@pytest.mark.statistical
def test_errors_are_those_of_the_closed_form():
    weights, networks, (rows, held_out) = task()
    draws = 3000
    found = gibbs_errors(
        call_network, networks, rows, held_out, SCALES, draws, jax.random.key(1), axes=1
    )
    assert found.held_out is not None
    assert (found.draws, found.parameters, found.training.shape) == (draws, 8, (3, 3))
    worst = 0.0
    for index, matrix in enumerate(weights):
        for errors, part in ((found.training, rows), (found.held_out, held_out)):
            expected = exact(matrix, part)
            # The variance of a mean over rows is at most that of a single answer.
            stderr = np.sqrt(np.maximum(expected * (1 - expected), 1e-4) / draws)
            worst = max(worst, np.max(np.abs(errors[index] - expected) / stderr))
    assert worst < 4.5
    # Noise of twice the scale would be seen.
    mutant = np.abs(found.training[0] - exact(weights[0] / 2, rows))
    assert np.max(mutant / np.sqrt(0.25 / draws)) > 4.5


def test_shapes_and_draws_of_arrays_of_networks():
    weights, _, (rows, _) = task()
    grid = stacked(np.tile(weights[0], (2, 3, 1, 1)))
    found = gibbs_errors(call_network, grid, rows, None, SCALES, 50, jax.random.key(1), axes=2)
    assert found.held_out is None
    assert found.training.shape == (2, 3, 3)
    # The same network six times: every one has draws of its own.
    assert len(np.unique(found.training[..., 1])) > 1
    again = gibbs_errors(call_network, grid, rows, None, SCALES, 50, jax.random.key(1), axes=2)
    np.testing.assert_array_equal(again.training, found.training)


def test_certain_errors_are_exactly_zero_or_one():
    rows = Rows(jnp.tile(jnp.eye(2), (50, 1)), jnp.tile(jnp.eye(2), (50, 1)))
    certain = [Network((jnp.eye(2),)), Network((-jnp.eye(2),))]
    values = [
        gibbs_errors(call_network, net, rows, rows, [1e-9], 7, jax.random.key(0)).training
        for net in certain
    ]
    assert [float(v[0]) for v in values] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("deviations", "draws", "axes", "message"),
    [
        ([], 5, 0, "deviations must be one or more positive"),
        ([0.1, -1.0], 5, 0, "deviations must be one or more positive"),
        ([0.1], 0, 0, "draws must be at least 1; got 0"),
        ([0.1], 5, 3, "must begin with the same 3 axes"),
    ],
)
def test_refusals(deviations, draws, axes, message):
    _, networks, (rows, _) = task()
    network = Network((networks.weights[0][0],))
    with pytest.raises(ValueError, match=message):
        gibbs_errors(call_network, network, rows, None, deviations, draws, jax.random.key(0), axes)
