"""The edge study as a whole: records, forks, shorter processes, kills, claims."""

import io
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import sgdsim
from sgdsim._errors import ScenarioError
from sgdsim.curvature import SpectralDensity
from sgdsim.plotting import save_figures
from sgdsim.runs._edge import EdgeRun
from sgdsim.runs._edge_report import print_edge
from sgdsim.scenario import EdgeScenario, load_scenario
from sgdsim.store import EDGE_OPERATORS, EDGE_STATES, validate
from sgdsim.testing import assert_same_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("lean")]

TINY = """study = "edge"
name = "tiny-edge"
title = "Processes that [leave] each other"
[problem]
kind = "regression"
data = {kind = "chebyshev", degree = 2, training = 6}
model = {kind = "mlp", hidden = [3], activation = "tanh"}
[start]
kind = "random"
each = true
[ensemble]
trajectories = 2
steps = 24
record_every = 2
chunk_steps = 8
seed = 0
[curvature]
eigenvalues = 2
most_batches = 4
sketch = 64
[[process]]
name = "SGD"
dynamics = {kind = "sgd", learning_rate = 0.1, batch_size = 2}
[[process]]
name = "SGD, the same"
fork = {process = "SGD", step = 8}
dynamics = {kind = "sgd", learning_rate = 0.1, batch_size = 2}
[[process]]
name = "Adam"
steps = 16
dynamics = {kind = "adam", learning_rate = 0.01}
[[process]]
name = "GD from Adam"
fork = {process = "Adam", step = 8}
dynamics = {kind = "gd", learning_rate = 0.1}
[[claim]]
quantity = "survived"
processes = ["SGD"]
at_least = 1.0
text = "Nothing diverges."
source = "s"
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenario."""
    path = tmp_path_factory.mktemp("scenario") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, file: Path, lean: None) -> Path:
    """The run without interruption."""
    out = tmp_path_factory.mktemp("whole") / "run"
    sgdsim.run(load_scenario(file), out, quiet=True)
    return out


@pytest.fixture(scope="module")
def edge(whole: Path) -> xr.Dataset:
    """What it stored."""
    return sgdsim.open_run(whole)["edge"].to_dataset().load()


def test_the_dataset_is_whole_and_the_claim_holds(whole):
    assert validate(whole) == []
    assert sgdsim.open_run(whole)["claims"].to_dataset()["holds"].values.tolist() == [1]


def test_a_fork_with_the_same_numbers_goes_on_bit_for_bit(edge):
    parent, child = edge.sel(process="SGD"), edge.sel(process="SGD, the same")
    later = edge["step"] >= 8
    for name in ("loss", "sharpness", "midpoint_sharpness", "batch_sharpness", "sketch"):
        expected = parent[name].isel(step=np.asarray(later)).values
        found = child[name].isel(step=np.asarray(later)).values
        np.testing.assert_array_equal(found, expected, err_msg=name)
        assert np.isnan(child[name].isel(step=np.asarray(~later)).values).all(), name


def test_a_fork_into_another_algorithm_starts_where_the_other_is(edge):
    parent, child = edge.sel(process="Adam", step=8), edge.sel(process="GD from Adam", step=8)
    np.testing.assert_array_equal(child["sketch"], parent["sketch"])
    np.testing.assert_array_equal(child["loss"], parent["loss"])
    after = edge.sel(step=10)
    assert (after["loss"].sel(process="Adam") != after["loss"].sel(process="GD from Adam")).all()


def test_a_shorter_process_ends_early(edge):
    one = edge.sel(process="Adam")
    recorded = one["loss"].notnull().all("trajectory")
    assert one["step"].values[recorded.values].tolist() == list(range(0, 17, 2))
    assert (one["status"] == 1).all()
    assert one["time"].notnull().sum() == one["step_size"].notnull().sum() == 9


def test_trajectories_start_from_weights_of_their_own(edge):
    first = edge["loss"].sel(process="SGD").isel(step=0)
    assert float(first[0]) != float(first[1])
    adam = edge["loss"].sel(process="Adam").isel(step=0)
    np.testing.assert_array_equal(first, adam)  # the same ones for every process


def test_every_kind_of_process_has_what_belongs_to_it(edge):
    batches = edge["batch_sharpness"].notnull().any(("trajectory", "step")).values.tolist()
    assert batches == [True, True, False, False]
    adaptive = edge["preconditioned_sharpness"].notnull().any(("trajectory", "step"))
    assert adaptive.values.tolist() == [False, False, True, False]
    operators = [EDGE_OPERATORS[code] for code in edge["operator"].values]
    assert operators == ["hessian", "hessian", "preconditioned_hessian", "hessian"]


def test_thresholds_are_those_of_the_processes(edge, whole):
    at = edge["threshold"].isel(trajectory=0).sel(step=8).values
    np.testing.assert_allclose(at, [20, 20, 3800, 20], rtol=1e-6)
    formulas = json.loads(sgdsim.open_run(whole).attrs["thresholds"])
    assert formulas["SGD"] == "2/eta"


