"""The bounds study: what a small run stores is what the library says of its networks."""

import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import sgdsim
from sgdsim._errors import ScenarioError, SgdsimError
from sgdsim.bounds import (
    CERTIFICATES,
    FACTORS,
    LOSS_RANGE,
    MEASURES,
    BoundInputs,
    GeometricGrid,
    GradientStream,
    MarginSample,
    TrainingSample,
    assess,
    double_width,
    expectation_bounds,
    join_streams,
    layer_distances,
    layer_norms,
    rescale_nodes,
)
from sgdsim.dynamics import sgld
from sgdsim.problems import Network, build_task, cast
from sgdsim.runs._bounds_table import print_run_bounds
from sgdsim.runs._mean_gap import (
    INFORMATION,
    build_observer,
    expectation_labels,
    mean_gap_bounds,
    mean_gap_slack,
    why_none,
)
from sgdsim.runs._reference import Reference, find_reference
from sgdsim.runs._training_report import print_training
from sgdsim.scenario import BoundsScenario, load_scenario
from sgdsim.store import CHANGES, PointStore, validate
from sgdsim.testing import assert_same_run, path_norm

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("lean")]

#: The smallest networks on the smallest population of which anything can be learnt.
SCENARIO = """study = "bounds"
name = "corners"
title = "Corners [of a cube]"
[problem]
kind = "classification"
ridge = 0.0
[problem.data]
kind = "hypercube"
dimension = 5
training = 24
reference = 24
split_seed = 0
[problem.model]
kind = "mlp"
hidden = [4]
activation = "relu"
[start]
kind = "random"
[dynamics]
kind = "sgd"
learning_rate = 0.5
batch_size = 8
[training]
target = 0.3
reference_target = 0.5
[ensemble]
trajectories = 2
steps = 40
record_every = 5
chunk_steps = 20
seed = 0
[measuring]
draws = 4
deviations = [0.01, 0.1]
[bounds]
failure_probability = 0.05
margin = "auto"
grid_low = 1e-3
grid_high = 1e4
grid_ratio = 1.5
[[claim]]
quantity = "reached"
at_least = 1.0
text = "A claim [/with] brackets."
source = "s"
[[claim]]
quantity = "certificate_violations"
at_most = 0.0
text = "No certificate lies."
source = "s"
[[claim]]
quantity = "decomposition_error"
at_most = 1e-9
text = "Factors add up."
source = "s"
[[claim]]
quantity = "bound_value"
bound = "VC"
at_most = 10.0
text = "One bound."
source = "s"
[[claim]]
quantity = "kendall_tau"
bound = "VC"
at_most = 1.0
text = "Only a sweep has it."
source = "s"
"""
LANGEVIN = [
    'dynamics={kind = "sgld", learning_rate = 0.1, inverse_temperature = 50.0}',
    "ensemble.record_every=1",
]


def loaded(file: Path, *settings: str, without: str = "") -> BoundsScenario:
    """The scenario, changed."""
    if without:
        short = file.with_name("short.toml")
        short.write_text(file.read_text().replace(without, ""))
        file = short
    scenario = load_scenario(file, settings)
    assert isinstance(scenario, BoundsScenario)
    return scenario


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "corners.toml"
    path.write_text(SCENARIO)
    return path


@pytest.fixture(scope="module")
def whole(file: Path, tmp_path_factory: pytest.TempPathFactory, lean: None) -> Path:
    """The run without interruption."""
    out = tmp_path_factory.mktemp("whole") / "run"
    sgdsim.run(loaded(file), out, quiet=True)
    return out


@pytest.fixture(scope="module")
def tree(whole: Path) -> xr.DataTree:
    return sgdsim.open_run(whole).load()


@pytest.fixture(scope="module")
def bounds(tree: xr.DataTree) -> xr.Dataset:
    return tree["bounds"].to_dataset()


@pytest.fixture(scope="module")
def reference(file: Path, lean: None) -> Reference:
    """What a run fixes without its training rows."""
    with jax.enable_x64(True):
        return find_reference(loaded(file))


def matrices(network: Network) -> list[np.ndarray]:
    return [np.asarray(matrix, np.float64) for matrix in network.weights]


