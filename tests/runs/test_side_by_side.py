"""Processes side by side from the command line: dataset, verdicts, claims, figures."""

import json
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.flatten_util import ravel_pytree

import sgdsim
from sgdsim.problems import build_task, cast, initial_network, stream
from sgdsim.scenario import DynamicsScenario, Scenario
from sgdsim.store import validate

pytestmark = pytest.mark.slow
Finished = tuple[Path, subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def tree(side_by_side: Finished) -> xr.DataTree:
    return sgdsim.open_run(side_by_side[0]).load()


@pytest.fixture(scope="module")
def dynamics(tree: xr.DataTree) -> xr.Dataset:
    return tree["dynamics"].to_dataset()


@pytest.fixture(scope="module")
def scenario(tree: xr.DataTree) -> DynamicsScenario:
    scenario = Scenario.from_json(tree.attrs["scenario"])
    assert isinstance(scenario, DynamicsScenario)
    return scenario


@pytest.fixture(scope="module")
def wells(escaping: Finished) -> xr.Dataset:
    return sgdsim.open_run(escaping[0])["dynamics"].to_dataset().load()


@pytest.mark.parametrize("run", ["side_by_side", "escaping"])
def test_it_succeeds_and_prints_processes_verdicts_and_claims(run, request):
    out, process = request.getfixturevalue(run)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == str(out)
    tree = sgdsim.open_run(out)
    assert "Traceback" not in process.stderr
    assert "Warning" not in process.stderr
    printed = process.stderr.splitlines()
    verdicts = json.loads(tree.attrs["verdicts"])
    said = dict(line.split(": ", 1) for line in printed if ": SDE " in line)
    # Processes with one fate share a line, in the words of one of them.
    assert ", ".join(said) == ", ".join(verdicts)
    for names, sentence in said.items():
        assert sentence in {verdicts[name] for name in verdicts if name in names}
    for name in verdicts:
        assert any(line.startswith(f"│ {name} ") for line in printed)
    claims = tree["claims"].to_dataset()
    answers = [line.split("│")[-2].strip() for line in printed if line.startswith("│")]
    said = [answer for answer in answers if answer in ("yes", "no")]
    assert said == [("no", "yes")[holds] for holds in claims["holds"].values.tolist()]
    assert len(said) > 0


@pytest.mark.parametrize("run", ["side_by_side", "escaping"])
def test_the_dataset_keeps_the_contract(run, request):
    out, _ = request.getfixturevalue(run)
    assert validate(out) == []
    tree = sgdsim.open_run(out)
    assert set(tree.children) == {"dynamics", "claims"}
    for group in tree.children.values():
        for name, variable in group.data_vars.items():
            assert variable.attrs.get("long_name"), name
            assert "units" in variable.attrs, name
            assert set(variable.dims) <= set(group.coords), name
    assert sorted(path.name for path in out.iterdir()) == ["figures", "run.zarr", "state"]
    assert list((out / "state").iterdir()) == []


def test_figures_are_written(side_by_side: Finished, escaping: Finished):
    for (out, _), stems in (
        (side_by_side, ["losses", "validity"]),
        (escaping, ["escapes", "losses", "validity"]),
    ):
        files = sorted((out / "figures").iterdir())
        assert [f.name for f in files] == [f"{s}.{end}" for s in stems for end in ("png", "svg")]
        assert all(file.stat().st_size > 1000 for file in files)


def test_provenance_reproduces_the_scenario(tree, scenario, dynamics):
    assert scenario.digest() == tree.attrs["scenario_digest"]
    assert tree.attrs["study"] == "dynamics"
    assert tree.attrs["precision"] == "float32"
    names = [process.name for process in scenario.process]
    assert dynamics["process"].values.tolist() == names
    rates = [process.dynamics.learning_rate for process in scenario.process]
    assert dynamics["learning_rate"].values.tolist() == rates
    assert tree["claims"]["quantity"].values.tolist() == [c.quantity for c in scenario.claim]


def test_dimensions_and_what_is_known(dynamics):
    assert dict(dynamics["loss"].sizes) == {"process": 8, "trajectory": 5, "step": 5}
    assert dynamics["step"].values.tolist() == [0, 5, 10, 15, 20]
    assert dynamics["probe"].values.tolist() == [0, 10, 20]
    assert dict(dynamics["hessian_eigenvalue"].sizes) == {
        "process": 8, "member": 2, "probe": 3, "rank": 3,
    }  # fmt: skip
    expected = dynamics["learning_rate"] * dynamics["step"]
    np.testing.assert_allclose(dynamics["time"], expected.transpose(*dynamics["time"].dims))
    unknown = {name for name, variable in dynamics.items() if variable.isnull().all()}
    escapes = {"survival", "kramers_time", "exact_escape_time", "corrected_escape_time"}
    escapes |= {f"mean_escape_time{end}" for end in ("", "_low", "_high")}
    # No variable of a network is left out, beside its many parameters.
    assert unknown - {"position"} == escapes
    for name in ("loss", "gradient_norm", "test_error_rate", "mean_loss", "hessian_eigenvalue"):
        assert dynamics[name].notnull().all(), name
    assert np.all(dynamics["status"] == 1)
    assert np.all(dynamics["diverged_step"] == -1)
    assert np.all(dynamics["escape_step"] == -1)


def test_all_processes_start_at_one_point(dynamics, scenario):
    """That point has the loss and the Hessian of the dense oracle."""
    with jax.enable_x64(True):
        task = build_task(scenario.problem)
        network = initial_network(scenario.problem, task, stream(scenario.start.seed, "start"))
        problem = task.problem(task.training)
        # The run starts from the weights in its own precision.
        flat, unravel = ravel_pytree(cast(cast(network, jnp.float32), jnp.float64))

        def risk(x):
            return problem.empirical_risk(unravel(x))

        start, spectrum = float(risk(flat)), np.linalg.eigvalsh(jax.hessian(risk)(flat))[::-1]
    np.testing.assert_allclose(dynamics["loss"].isel(step=0), start, rtol=1e-6)
    at_start = dynamics.isel(probe=0)
    expected = np.broadcast_to(spectrum[:3], at_start["hessian_eigenvalue"].shape)
    np.testing.assert_allclose(at_start["hessian_eigenvalue"], expected, rtol=1e-3)
    z = (at_start["hessian_trace"] - spectrum.sum()) / at_start["hessian_trace_stderr"]
    assert abs(z).max() < 6


def test_common_random_numbers(dynamics):
    loss = dynamics["loss"]
    sgd, gaussian, svag, sde = (loss.isel(process=i) for i in range(4))
    np.testing.assert_array_equal(gaussian, sde)  # one substep: the same normals, the same steps
    np.testing.assert_allclose(svag, sgd, rtol=1e-5)  # one substep: the same batches
    assert abs(sgd - gaussian).isel(step=slice(1, None)).min() > 0
    # Trajectories differ from each other.
    assert len(np.unique(sgd.isel(step=-1))) == 5
    # At the large learning rate there are four substeps, and nothing is equal.
    large = loss.isel(process=slice(4, 8), step=slice(1, None))
    assert len(np.unique(large)) == large.size


def test_means_against_numpy(dynamics):
    loss = dynamics["loss"].values.astype(float)
    np.testing.assert_allclose(dynamics["mean_loss"], loss.mean(axis=1), rtol=1e-12)
    error = loss.std(axis=1, ddof=1) / 5**0.5
    np.testing.assert_allclose(dynamics["mean_loss_stderr"], error, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(dynamics["late_loss"], loss[:, :, 3:].mean(axis=2), rtol=1e-12)


def test_the_gauges_follow_from_the_eigenvalues(dynamics):
    sharpness = dynamics["hessian_eigenvalue"].isel(rank=0).values.max(axis=1)
    edge = dynamics["learning_rate"].values[:, None] * sharpness / 2
    np.testing.assert_allclose(dynamics["sde_gauge"], edge)
    np.testing.assert_allclose(
        dynamics["variance_ratio"], np.where(edge < 1, 1 / abs(1 - edge), np.inf)
    )
    assert np.all(dynamics["mean_square_gauge"] > dynamics["mean_square_gauge_sde"])
    judged = dynamics["sde_valid"].values
    assert np.all(judged[edge > 0.1] == 0)
    assert np.all(judged[4:] == 0), "eta = 6 is beyond the edge from the start"
    assert np.all(judged[:4, 0] == 1)


def test_verdicts_name_the_edge_and_the_sweep(tree):
    verdicts = json.loads(tree.attrs["verdicts"])
    for name, sentence in verdicts.items():
        if name.endswith("large"):
            assert sentence.startswith("SDE invalid from the start")
            assert "l = 1 to l = 4" in sentence, "SVAG(4) and SGD share rate and batch size"
        else:
            assert sentence.startswith("SDE valid")
            assert "SVAG l" not in sentence, "with l = 1 alone there is no sweep"


def test_claims_are_measured_on_the_dataset(tree, dynamics, scenario):
    for claim, measured in zip(scenario.claim, tree["claims"]["measured"].values, strict=True):
        if claim.quantity == "loss_difference":
            a, b = (dynamics["late_loss"].sel(process=name).values for name in claim.processes)
            error = (a.var(ddof=1) / 5 + b.var(ddof=1) / 5) ** 0.5
            assert measured == pytest.approx((b.mean() - a.mean()) / error)
        elif claim.quantity == "sde_valid":
            (name,) = claim.processes
            assert measured == dynamics["sde_valid"].sel(process=name).all()
        else:
            assert claim.quantity == "loss_agreement"
            assert 0 <= measured <= 1
    assert {claim.quantity for claim in scenario.claim} >= {"loss_difference", "sde_valid"}


def test_escape_times_against_plain_loops(wells):
    step = wells["step"].values
    for number, name in enumerate(wells["process"].values):
        eta = float(wells["learning_rate"][number])
        exits = wells["escape_step"].values[number].tolist()
        exposure = eta * sum(step[-1] if k < 0 else k for k in exits)
        count = sum(k >= 0 for k in exits)
        expected = exposure / count if count else np.inf
        one = wells.sel(process=name)
        assert float(one["mean_escape_time"]) == pytest.approx(expected)
        assert one["mean_escape_time_low"] < expected
        assert count == 0 or expected < one["mean_escape_time_high"] < np.inf
        stayed = [sum(k < 0 or k > s for k in exits) / len(exits) for s in step]
        np.testing.assert_allclose(one["survival"], stayed)
    assert np.all(wells["survival"].isel(process=1, step=-1) < 1)


def test_escapes_are_where_the_position_is(wells):
    """A recorded position beyond the level is never earlier than the escape."""
    assert dict(wells["position"].sizes) == {
        "process": 3, "trajectory": 64, "step": 21, "coordinate": 1,
    }  # fmt: skip
    x, step = wells["position"].values[..., 0], wells["step"].values
    exits = wells["escape_step"].values[:, :, None]
    escaped = (exits >= 0) & (step >= exits)
    assert np.all(x[~escaped] <= 1.0)
    assert np.any(x[escaped] > 1.0)
    np.testing.assert_allclose(wells["loss"], (x**2 - 1) ** 2 / 4, rtol=1e-12)
    np.testing.assert_allclose(wells["gradient_norm"], abs(x**3 - x), rtol=1e-12, atol=1e-15)
    assert np.all(x[:, :, 0] == -1.0)


def test_predictions_are_those_of_the_theory(wells):
    """Kramers by hand, the others from the exact numbers in the description of the scenario."""
    kramers = 2 * np.pi / np.sqrt(2.0 * 1.0) * np.exp(0.25 / 0.1)
    np.testing.assert_allclose(wells["kramers_time"], kramers, rtol=1e-12)
    np.testing.assert_allclose(wells["exact_escape_time"], 66.27, atol=0.005)
    small, large, fine = wells["corrected_escape_time"].values
    assert 61.88 / large == pytest.approx(0.966, abs=5e-4)
    assert abs(small / 66.27 - 1) < 0.005
    # Ten substeps of 0.02 are corrected as steps of that length, but seen once in ten.
    assert small < fine < 1.05 * small


def test_curvature_of_a_landscape_is_that_of_the_formula(wells):
    """V'' = 3 x^2 - 1; one parameter has one eigenvalue, the second rank is missing."""
    eigenvalue = wells["hessian_eigenvalue"]
    assert np.all(np.isnan(eigenvalue.isel(rank=1)))
    at = wells["position"].sel(step=wells["probe"].values).isel(coordinate=0)
    members = at.isel(trajectory=wells["member"].values).values
    np.testing.assert_allclose(eigenvalue.isel(rank=0), 3 * members**2 - 1, rtol=1e-9, atol=1e-9)
