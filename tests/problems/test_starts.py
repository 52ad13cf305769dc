"""Starts from the tables of a scenario: alike for all, or one for each trajectory."""

from typing import Any

import jax
import numpy as np
import pytest
from pydantic import TypeAdapter

from sgdsim.problems import (
    BiasedNetwork,
    LipschitzProduct,
    Network,
    ScalarDeepLinear,
    array_count,
    biased_network,
    build_problem,
    build_start,
    build_starts,
    stream,
    wrong_share,
)
from sgdsim.scenario import Problem, Start

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

SIGNS = {
    "kind": "regression",
    "data": {"kind": "noisy_signs", "dimension": 16, "training": 64, "held_out": 9, "flips": 0.1},
    "model": {"kind": "mlp", "hidden": [32, 32], "activation": "tanh"},
}
CHEBYSHEV = {
    "kind": "regression",
    "ridge": 0.5,
    "data": {"kind": "chebyshev", "degree": 5, "training": 20},
    "model": {
        "kind": "mlp",
        "width": 100,
        "depth": 1,
        "activation": "relu",
        "initial": "xavier",
        "hidden_gain": 1.9,
        "output_bias": False,
    },
}
DIGITS = {
    "kind": "regression",
    "data": {"kind": "digits", "training": 1000, "split_seed": 1},
    "model": {"kind": "mlp", "hidden": [5], "activation": "tanh"},
}
SOFTMAX = {
    "kind": "classification",
    "ridge": 0.1,
    "data": {"kind": "digits", "training": 100, "reference": 10, "split_seed": 0},
    "model": {"kind": "softmax"},
}
CATAPULT = {
    "kind": "landscape",
    "landscape": {"kind": "deep_linear", "target": 0.0, "hidden": [64]},
}
AHN = {"kind": "landscape", "landscape": {"kind": "lipschitz_product", "slope": 2.0}}


def tables(problem: dict[str, Any], **start: Any) -> tuple[Any, Any]:
    kind = "point" if "theta" in start else "random"
    return (
        TypeAdapter(Problem).validate_python(problem),
        TypeAdapter(Start).validate_python({"kind": kind, **start}),
    )


def sizes(theta: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(theta))


@pytest.mark.parametrize(
    ("problem", "kind", "parameters"),
    [
        (SIGNS, BiasedNetwork, 1633),
        (CHEBYSHEV, BiasedNetwork, 300),
        (DIGITS, BiasedNetwork, 385),
        (SOFTMAX, Network, 650),
        (CATAPULT, jax.Array, 128),
    ],
)
def test_starts_fit_their_problems(problem, kind, parameters):
    table, start = tables(problem, seed=4)
    theta = build_start(table, start)
    assert isinstance(theta, kind)
    assert sizes(theta) == parameters
    assert array_count(table) == len(jax.tree.leaves(theta))
    built = build_problem(table)
    assert np.isfinite(built.problem.empirical_risk(theta))
    if built.held_out is not None:
        assert 0 < wrong_share(theta, built.held_out) < 1


def test_the_tables_reach_problem_and_model():
    built = build_problem(tables(CHEBYSHEV)[0])
    assert float(built.problem.ridge) == 0.5
    assert (built.held_out, built.landscape) == (None, None)
    theta = build_start(*tables(CHEBYSHEV, seed=2))
    same = biased_network(
        stream(2, "start"), (1, 100, 1), "relu", "xavier", hidden_gain=1.9, output_bias=False
    )
    assert theta.activation == "relu"
    assert len(theta.biases) == 1
    for one, other in zip(jax.tree.leaves(theta), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(one, other)
    landscape = build_problem(tables(AHN)[0]).landscape
    assert isinstance(landscape, LipschitzProduct)
    assert (landscape.loss, landscape.slope) == ("square_root", 2.0)
    landscape = build_problem(tables(CATAPULT)[0]).landscape
    assert isinstance(landscape, ScalarDeepLinear)
    assert (landscape.target, landscape.hidden) == (0.0, (64,))


def test_equal_tables_share_their_rows():
    first, second = (build_problem(tables(SIGNS)[0]).problem for _ in range(2))
    assert first.data is second.data
    assert build_problem(tables(DIGITS)[0]).problem.n == 1000


@pytest.mark.parametrize("problem", [SIGNS, CATAPULT])
def test_gain_and_seed(problem):
    one, twice, other = (
        jax.tree.leaves(build_start(*tables(problem, **settings)))
        for settings in ({"seed": 1}, {"seed": 1, "gain": 2.0}, {"seed": 2})
    )
    for a, b, c in zip(one, twice, other, strict=True):
        np.testing.assert_array_equal(2 * a, b)
        assert not np.any(a == c)


@pytest.mark.parametrize("problem", [DIGITS, SOFTMAX, CATAPULT])
def test_every_trajectory_has_weights_of_its_own(problem):
    few, many = (build_starts(*tables(problem, each=True, seed=3), count) for count in (2, 5))
    shared = build_start(*tables(problem, seed=3))
    for a, b, c in zip(*(jax.tree.leaves(x) for x in (few, many, shared)), strict=True):
        np.testing.assert_array_equal(a, b[:2])  # whatever the number of the others
        every = np.concatenate([b, c[None]]).reshape(6, -1)
        assert len(np.unique(every[:, 0])) == 6


def test_one_start_for_all():
    for settings in ({"seed": 3}, {"theta": [0.5] * 128}):
        table, start = tables(CATAPULT, **settings)
        thetas = np.asarray(build_starts(table, start, 3))
        assert thetas.shape == (3, 128)
        assert np.all(thetas == np.asarray(build_start(table, start)))
    np.testing.assert_array_equal(build_start(*tables(AHN, theta=[1, 2])), [1.0, 2.0])


def test_a_single_start_is_refused_where_each_has_its_own():
    with pytest.raises(ValueError, match=r"start.each = true .* build_starts makes them"):
        build_start(*tables(SIGNS, each=True))
