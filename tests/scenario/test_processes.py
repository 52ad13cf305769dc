"""The dynamics study: what fits together, what does not and why, composition and --set."""

import json
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from sgdsim._errors import ScenarioError
from sgdsim.scenario import (
    KNOWN_QUANTITIES,
    DynamicsScenario,
    Scenario,
    Sde,
    Sgd,
    load_scenario,
    to_toml,
)

Write = Callable[[str, str], str]


def load(name: str, *settings: str) -> DynamicsScenario:
    scenario = load_scenario(name, settings)
    assert isinstance(scenario, DynamicsScenario)
    return scenario


def message(name: str, *settings: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name, settings)
    return str(caught.value)


@pytest.fixture
def on_data(side_by_side: str, write: Write) -> str:
    return write("mine.toml", side_by_side)


@pytest.fixture
def on_landscape(landscape: dict[str, Any], write: Write) -> str:
    return write("wells.toml", to_toml(DynamicsScenario.model_validate(landscape)))


def test_the_study_decides_the_class(on_data: str) -> None:
    scenario = load(on_data)
    assert [process.name for process in scenario.process] == ["sgd", "the SDE"]
    assert scenario.validity.eigenvalues == 8
    assert scenario.escape is None
    assert Scenario.from_json(scenario.canonical_json()) == scenario
    assert json.loads(scenario.canonical_json())["study"] == "dynamics"
    again = DynamicsScenario.model_validate(tomllib.loads(to_toml(scenario)))
    assert again == scenario


def test_every_explanation_stands_once_among_the_entries(on_data: str) -> None:
    text = to_toml(load(on_data)).partition("[[process]]")[2].partition("[validity]")[0]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(set(comments)) == len(comments) > 8
    assert "# Euler steps in the time eta of one SGD step." in comments  # only the second has it


def test_settings_reach_entries_by_number_and_by_name(on_data: str) -> None:
    first = load(on_data, "process.0.dynamics.learning_rate=0.3")
    assert [one.dynamics.learning_rate for one in first.process] == [0.3, 0.1]
    second = load(on_data, "process.the SDE.dynamics.learning_rate=0.3")
    assert [one.dynamics.learning_rate for one in second.process] == [0.1, 0.3]
    other = load(on_data, "process.sgd.dynamics.kind=svag", "process.sgd.dynamics.l=2")
    assert other.process[0].dynamics.kind == "svag"
    # What the kind before had and this one has not is gone.
    assert load(on_data, "process.the SDE.dynamics.kind=sgd").process[1].dynamics == Sgd(
        kind="sgd", learning_rate=0.1, batch_size=8
    )


