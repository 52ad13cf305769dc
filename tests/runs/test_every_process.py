"""Every kind of process and of noise goes through a run; some diverge and disturb nobody."""

import json
from typing import get_args

import numpy as np
import pytest

import sgdsim
from sgdsim.scenario import Dynamics, Noise, load_scenario
from sgdsim.store import validate

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unoptimised")]

SMALL = ["ensemble.steps=4", "ensemble.record_every=2", "ensemble.chunk_steps=4"]
ROWS = "batch_size = 8"

#: One process of every kind, every noise that fits data somewhere, with and without modifiers.
PROCESSES = {
    "gd": "kind = 'gd', weight_decay = 0.1",
    "flow": "kind = 'gradient_flow', order = 2, solver = 'dopri5'",
    "central flow": "kind = 'central_flow', max_critical = 2",
    "edge flow": "kind = 'edge_flow'",
    "sgd": f"kind = 'sgd', {ROWS}, replacement = false, schedule = {{kind = 'warmup', steps = 2,"
    " then = {kind = 'cosine', steps = 4}}",
    "svag": f"kind = 'svag', {ROWS}, l = 2, projection = {{kind = 'spectral', bound = 0.5}}",
    "sgld": f"kind = 'sgld', {ROWS}, inverse_temperature = 1e5",
    "label-noise sgd": f"kind = 'label_noise_sgd', {ROWS}, std = 0.1",
    "hessian": f"kind = 'gaussian_sgd', {ROWS}, noise = {{kind = 'hessian_aligned', "
    "form = 'cross_entropy'}",
    "low rank": f"kind = 'gaussian_sgd', {ROWS}, noise = {{kind = 'low_rank', rank = 2}}",
    "stable": "kind = 'gaussian_sgd', noise = {kind = 'stable', alpha = 1.7, "
    "base = {kind = 'isotropic', variance = 1e-5}}",
    "sde of order 2": f"kind = 'sde', {ROWS}, substeps = 2, order = 2, "
    "noise = {kind = 'label', std = 0.1}",
    "heun": f"kind = 'sde', {ROWS}, substeps = 2, solver = 'heun', ito_correction = true, "
    "resolution = 4",
    "shark": "kind = 'sde', substeps = 1, solver = 'shark', "
    "noise = {kind = 'langevin', inverse_temperature = 1e5}",
    "heavy ball": f"kind = 'heavy_ball', momentum = 0.9, {ROWS}, noise = {{kind = 'diagonal'}}",
    "nesterov": f"kind = 'nesterov', momentum = 0.9, {ROWS}, noise = {{kind = 'student', "
    "degrees = 4.0, base = {kind = 'minibatch', replacement = false}}",
    "rmsprop": "kind = 'rmsprop'",
    "adam": f"kind = 'adam', {ROWS}, weight_decay = 0.1, schedule = {{kind = 'linear', "
    "final = 0.0, steps = 8}, projection = {kind = 'ball', radius = 2.0}",
    "sam": f"kind = 'sam', rho = 0.01, {ROWS}",
    "underdamped": f"kind = 'underdamped_sde', momentum = 0.9, {ROWS}, substeps = 2",
    "quicsort": "kind = 'underdamped_sde', momentum = 0.9, substeps = 1, solver = 'quicsort', "
    "noise = {kind = 'isotropic', variance = 1e-4}, projection = {kind = 'box', low = -1.0, "
    "high = 1.0}",
    "rmsprop sde": f"kind = 'rmsprop_sde', {ROWS}, substeps = 1, epsilon = 0.1",
    "adam sde": f"kind = 'adam_sde', {ROWS}, substeps = 1, epsilon = 0.1",
}
NOT_JUDGED = [
    "flow",
    "central flow",
    "edge flow",
    "heavy ball",
    "nesterov",
    "rmsprop",
    "adam",
    "sam",
]
NOT_JUDGED += ["underdamped", "quicsort", "rmsprop sde", "adam sde"]


def processes(tables: dict[str, str], learning_rate: float = 0.01) -> list[str]:
    entries = (
        f"{{name = '{name}', dynamics = {{learning_rate = {learning_rate}, {table}}}}}"
        for name, table in tables.items()
    )
    return ["claim = []", f"process = [{', '.join(entries)}]"]


@pytest.fixture(scope="module")
def every(tmp_path_factory, memories, unoptimised, undrawn):
    # In float64 no two of them agree by rounding.
    settings = [*processes(PROCESSES), *SMALL, "ensemble.trajectories=2"]
    settings += ["validity.trajectories=1", "compute.precision=float64"]
    scenario = load_scenario(memories, settings)
    with undrawn():
        out = sgdsim.run(scenario, tmp_path_factory.mktemp("every") / "run", quiet=True)
    return sgdsim.open_run(out).load()


def test_every_kind_of_the_schema_is_run():
    def kinds(union) -> set[str]:
        tables = get_args(get_args(union)[0])
        return {get_args(table.model_fields["kind"].annotation)[0] for table in tables}

    settings = " ".join(PROCESSES.values())
    # A constant matrix is for few parameters; it runs on a landscape below.
    for kind in (kinds(Dynamics) | kinds(Noise)) - {"constant"}:
        assert f"kind = '{kind}'" in settings, kind


def test_every_process_moves_in_its_own_way(every):
    dynamics = every["dynamics"].to_dataset()
    assert dynamics["process"].values.tolist() == list(PROCESSES)
    assert np.all(dynamics["status"] == 1)
    assert np.isfinite(dynamics["loss"]).all()
    first = dynamics["loss"].isel(step=0).values
    np.testing.assert_allclose(first, first[0, 0], rtol=1e-6)
    last = dynamics["loss"].isel(step=-1).values
    assert np.all(abs(last - first) > 1e-5)
    # Nobody does what another one does, and nobody is thrown far in four small steps.
    assert len(np.unique(last[:, 0])) == len(PROCESSES)
    assert np.all(abs(last - last[0]) < 1)
    # Without random numbers trajectories are equal, with them they are not.
    same = {name for name, row in zip(PROCESSES, last, strict=True) if row[0] == row[1]}
    assert same == {"gd", "flow", "central flow", "edge flow", "rmsprop"}


