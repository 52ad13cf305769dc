"""Changes of a network that leave its function as it is, or leave it none."""

from itertools import pairwise

import numpy as np
import pytest

from sgdsim.bounds import constant_predictor, double_width, rescale_nodes

WIDTHS = (5, 7, 6, 3)


def network(lead=()):
    random = np.random.default_rng(0)
    return [random.normal(size=(*lead, rows, cols)) for cols, rows in pairwise(WIDTHS)]


def outputs(weights, activation):
    values = np.random.default_rng(1).normal(size=(5, 20))
    *hidden, last = weights
    for matrix in hidden:
        values = activation(matrix @ values)
    return last @ values


def relu(values):
    return np.maximum(values, 0.0)


@pytest.mark.parametrize("activation", [relu, np.tanh])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_doubling_the_width_keeps_the_function(activation, lead):
    weights = network(lead)
    wide = double_width(weights)
    assert [matrix.shape[-2:] for matrix in wide] == [(14, 5), (12, 14), (3, 12)]
    np.testing.assert_allclose(outputs(wide, activation), outputs(weights, activation), rtol=1e-12)


def test_rescaling_keeps_the_function_of_homogeneous_networks_only():
    weights = network((2,))
    moved = rescale_nodes(weights, seed=3)
    np.testing.assert_allclose(outputs(moved, relu), outputs(weights, relu), rtol=1e-10)
    assert not np.allclose(outputs(moved, np.tanh), outputs(weights, np.tanh), rtol=1e-3)
    assert not np.allclose(moved[0], weights[0])
    np.testing.assert_array_equal(moved[0], rescale_nodes(weights, seed=3)[0])


def test_a_constant_predictor_answers_nothing():
    weights = network((2,))
    assert (outputs(constant_predictor(weights), relu) == 0).all()
    np.testing.assert_array_equal(constant_predictor(weights)[0], weights[0])