def test_a_run_too_short_is_not_judged_and_says_so(edge, whole):
    assert (edge["final_state"] == EDGE_STATES.index("not_judged")).all()
    sentences = json.loads(sgdsim.open_run(whole).attrs["edge_sentences"])
    assert "too short" in sentences["SGD"]


def test_relu_is_allowed_with_a_note(whole):
    tree = sgdsim.open_run(whole)
    console = Console(width=200, record=True, file=io.StringIO())
    print_edge(tree, console)
    assert "ReLU" not in console.export_text()
    tree.attrs["scenario"] = tree.attrs["scenario"].replace('"tanh"', '"relu"')
    print_edge(tree, console)
    assert "no second derivative at their kinks" in console.export_text()


def test_distances_are_exact_for_few_parameters(edge):
    sketch = edge["sketch"].astype(np.float64)
    expected = np.sqrt(((sketch - sketch.sel(process="SGD")) ** 2).sum("bucket", skipna=False))
    np.testing.assert_allclose(edge["distance"], expected, rtol=1e-12)
    assert (edge["distance_stderr"].fillna(0.0) == 0).all()
    assert float(edge["distance"].sel(process="SGD").max()) == 0.0


class Killed(BaseException):
    """What nothing catches, as nothing catches a kill."""


@pytest.mark.parametrize("at", [(0, 16), (1, 8), (2, 8), (3, 16)])
def test_killed_after_a_chunk_it_goes_on_to_the_same_bits(tmp_path, monkeypatch, file, whole, at):
    out, probe = tmp_path / "run", EdgeRun.probe

    def killed(self):
        probe(self)
        if self.position == at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(EdgeRun, "probe", killed)
        with pytest.raises(Killed):
            sgdsim.run(load_scenario(file), out, quiet=True)
    sgdsim.resume(out, quiet=True)
    assert_same_run(whole, out)


EVERYTHING = """study = "edge"
name = "everything"
title = "All that can be measured"
[problem]
kind = "regression"
data = {kind = "chebyshev", degree = 2, training = 6}
model = {kind = "mlp", hidden = [3], activation = "tanh", output_bias = false}
[start]
kind = "random"
[ensemble]
trajectories = 2
steps = 4
record_every = 1
chunk_steps = 2
seed = 0
[curvature]
also = ["smallest", "gauss_newton", "fisher", "noise", "blocks", "density", "critical",
        "self_stabilisation", "alignment"]
density_probes = 3
density_depth = 14
[[process]]
name = "squares"
dynamics = {kind = "sgd", learning_rate = 0.1, batch_size = 2}
[[process]]
name = "classes"
dynamics = {kind = "gd", learning_rate = 0.1}
[process.problem]
kind = "classification"
ridge = 0.1
data = {kind = "hypercube", training = 8, reference = 8, dimension = 3, classes = 2, split_seed = 0}
model = {kind = "mlp", hidden = [2], activation = "tanh"}
"""


def test_all_that_can_be_measured_and_a_kill(tmp_path, monkeypatch):
    file, probe = tmp_path / "everything.toml", EdgeRun.probe
    file.write_text(EVERYTHING)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    sgdsim.run(load_scenario(file), whole, quiet=True)

    def killed(self):
        probe(self)
        if self.position == (0, 2):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(EdgeRun, "probe", killed)
        with pytest.raises(Killed):
            sgdsim.run(load_scenario(file), out, quiet=True)
    sgdsim.resume(out, quiet=True)
    assert_same_run(whole, out)
    assert validate(whole) == []
    edge = sgdsim.open_run(whole)["edge"].to_dataset()
    along = ("process", "trajectory", "step")
    for name in ("fisher_sharpness", "noise_eigenvalue", "noise_trace", "further_products"):
        assert edge[name].dims == along
        assert (edge[name] > 0).all(), name
    # Two matrices and one vector of biases; two matrices alone.
    assert edge["block_sharpness"].dims == (*along, "block")
    arrays = edge["block_sharpness"].notnull().all(("trajectory", "step")).values.tolist()
    assert arrays == [[True, True, True], [True, True, False]]
    np.testing.assert_array_less(edge["block_sharpness"].max("block"), edge["sharpness"] + 1e-3)
    # Nine and twelve parameters: no more nodes than that.
    assert edge["density_node"].dims == (*along, "draw", "node")
    assert edge["density_node"].shape[3:] == (3, 14)
    nodes = edge["density_node"].notnull().all(("trajectory", "step", "draw")).sum("node")
    assert nodes.values.tolist() == [9, 12]
    np.testing.assert_allclose(edge["density_weight"].sum("node"), 1.0, rtol=1e-5)
    record = edge.sel(process="squares", step=2).isel(trajectory=0)
    quadrature = record[["density_node", "density_weight"]].dropna("node")
    density = SpectralDensity(*(jnp.asarray(quadrature[name].values) for name in quadrature))
    np.testing.assert_allclose(density.nodes[:, -1], record["sharpness"], rtol=1e-3)
    assert float(density.mass_above(-1e6).value) == pytest.approx(1.0)
    figures = {path.name for path in save_figures(sgdsim.open_run(whole), tmp_path / "figures")}
    assert {"density.png", "blocks.png"} <= figures


