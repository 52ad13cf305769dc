"""The bounds study: what a scenario may ask, what not and why, claims about bounds."""

import json
import tomllib
from collections.abc import Callable

import pytest

from sgdsim._errors import ScenarioError
from sgdsim.scenario import (
    KNOWN_QUANTITIES,
    QUANTITIES_OF_ONE_BOUND,
    BoundsScenario,
    Hypercube,
    Mlp,
    Scenario,
    load_scenario,
    scenario_names,
    sweep_points,
    to_toml,
)

Write = Callable[[str, str], str]

#: Tests count its lines.
TEXT = """study = "bounds"
name = "mine"
title = "Bounds"
[problem]
kind = "classification"
ridge = 0.0
[problem.data]
kind = "hypercube"
dimension = 5
training = 30
reference = 20
split_seed = 0
[problem.model]
kind = "mlp"
hidden = [4]
activation = "relu"
[start]
kind = "random"
[dynamics]
kind = "sgd"
learning_rate = 0.1
batch_size = 8
[training]
target = 0.1
[ensemble]
trajectories = 2
steps = 20
record_every = 5
chunk_steps = 10
seed = 0
[bounds]
failure_probability = 0.05
margin = "auto"
grid_low = 1e-3
grid_high = 1e4
grid_ratio = 1.5
[[claim]]
quantity = "reached"
at_least = 1.0
text = "All of them."
source = "s"
"""
BOUNDS = [name for name in scenario_names() if load_scenario(name).study == "bounds"]


def load(name: str, *settings: str) -> BoundsScenario:
    scenario = load_scenario(name, settings)
    assert isinstance(scenario, BoundsScenario)
    return scenario


def message(name: str, *settings: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name, settings)
    return str(caught.value)


@pytest.fixture
def mine(write: Write) -> str:
    return write("mine.toml", TEXT)


def test_the_built_in_ones_are_those_that_were_planned() -> None:
    assert BOUNDS == [
        "bound-tightness",
        "bound-tightness-digits",
        "bound-tightness-large",
        "random-labels-bounds",
        "trajectory-bounds",
    ]


@pytest.mark.parametrize("name", BOUNDS)
def test_built_in_ones_survive_toml_and_json(name: str) -> None:
    first = load(name)
    assert BoundsScenario.model_validate(tomllib.loads(to_toml(first))) == first
    assert Scenario.from_json(first.canonical_json()) == first
    for point in sweep_points(first):
        assert isinstance(point, BoundsScenario)


def test_what_is_left_out(mine: str) -> None:
    scenario = load(mine)
    data, model = scenario.problem.data, scenario.problem.model
    assert isinstance(data, Hypercube)
    assert (data.classes, data.teacher_width, data.random_labels) == (2, 8, 0.0)
    assert (scenario.training.reference_target, scenario.training.reference_steps) == (0.1, 20_000)
    assert (scenario.measuring.draws, len(scenario.measuring.deviations)) == (64, 5)
    assert isinstance(model, Mlp)
    assert model.widths == (4,)


def test_alike_layers_are_given_by_width_and_depth(write: Write) -> None:
    text = TEXT.replace("hidden = [4]", "width = 4\ndepth = 3")
    model = load(write("wide.toml", text)).problem.model
    assert isinstance(model, Mlp)
    assert model.widths == (4, 4, 4)
    swept = load("wide.toml", "sweep.problem.model.width=[2, 8]")
    widths = [point.problem.model.widths for point in sweep_points(swept)]  # type: ignore[attr-defined]
    assert widths == [(2, 2, 2), (8, 8, 8)]


#: Replacements in the model, and the sentence that refuses them.
WIDTHS = {
    "hidden = [4]\nwidth = 4\ndepth = 2": "give either hidden = [4] or width and depth, not both.",
    "hidden = [4]\ndepth = 2": "give either hidden = [4] or width and depth, not both.",
    "hidden = [4]\nwidth = 2": "give either hidden = [4] or width and depth, not both.",
    "": "missing hidden, or width and depth: the widths of the hidden layers, for example "
    "hidden = [32, 32].",
    "width = 4": "missing hidden, or width and depth: the widths of the hidden layers, for example "
    "hidden = [32, 32].",
    "depth = 4": "missing hidden, or width and depth: the widths of the hidden layers, for example "
    "hidden = [32, 32].",
}


@pytest.mark.parametrize("given", WIDTHS)
def test_widths_are_given_once(write: Write, given: str) -> None:
    name = write("mine.toml", TEXT.replace("hidden = [4]", given))
    first, *others = message(name).splitlines()
    assert first == "mine.toml: 1 problem(s)"
    assert len(others) == 1
    assert others[0].split(": ", 1)[1] == WIDTHS[given]
    assert "problem.model" in others[0]


# Settings, and the line that tells what is wrong with them.
REFUSED = {
    "claim.0.quantity=bound_value": "line  37  claim.0.bound: missing: bound_value is about one "
    'bound, for example bound = "BFT"; `sgdsim explain` lists them.',
    "claim.0.quantity=kendall_tau": "line  37  claim.0.bound: missing: kendall_tau is about one "
    'bound, for example bound = "BFT"; `sgdsim explain` lists them.',
    "claim.0.bound=BFT": "--set  claim.0.bound: reached is about all bounds; leave it out (got "
    "'BFT').",
    "claim.0.quantity=reachd": "--set  claim.0.quantity: unknown quantity 'reachd'. Did you mean "
    "'reached'?",
    "dynamics.batch_size=31": "--set  dynamics.batch_size: should be at most "
    "problem.data.training = 30, because a batch is drawn from these rows (got 31).",
    "training.target=0": "--set  training.target: should be greater than 0 (got 0).",
    "training.target=-0.5": "--set  training.target: should be greater than 0 (got -0.5).",
    "training.reference_steps=0": "--set  training.reference_steps: should be greater than or "
    "equal to 1 (got 0).",
    "problem.data.dimension=20": "--set  problem.data.dimension: should be less than or equal to "
    "16 (got 20).",
    "problem.data.kind=cube": "--set  problem.data.kind: unknown kind 'cube'. ",
    "problem.kind=landscape": "--set  problem.kind: should be classification, because bounds need "
    "data; a landscape belongs to study = \"dynamics\" (got 'landscape').",
    "measuring.draws=1": "--set  measuring.draws: should be greater than or equal to 2 (got 1).",
    "training.tarjet=1": "--set  training.tarjet: unknown key. Did you mean 'target'?",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_refused(mine: str, setting: str) -> None:
    first, *lines = message(mine, setting).splitlines()
    assert first == "mine.toml: 1 problem(s)"
    (line,) = lines
    assert line.strip().startswith(REFUSED[setting]), line


def test_every_quantity_of_one_bound_needs_its_name(mine: str) -> None:
    of_one = set(QUANTITIES_OF_ONE_BOUND)
    for quantity in KNOWN_QUANTITIES["bounds"]:
        settings = [f"claim.0.quantity={quantity}"]
        named = [*settings, "claim.0.bound=BFT"]
        good, bad = (named, settings) if quantity in of_one else (settings, named)
        claim = json.loads(load(mine, *good).canonical_json())["claim"][0]
        assert claim["bound"] == ("BFT" if quantity in of_one else None)
        assert "claim.0.bound" in message(mine, *bad)