def started(reference: Reference) -> list[np.ndarray]:
    """Weights at step 0: the initialisation in the precision of the trajectories."""
    return [matrix.astype(np.float32).astype(np.float64) for matrix in matrices(reference.start)]


def outputs(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    for matrix in weights[:-1]:
        x = np.maximum(x @ matrix.T, 0.0)
    return x @ weights[-1].T


def margins_of(weights: list[np.ndarray], rows) -> np.ndarray:
    scores, targets = outputs(weights, np.asarray(rows.inputs)), np.asarray(rows.targets)
    right = (scores * targets).sum(axis=1)
    return right - np.where(targets > 0, -np.inf, scores).max(axis=1)


def test_shapes_and_labels(whole, tree, bounds):
    assert validate(whole) == []
    assert dict(tree["trajectory"].sizes) == {"trajectory": 2, "step": 9}
    assert bounds["probe"].values.tolist() == [0, 20, 40]
    assert bounds["factor"].values.tolist() == list(FACTORS)
    assert bounds["change"].values.tolist() == list(CHANGES)
    assert bounds["layer"].size == 2
    assert bounds["expectation"].size == 0
    kinds = dict(zip(bounds["bound"].values.tolist(), bounds["kind"].values.tolist(), strict=True))
    missing = {*CERTIFICATES, *MEASURES} - set(kinds)
    known = {"reference", "radius", "initial", "gibbs", *bounds["ingredient"].values.tolist()}
    registry = {**CERTIFICATES, **MEASURES}
    assert all(set(registry[name].needs) - known for name in missing), "nothing else is left out"
    others = {"BFT-fixed", "steps.to.0.1", "steps.0.1.to.0.01", "gradient.noise.epoch.1"}
    assert {name for name in missing if not name.endswith("_fft")} == others
    for name, kind in kinds.items():
        assert kind == ("certificate" if name in CERTIFICATES else "measure")
    share = 0.05 / sum(kind == "certificate" for kind in kinds.values())
    certified = bounds["kind"].values == "certificate"
    holds = bounds["holds_with_probability"].values
    np.testing.assert_allclose(holds[certified], 1 - share)
    assert np.isnan(holds[~certified]).all()


def test_what_is_known(bounds):
    """Certificates apply to a relu network with one hidden layer, all but the linear one."""
    certified = bounds.isel(bound=np.flatnonzero(bounds["kind"].values == "certificate"))
    unknown = certified["value"].isnull()
    assert set(certified["bound"].values[unknown.any(["trajectory", "probe"])]) == {"linear"}
    assert bool((certified["assumption_violated"] == unknown).all())
    assert bool((certified["vacuous"] == (certified["value"] > 1)).where(~unknown, True).all())
    measures = bounds.isel(bound=np.flatnonzero(bounds["kind"].values == "measure"))
    assert bool((measures["assumption_violated"] == -1).all())
    assert bool((measures["vacuous"] == -1).all())
    assert int(measures["value"].notnull().all(["trajectory", "probe"]).sum()) > 20


def test_factors_add_up(bounds):
    parts = bounds["log_factor"].sum("factor", skipna=False)
    finite = np.isfinite(bounds["log_value"].values)
    assert finite.mean() > 0.6
    np.testing.assert_allclose(parts.values[finite], bounds["log_value"].values[finite], atol=1e-9)
    plain = finite & ~bounds["bound"].str.startswith("log.").values  # those are logarithms
    np.testing.assert_allclose(
        np.exp(bounds["log_value"].values[plain]), bounds["value"].values[plain], rtol=1e-9
    )


def test_certificates_are_above_the_exact_gap(bounds):
    certified = bounds.isel(bound=np.flatnonzero(bounds["kind"].values == "certificate"))
    value, gap = certified["value"], certified["generalization_gap"]
    assert bool((value >= gap).where(value.notnull(), True).all())
    expected = (value / gap).where(gap > 0)
    np.testing.assert_allclose(certified["tightness"].values, expected.values)
    of_margin = ~certified["bound"].str.startswith("PB-").values
    assert np.all(certified["generalization_gap_stderr"].values[..., of_margin] == 0), "exact"
    assert np.all(bounds["zero_one_gap_stderr"] == 0)


def test_a_trajectory_stops_where_its_loss_is_at_the_target(tree, bounds):
    loss = tree["trajectory"]["loss"]
    stopped = bounds["stopped_step"]
    assert bool((stopped > 0).all())
    assert bool((loss > 0.3).where(loss["step"] < stopped, True).all())
    assert bool((loss <= 0.3).where(loss["step"] >= stopped, True).all())
    for number in range(2):
        late = loss[number].values[loss["step"].values >= int(stopped[number])]
        assert late.size > 1
        assert np.ptp(late) == 0, "it moves no more"
    reached = (bounds["probe"] >= stopped).transpose("trajectory", "probe")
    np.testing.assert_array_equal(bounds["reached"].values, reached.values)
    assert bool((tree["trajectory"]["status"] == 1).all())


def test_claims(tree):
    claims = tree["claims"].to_dataset()
    assert claims["holds"].values.tolist() == [1, 1, 1, 1, 0]
    assert claims["measured"].values[:2].tolist() == [1.0, 0.0]
    assert np.isnan(claims["measured"].values[4]), "only a sweep has it"


def test_the_start_by_hand(file, bounds, reference):
    """Gaps and norms at step 0 are those of the initial network, over all 32 corners."""
    task = build_task(loaded(file).problem)
    weights = started(reference)
    population, training = (
        np.mean(margins_of(weights, rows) <= 0) for rows in (task.held_out, task.training)
    )
    assert len(task.held_out.inputs) == 32
    first = bounds.isel(probe=0)
    np.testing.assert_allclose(first["zero_one_gap"].values, population - training)
    spectral = [np.linalg.svd(matrix, compute_uv=False)[0] for matrix in weights]
    assert np.all(first["spectral_norm_low"].values <= np.array(spectral) * (1 + 1e-9))
    assert np.all(first["spectral_norm_high"].values >= np.array(spectral) * (1 - 1e-9))
    frobenius = [np.linalg.norm(matrix) for matrix in weights]
    np.testing.assert_allclose(first["frobenius_norm"].values, [frobenius] * 2)
    away = [
        np.linalg.norm(a - b) for a, b in zip(weights, matrices(reference.network), strict=True)
    ]
    np.testing.assert_allclose(first["distance_from_reference"].values, [away] * 2)
    assert np.all(first["distance_from_start"].values < 1e-6), "but for rounding"
    positive = margins_of(matrices(reference.network), task.reference)
    np.testing.assert_allclose(bounds["margin"], np.median(positive[positive > 0]), rtol=1e-6)


def test_values_are_those_of_a_direct_call(file, bounds, reference):
    scenario = loaded(file)
    task = build_task(scenario.problem)
    weights, centre = started(reference), matrices(reference.network)
    from_reference = layer_distances(weights, centre)
    x = np.asarray(task.training.inputs, np.float64)
    inputs = BoundInputs(
        iterate=layer_norms(weights),
        sample=TrainingSample(
            size=24,
            input_bound=task.input_bound,
            frobenius=float(np.linalg.norm(x)),
            largest_column=float(np.linalg.norm(x, axis=0).max()),
        ),
        margin=float(bounds["margin"]),
        failure_probability=1 - float(bounds["holds_with_probability"].max()),
        grid=GeometricGrid(1e-3, 1e4, 1.5),
        activation="relu",
        reference=layer_norms(centre),
        radius=from_reference.radius,
        initial=layer_distances(weights, matrices(reference.start)),
        measured={"path_norm_1": np.array(path_norm(weights))},
    )
    margins = MarginSample(
        margins_of(weights, task.training), margins_of(weights, task.held_out), exact=True
    )
    names = [
        name
        for name, entry in {**CERTIFICATES, **MEASURES}.items()
        if set(entry.needs) <= {"reference", "radius", "initial", "path_norm_1"}
        and name in bounds["bound"].values
    ]
    assert {"G1", "G2", "G3", "BFT", "BFT-init", "path", "VC", "l2.dist"} <= set(names)
    found = assess(inputs, margins, names)
    stored = bounds.isel(probe=0, trajectory=1).sel(bound=list(found.names))
    for column, values in {
        "log_value": found.log_value,
        "generalization_gap": found.gap,
        "tightness": found.tightness,
        "log_factor": found.log_factor,
    }.items():
        np.testing.assert_allclose(stored[column].values, values, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(stored["vacuous"].values, found.vacuous)
    np.testing.assert_array_equal(stored["assumption_violated"].values, found.assumption_violated)


@pytest.mark.parametrize("change", ["width_doubling", "node_rescaling"])
def test_declared_invariances(bounds, change):
    ratio = bounds["log_ratio_after"].sel(change=change)
    registry = {**CERTIFICATES, **MEASURES}
    declared = [n for n in bounds["bound"].values if change in registry[n].invariances]
    known = ratio.sel(bound=declared)
    finite = known.notnull().all("trajectory").values
    assert finite.sum() >= 5
    # An average sharpness is a small difference of means over draws.
    tolerance = np.where(np.asarray(declared) == "sharpness.average", 1e-6, 1e-9)
    off = np.abs(known.values)[:, finite]
    assert np.all(off <= tolerance[finite]), np.asarray(declared)[finite][(off > 1e-9).any(axis=0)]
    assert {"path"} <= set(np.asarray(declared)[finite])
    moved = np.abs(ratio.sel(bound=["NBS", "l2", "fro.dist"]))
    assert bool((moved > 1e-3).all()), moved.values


def test_changes_of_the_network_are_those_of_the_library(reference):
    """Doubled width and rescaled nodes keep the function that the ratios are about."""
    weights = matrices(reference.network)
    x = np.random.default_rng(0).normal(size=(20, weights[0].shape[1]))
    for change in (double_width, rescale_nodes):
        np.testing.assert_allclose(outputs(change(weights), x), outputs(weights, x), rtol=1e-9)


def test_the_constant_predictor_has_smaller_norm_bounds(bounds):
    ratio = bounds["log_ratio_after"].sel(change="constant_predictor")
    assert bool((ratio.sel(bound=["BFT", "NBS", "NTS", "GRS", "path"]) < 0).all())
    assert bool((ratio.sel(bound=["VC", "params"]) == 0).all()), "they count weights"


def test_what_the_command_prints(whole, tree, bounds):
    console = Console(file=io.StringIO(), width=200)
    print_training(tree, console)
    print_run_bounds(str(whole), console)
    assert isinstance(console.file, io.StringIO)
    after, command = console.file.getvalue().split("Corners [of a cube]")[1:]
    gap = float(bounds["zero_one_gap"].isel(probe=-1).mean())
    assert console.file.getvalue().startswith(
        f"2 of 2 trajectories reached the target loss; error rate gap {gap:.3g}."
    )
    for name in bounds["bound"].values.tolist():
        assert f"│ {name} " in command
        assert (f"│ {name} " in after) == (name in CERTIFICATES)


class Killed(BaseException):
    """What nothing catches, as nothing catches a kill."""


@pytest.mark.parametrize("number", [2, 10])
def test_killed_at_a_write_and_resumed(file, whole, tmp_path, monkeypatch, number):
    write, left = PointStore.write, [number]

    def dying(self, *arguments, **keywords):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return write(self, *arguments, **keywords)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(PointStore, "write", dying)
        with pytest.raises(Killed):
            sgdsim.run(loaded(file), out, quiet=True)
    assert (out / "run.zarr.partial").is_dir()
    sgdsim.resume(out, quiet=True)
    assert_same_run(whole, out)


def test_a_diverging_run_says_so_and_ends(file, tmp_path):
    out = tmp_path / "run"
    sgdsim.run(loaded(file, "dynamics.learning_rate=1e30"), out, quiet=True)
    tree = sgdsim.open_run(out).load()
    bounds = tree["bounds"].to_dataset()
    assert bool((tree["trajectory"]["status"] == 2).all())
    assert bool((tree["trajectory"]["diverged_step"] > 0).all())
    assert bool((bounds["reached"] == 0).all())
    assert bool((bounds["stopped_step"] == -1).all())
    later = bounds.isel(probe=slice(1, None))
    for name in ("value", "log_value", "generalization_gap", "tightness", "zero_one_gap"):
        # VC counts weights, which are as many as before.
        unknown = later[name].isnull()
        if "bound" in unknown.dims:  # that count weights have as many as before
            unknown = unknown.sel(bound=~unknown["bound"].isin(["VC", "params", "vc.dimension"]))
        assert bool(unknown.all()), name
    assert bool(bounds["log_value"].isel(probe=0).sel(bound="BFT").notnull().all())
    claims = tree["claims"].to_dataset()
    assert (claims["measured"].values[0], claims["holds"].values[0]) == (0.0, 0)


def test_a_reference_target_that_is_not_reached_is_one_sentence(file, tmp_path):
    scenario = loaded(file, "training.target=1e-6", "training.reference_steps=3")
    with pytest.raises(SgdsimError) as caught:
        sgdsim.run(scenario, tmp_path / "run", quiet=True)
    said = str(caught.value)
    assert said.startswith("the network on the reference rows has the loss ")
    assert "after 3 steps of Adam and not training.target = 1e-06; raise training.target" in said
    assert not (tmp_path / "run" / "run.zarr.partial").exists()
    without = loaded(
        file,
        "training.reference_target=1e-6",
        "training.reference_steps=3",
        without="target = 0.3\n",
    )
    refused = pytest.raises(SgdsimError, match=r"and not training\.reference_target = 1e-06; ")
    with jax.enable_x64(True), refused:
        find_reference(without)


def test_a_claim_about_an_unknown_bound_is_refused_first(file, tmp_path):
    scenario = loaded(file, "claim.3.bound=BFTT")
    with pytest.raises(ScenarioError) as caught:
        sgdsim.run(scenario, tmp_path / "run", quiet=True)
    assert str(caught.value) == (
        "claim.3.bound: no bound or measure of this study is called 'BFTT'. Did you mean 'BFT'?"
    )
    assert not (tmp_path / "run").exists()


def test_bounds_on_the_mean_gap_need_injected_noise_and_all_steps(file):
    without = {"without": "target = 0.3\n"}
    full = ["population_chain", "gradient_entropy", "gradient_norm", "incoherence", "conditional"]
    isotropic = [
        "dynamics={kind = 'gaussian_sgd', learning_rate = 0.1, "
        "noise = {kind = 'isotropic', variance = 0.1}}",
        "ensemble.record_every=1",
    ]
    rows = ["dynamics={kind = 'gaussian_sgd', learning_rate = 0.1, batch_size = 8}"]
    assert expectation_labels(loaded(file, *LANGEVIN)) == []
    assert expectation_labels(loaded(file, *isotropic)) == []
    assert expectation_labels(loaded(file, *LANGEVIN, **without)) == full
    assert expectation_labels(loaded(file, *isotropic, **without)) == full
    assert expectation_labels(loaded(file, *rows, **without)) == []
    assert expectation_labels(loaded(file, **without)) == []
    few = [*LANGEVIN, "problem.data.reference=20"]
    assert expectation_labels(loaded(file, *few, **without)) == full[:-1]
    thinned = [*LANGEVIN, "ensemble.record_every=2"]
    assert expectation_labels(loaded(file, *thinned, **without)) == []
    reasons = {
        "the gradients of every step count": loaded(file, *thinned, **without),
        "training stops at a loss": loaded(file, *LANGEVIN),
        "noise that does not know the training rows": loaded(file, *rows, **without),
    }
    for reason, scenario in reasons.items():
        assert reason in why_none(scenario)
    assert why_none(loaded(file, *LANGEVIN, **without)) == ""


def test_bounds_on_the_mean_gap_are_those_of_the_stored_statistics(file, tmp_path):
    scenario = loaded(file, *LANGEVIN, without="target = 0.3\n")
    sgdsim.run(scenario, tmp_path / "run", quiet=True)
    tree = sgdsim.open_run(tmp_path / "run").load()
    trajectory, bounds = tree["trajectory"].to_dataset(), tree["bounds"].to_dataset()
    recorded: dict[str, Any] = {
        name: trajectory[name].values[:, :-1].astype(np.float64) for name in INFORMATION
    }
    assert all(np.isfinite(values).all() for values in recorded.values())
    recorded["pair_square"] = recorded["pair_square"][..., None]
    stream = GradientStream(
        step=np.arange(40),
        learning_rate=np.full(40, np.float32(0.1), np.float64),
        noise_variance=np.full(40, 2 * np.float32(0.1) / 50.0, np.float64),
        samples=24,
        parameters=4 * 6 + 2 * 4,  # an input has a constant besides the five coordinates
        batch_factor=1 / 8,
        **recorded,
    )
    found = expectation_bounds(stream, LOSS_RANGE)
    names = bounds["expectation"].values.tolist()
    assert set(names) <= set(found)
    for name in names:
        stored = bounds["expected_gap_bound"].sel(expectation=name)
        assert np.isnan(stored[0])
        np.testing.assert_allclose(stored[1:], found[name].value[[19, 39]], rtol=1e-6)
        error = bounds["expected_gap_bound_stderr"].sel(expectation=name)
        np.testing.assert_allclose(error[1:], found[name].stderr[[19, 39]], rtol=1e-5)
    mean = bounds["zero_one_gap"].mean("trajectory")
    np.testing.assert_allclose(bounds["mean_gap"], mean)
    spread = bounds["zero_one_gap"].std("trajectory", ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(bounds["mean_gap_stderr"], spread)
    assert bool((bounds["expected_gap_bound"][1:] > bounds["mean_gap"][1:]).all())
    assert bounds["reached"].values.tolist() == [[0, 0, 1]] * 2
    assert bool((bounds["stopped_step"] == -1).all())
    assert tree.attrs["mean_gap_statement"] == ""
    # Two training sets (here the same one) are joined before the means are taken.
    sets = {
        name: xr.concat([group, group], "split_seed")
        for name, group in (("trajectory", trajectory), ("bounds", bounds))
    }
    swept = xr.DataTree.from_dict(sets)
    points = loaded(
        file, *LANGEVIN, "sweep={'problem.data.split_seed' = [0, 1]}", without="target = 0.3\n"
    )
    swept.attrs["scenario"] = points.canonical_json()
    joined = expectation_bounds(join_streams([stream, stream]), LOSS_RANGE)
    smallest = min(float(bound.value[-1]) for bound in joined.values())
    with jax.enable_x64(True):
        slack = mean_gap_slack(swept, points.claim[0])
    assert slack == pytest.approx(smallest - float(mean[-1]), rel=1e-6)
    # A mean cannot leave out a trajectory that has diverged: nothing is claimed from there on.
    tree["trajectory"].to_dataset()["diverged_step"][1] = 30
    stepper = sgld(0.1, 50.0, batch_size=8)
    again = mean_gap_bounds(scenario, stepper, tree)["expected_gap_bound"]
    assert np.isnan(again[2]).all()
    np.testing.assert_allclose(again[1], bounds["expected_gap_bound"][1], rtol=1e-6)


def test_gradients_of_the_rows_by_hand(file, reference):
    """Statistics at the start against gradients that are written out."""
    scenario = loaded(file, *LANGEVIN, without="target = 0.3\n")
    task = build_task(scenario.problem)
    observe = build_observer(scenario, task, jnp.float32)
    theta = cast(reference.start, jnp.float32)
    seen = observe(task.problem(task.training).astype(jnp.float32), theta)
    first, last = matrices(reference.start)

    def gradients(rows) -> np.ndarray:
        x, y = (np.asarray(leaf, np.float64) for leaf in (rows.inputs, rows.targets))
        before = x @ first.T
        scores = np.maximum(before, 0) @ last.T
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        above = p / p.sum(axis=1, keepdims=True) - y
        below = (above @ last) * (before > 0)
        outer = [
            np.einsum("ni,nj->nij", below, x),
            np.einsum("ni,nj->nij", above, np.maximum(before, 0)),
        ]
        return np.concatenate([part.reshape(len(x), -1) for part in outer], axis=1)

    mine, ghosts, all_rows = map(gradients, (task.training, task.reference, task.held_out))
    mean = mine.mean(axis=0)
    expected = {
        "gradient_square": mean @ mean,
        "covariance_trace": np.mean(np.sum((mine - mean) ** 2, axis=1)),
        "deviation": np.sum((mean - all_rows.mean(axis=0)) ** 2),
        "pair_square": np.mean(np.sum((mine - ghosts[:24]) ** 2, axis=1)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(np.mean(seen[name]), value, rtol=1e-4, err_msg=name)
