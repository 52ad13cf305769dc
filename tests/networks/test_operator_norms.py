"""Norms of layers against dense matrices; the constant coordinate against the biases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.bounds import layer_distances, layer_norms
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
    kernel_distances,
    kernel_matrices,
    kernel_norms,
    mlp,
    operator_distances,
    operator_norms,
    with_bias_coordinate,
)
from sgdsim.testing import dense_convolution

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

FIELDS = ("spectral_low", "spectral_high", "frobenius", "two_one", "one_inf")


def chain(random, normalised=False):
    """Two convolutions and a linear layer, pools between them and at the end."""
    scale = random.uniform(-2.0, 2.0, 3)
    # A batch norm without shift: its bias cancels the mean.
    mean, variance = random.normal(size=3), random.uniform(0.5, 1.5, 3)
    norm = BatchNorm(mean, variance, scale, scale * mean / np.sqrt(variance + 1e-5))
    return Architecture(
        (
            Scale(-3.0),
            Convolution(random.normal(size=(3, 2, 3, 3)), padding=1),
            *((norm,) if normalised else ()),
            Activation("relu"),
            MaxPool(3, stride=2),
            Convolution(random.normal(size=(4, 3, 2, 2)), np.zeros(4), stride=2, padding="SAME"),
            Activation("tanh"),
            AveragePool(2, stride=1),
            Scale(0.5),
            Flatten(),
            Linear(random.normal(size=(5, 4))),
            Scale(2.0),
        ),
        (2, 9, 8),
    )


def dense_maps(architecture):
    first, second, last = (
        np.asarray(layer.weight)
        for layer in architecture.layers
        if isinstance(layer, Linear | Convolution)
    )
    return [
        dense_convolution(first, (2, 9, 8), (1, 1), "SAME"),
        dense_convolution(second, (3, 4, 3), (2, 2), "SAME"),
        last,
    ]


def expected_factors(architecture):
    """Constants before the maps, from the pools alone."""
    mean = AveragePool(2, stride=1).lipschitz((4, 2, 2)).high
    return np.array([3.0, 2.0, mean * 0.5 * 2.0])


#: The same in the largest entry, which neither a mean nor a maximum increases.
EXPECTED_INF_FACTORS = (3.0, 1.0, 0.5 * 2.0)


def dense_mean(channels, size, window):
    """Matrix of means over windows of square images that do not overlap."""
    line = np.kron(np.eye(size // window), np.full((1, window), 1.0 / window))
    return np.kron(np.eye(channels), np.kron(line, line))


def test_norms_of_a_chain_are_those_of_its_matrices():
    architecture = chain(np.random.default_rng(0))
    norms = operator_norms(architecture)
    factors = expected_factors(architecture)
    assert factors[2] == pytest.approx(0.5)
    dense = dense_maps(architecture)
    assert norms.shapes == tuple(matrix.shape for matrix in dense)
    for layer, matrix in enumerate(dense):
        expected = layer_norms([matrix])
        for field in FIELDS:
            value = getattr(norms, field)[layer]
            factor = EXPECTED_INF_FACTORS[layer] if field == "one_inf" else factors[layer]
            assert value == pytest.approx(factor * getattr(expected, field)[0], rel=1e-9)
    true = factors * [np.linalg.norm(matrix, 2) for matrix in dense]
    assert (norms.spectral_low <= true * (1 + 1e-13)).all()
    assert (norms.spectral_high >= true * (1 - 1e-13)).all()


@pytest.mark.parametrize("last", ["linear", "convolution"])
def test_norms_after_a_mean_are_not_below_those_of_the_dense_twin(last):
    """The matrices A P and, with a mean after the last map, P A, filled in NumPy."""
    random = np.random.default_rng(8)
    mean = dense_mean(2, 4, 2)
    if last == "linear":
        matrix = random.normal(size=(3, 8))
        above = (Flatten(), Linear(matrix))
    else:
        kernel = random.normal(size=(3, 2, 2, 2))
        matrix = dense_convolution(kernel, (2, 2, 2), (1, 1), "SAME")
        above = (Convolution(kernel, padding="SAME"),)
    first = random.normal(size=(2, 2, 3, 3))
    image = Convolution(first, padding=1)
    layers = (image, Activation("relu"), AveragePool(2), Scale(-0.5), *above)
    network = Architecture(layers, (2, 4, 4))
    images = jnp.asarray(random.normal(size=(3, 2, 4, 4)))
    hidden = np.maximum(image(images), 0).reshape(3, -1)
    twin = -0.5 * matrix @ mean
    np.testing.assert_allclose(network(images).reshape(3, -1), hidden @ twin.T, rtol=1e-10)
    norms, expected = operator_norms(network), layer_norms([twin])
    for field in ("spectral_high", "frobenius", "two_one", "one_inf"):
        assert getattr(norms, field)[1] >= getattr(expected, field)[0] * (1 - 1e-12), field
    # Windows do not overlap: a row of the twin has the 1-norm of the row that it repeats.
    assert norms.one_inf[1] == pytest.approx(expected.one_inf[0], rel=1e-12)
    after = operator_norms(Architecture((image, AveragePool(2)), (2, 4, 4)))
    behind = layer_norms([mean @ dense_convolution(first, (2, 4, 4), (1, 1), "SAME")])
    assert after.one_inf[0] >= behind.one_inf[0]
    assert after.spectral_high[0] >= behind.spectral_low[0]


def test_product_of_the_norms_is_above_all_slopes():
    random = np.random.default_rng(1)
    for normalised in (False, True):
        architecture = chain(random, normalised)
        product = np.prod(operator_norms(architecture).spectral_high)
        images = jnp.asarray(random.normal(size=(8, 2, 9, 8)))
        jacobians = jax.vmap(jax.jacrev(lambda x, net=architecture: net(x[None])[0]))(images)
        slopes = np.linalg.norm(np.asarray(jacobians).reshape(8, 5, -1), 2, (1, 2))
        assert slopes.max() <= product
        assert product == pytest.approx(architecture.lipschitz().high, rel=1e-12)


def test_moving_the_weights_moves_the_outputs_within_the_bound():
    # |f(x) - g(x)| <= |x| sum_j |A_j - B_j| prod_{i<j} |B_i| prod_{i>j} |A_i|, with the constants
    # of the pools inside the norms and inside the distances.
    random = np.random.default_rng(2)
    start = chain(random)
    moved = jax.tree.map(lambda leaf: leaf + 0.3 * random.normal(size=leaf.shape), start)
    layers = tuple(
        dataclasses.replace(layer, bias=None) if isinstance(layer, Convolution) else layer
        for layer in moved.layers
    )
    moved = Architecture(layers, start.input_shape)
    start = Architecture(
        tuple(
            dataclasses.replace(layer, bias=None) if isinstance(layer, Convolution) else layer
            for layer in start.layers
        ),
        start.input_shape,
    )
    above, below = (operator_norms(net).spectral_high for net in (moved, start))
    distances = operator_distances(moved, start)
    bound = sum(
        distances.spectral_high[j] * np.prod(below[:j]) * np.prod(above[j + 1 :]) for j in range(3)
    )
    images = jnp.asarray(random.normal(size=(20, 2, 9, 8)))
    shifts = np.linalg.norm(np.asarray(moved(images) - start(images)), axis=1)
    lengths = np.linalg.norm(np.asarray(images).reshape(20, -1), axis=1)
    assert (shifts <= bound * lengths).all()
    factors = expected_factors(start)
    for layer, (a, b) in enumerate(zip(dense_maps(moved), dense_maps(start), strict=True)):
        expected = layer_distances([a], [b])
        for field in ("frobenius", "two_one", "spectral_high"):
            value = getattr(distances, field)[layer]
            assert value == pytest.approx(factors[layer] * getattr(expected, field)[0], rel=1e-9)


def test_fully_connected_networks_agree_with_the_norms_of_their_matrices():
    random = np.random.default_rng(3)
    weights = [random.normal(size=shape) for shape in ((6, 4), (5, 6), (2, 5))]
    others = [random.normal(size=weight.shape) for weight in weights]
    for function in (operator_norms, kernel_norms):
        norms, expected = function(mlp(weights, activation="tanh")), layer_norms(weights)
        assert norms.shapes == expected.shapes
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(norms, field), getattr(expected, field))
    for function in (operator_distances, kernel_distances):
        distances = function(mlp(weights), mlp(others))
        assert distances.radius == pytest.approx(layer_distances(weights, others).radius)


def test_constant_coordinate_replaces_the_biases():
    random = np.random.default_rng(4)
    weights = [random.normal(size=shape) for shape in ((6, 4), (5, 6), (2, 5))]
    biases = [random.normal(size=6), None, random.normal(size=2)]
    inputs = random.normal(size=(10, 4))
    constant = np.column_stack([inputs, np.ones(10)])
    for activation in ("relu", "leaky_relu", "elu", "hard_tanh"):
        network = mlp(weights, biases, activation)
        augmented = with_bias_coordinate(network)
        assert augmented.input_shape == (5,)
        np.testing.assert_allclose(
            augmented(jnp.asarray(constant)), network(jnp.asarray(inputs)), rtol=1e-12, atol=1e-12
        )
    norms = operator_norms(with_bias_coordinate(mlp(weights, biases)))
    first = np.block([[weights[0], biases[0][:, None]], [np.zeros((1, 4)), np.ones((1, 1))]])
    assert norms.spectral_high[0] == pytest.approx(np.linalg.norm(first, 2), rel=1e-12)
    assert norms.shapes == ((7, 5), (6, 7), (2, 6))
    # Batch norms and a flattened image, too.
    norm = BatchNorm(random.normal(size=6), random.uniform(0.5, 1.5, 6))
    network = Architecture(
        (Flatten(), Linear(weights[0]), norm, Activation("relu"), Linear(weights[1])), (1, 2, 2)
    )
    np.testing.assert_allclose(
        with_bias_coordinate(network)(jnp.asarray(constant)),
        network(jnp.asarray(inputs.reshape(10, 1, 2, 2))),
        rtol=1e-12,
        atol=1e-12,
    )


def test_kernels_of_any_network_as_published():
    random = np.random.default_rng(5)
    kernel, projection = random.normal(size=(3, 2, 3, 3)), random.normal(size=(3, 2, 1, 1))
    norm = BatchNorm(np.ones(3), 4.0 * np.ones(3), epsilon=0.0)
    block = Residual((Convolution(kernel, np.ones(3), padding=1), norm), (Convolution(projection),))
    network = Architecture((block, Flatten(), Linear(np.ones((1, 48)))), (2, 4, 4))
    matrices = kernel_matrices(network)
    np.testing.assert_allclose(matrices[0], kernel.reshape(3, 18) / 2.0)
    norms = kernel_norms(network)
    assert norms.shapes == ((3, 18), (3, 2), (1, 48))
    assert norms.spectral_high[0] == pytest.approx(np.linalg.norm(matrices[0], 2))
    moved = jax.tree.map(lambda leaf: leaf, network)
    assert kernel_distances(moved, network).radius == 0.0
    # The map repeats the kernel: the published number is below its norm.
    true = operator_norms(Architecture((Convolution(kernel, padding=1),), (2, 4, 4)))
    assert norms.spectral_high[0] * 2.0 < true.spectral_low[0]


def test_refuses_what_no_certificate_covers():
    eye = np.eye(3)
    with pytest.raises(ValueError, match=r"has a bias .* use with_bias_coordinate"):
        operator_norms(mlp([eye, eye], [np.ones(3), None]))
    shifted = BatchNorm(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match=r"Linear map 1 \(Linear\) has a bias"):
        operator_norms(Architecture((Linear(eye), shifted), (3,)))
    with pytest.raises(ValueError, match=r"residual block.*architecture.lipschitz"):
        operator_norms(Architecture((Residual((Linear(eye),)), Linear(eye)), (3,)))
    with pytest.raises(ValueError, match="does not directly follow a linear map"):
        operator_norms(Architecture((BatchNorm(np.zeros(3), np.ones(3)), Linear(eye)), (3,)))
    with pytest.raises(ValueError, match="no linear map"):
        operator_norms(Architecture((Activation("relu"),), (3,)))
    with pytest.raises(ValueError, match="tanh does not pass a constant 1 on"):
        with_bias_coordinate(mlp([eye, eye], [np.ones(3), None], "tanh"))
    layers = (Convolution(np.ones((1, 1, 1, 1))), Flatten(), Linear(np.ones((2, 4))))
    with pytest.raises(ValueError, match="Convolution does not pass a constant"):
        with_bias_coordinate(Architecture(layers, (1, 2, 2)))
    with pytest.raises(ValueError, match="no fully connected layer"):
        with_bias_coordinate(Architecture((Activation("relu"),), (3,)))
    with pytest.raises(ValueError, match=r"same layers; got .*\(3, 3\).*\(2, 3\)"):
        operator_distances(mlp([eye]), mlp([np.ones((2, 3))]))
    with pytest.raises(ValueError, match="in other layers"):
        kernel_distances(mlp([eye, eye]), mlp([eye, eye], activation="tanh"))
