"""The dynamics study on regression data and on the landscapes of the edge of stability."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import sgdsim
from sgdsim.problems import build_problem, build_start, wrong_share
from sgdsim.runs._workbench import build_workbench
from sgdsim.scenario import Compute, DynamicsScenario
from sgdsim.store import validate

pytestmark = pytest.mark.usefixtures("unoptimised")

SHORT = {"trajectories": 2, "steps": 4, "record_every": 2, "chunk_steps": 4, "seed": 0}
SIGNS = {
    "kind": "regression",
    "data": {"kind": "noisy_signs", "dimension": 4, "training": 20, "held_out": 30, "flips": 0.1},
    "model": {"kind": "mlp", "hidden": [3], "activation": "tanh"},
}
CHAIN = {
    "kind": "landscape",
    "landscape": {"kind": "deep_linear", "target": 1.0, "hidden": [2, 2]},
}
ON_LANDSCAPE = {"gd": {"kind": "gd"}}
ON_DATA = {
    "noisy labels": {"kind": "label_noise_sgd", "batch_size": 4, "std": 0.5},
    "aligned": {
        "kind": "gaussian_sgd",
        "batch_size": 4,
        "noise": {"kind": "hessian_aligned", "form": "mse"},
    },
}


def scenario_of(problem: dict[str, Any], start: dict[str, Any]) -> DynamicsScenario:
    processes = [
        {"name": name, "dynamics": {"learning_rate": 0.05, **table}}
        for name, table in (ON_DATA if problem["kind"] == "regression" else ON_LANDSCAPE).items()
    ]
    tables = {
        "study": "dynamics",
        "name": "short",
        "title": "t",
        "problem": problem,
        "start": start,
        "ensemble": SHORT,
        "process": processes,
        "compute": {"precision": "float64"},
        "validity": {"trajectories": 1, "eigenvalues": 2},
    }
    return DynamicsScenario.model_validate(tables)


@pytest.mark.slow
def test_a_run_of_regression_with_noise_that_needs_outputs(tmp_path, x64):
    scenario = scenario_of(SIGNS, {"kind": "random", "seed": 1})
    out = sgdsim.run(scenario, tmp_path / "run", quiet=True)
    assert validate(out) == []
    dynamics = sgdsim.open_run(out)["dynamics"].to_dataset().load()
    built = build_problem(scenario.problem)
    assert built.held_out is not None
    theta = build_start(scenario.problem, scenario.start)
    first = dynamics.isel(step=0)
    np.testing.assert_allclose(first["loss"], built.problem.empirical_risk(theta), rtol=1e-6)
    np.testing.assert_allclose(first["test_error_rate"], wrong_share(theta, built.held_out))
    assert np.all(dynamics["status"] == 1)
    last = dynamics["loss"].isel(step=-1).values
    assert len(np.unique(last)) == last.size  # every process, every trajectory moves in its own way
    assert dynamics.sizes["coordinate"] == 0


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_what_is_observed_of_a_regression(precision, x64):
    scenario = scenario_of(SIGNS, {"kind": "random", "gain": 2.0})
    scenario = scenario.model_copy(update={"compute": Compute(precision=precision)})
    bench = build_workbench(scenario)
    assert {leaf.dtype for leaf in jax.tree.leaves(bench.theta)} == {jnp.dtype(precision)}
    assert {leaf.dtype for leaf in jax.tree.leaves(bench.problem)} == {jnp.dtype(precision)}
    observed = bench.observer(bench.problem, bench.theta)
    assert set(observed) == {"gradient_norm", "test_error_rate"}
    assert float(observed["test_error_rate"]) * 30 % 1 < 1e-4
    gradient, _ = ravel_pytree(jax.grad(bench.problem.empirical_risk)(bench.theta))
    np.testing.assert_allclose(observed["gradient_norm"], np.linalg.norm(gradient), rtol=1e-5)
    assert bench.coordinates == 0


def test_targets_without_classes_have_no_test_error():
    problem = SIGNS | {"data": {"kind": "chebyshev", "degree": 5, "training": 20}}
    bench = build_workbench(scenario_of(problem, {"kind": "random"}))
    assert set(bench.observer(bench.problem, bench.theta)) == {"gradient_norm"}


def test_a_chain_starts_from_random_weights(x64):
    scenario = scenario_of(CHAIN, {"kind": "random", "seed": 5, "gain": 1.5})
    bench = build_workbench(scenario)
    theta = np.asarray(build_start(scenario.problem, scenario.start))
    one, two, three = np.split(theta, [2, 6])
    product = three @ two.reshape(2, 2) @ one
    np.testing.assert_allclose(bench.problem.empirical_risk(bench.theta), (product - 1) ** 2 / 2)
    observed = bench.observer(bench.problem, bench.theta)
    np.testing.assert_array_equal(observed["position"], theta)
    assert set(observed) == {"gradient_norm", "position"}
    assert bench.coordinates == 8
