"""Every kind of dynamics and model goes through the whole job, in this process."""

import jax
import numpy as np
import pytest
import xarray as xr

import sgdsim
from sgdsim._errors import ScenarioError, SgdsimError
from sgdsim.problems import build_task
from sgdsim.runs import RunPaths, _run as runner
from sgdsim.runs._final_basins import final_basins
from sgdsim.runs._prepare import start_network
from sgdsim.runs._stagnation import StagnationRun
from sgdsim.scenario import StagnationScenario, load_scenario

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("lean")]

TINY = [
    "problem.data.training=60",
    "problem.data.reference=40",
    "ensemble.trajectories=6",
    "ensemble.steps=8",
    "ensemble.record_every=2",
    "ensemble.chunk_steps=4",
    "convexity.directions=2",
    "convexity.eigenvectors=1",
    "convexity.radii=2",
]

SDE = ["dynamics.kind=sde", "dynamics.substeps=8"]
OTHERWISE = ["compute.precision=float64", "compute.mapping=vmap"]


def _run(tmp_path, name: str, *settings: str):
    scenario = load_scenario(name, [*TINY, *settings])
    return sgdsim.open_run(sgdsim.run(scenario, tmp_path / "run", quiet=True))


def test_a_diverging_run_finishes_and_says_when(tmp_path):
    tree = _run(
        tmp_path,
        "stagnation",
        "dynamics.learning_rate=1e12",
        "stagnation.radius=1.0",
    )
    trajectory = tree["trajectory"].to_dataset()
    assert np.all(trajectory["status"] == 2)
    assert np.all(trajectory["diverged_step"] > 0)
    late = trajectory["step"] >= trajectory["diverged_step"]
    assert trajectory["loss"].where(late).isnull().all()
    assert trajectory["loss"].where(~late & (trajectory["step"] == 0), 0).notnull().all()
    assert np.all(tree["stagnation"]["exited"] == 1)
    assert "SDE invalid" in tree.attrs["verdict"]
    last = tree["bounds"].to_dataset().isel(probe=-1)
    assert last["value"].isnull().all()
    assert np.all(last["assumption_violated"] == 1)


@pytest.fixture(scope="module")
def fine(tmp_path_factory, lean) -> xr.DataTree:
    """An SDE, in double precision and all trajectories at once."""
    folder = tmp_path_factory.mktemp("fine")
    return _run(folder, "stagnation", "stagnation.radius=1.0", *SDE, *OTHERWISE)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["dynamics.kind=gd"], "no noise"),
        (["dynamics.kind=sgd", "dynamics.replacement=false"], "not Gaussian"),
        (["dynamics.noise.kind=isotropic", "dynamics.noise.variance=1e-4"], None),
        (SDE, None),
    ],
)
def test_every_kind_of_dynamics(tmp_path, request, settings, reason):
    if settings == SDE:
        tree = request.getfixturevalue("fine")
    else:
        tree = _run(tmp_path, "stagnation", "stagnation.radius=1.0", *settings)
    assert tree["trajectory"]["loss"].notnull().all()
    stagnation = tree["stagnation"].to_dataset()
    bound = stagnation["stay_lower_bound"].sel(theory="S2")
    statement = tree.attrs["stay_statement"]
    # Nothing but Gaussian minibatch noise has proved constants.
    minibatch = settings == SDE
    assert bool(stagnation["certified_radius"].isnull()) != minibatch
    assert ("Certificate: not available" in statement) != minibatch
    assert np.all(stagnation["basin"] == -1)
    assert tree.attrs["basin_statement"].startswith("No quench: the training risk is strongly")
    if reason is None:
        assert bound.notnull().all()
        assert "plug-in" in statement
    else:
        assert bound.isel(step=slice(1, None)).isnull().all()
        assert np.all(stagnation["constant_sample_size"] == -1)
        assert reason in statement