# Settings, and the line that tells what is wrong with them.
ON_DATA = {
    "process.sdg.name=x": "--set  process: there is no entry 'sdg': it has 2, counted from 0, "
    "named 'sgd', 'the SDE'. Did you mean 'sgd'?",
    "process.2.name=x": "--set  process: there is no entry '2': it has 2, counted from 0, named "
    "'sgd', 'the SDE'.",
    "process.1.name=sgd": "--set  process.1.name: should be unique, but process 0 is named so "
    "too (got 'sgd').",
    "process.0.name=sdg": "line  37  claim.0.processes.0: unknown process 'sgd'. Did you mean "
    "'sdg'? Known: sdg, the SDE.",
    "process=[]": "--set  process: should have at least one entry (got []).",
    "process.sgd.dynamics.kind=sdg": "--set  process.0.dynamics.kind: unknown kind 'sdg'. "
    "Did you mean 'sgd'? Known: gd, gradient_flow, ",
    "process.sgd.dynamics.batch_size=101": "--set  process.0.dynamics.batch_size: should be at "
    "most problem.data.training = 100, because a batch is drawn from these rows (got 101).",
    "process.the SDE.dynamics.batch_size=101": "--set  process.1.dynamics.batch_size: should "
    "be at most problem.data.training = 100",
    "process.the SDE.dynamics.adaptive=true": "--set  process.1.dynamics.adaptive: adaptive "
    "steps are refused on an SDE: Euler has no error estimate, and adapted steps would need a "
    "Brownian tree; raise substeps, or take gradient_flow, which is adaptive (got true).",
    "process.the SDE.dynamics.solver=huen": "--set  process.1.dynamics.solver: unknown value "
    "'huen'. Did you mean 'heun'? Known: euler, ",
    "process.the SDE.dynamics.order=3": "--set  process.1.dynamics.order: unknown value 3. "
    "Known: 1, 2.",
    "process.the SDE.dynamics.resolution=3": "--set  process.1.dynamics.resolution: should be "
    "a multiple of substeps = 2, so that steps end on the grid of the path (got 3).",
    "process.sgd.dynamics={kind='heavy_ball', momentum=-0.1}": "--set  "
    "process.0.dynamics.momentum: should be at least 0 and less than 1: the damping 1 - momentum "
    "must be positive, or the velocity grows without end, and below 0 no velocity is kept; 0 is "
    "plain SGD (got -0.1).",
    "process.sgd.dynamics.learning_rate=0": "--set  process.0.dynamics.learning_rate: should "
    "be greater than 0, because steps go downhill and time is counted in it (got 0).",
    "process.the SDE.dynamics.noise={kind='hessian_aligned', form='mse'}": "--set  "
    "process.1.dynamics.noise.form: should be 'cross_entropy', because that is the loss of the "
    "problem (got 'mse').",
    "process.the SDE.dynamics.noise={kind='student', degrees=3, base={kind='student'}}": "--set  "
    "process.1.dynamics.noise.base.kind: unknown kind 'student'. Known: minibatch, isotropic, ",
    "process.sgd.dynamics.schedule={kind='cosin', steps=3}": "--set  "
    "process.0.dynamics.schedule.kind: unknown kind 'cosin'. Did you mean 'cosine'? Known: linear,",
    "process.sgd.dynamics.schedule={kind='cosine', step=3}": "--set  "
    "process.0.dynamics.schedule.step: unknown key. Did you mean 'steps'?",
    "start={kind='point', theta=[0]}": "--set  start.kind: a point is for a landscape; a "
    "network has too many weights to list, take random (got 'point').",
    "escape={}": "--set  escape: escapes are watched on a landscape only; leave the table out.",
    "claim.0.quantity=escape_time_over_exact": "line  37  claim.0.processes: should name one "
    "process, because escape_time_over_exact is of 1 (got ['sgd', 'the SDE']).",
    "claim.0.processes=['sgd']": "--set  claim.0.processes: should name two processes, because "
    "loss_agreement is of 2 (got ['sgd']).",
    "claim.0.processes=['sgd', 'sgd']": "--set  claim.0.processes: should name two different "
    "processes (got ['sgd', 'sgd']).",
    "claim.0.processes=['sgd', 'the SD']": "--set  claim.0.processes.1: unknown process "
    "'the SD'. Did you mean 'the SDE'? Known: sgd, the SDE.",
    "claim.0.quantity=exit_bound": "--set  claim.0.quantity: unknown quantity 'exit_bound'. "
    f"Known: {', '.join(KNOWN_QUANTITIES['dynamics'])}.",
    "stagnation.radius=1": "--set  stagnation: unknown key. ",
    "study=stagnation": "line  22  process: unknown key. ",
}


@pytest.mark.parametrize(("setting", "expected"), ON_DATA.items(), ids=ON_DATA.keys())
def test_refused_on_data(on_data: str, setting: str, expected: str) -> None:
    lines = [line.strip() for line in message(on_data, setting).splitlines()[1:]]
    assert any(line.startswith(expected) for line in lines)
    # Each of the inherited tables is an unknown key of another study.
    assert len(lines) == 1 or setting == "study=stagnation"


# The same on a landscape: a double well in two dimensions with one Gaussian process.
ON_LANDSCAPE = {
    "start={kind='random'}": "start.kind: random weights are for a network; a landscape starts at "
    "a point, for example start = {kind = \"point\", theta = [0.5]} (got 'random').",
    "start.theta=[-1.0]": "start.theta: should have 2 coordinates, as many as problem.landscape "
    "has parameters (got 1).",
    "escape.coordinate=2": "escape.coordinate: should be less than 2, the number of parameters "
    "(got 2).",
    "escape.level=-1.5": "escape.level: should be at least start.theta = -1 in this coordinate, "
    "or every trajectory has escaped before its first step (got -1.5).",
    "problem.landscape.kind=double_wel": "problem.landscape.kind: unknown kind 'double_wel'. Did "
    "you mean 'double_well'? Known: quadratic, ",
    "process.0.dynamics={kind='sgd', batch_size=4}": "process.0.dynamics.kind: 'sgd' draws "
    "batches, and a landscape has no samples; take gaussian_sgd or sde with langevin, isotropic "
    "or constant noise.",
    "process.0.dynamics={kind='svag', batch_size=4, l=2}": "process.0.dynamics.kind: 'svag' draws",
    "process.0.dynamics={kind='label_noise_sgd', batch_size=4, std=1}": "process.0.dynamics.kind: "
    "'label_noise_sgd' draws batches, ",
    "process.0.dynamics={kind='adam', batch_size=4, noise={kind='minibatch'}}": "process.0."
    "dynamics.noise.kind: 'minibatch' noise comes from samples, and a landscape has none; take "
    "langevin, isotropic or constant noise.",
    "process.0.dynamics={kind='sgld', inverse_temperature=1, batch_size=4}": "process.0.dynamics."
    "batch_size: a landscape has no samples to draw batches of; leave it out.",
    "process.0.dynamics={batch_size=4, noise={kind='stable', alpha=1.5, "
    "base={kind='diagonal'}}}": "process.0.dynamics.noise.base.kind: 'diagonal' noise comes from "
    "samples, ",
    "process.0.dynamics.noise={kind='constant', covariance=[[1]]}": "process.0.dynamics.noise."
    "covariance: should have 2 rows, as many as the problem has parameters (got 1).",
    "process.0.dynamics.projection={kind='spectral', bound=1}": "process.0.dynamics.projection."
    "kind: 'spectral' bounds weight matrices, and a landscape has none; take ball or box.",
}