def test_only_plain_processes_are_judged(every):
    verdicts = json.loads(every.attrs["verdicts"])
    assert list(verdicts) == list(PROCESSES)
    silent = [name for name, text in verdicts.items() if text.startswith("SDE not judged")]
    assert silent == NOT_JUDGED
    gauge = every["dynamics"]["sde_gauge"]
    unjudged = gauge.isnull().all("probe").values
    assert [name for name, none in zip(verdicts, unjudged, strict=True) if none] == NOT_JUDGED


def test_a_sweep_over_l_compares_like_with_like(every):
    """SVAG is projected here and SGD has a schedule: no sweep may mix them."""
    for sentence in json.loads(every.attrs["verdicts"]).values():
        assert "SVAG l" not in sentence


def test_constant_noise_on_a_landscape(tmp_path):
    """In two dimensions, anisotropic: the noise of the first coordinate alone makes it escape."""
    covariance = "[[20.0, 0.0], [0.0, 1e-6]]"
    settings = [
        "problem.landscape.transverse=2.0",
        "start.theta=[-1.0, 0.0]",
        *processes(
            {
                "gaussian": f"kind='gaussian_sgd', noise={{kind='constant', "
                f"covariance={covariance}}}",
                "flow": "kind='gradient_flow'",
            },
            learning_rate=0.1,
        ),
        "ensemble.trajectories=16",
        "ensemble.steps=100",
        "ensemble.record_every=10",
        "ensemble.chunk_steps=50",
    ]
    out = sgdsim.run(load_scenario("double-well", settings), tmp_path / "run", quiet=True)
    assert validate(out) == []
    dynamics = sgdsim.open_run(out)["dynamics"].to_dataset()
    position = dynamics["position"].isel(process=0)
    assert position.isel(coordinate=0, step=-1).std() > 0.3
    assert position.isel(coordinate=1, step=-1).std() < 0.01
    escaped = dynamics["escape_step"].values >= 0
    assert escaped[0].any()
    assert not escaped[1].any()
    # The theory of escapes is one of white noise; there is none for these two.
    for name in ("kramers_time", "exact_escape_time", "corrected_escape_time"):
        assert dynamics[name].isnull().all()
    assert dynamics["mean_escape_time"].values[1] == np.inf
    np.testing.assert_allclose(dynamics["position"].isel(process=1, step=-1), [[-1.0, 0.0]] * 16)


@pytest.fixture(scope="module")
def diverging(tmp_path_factory, memories, unoptimised):
    settings = [
        "process.0.dynamics.learning_rate=1e12",
        "process.2.dynamics={kind='sgd', learning_rate=0.1, batch_size=8}",
        "validity.tolerance=0.5",
    ]
    scenario = load_scenario(memories, [*settings, "ensemble.steps=12"])
    out = sgdsim.run(scenario, tmp_path_factory.mktemp("diverging") / "run", quiet=True)
    return out, sgdsim.open_run(out).load()


def test_a_process_that_diverges_says_when(diverging):
    _, tree = diverging
    dynamics = tree["dynamics"].to_dataset()
    lost = dynamics.isel(process=0)
    assert np.all(lost["status"] == 2)
    assert np.all(lost["diverged_step"] > 0)
    late = lost["step"] >= lost["diverged_step"]
    assert lost["loss"].where(late).isnull().all()
    assert lost["loss"].where(~late & (lost["step"] == 0), 0).notnull().all()
    assert lost["late_loss"].isnull().all()
    assert lost["mean_loss"].isel(step=-1).isnull()
    assert lost["hessian_eigenvalue"].isel(probe=-1).isnull().all()


def test_it_disturbs_no_other_process(diverging):
    out, tree = diverging
    others = tree["dynamics"].to_dataset().isel(process=slice(1, None))
    assert np.all(others["status"] == 1)
    assert np.all(others["diverged_step"] == -1)
    for name in ("loss", "mean_loss", "late_loss", "hessian_eigenvalue"):
        assert others[name].notnull().all(), name
    verdicts = json.loads(tree.attrs["verdicts"])
    first = int(tree["dynamics"]["diverged_step"][0].min())
    lost = f"3 of 3 trajectories diverged, the first at step {first}. SDE invalid"
    assert verdicts["SGD [/plain]"].startswith(lost)
    assert verdicts["heavy ball"].startswith("SDE not judged")
    assert verdicts["Adam"].startswith("SDE valid throughout"), "it is SGD here"
    claims = tree["claims"].to_dataset()
    assert claims["measured"].isnull().all(), "nothing is left of the first to compare with"
    assert claims["holds"].values.tolist() == [0]
    assert len(list((out / "figures").iterdir())) == 4


def test_one_trajectory_has_no_standard_error(tmp_path, memories):
    settings = [*processes({"sgd": f"kind='sgd', {ROWS}"}), "ensemble.trajectories=1"]
    out = sgdsim.run(load_scenario(memories, settings), tmp_path / "run", quiet=True)
    dynamics = sgdsim.open_run(out)["dynamics"].to_dataset()
    assert dynamics["mean_loss_stderr"].isnull().all()
    np.testing.assert_allclose(dynamics["mean_loss"], dynamics["loss"].isel(trajectory=0))
    assert dict(dynamics["hessian_eigenvalue"].sizes)["member"] == 1