@pytest.fixture(scope="module")
def killed_twice(tmp_path_factory, lean) -> xr.DataTree:
    """A run that was killed at its first probe, then at its very end."""

    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    scenario = load_scenario("stagnation", [*TINY, "stagnation.radius=1.0"])
    out = tmp_path_factory.mktemp("killed") / "run"
    for owner, where, call in (
        (StagnationRun, "probe", lambda: sgdsim.run(scenario, out, quiet=True)),
        (runner, "complete_run", lambda: sgdsim.resume(out, quiet=True)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, where, killed)
            with pytest.raises(Killed):
                call()
        assert RunPaths(out).partial.exists()
        assert not RunPaths(out).store.exists()
    return sgdsim.open_run(sgdsim.resume(out, quiet=True))


def test_a_run_killed_at_either_end_is_resumed(killed_twice):
    tree = killed_twice
    assert int(tree.to_dataset()["status"]) == 1
    assert tree["trajectory"]["loss"].notnull().all()
    assert tree["claims"]["measured"].notnull().all()
    assert float(tree["bounds"].to_dataset()["certificate_radius"]) > 1.0


def test_an_sde_is_bounded_as_the_recursion_of_its_substeps(killed_twice, fine):
    for name in ("log_exit_bound", "certified_log_exit_bound"):
        one, two = (
            tree["stagnation"].to_dataset()[name].sel(theory="S2").values[1:]
            for tree in (killed_twice, fine)
        )
        # Same process up to O(eta): the bounds must be close, and not by rounding only.
        np.testing.assert_allclose(one, two, rtol=0.1)
        assert np.all(abs(one / two - 1) > 1e-3)


def test_a_network(tmp_path):
    tree = _run(tmp_path, "stagnation-mlp", "problem.model.hidden=[4]", "problem.ridge=0.01")
    assert tree["bounds"].sizes["layer"] == 2
    assert float(tree["curvature"].to_dataset()["minimum_gradient_norm"]) < 1e-8
    assert tree["bounds"]["value"].notnull().all()
    stagnation = tree["stagnation"].to_dataset()
    assert "Certificate: not available: no constant of a network" in tree.attrs["stay_statement"]
    # The scenario asks for four quenches; after 8 steps none has left the basin of the start.
    assert stagnation["basin"].values.tolist() == [0] * 4 + [-1] * 2
    assert int(stagnation["basins"]) == 1
    final = tree["trajectory"].to_dataset()["distance"].isel(step=-1).values[:4]
    np.testing.assert_allclose(stagnation["nearest_minimum_distance"][:4], final, rtol=1e-4)
    np.testing.assert_allclose(stagnation["symmetry_distance"][:4], final, rtol=1e-4)


def test_no_quench_where_none_is_asked_for():
    settings = ["problem.model.hidden=[4]", "minimum.quenches=0"]
    scenario = load_scenario("stagnation-mlp", [*TINY, *settings])
    assert isinstance(scenario, StagnationScenario)
    task = build_task(scenario.problem)
    network = start_network(scenario, task)
    ends = jax.tree.map(lambda a: a[None], network)
    values, sentence = final_basins(scenario, task, network, ends, np.zeros(1, bool))
    assert values == {}
    assert "minimum.quenches = 0" in sentence


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("stagnation", ["dynamics.kind=gd"]),
        ("stagnation", ["problem.ridge=0"]),
        ("stagnation-mlp", ["dynamics.noise.kind=isotropic", "dynamics.noise.variance=1e-4"]),
    ],
)
def test_an_automatic_radius_without_a_formula_is_refused(tmp_path, name, settings):
    with pytest.raises(ScenarioError, match=r"stagnation\.radius: 'auto' has no value here"):
        _run(tmp_path, name, *settings)
    assert not (tmp_path / "run").exists()


def test_more_devices_than_there_are(tmp_path):
    with pytest.raises(SgdsimError, match=r"compute\.devices = 99"):
        _run(tmp_path, "stagnation", "stagnation.radius=1.0", "compute.devices=99")