@pytest.mark.parametrize(("setting", "expected"), ON_LANDSCAPE.items(), ids=ON_LANDSCAPE.keys())
def test_refused_on_a_landscape(on_landscape: str, setting: str, expected: str) -> None:
    lines = message(on_landscape, setting).splitlines()[1:]
    assert len(lines) == 1
    assert lines[0].strip().startswith(f"--set  {expected}")


@pytest.mark.parametrize(
    "dynamics",
    [
        "{kind='gd'}",
        "{kind='gradient_flow'}",
        "{kind='central_flow'}",
        "{kind='edge_flow'}",
        "{kind='sgld', inverse_temperature=2}",
        "{kind='adam', noise={kind='isotropic', variance=1}}",
        # A batch size that nothing uses does no harm: it is inherited when the noise is changed.
        "{kind='sde', substeps=3, batch_size=99, noise={kind='isotropic', variance=1}}",
        "{kind='adam', batch_size=99, noise={kind='isotropic', variance=1}}",
        "{noise={kind='constant', covariance=[[1, 0.5], [0.5, 1]]}}",
        "{noise={kind='student', degrees=3, base={kind='isotropic', variance=1}}}",
        "{projection={kind='box', low=-1, high=1}, weight_decay=0.1}",
    ],
)
def test_accepted_on_a_landscape(on_landscape: str, dynamics: str) -> None:
    load(on_landscape, f"process.0.dynamics={dynamics}")


def test_the_start_may_be_at_the_level_but_not_above(on_landscape: str) -> None:
    assert load(on_landscape, "escape.level=-1.0").escape


def test_a_claim_about_escapes_needs_the_table(landscape: dict[str, Any], write: Write) -> None:
    scenario = DynamicsScenario.model_validate(landscape)
    text = to_toml(scenario)
    begin, end = text.index("# When a trajectory"), text.index("# How many trajectories, how long")
    name = write("wells.toml", text[:begin] + text[end:])
    lines = message(name).splitlines()
    assert len(lines) == 2
    assert lines[1].endswith(
        "claim.0.quantity: escape_time_over_exact needs a table [escape], which says when a "
        "trajectory has escaped."
    )
    assert lines[1].strip().startswith("line")


def test_mistakes_are_reported_with_their_line(side_by_side: str, write: Write) -> None:
    text = side_by_side.replace("substeps = 2", "substep = 2").replace('"sgd"\nl', '"sgdd"\nl')
    assert message(write("bad.toml", text)) == (
        "bad.toml: 2 problem(s)\n"
        "  line  25  process.0.dynamics.kind: unknown kind 'sgdd'. Did you mean 'sgd'? Known: gd, "
        "gradient_flow, central_flow, edge_flow, sgd, gaussian_sgd, sde, svag, sgld, "
        "label_noise_sgd, heavy_ball, nesterov, rmsprop, adam, sam, underdamped_sde, rmsprop_sde, "
        "adam_sde.\n"
        "  line  34  process.1.dynamics.substep: unknown key. Did you mean 'substeps'?"
    )


def test_a_child_adds_processes_and_claims(on_data: str, write: Write) -> None:
    text = """extends = "mine"
[[process]]
name = "gd"
dynamics = {kind = "gd", learning_rate = 0.1}
[[claim]]
quantity = "loss_difference"
processes = ["sgd", "gd"]
at_most = 5
text = "t"
source = "s"
"""
    child = load(write("child.toml", text))
    assert [one.name for one in child.process] == ["sgd", "the SDE", "gd"]
    assert [claim.processes for claim in child.claim] == [("sgd", "the SDE"), ("sgd", "gd")]
    assert isinstance(child.process[1].dynamics, Sde)
    again = text.replace('name = "gd"', 'name = "sgd"')
    expected = "line   3  process.2.name: should be unique, but process 0 is named so too"
    assert expected in message(write("child.toml", again))
