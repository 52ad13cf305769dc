"""The exits study: what a case may combine, what not and why, claims about cases."""

import json
import tomllib
from collections.abc import Callable
from typing import get_args

import pytest

from sgdsim._errors import ScenarioError
from sgdsim.scenario import (
    KNOWN_QUANTITIES,
    BallRegion,
    ExitsScenario,
    Scenario,
    load_scenario,
    scenario_names,
    to_toml,
)
from sgdsim.scenario._quantities import QuantityOfCases, QuantityOfOneCase, QuantityOfTwoCases

Write = Callable[[str, str], str]

#: Tests count its lines.
TEXT = """study = "exits"
name = "mine"
title = "Exits"
[ensemble]
trajectories = 20
steps = 40
chunks = 4
seed = 0
[[case]]
name = "bowl"
problem = { kind = "landscape", landscape = { kind = "quadratic", eigenvalues = [1.0, 2.0] } }
region = { kind = "ball", radius = 0.1 }
[case.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.05
noise = { kind = "isotropic", variance = 0.04 }
[[case]]
name = "rows"
region = { kind = "ball", radius = 0.2 }
[case.problem]
kind = "linear_regression"
dimension = 5
samples = 100
label_noise = 0.5
[case.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.05
batch_size = 10
[[case]]
name = "wells"
region = { kind = "tube", radius = 0.2 }
[case.problem]
kind = "many_minima"
wells = 4
amplitude = 1.0
period = 1.0
plateau = 0.3
samples = 400
spread = 1.0
start = "best"
replicas = 20
[case.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.01
noise = { kind = "isotropic", variance = 4.0 }
[[claim]]
quantity = "exit_probability"
cases = ["bowl"]
at_most = 0.5
text = "Few leave."
source = "s"
"""
EXITS = [name for name in scenario_names() if load_scenario(name).study == "exits"]


def load(name: str, *settings: str) -> ExitsScenario:
    scenario = load_scenario(name, settings)
    assert isinstance(scenario, ExitsScenario)
    return scenario


def message(name: str, *settings: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name, settings)
    return str(caught.value)


@pytest.fixture
def mine(write: Write) -> str:
    return write("mine.toml", TEXT)


def test_the_built_in_ones_are_those_that_were_planned() -> None:
    assert EXITS == [
        "escape-rate",
        "exit-times",
        "linear-regression",
        "many-minima",
        "teacher-student",
        "width",
    ]


@pytest.mark.parametrize("name", EXITS)
def test_built_in_ones_survive_toml_and_json(name: str) -> None:
    first = load(name)
    assert ExitsScenario.model_validate(tomllib.loads(to_toml(first))) == first
    assert Scenario.from_json(first.canonical_json()) == first
    used = {case for claim in first.claim for case in claim.cases}
    assert used <= {case.name for case in first.case}
    for case in first.case:
        assert first.steps_of(case) % first.ensemble.chunks == 0


def test_what_is_left_out(mine: str) -> None:
    scenario = load(mine)
    assert (scenario.evaluation.confidence, scenario.evaluation.failure_probability) == (0.95, 0.05)
    bowl = scenario.case[0]
    assert (bowl.start, bowl.splitting, bowl.steps) == (None, None, None)
    assert scenario.steps_of(bowl) == 40
    longer = load(mine, "case.bowl.steps=80")
    assert longer.steps_of(longer.case[0]) == 80
    assert isinstance(bowl.region, BallRegion)
    assert load(mine, "case.bowl.splitting={}").case[0].splitting is not None


def test_settings_reach_cases_by_name_and_number(mine: str) -> None:
    scenario = load(mine, "case.rows.problem.samples=500", "case.0.region.radius=0.3")
    assert json.loads(scenario.canonical_json())["case"][1]["problem"]["samples"] == 500
    assert scenario.case[0].region == BallRegion(kind="ball", radius=0.3)


