"""Networks with biases, against plain NumPy, and the laws from which they are drawn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sgdsim.problems import BiasedNetwork, biased_network

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize(("activation", "output_bias"), [("tanh", True), ("relu", False)])
def test_outputs_against_numpy(getkey, activation, output_bias):
    function = {"tanh": np.tanh, "relu": lambda x: x * (x > 0)}[activation]
    network = biased_network(getkey(), (3, 5, 4, 2), activation, output_bias=output_bias)
    inputs = np.random.default_rng(0).normal(size=(7, 3))
    expected = inputs
    biases = [np.asarray(bias) for bias in network.biases] + [np.zeros(2)] * (not output_bias)
    for layer, (matrix, bias) in enumerate(zip(network.weights, biases, strict=True)):
        expected = np.einsum("nc,rc->nr", expected, np.asarray(matrix)) + bias
        if layer < 2:
            expected = function(expected)
    np.testing.assert_allclose(network(jnp.asarray(inputs)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("widths", "output_bias", "parameters"),
    [((1, 100, 1), True, 301), ((1, 100, 1), False, 300), ((16, 32, 32, 1), True, 1633)],
)
def test_numbers_of_parameters(getkey, widths, output_bias, parameters):
    network = biased_network(getkey(), widths, output_bias=output_bias)
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == parameters


@pytest.mark.statistical
def test_the_uniform_law_is_that_of_torch(getkey):
    """Weights and biases are uniform up to one over the root of the number of inputs."""
    network = biased_network(getkey(), (400, 300, 200))
    for cols, matrix, bias in zip((400, 300), network.weights, network.biases, strict=True):
        reach = cols**-0.5
        law = stats.uniform(-reach, 2 * reach).cdf
        for leaf in (matrix, bias):
            assert stats.kstest(np.ravel(leaf), law).pvalue > 1e-3
        # The same test refuses a reach that is six per cent larger.
        assert stats.kstest(np.ravel(matrix) / 1.06, law).pvalue < 1e-6
        assert abs(np.corrcoef(bias, matrix[:, 0])[0, 1]) < 0.3  # their keys differ


@pytest.mark.statistical
def test_the_xavier_law(getkey):
    network = biased_network(getkey(), (400, 300, 200), initial="xavier", hidden_gain=1.9)
    for gain, matrix in zip((1.9, 1.0), network.weights, strict=True):
        rows, cols = matrix.shape
        law = stats.norm(0, gain * (2 / (rows + cols)) ** 0.5).cdf
        assert stats.kstest(np.ravel(matrix), law).pvalue > 1e-3
        assert stats.kstest(np.ravel(matrix) / 1.06, law).pvalue < 1e-6
    for bias in network.biases:
        assert not np.any(bias)


def test_layers_have_random_numbers_of_their_own(getkey):
    network = biased_network(getkey(), (6, 6, 6, 6))
    for one, other in itertools.combinations((*network.weights, *network.biases), 2):
        assert not np.allclose(np.ravel(one)[:6], np.ravel(other)[:6])


def test_refusals(getkey):
    with pytest.raises(ValueError, match="initial must be 'uniform' or 'xavier', got 'normal'"):
        biased_network(getkey(), (2, 1), initial="normal")
    matrices = (jnp.ones((2, 3)), jnp.ones((1, 2)))
    with pytest.raises(
        ValueError, match=r"must be 2 vectors, one per weight matrix, or 1 .* got 0"
    ):
        BiasedNetwork(matrices, ())
    with pytest.raises(ValueError, match="got 3"):
        BiasedNetwork(matrices, (jnp.ones(2), jnp.ones(1), jnp.ones(1)))
