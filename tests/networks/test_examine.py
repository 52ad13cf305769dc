"""Bounds of a network from elsewhere: what is evaluated for which layers, and what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.bounds import CERTIFICATES, MEASURES
from sgdsim.networks import (
    Activation,
    Architecture,
    AveragePool,
    BatchNorm,
    Convolution,
    FixedInAdvance,
    Flatten,
    LabelledRows,
    Linear,
    MaxPool,
    Scale,
    examine,
    mlp,
)
from sgdsim.testing import dense_convolution

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")
FIXED = FixedInAdvance(margin=0.5, input_bound=4.0, draws=8)


@pytest.fixture(autouse=True)
def few_ingredients(monkeypatch):
    """Leave out the searches for perturbations, which have tests of their own and take long."""
    from sgdsim.networks import _examine

    def paths_only(outputs, theta, initial, rows, key):
        names = ["parameters", "path_norm_1", "path_norm_2"]
        return measure_network(outputs, theta, initial, rows, key, names)

    measure_network = _examine.measure_network
    monkeypatch.setattr(_examine, "measure_network", paths_only)


def images(shape=(1, 4, 4), outputs=3):
    random = np.random.default_rng(0)
    inputs = random.uniform(-1.0, 1.0, (20, *shape))
    return LabelledRows(inputs, np.eye(outputs)[random.integers(0, outputs, 20)])


def moved(network, seed=1):
    """The same layers with other weights."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * random.normal(size=leaf.shape), network)


def pac_bayes(found):
    return [name for name in found["bound"].values.tolist() if name.startswith("PB-")]


def factor(found, name, which):
    return float(found["log_factor"].sel(bound=name, factor=which))


def test_a_mean_enters_the_row_norms_as_in_the_dense_twin():
    """One function as a mean and a matrix, and as their product: equal 1-norms of rows."""
    random = np.random.default_rng(2)
    weight = random.normal(size=(3, 4))
    line = np.kron(np.eye(2), np.full((1, 2), 0.5))
    rows = images()
    flat = LabelledRows(np.asarray(rows.inputs).reshape(20, 16), rows.targets)
    network = Architecture((AveragePool(2), Flatten(), Linear(weight)), (1, 4, 4))
    twin = mlp([weight @ np.kron(line, line)])
    pooled, dense = examine(network, rows, FIXED), examine(twin, flat, FIXED)
    for name in ("GRS-1inf", "path"):
        assert factor(pooled, name, "path") >= factor(dense, name, "path") - 1e-12
    # The spectral norm and the (2,1) norm carry the Euclidean constant of the mean, 1/2.
    true = np.linalg.norm(weight, 2) / 2
    assert float(pooled["spectral_norm_high"][0]) == pytest.approx(true, rel=1e-9)
    assert float(dense["spectral_norm_high"][0]) == pytest.approx(true, rel=1e-9)


def test_a_mean_before_a_convolution_enters_as_in_the_dense_twin():
    random = np.random.default_rng(3)
    first, last = random.normal(size=(2, 1, 2, 2)), random.normal(size=(3, 8))
    line = np.kron(np.eye(2), np.full((1, 2), 0.5))
    layers = (AveragePool(2), Convolution(first, padding="SAME"), Activation("relu"), Flatten())
    network = Architecture((*layers, Linear(last)), (1, 4, 4))
    dense = dense_convolution(first, (1, 2, 2), (1, 1), "SAME") @ np.kron(line, line)
    rows = images()
    flat = LabelledRows(np.asarray(rows.inputs).reshape(20, 16), rows.targets)
    outputs = network(jnp.asarray(rows.inputs)), mlp([dense, last])(jnp.asarray(flat.inputs))
    np.testing.assert_allclose(*outputs, rtol=1e-9)
    found, twin = examine(network, rows, FIXED), examine(mlp([dense, last]), flat, FIXED)
    for name in ("GRS-1inf", "path", "BFT", "GRS"):
        size = {"BFT": "spectral_product", "GRS": "frobenius_product"}.get(name, "path")
        assert factor(found, name, size) >= factor(twin, name, size) - 1e-12, name


def paid(squared, deviation, parameters):
    """Divergence and price, the least of all priors that a search finds."""
    found = []
    for index in range(1, 5000):
        ratio = deviation**2 / (10.0 * math.exp(-index / 100.0))
        divergence = parameters * (ratio - 1.0 - math.log(ratio))
        divergence += squared / (10.0 * math.exp(-index / 100.0))
        found.append(divergence / 2 + math.log(math.pi**2 * index**2 / 6))
    return min(found)