def test_a_run_without_blocks_and_density_has_none(edge):
    assert edge.sizes["block"] == edge.sizes["draw"] == edge.sizes["node"] == 0


@pytest.mark.parametrize("name", ["gauss_newton", "fisher", "noise", "alignment"])
def test_what_needs_rows_is_refused_on_a_landscape(file, name):
    hyperbola = "{kind='landscape', landscape={kind='hyperbola', product=1.0}}"
    settings = [
        f"process.2.problem={hyperbola}",
        "process.2.start={kind='point', theta=[2.0, 0.7]}",
        "process.3.problem=" + hyperbola,
        f"curvature.also=['{name}', 'blocks', 'density']",
    ]
    with pytest.raises(ScenarioError, match=f"'{name}' needs a network and its rows"):
        load_scenario(file, settings)
    load_scenario(file, [*settings[:3], "curvature.also=['blocks', 'density', 'smallest']"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("process.1.fork.process=Sgd", "no process before this one is called 'Sgd'"),
        ("process.0.fork={process='Adam', step=8}", "no process before this one"),
        ("process.1.fork.step=6", "should be a multiple of ensemble.chunk_steps = 8"),
        ("process.1.fork.step=24", "below the 24 steps of the process"),
        ("curvature.trace_products=1", "one product has no standard error"),
        ("curvature={eigenvalues=9, most_products=8}", "at least eigenvalues = 9"),
        (
            "process.0.dynamics={kind='central_flow', learning_rate=0.1, weight_decay=0.1}",
            "a flow at the edge knows no decoupled decay",
        ),
        ("process.2.steps=20", "should be a multiple of ensemble.chunk_steps = 8"),
        ("process.2.steps=32", "at most ensemble.steps = 24"),
        ("process.1.start={kind='random'}", "a forked process has no start of its own"),
        ("claim.0.processes=['SGD', 'Adam']", "should name one process"),
        ("claim.0.processes=['GD']", "unknown process"),
        ("start={kind='point', theta=[0.0]}", "a point is for a landscape"),
        ("process.2.start={kind='point', theta=[0.0]}", "a point is for a landscape"),
        ("curvature.most_products=1", "should be greater than or equal to 2"),
        ("process.0.dynamics.batch_size=7", "should be at most problem.data.training = 6"),
    ],
)
def test_mistakes_are_told_in_one_sentence(file, setting, words):
    with pytest.raises(ScenarioError, match=r"1 problem\(s\)") as caught:
        load_scenario(file, [setting])
    assert words.lower() in str(caught.value).lower()


def test_a_fork_leaves_a_process_that_is_there(file):
    with pytest.raises(ScenarioError, match="is not there at step 16: it runs from step 0 to 8"):
        load_scenario(file, ["process.0.steps=8", "process.1.fork.step=16"])
    with pytest.raises(ScenarioError, match="is not there at step 8: it runs from step 16 to the"):
        load_scenario(
            file,
            [
                "process.1.fork.step=16",
                "process.2.fork={process='SGD, the same', step=8}",
                "claim=[]",
            ],
        )


def test_a_fork_minimises_what_its_parent_does(file):
    other = "{kind='landscape', landscape={kind='hyperbola', product=1.0}}"
    with pytest.raises(ScenarioError, match="minimises what the process minimises"):
        load_scenario(file, [f"process.3.problem={other}"])


def test_processes_may_have_problems_of_their_own(file, tmp_path):
    scenario = load_scenario(
        file,
        [
            "curvature.also=['blocks', 'density']",
            "process.0.problem={kind='landscape', landscape={kind='hyperbola', product=1.0}}",
            "process.0.start={kind='point', theta=[2.0, 0.7]}",
            "process.0.dynamics={kind='gd', learning_rate=0.1}",
            "process.1.fork={process='SGD', step=8}",
            "process.1.problem={kind='landscape', landscape={kind='hyperbola', product=1.0}}",
            "process.1.dynamics={kind='gd', learning_rate=0.1}",
        ],
    )
    assert isinstance(scenario, EdgeScenario)
    sgdsim.run(scenario, tmp_path / "run", quiet=True)
    edge = sgdsim.open_run(tmp_path / "run")["edge"].to_dataset()
    start = edge.sel(process="SGD").isel(step=0, trajectory=0)
    hessian = [[0.7**2, 2 * 1.4 - 1], [2 * 1.4 - 1, 4.0]]
    np.testing.assert_allclose(start["sharpness"], np.linalg.eigvalsh(hessian)[-1], rtol=1e-5)
    # A landscape has one array, so that its block is all there is.
    np.testing.assert_allclose(start["block_sharpness"].values[0], start["sharpness"], rtol=1e-5)
    assert np.isnan(start["block_sharpness"].values[1:]).all()
    assert start.sizes["block"] == 4
    density = start[["density_node", "density_weight"]].dropna("node")
    for nodes in density["density_node"].values:
        np.testing.assert_allclose(nodes, np.linalg.eigvalsh(hessian), rtol=1e-5)
    # Parameters that are not those of the first process have no distance from it.
    assert edge["distance"].sel(process="Adam").isnull().all()
