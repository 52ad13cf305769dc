"""Processes on a loss of one's own, from Python."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim
from sgdsim import Ensemble, Problem, Schedule, no_observables, simulate
from sgdsim.dynamics import SDE, SVAG, MinibatchGradient, heavy_ball
from sgdsim.ensemble import choose_layout

pytestmark = pytest.mark.slow

ETA = 0.1


def loss(params, batch):
    """A network with one hidden unit, its parameters in nested containers."""
    inputs, targets = batch
    weights, (slope, offset) = params["first"]["w"], params["last"]
    hidden = jnp.tanh(inputs @ weights)
    return jnp.mean((slope * hidden + offset - targets) ** 2)


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(12, 3))
    rows = jnp.asarray(inputs, jnp.float32), jnp.asarray(np.sin(inputs[:, 0]), jnp.float32)
    return Problem.from_mean_loss(loss, rows)


@pytest.fixture(scope="module")
def theta():
    return {
        "first": {"w": jnp.array([0.3, -0.2, 0.1], jnp.float32)},
        "last": (jnp.array(0.5, jnp.float32), jnp.array(0.0, jnp.float32)),
    }


def observer(problem, theta):
    return {"weights": theta["first"]["w"], "offset": theta["last"][1]}


@pytest.fixture(scope="module")
def processes():
    noise = sgdsim.MinibatchNoise(4)
    return {
        "SGD": sgdsim.minibatch_sgd(ETA, batch_size=4),
        "SVAG(1)": SVAG(ETA, batch_size=4, l=1),
        "Gaussian SGD": sgdsim.gaussian_sgd(ETA, noise),
        "SDE in one step": SDE(ETA, noise, substeps=1),
        "heavy ball": heavy_ball(0.02, 0.9, MinibatchGradient(4)),
        "thrown far": sgdsim.minibatch_sgd(1e30, batch_size=4),
    }


@pytest.fixture(scope="module")
def run(problem, theta, processes):
    return simulate(
        problem, theta, processes, 12, trajectories=3, record_every=3, seed=5, observer=observer
    )


def test_dimensions_and_coordinates(run, processes):
    assert dict(run["loss"].sizes) == {"process": 6, "trajectory": 3, "step": 5}
    assert run["weights"].dims == ("process", "trajectory", "step", "weights_0")
    assert run["offset"].dims == ("process", "trajectory", "step")
    assert run["process"].values.tolist() == list(processes)
    assert run["step"].values.tolist() == [0, 3, 6, 9, 12]
    assert run["trajectory"].values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(run["learning_rate"], [ETA] * 4 + [0.02, 1e30])
    labelled = [*run.data_vars, "step", "learning_rate"]
    assert all(run[name].attrs["long_name"] for name in labelled)
    assert set(run.data_vars) == {"loss", "distance", "weights", "offset", "diverged_step"}


def test_common_random_numbers_and_one_start(run, problem, theta):
    value = {str(name): run["loss"].sel(process=name).values for name in run["process"].values}
    first = run["loss"].isel(step=0)
    np.testing.assert_allclose(first, float(problem.empirical_risk(theta)), rtol=1e-6)
    assert np.all(run["distance"].isel(step=0) == 0)
    np.testing.assert_array_equal(value["Gaussian SGD"], value["SDE in one step"])
    np.testing.assert_allclose(value["SVAG(1)"], value["SGD"], rtol=1e-5)
    assert len(np.unique(value["SGD"][:, -1])) == 3, "trajectories differ"
    assert np.all(value["SGD"][:, 1:] != value["Gaussian SGD"][:, 1:])


def test_it_is_the_ensemble(run, problem, theta, processes):
    """In chunks of another length."""
    ensemble = Ensemble(
        problem=problem,
        stepper=processes["heavy ball"],
        region=sgdsim.Ball(centre=theta, radius=1.0),
        observer=no_observables,
        schedule=Schedule(12, 3, 6),
        layout=choose_layout(),
    )
    state = ensemble.start(theta, 3)
    losses = []
    for chunk in ensemble.run(ensemble.keys(5, 3), state):
        losses.append(np.asarray(chunk.records["loss"])[:3])
        state = chunk.state
    losses.append(np.asarray(ensemble.observe(state)["loss"])[:3])
    found = run["loss"].sel(process="heavy ball")
    np.testing.assert_allclose(found, np.concatenate(losses, axis=1), rtol=1e-6)


def test_observables_are_those_of_the_iterate(run, problem):
    """Plain gradient descent by hand, with the observed parameters."""
    theta = {"w": np.array([0.3, -0.2, 0.1]), "last": np.array([0.5, 0.0])}
    inputs, targets = (np.asarray(part, float) for part in problem.data)
    start = np.append(theta["w"], theta["last"])
    point = start.copy()
    found = simulate(
        problem,
        {"first": {"w": jnp.asarray(theta["w"])}, "last": (jnp.array(0.5), jnp.array(0.0))},
        sgdsim.gradient_descent(ETA),
        4,
        record_every=2,
        observer=observer,
    )
    assert "process" not in found.dims
    assert float(found["learning_rate"]) == pytest.approx(ETA)
    for step in range(5):
        hidden = np.tanh(inputs @ point[:3])
        error = point[3] * hidden + point[4] - targets
        if step % 2 == 0:
            one = found.sel(step=step).isel(trajectory=0)
            np.testing.assert_allclose(one["weights"], point[:3], rtol=1e-5)
            np.testing.assert_allclose(one["offset"], point[4], rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(one["loss"], np.mean(error**2), rtol=1e-5)
            np.testing.assert_allclose(
                one["distance"], np.linalg.norm(point - start), rtol=1e-4, atol=1e-7
            )
        back = 2 * error / len(error)
        gradient = np.concatenate(
            [
                inputs.T @ (back * point[3] * (1 - hidden**2)),
                [back @ hidden, back.sum()],
            ]
        )
        point = point - ETA * gradient


def test_a_diverged_trajectory_is_missing_from_then_on(run):
    lost = run.sel(process="thrown far")
    assert np.all(lost["diverged_step"] > 0)
    late = lost["step"] >= lost["diverged_step"]
    for name in ("loss", "distance", "offset"):
        assert lost[name].where(late, drop=True).isnull().all()
        assert lost[name].isel(step=0).notnull().all()
    others = run.drop_sel(process="thrown far")
    assert np.all(others["diverged_step"] == -1)
    assert others["loss"].notnull().all()


def test_the_seed_and_the_number_of_trajectories(run, problem, theta, processes):
    sgd = processes["SGD"]
    options = {"record_every": 3, "observer": observer}
    more = simulate(problem, theta, sgd, 12, trajectories=5, seed=5, **options)
    expected = run["loss"].sel(process="SGD")
    np.testing.assert_allclose(more["loss"].isel(trajectory=slice(3)), expected, rtol=1e-6)
    other = simulate(problem, theta, sgd, 12, trajectories=3, seed=6, **options)
    assert np.all(other["loss"].isel(step=-1).values != expected.isel(step=-1).values)


def test_a_run_longer_than_one_chunk(problem, theta):
    """1,300 steps are two chunks; the records join without a gap."""
    found = simulate(problem, theta, sgdsim.gradient_descent(0.05), 1300, record_every=130)
    assert found["step"].values.tolist() == list(range(0, 1301, 130))
    assert found["loss"].notnull().all()
    assert np.all(np.diff(found["loss"].values) < 0), "descent without a jump"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a positive integer, got 0"),
        ({"steps": 5, "record_every": 2}, "steps must be a multiple of record_every, got 5, 2"),
        ({"steps": 4, "record_every": 0}, "record_every must be a positive integer, got 0"),
        ({"steps": 4, "trajectories": 0}, "trajectories must be a positive integer, got 0"),
        ({"processes": {}}, "a dictionary of at least one stepper by name"),
        ({"theta": {"w": jnp.arange(3)}}, "theta must hold floating-point arrays only, got int32"),
    ],
)
def test_impossible_requests_are_refused(problem, theta, options, message):
    arguments = {"theta": theta, "processes": sgdsim.gradient_descent(ETA), "steps": 4, **options}
    with pytest.raises(ValueError, match=message):
        simulate(problem, **arguments)


WRONG_TYPES = """
import jax.numpy as jnp, optax, sgdsim
rows = jnp.arange(4.0)
mean = sgdsim.Problem(lambda theta, z: jnp.mean((theta - z) ** 2), rows)
good = sgdsim.Problem.from_mean_loss(mean.losses, rows)
descent = sgdsim.gradient_descent(0.1)
for problem, processes in ((mean, descent), (good, {"a": optax.sgd(0.1)})):
    try:
        sgdsim.simulate(problem, jnp.zeros(()), processes, 4)
    except ValueError as error:
        print(error)
"""


def test_wrong_types_are_refused():
    """In a process of its own, where no types are checked, as for a user."""
    done = subprocess.run(
        [sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True, check=True
    )
    mean, optimizer = done.stdout.splitlines()
    assert "shape (4,), got ()" in mean
    assert "Problem.from_mean_loss" in mean
    assert optimizer.startswith("process 'a' must be a stepper")
    assert "OptaxRule" in optimizer


def test_double_precision(x64):
    rows = jnp.asarray(np.arange(4.0))
    problem = Problem.from_mean_loss(lambda t, z: jnp.mean((t - z) ** 2), rows)
    found = simulate(problem, jnp.asarray(0.0), sgdsim.gradient_descent(0.25), 2)
    assert found["loss"].dtype == np.float64
    # theta' = theta - 0.5 (theta - 1.5)
    offsets = np.array([1.5, 0.75, 0.375])
    np.testing.assert_allclose(found["loss"].values[0], offsets**2 + 1.25, rtol=1e-14)
    assert jnp.zeros(()).dtype == np.float64