@pytest.mark.parametrize("biased", [False, True])
def test_pac_bayes_of_a_plain_chain_is_about_the_distance_of_its_weights(biased):
    random = np.random.default_rng(4)
    weights = [random.normal(size=shape) for shape in ((4, 5), (3, 4))]
    biases = [random.normal(size=4), random.normal(size=3)] if biased else None
    network = mlp(weights, biases)
    start = moved(network)
    found = examine(network, images((5,)), FIXED, initial=start)
    assert found.attrs["left_out"] == ""
    pairs = zip(jax.tree.leaves(network), jax.tree.leaves(start), strict=True)
    squared = sum(float(np.sum((one - other) ** 2)) for one, other in pairs)
    # With biases the constant coordinate has five weights more, which do not move.
    parameters = 5 * 6 + 3 * 5 if biased else 32
    possible = [paid(squared, scale, parameters) for scale in FIXED.deviations]
    assert {"PB-kl", "PB-quad"} <= set(pac_bayes(found))
    for name in pac_bayes(found):
        divergence = math.exp(2 * factor(found, name, "divergence"))
        # The prior next to the one of least divergence, whose price is a little more.
        assert min(abs(divergence - other) for other in possible) < 0.02, name


@pytest.mark.parametrize(
    ("layers", "shape", "named"),
    [
        ((Scale(1e-3), Linear(np.ones((3, 5)))), (5,), "Scale"),
        ((AveragePool(2), Flatten(), Linear(np.ones((3, 4)))), (1, 4, 4), "AveragePool"),
        ((Convolution(np.ones((3, 5, 1, 1))), Flatten()), (5, 1, 1), "Convolution"),
    ],
)
def test_pac_bayes_is_left_out_where_the_maps_are_not_the_weights(layers, shape, named):
    network = Architecture(layers, shape)
    found = examine(network, images(shape), FIXED, initial=moved(network))
    assert pac_bayes(found) == []
    assert found.attrs["left_out"].startswith("PAC-Bayes certificates are left out: ")
    assert found.attrs["left_out"].endswith(f"this one has {named} layers.")
    # Certificates about the distance of the maps stay.
    assert "BFT-init" in found["bound"].values


def test_weights_that_did_not_move_are_refused():
    network = mlp([np.ones((4, 5)), np.ones((3, 4))])
    with pytest.raises(ValueError, match=r"^The initial weights equal the trained ones; give"):
        examine(network, images((5,)), FIXED, initial=mlp([np.ones((4, 5)), np.ones((3, 4))]))
    one_layer = mlp([np.zeros((4, 5)), np.ones((3, 4))])
    assert pac_bayes(examine(network, images((5,)), FIXED, initial=one_layer))


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_an_activation_of_the_outputs_is_refused(name):
    layers = (Linear(np.ones((3, 5))), Activation(name))
    with pytest.raises(ValueError, match=f"^The network ends with {name}, .* leave the final"):
        examine(Architecture(layers, (5,)), images((5,)), FIXED)
    norm = BatchNorm(np.zeros(3), np.ones(3))
    layers = (Linear(np.ones((3, 5))), norm, Activation(name), Scale(2.0))
    with pytest.raises(ValueError, match=f"^The network ends with {name}, "):
        examine(Architecture(layers, (5,)), images((5,)), FIXED)


def test_with_a_maximum_there_are_measures_only():
    layers = (MaxPool(2), Flatten(), Linear(np.ones((3, 4))))
    found = examine(Architecture(layers, (1, 4, 4)), images(), FIXED)
    names = set(found["bound"].values.tolist())
    assert names
    assert names <= set(MEASURES)
    assert not names & set(CERTIFICATES)


def test_the_sign_of_a_scale_changes_no_bound():
    random = np.random.default_rng(5)
    first, second = random.normal(size=(4, 5)), random.normal(size=(3, 4))
    values = []
    for sign in (1.0, -1.0):
        layers = (Linear(first), Activation("relu"), Scale(sign), Linear(sign * second))
        found = examine(Architecture(layers, (5,)), images((5,)), FIXED)
        values.append(found["value"])
    np.testing.assert_array_equal(*values)
    assert float(values[0].sel(bound="path.norm")) > 1.0