# Settings, and the line that tells what is wrong with them.
REFUSED = {
    "case=[]": "--set  case: should have at least one entry (got []).",
    "case.1.name=bowl": "--set  case.1.name: should be unique, but case 0 is named so too "
    "(got 'bowl').",
    "case.0.name=bowls": "line  48  claim.0.cases.0: unknown case 'bowl'. Did you mean 'bowls'? "
    "Known: bowls, rows, wells.",
    "claim.0.cases=['bowk']": "--set  claim.0.cases.0: unknown case 'bowk'. Did you mean 'bowl'? "
    "Known: bowl, rows, wells.",
    "claim.0.cases=['bowl', 'rows']": "--set  claim.0.cases: should name one case, as "
    "exit_probability is about (got ['bowl', 'rows']).",
    "claim.0.cases=[]": "--set  claim.0.cases: should name one case, as exit_probability is about "
    "(got []).",
    "claim.0.quantity=exit_rate_ratio": "line  48  claim.0.cases: should name two cases, as "
    "exit_rate_ratio is about (got ['bowl']).",
    "claim.0={quantity='exit_rate_ratio', cases=['bowl', 'bowl'], at_most=1, text='t', "
    "source='s'}": "--set  claim.0.cases: should name different cases (got ['bowl', 'bowl']).",
    "claim.0.quantity=G2_width_exponent": "line  48  claim.0.cases: should name at least three "
    "cases for G2_width_exponent (got ['bowl']).",
    "claim.0.quantity=exit_probabilty": "--set  claim.0.quantity: unknown quantity "
    "'exit_probabilty'. Did you mean 'exit_probability'? Known: ",
    "ensemble.chunks=3": "--set  ensemble.chunks: should divide ensemble.steps = 40 (got 3).",
    "ensemble.steps=42": "line   7  ensemble.chunks: should divide ensemble.steps = 42 (got 4).",
    "case.0.steps=42": "--set  case.0.steps: should be a multiple of ensemble.chunks = 4 (got 42).",
    "ensemble.trajectories=21": "line  41  case.2.problem.replicas: should be at least "
    "ensemble.trajectories = 21, because every trajectory has a sample of its own (got 20).",
    "case.wells.problem.replicas=19": "--set  case.2.problem.replicas: should be at least "
    "ensemble.trajectories = 20, because every trajectory has a sample of its own (got 19).",
    "case.wells.problem.plateau=0.5": "--set  case.2.problem.plateau: should be less than half of "
    "period = 1, or the shifts of neighbouring wells overlap (got 0.5).",
    "case.rows.region={kind='function', radius=1}": "--set  case.1.region.kind: 'function' "
    "compares the outputs of networks; take tube (got 'function').",
    "case.rows.region={kind='ellipsoid', radius=1}": "--set  case.1.region.kind: 'ellipsoid' has "
    "the stationary covariance of a quadratic; take tube or sublevel (got 'ellipsoid').",
    "case.bowl.region={kind='wells', radius=1}": "--set  case.0.region.kind: 'wells' needs a "
    "landscape with wells: double_well, periodic_wells or two_wells (got 'wells').",
    "case.rows.region={kind='half_space', level=1}": "--set  case.1.region.kind: 'half_space' is "
    "for landscapes; take tube (got 'half_space').",
    "case.bowl.region={kind='half_space', level=1, coordinate=2}": "--set  "
    "case.0.region.coordinate: should be less than 2, the number of parameters (got 2).",
    "case.bowl.region.kind=balls": "--set  case.0.region.kind: unknown kind 'balls'. Did you mean "
    "'ball'? Known: ball, tube, ellipsoid, sublevel, function, wells, half_space.",
    "case.bowl.region.radius=0": "--set  case.0.region.radius: should be greater than 0 (got 0).",
    "case.bowl.region={kind='sublevel'}": "--set  case.0.region.height: missing",
    "case.bowl.start=[0.1]": "--set  case.0.start: should have 2 coordinates, as many as "
    "problem.landscape has parameters (got 1).",
    "case.rows.start=[0.1]": "--set  case.1.start: only a landscape has a start of its own; leave "
    "it out.",
    "case.bowl.splitting.replicas=3": "--set  case.0.splitting.replicas: should be greater than "
    "or equal to 4 (got 3).",
    "case.bowl={name='bowl', region={kind='half_space', level=1}, splitting={}, problem={kind="
    "'landscape', landscape={kind='double_well'}}, dynamics={kind='gaussian_sgd', "
    "learning_rate=0.1, noise={kind='isotropic', variance=1}}}": "--set  case.0.splitting: "
    "splitting goes by the distance to one minimum, and 'half_space' has none; leave it out or "
    "take ball, tube, ellipsoid, sublevel or function.",
    "case.bowl={name='bowl', region={kind='wells', radius=1}, splitting={}, problem={kind="
    "'landscape', landscape={kind='double_well'}}, dynamics={kind='gaussian_sgd', "
    "learning_rate=0.1, noise={kind='isotropic', variance=1}}}": "--set  case.0.splitting: "
    "splitting goes by the distance to one minimum, and 'wells' has none; ",
    "case.rows.dynamics.batch_size=101": "--set  case.1.dynamics.batch_size: should be at most "
    "problem.samples = 100, because a batch is drawn from these rows (got 101).",
    "case.rows.dynamics.noise={kind='hessian_aligned', form='cross_entropy'}": "--set  "
    "case.1.dynamics.noise.form: should be 'mse', because that is the loss of the problem (got "
    "'cross_entropy').",
    "case.wells.dynamics={kind='sgd', batch_size=4}": "--set  case.2.dynamics.kind: 'sgd' draws "
    "batches, and a landscape has no samples; take gaussian_sgd",
    "case.wells.dynamics.noise={kind='constant', covariance=[[1, 0], [0, 1]]}": "--set  "
    "case.2.dynamics.noise.covariance: should have 1 rows, as many as the problem has parameters "
    "(got 2).",
    "case.rows.problem.kind=classification": "--set  case.1.problem.kind: unknown kind "
    "'classification'. Known: landscape, linear_regression, teacher_student, many_minima.",
    "case.rows.problem.label_noise=-1": "--set  case.1.problem.label_noise: should be greater "
    "than or equal to 0 (got -1).",
    "evaluation.confidence=95": "--set  evaluation.confidence: should be less than 1 (got 95).",
    "evaluation.directions=-1": "--set  evaluation.directions: should be greater than or equal "
    "to 0 (got -1).",
    "evaluation.radii=0": "--set  evaluation.radii: should be greater than or equal to 1 (got 0).",
    "minimum.seed=1": "--set  minimum: unknown key. ",
}


