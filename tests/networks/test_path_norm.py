"""Path norms against the sum over all paths."""

from itertools import pairwise, product

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.networks import (
    Activation,
    Architecture,
    AveragePool,
    BatchNorm,
    Convolution,
    Flatten,
    Linear,
    MaxPool,
    Residual,
    Scale,
    call_network,
    mlp,
    path_norm,
)
from sgdsim.networks._path_norm import log_l3_15_product
from sgdsim.problems import Network
from sgdsim.testing import dense_convolution, plain_path_norm

pytestmark = pytest.mark.usefixtures("x64")


def matrices(widths=(3, 4, 2, 3)):
    random = np.random.default_rng(1)
    return [random.normal(size=(rows, cols)) for cols, rows in pairwise(widths)]


def relu_outputs(theta, inputs):
    """Layers with biases, as dictionaries."""
    for layer in theta[:-1]:
        inputs = jnp.maximum(inputs @ layer["w"].T + layer["b"][None], 0.0)
    return inputs @ theta[-1]["w"].T + theta[-1]["b"][None]


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_forward_pass_sums_over_all_paths(power, activation):
    weights = matrices()
    network = Network(tuple(map(jnp.asarray, weights)), activation)
    found = path_norm(call_network, network, (3,), power)
    assert float(found) == pytest.approx(plain_path_norm(weights, power), rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_biases_begin_paths_of_their_own(power):
    weights = matrices()
    random = np.random.default_rng(2)
    biases = [random.normal(size=len(a)) for a in weights]
    theta = [
        {"w": jnp.asarray(a), "b": jnp.asarray(b)} for a, b in zip(weights, biases, strict=True)
    ]
    # A bias is a weight from a unit that is always one.
    total = plain_path_norm(weights, power) ** power
    for layer, bias in enumerate(biases):
        above = [bias[:, None], *weights[layer + 1 :]]
        total += plain_path_norm(above, power) ** power
    assert float(path_norm(relu_outputs, theta, (3,), power)) == pytest.approx(
        total ** (1 / power), rel=1e-12
    )


def all_paths(matrices, power):
    """Walk every path from an input to an output on its own."""
    total = 0.0
    for units in product(*(range(size) for size in path_sizes(matrices))):
        steps = zip(matrices, pairwise(units), strict=True)
        total += np.prod([abs(matrix[to, start]) for matrix, (start, to) in steps]) ** power
    return total ** (1 / power)


def path_sizes(matrices):
    return [matrices[0].shape[1], *(len(matrix) for matrix in matrices)]


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_an_architecture_has_the_path_norm_of_its_matrices(power, activation):
    weights = matrices()
    found = path_norm(call_network, mlp(weights, activation=activation), (3,), power)
    assert float(found) == pytest.approx(plain_path_norm(weights, power), rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_fixed_factors_are_weights_of_the_paths(power):
    random = np.random.default_rng(4)
    kernel, last = random.normal(size=(2, 1, 2)), random.normal(size=(2, 4))
    layers = (
        Scale(-3.0),
        Convolution(kernel),
        Activation("tanh"),
        AveragePool(2),
        Scale(0.25),
        Flatten(),
        Linear(last),
    )
    network = Architecture(layers, (1, 5))
    mean = np.kron(np.eye(4), np.full((1, 2), 0.5))
    # Five numbers in a row, as an image of height one.
    first = dense_convolution(kernel[:, :, None], (1, 1, 5), (1, 1), "VALID")
    steps = [-3.0 * np.eye(5), first, mean, 0.25 * np.eye(4), last]
    found = float(path_norm(call_network, network, (1, 5), power))
    assert found == pytest.approx(all_paths(steps, power), rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_the_sign_of_a_factor_that_the_weights_undo_does_not_matter(power):
    first, second = matrices((3, 4, 2))
    inputs = jnp.asarray(np.random.default_rng(3).normal(size=(5, 3)))
    nets = [
        Architecture((Linear(first), Activation("relu"), Scale(sign), Linear(sign * second)), (3,))
        for sign in (1.0, -1.0)
    ]
    np.testing.assert_allclose(nets[0](inputs), nets[1](inputs), rtol=1e-12)
    plus, minus = (float(path_norm(call_network, net, (3,), power)) for net in nets)
    assert plus == minus == pytest.approx(plain_path_norm([first, second], power), rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_a_shortcut_has_paths_of_its_own(power):
    first, second, third = matrices((3, 4, 3, 2))
    block = Residual((Linear(first), Activation("relu"), Scale(-2.0), Linear(second)))
    found = path_norm(call_network, Architecture((block, Linear(third)), (3,)), (3,), power)
    around = plain_path_norm([third], power) ** power
    through = plain_path_norm([first, -2.0 * second, third], power) ** power
    assert float(found) == pytest.approx((around + through) ** (1 / power), rel=1e-12)


def test_a_maximum_passes_on_the_largest_sum():
    layers = (Convolution(np.array([[[1.0, -2.0]]]), padding=1), MaxPool(2), Flatten())
    # Sums of the weights 2, 3, 3, 1 at four positions.
    assert float(path_norm(call_network, Architecture(layers, (1, 3)), (1, 3))) == 3.0 + 3.0


@pytest.mark.parametrize("inside", [False, True])
def test_a_batch_norm_has_no_paths_until_it_is_folded(inside):
    norm = BatchNorm(np.zeros(2), 4.0 * np.ones(2), epsilon=0.0)
    layers = (Residual((Linear(np.eye(2)), norm)),) if inside else (Linear(np.eye(2)), norm)
    network = Architecture(layers, (2,))
    with pytest.raises(ValueError, match="path norm is not known for BatchNorm layers; fold"):
        path_norm(call_network, network, (2,))
    expected = 1.0 + 2.0 * inside
    assert float(path_norm(call_network, network.folded(), (2,))) == pytest.approx(expected)


def test_another_power_is_refused():
    with pytest.raises(ValueError, match="power must be 1 or 2; got 3"):
        path_norm(call_network, Network((jnp.eye(2),)), (2,), 3)


def test_the_norm_of_rows_and_then_over_rows_leaves_biases_out():
    weights = matrices()
    expected = sum(
        np.log(np.linalg.norm([np.linalg.norm(row, 3) for row in a], 1.5)) for a in weights
    )
    theta = [{"w": jnp.asarray(a), "b": jnp.ones(len(a))} for a in weights]
    assert float(log_l3_15_product(theta)) == pytest.approx(expected, rel=1e-12)
