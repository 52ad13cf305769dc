"""Margins of any network and their order statistics."""

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.bounds import margins
from sgdsim.networks import LabelledRows, call_network, margin_percentile, network_margins
from sgdsim.networks._outputs import accuracy, cross_entropies_of, output_entropy, wrong_answers
from sgdsim.problems import Network, Rows

pytestmark = pytest.mark.usefixtures("x64")


def test_margins_are_those_of_the_bounds():
    random = np.random.default_rng(0)
    inputs, labels = random.normal(size=(20, 4)), random.integers(0, 3, 20)
    network = Network((jnp.asarray(random.normal(size=(3, 4))),))
    rows = Rows(jnp.asarray(inputs), jnp.eye(3)[labels])
    expected = margins(np.asarray(network(jnp.asarray(inputs))), labels)
    np.testing.assert_allclose(network_margins(call_network, network, rows), expected, rtol=1e-12)
    assert float(accuracy(call_network, network, rows)) == np.mean(expected > 0)
    assert int(wrong_answers(call_network, network, rows)) == np.sum(expected <= 0)


@pytest.mark.parametrize("count", [1, 5, 9, 10, 11, 19, 20, 21, 100])
@pytest.mark.parametrize("percent", [5, 10, 100])
def test_a_percentile_is_the_smallest_margin_that_enough_rows_do_not_exceed(count, percent):
    values = np.random.default_rng(count).normal(size=count)
    enough = [v for v in sorted(values) if 100 * np.sum(values <= v) >= percent * count]
    assert float(margin_percentile(jnp.asarray(values), percent)) == enough[0]


def test_a_percentage_out_of_range_is_refused():
    with pytest.raises(ValueError, match="from 1 to 100"):
        margin_percentile(jnp.ones(3), 0)


def test_losses_and_entropies():
    logits = jnp.array([[2.0, 0.0, -1.0], [-2000.0, 0.0, 0.0]])
    rows = LabelledRows(jnp.zeros((2, 1, 1)), jnp.eye(3)[jnp.array([0, 1])])
    weights = np.exp([2.0, 0.0, -1.0])
    p = weights / weights.sum()
    np.testing.assert_allclose(cross_entropies_of(logits, rows), [-np.log(p[0]), np.log(2)])
    assert float(output_entropy(logits)) == pytest.approx(0.5 * (-p @ np.log(p) + np.log(2)))


def test_outputs_that_are_not_finite_are_wrong():
    rows = Rows(jnp.ones((2, 1)), jnp.eye(2))
    broken = Network((jnp.array([[jnp.nan], [1.0]]),))
    assert int(wrong_answers(call_network, broken, rows)) == 2
    assert float(accuracy(call_network, broken, rows)) == 0.0