@pytest.mark.parametrize(("setting", "expected"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refused(mine: str, setting: str, expected: str) -> None:
    lines = [line.strip() for line in message(mine, setting).splitlines()[1:]]
    assert len(lines) == 1
    assert lines[0].startswith(expected)


def test_where_two_cases_are_wrong_the_first_mistake_is_told_with_its_line(write: Write) -> None:
    text = TEXT.replace('"rows"', '"bowl"').replace("replicas = 20", "replicas = 2")
    assert message(write("bad.toml", text)) == (
        "bad.toml: 1 problem(s)\n"
        "  line  18  case.1.name: should be unique, but case 0 is named so too (got 'bowl')."
    )


@pytest.mark.parametrize("quantity", KNOWN_QUANTITIES["exits"])
def test_every_quantity_says_how_many_cases_it_is_about(mine: str, quantity: str) -> None:
    names = ["bowl", "rows", "wells"]
    accepted = []
    for number in range(1, 4):
        claim = (
            f"{{quantity='{quantity}', cases={names[:number]}, at_most=1, text='t', source='s'}}"
        )
        try:
            load(mine, f"claim.0={claim}")
        except ScenarioError:
            continue
        accepted.append(number)
    kinds = {1: QuantityOfOneCase, 2: QuantityOfTwoCases, 3: QuantityOfCases}
    assert [number for number, kind in kinds.items() if quantity in get_args(kind)] == accepted


def test_every_explanation_stands_once_among_the_cases(mine: str) -> None:
    text = to_toml(load(mine)).partition("[[case]]")[2]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(set(comments)) == len(comments) > 8
