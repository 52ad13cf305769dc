"""All ingredients at once: on arrays of networks, on layer lists, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.bounds import INGREDIENTS
from sgdsim.networks import (
    MEASURABLE,
    Activation,
    Architecture,
    BatchNorm,
    Effort,
    LabelledRows,
    Linear,
    call_network,
    fisher_rao,
    gradient_noise,
    log_compression,
    measure_network,
    mlp,
    network_margins,
    noise_tolerance,
    path_norm,
)
from sgdsim.networks._ingredients import _chosen, _impossible
from sgdsim.problems import Network, Rows

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")
EFFORT = Effort(draws=4, halvings=5, ascent_halvings=4, steps=5)


def stacked(seed, lead=()):
    """Networks along leading axes."""
    random = np.random.default_rng(seed)
    matrices = tuple(random.normal(size=(*lead, *s)) for s in [(6, 4), (3, 6)])
    one = Network(tuple(jnp.asarray(a[(0,) * len(lead)]) for a in matrices), "relu")
    return jax.tree.unflatten(jax.tree.structure(one), [jnp.asarray(a) for a in matrices])


@pytest.fixture(scope="module")
def rows(x64):
    random = np.random.default_rng(1)
    inputs = jnp.asarray(random.normal(size=(25, 4)))
    return Rows(inputs, jnp.eye(3)[random.integers(0, 3, 25)])


@pytest.fixture(scope="module")
def found(rows):
    return measure_network(
        call_network,
        stacked(2, (2, 3)),
        stacked(3),
        rows,
        jax.random.key(0),
        MEASURABLE,
        axes=2,
        effort=EFFORT,
    )


def test_every_ingredient_has_a_value_per_network(found):
    assert tuple(found) == MEASURABLE
    assert set(MEASURABLE) <= set(INGREDIENTS)
    for name, value in found.items():
        assert value.shape == (2, 3), name
        assert value.dtype == np.float64


def test_every_network_is_measured_on_its_own(found, rows):
    networks, start = stacked(2, (2, 3)), stacked(3)
    for index in np.ndindex(2, 3):
        network = jax.tree.map(lambda a, i=index: a[i], networks)
        margins = np.sort(network_margins(call_network, network, rows))
        moved = np.concatenate(
            [(a - b).ravel() for a, b in zip(network.weights, start.weights, strict=True)]
        )
        sigma, alpha = (
            found[f"magnitude_{kind}"][index] for kind in ("tolerance", "ascent_tolerance")
        )
        published = found["magnitude_tolerance_dziugaite2020"][index]
        expected = {
            "margin_10": margins[2],
            "margin_05": margins[1],
            "margin_10_dziugaite2020": abs(margins[1]),
            "margin_05_neyshabur2018": np.percentile(margins, 5),
            "parameters": 42,
            "input_size": 4,
            "parameter_norm": np.sqrt(sum(np.sum(a**2) for a in network.weights)),
            "parameter_distance": np.linalg.norm(moved),
            "path_norm_1": path_norm(call_network, network, (4,), 1),
            "path_norm_2": path_norm(call_network, network, (4,), 2),
            "fisher_rao": fisher_rao(call_network, network, rows),
            "gradient_noise_final": gradient_noise(call_network, network, rows),
            "log_compression": log_compression(network, rows),
            "magnitude_log_mean": np.mean(np.log(1e-6 + sigma**2 * moved**2)),
            "magnitude_ascent_log_mean": np.mean(np.log(1e-6 + alpha**2 * moved**2)),
            "magnitude_log_mean_dziugaite2020": np.mean(np.log(1e-6 + published**2 * moved**2)),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][index], value, rtol=1e-9, err_msg=name)


def test_draws_belong_to_the_network_and_results_repeat(found, rows):
    again = measure_network(
        call_network,
        stacked(2, (2, 3)),
        None,
        rows,
        jax.random.key(0),
        ["noise_tolerance"],
        axes=2,
        effort=EFFORT,
    )
    np.testing.assert_array_equal(again["noise_tolerance"], found["noise_tolerance"])
    network = jax.tree.map(lambda a: a[1, 2], stacked(2, (2, 3)))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 5), 0)
    alone = noise_tolerance(call_network, network, rows, key, False, 0.1, 4, 5)
    np.testing.assert_allclose(found["noise_tolerance"][1, 2], alone.value, rtol=1e-9)


def test_one_initialisation_for_each_network(rows):
    names = ["parameter_distance"]
    networks, starts = stacked(2, (2, 3)), stacked(4, (2, 3))
    each = measure_network(call_network, networks, starts, rows, jax.random.key(0), names, axes=2)
    squares = [
        jnp.sum((a - b) ** 2, axis=(2, 3))
        for a, b in zip(networks.weights, starts.weights, strict=True)
    ]
    np.testing.assert_allclose(each["parameter_distance"], np.sqrt(sum(squares)))


def test_fewer_than_ten_rows_have_a_margin_but_not_the_published_one():
    rows = Rows(jnp.eye(4), jnp.eye(3)[jnp.array([0, 1, 2, 0])])
    names = ["margin_10", "margin_10_dziugaite2020"]
    network = stacked(2)
    found = measure_network(call_network, network, None, rows, jax.random.key(0), names)
    margins = np.asarray(network_margins(call_network, network, rows))
    assert found["margin_10"] == margins.min()
    assert np.isnan(found["margin_10_dziugaite2020"])


def test_a_layer_list_with_biases_on_images():
    random = np.random.default_rng(0)
    shapes = [(5, 8), (2, 5)]
    network = mlp(
        [random.normal(size=s) for s in shapes], [random.normal(size=s[0]) for s in shapes]
    )
    rows = LabelledRows(
        jnp.asarray(random.normal(size=(12, 8))), jnp.eye(2)[random.integers(0, 2, 12)]
    )
    names = ["parameters", "path_norm_1", "parameter_norm"]
    found = measure_network(call_network, network, None, rows, jax.random.key(0), names)
    with pytest.raises(ValueError, match="log_compression needs a fully connected Network"):
        measure_network(call_network, network, None, rows, jax.random.key(0), ["log_compression"])
    assert found["parameters"] == 40 + 5 + 10 + 2
    first, second = (np.abs(np.asarray(a)) for a in jax.tree.leaves(network) if a.ndim == 2)
    biases = [np.abs(np.asarray(a)) for a in jax.tree.leaves(network) if a.ndim == 1]
    total = np.sum(second @ (first.sum(axis=1) + biases[0]) + biases[1])
    assert found["path_norm_1"] == pytest.approx(total, rel=1e-6)
    weights = np.sum(first**2) + np.sum(second**2) + sum(np.sum(b**2) for b in biases)
    assert found["parameter_norm"] == pytest.approx(np.sqrt(weights), rel=1e-6)


def test_by_default_all_is_measured_that_can_be_but_nothing_published():
    every = set(MEASURABLE)
    published = {name for name in every if name[-4:].isdigit()}
    initial = {name for name in every if name.endswith("log_mean")} | {"parameter_distance"}
    assert len(published) == 5
    network, listed = stacked(2), mlp([np.eye(2)])
    norm = BatchNorm(np.zeros(2), np.ones(2))
    unfolded = Architecture((Linear(np.eye(2)), Activation("relu"), norm), (2,))

    def chosen(theta, start):
        return set(_chosen(None, _impossible(theta, start)))

    assert chosen(network, network) == every - published
    assert chosen(network, None) == every - published - initial
    without = {"log_compression"}
    assert chosen(listed, listed) == every - published - without
    without |= {"path_norm_1", "path_norm_2"}
    assert chosen(unfolded, unfolded) == every - published - without
    with pytest.raises(ValueError, match=r"path_norm_1 needs a network of known layers whose"):
        _chosen(["path_norm_1"], _impossible(unfolded, None))


def test_a_network_that_diverged_fails_alone(rows):
    networks = jax.tree.map(lambda a: a.at[0].set(jnp.nan), stacked(2, (3,)))
    names = ["margin_10", "noise_tolerance", "cross_entropy"]
    found = measure_network(
        call_network, networks, None, rows, jax.random.key(0), names, axes=1, effort=EFFORT
    )
    for name in names:
        assert np.isnan(found[name][0]), name
        assert np.isfinite(found["margin_10"][1:]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ["margin_1"]}, "no ingredient 'margin_1'. Did you mean 'margin_10'"),
        ({"names": ["steps_to_loss_01"]}, "steps_to_loss_01 is not determined by a network"),
        ({"names": ["magnitude_log_mean"]}, "magnitude_log_mean needs the initialisation"),
        ({"initial": "seven of them"}, "A leaf of initial must have the shape"),
        ({"initial": (jnp.eye(2),)}, "initial must have the structure of theta"),
        ({"axes": 5}, "must begin with the same 5 axes"),
    ],
)
def test_refusals(rows, changes, message):
    arguments = {"initial": None, "names": ["margin_10"], "axes": 0} | changes
    if isinstance(arguments["initial"], str):
        arguments["initial"] = stacked(3, (7,))
    with pytest.raises(ValueError, match=message):
        measure_network(
            call_network,
            stacked(2),
            arguments["initial"],
            rows,
            jax.random.key(0),
            arguments["names"],
            arguments["axes"],
        )
