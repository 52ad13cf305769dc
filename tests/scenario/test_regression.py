"""Regression, landscapes of the edge of stability and their starts: accepted, refused, written."""

import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from sgdsim._errors import ScenarioError
from sgdsim.scenario import (
    DynamicsScenario,
    Regression,
    Scenario,
    load_scenario,
    scenario_schema,
    to_toml,
)

Write = Callable[[str, str], str]
REGRESSION = """[problem]
kind = "regression"
[problem.data]
kind = "noisy_signs"
dimension = 16
training = 100
flips = 0.1
[problem.model]
kind = "mlp"
hidden = [32, 32]
activation = "tanh"
"""


@pytest.fixture
def regression(side_by_side: str, write: Write) -> str:
    """A scenario of the dynamics study on regression data."""
    begin, end = side_by_side.index("[problem]"), side_by_side.index("[start]")
    return write("regression.toml", side_by_side[:begin] + REGRESSION + side_by_side[end:])


@pytest.fixture
def chain(landscape: dict[str, Any], write: Write) -> str:
    """A scenario of the dynamics study on the product of four numbers."""
    tables = landscape | {
        "problem": {
            "kind": "landscape",
            "landscape": {"kind": "deep_linear", "target": 1.0, "hidden": [1, 1, 1]},
        },
        "start": {"kind": "random"},
        "claim": [],
    }
    return write("chain.toml", to_toml(DynamicsScenario.model_validate(tables)))


def message(name: str, *settings: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name, settings)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 1
    return lines[0].split("  ")[-1]


def test_regression_is_read_and_written(regression: str) -> None:
    scenario = load_scenario(regression)
    assert isinstance(scenario, DynamicsScenario)
    assert isinstance(scenario.problem, Regression)
    assert (scenario.problem.ridge, scenario.problem.model.widths) == (0.0, (32, 32))
    assert Scenario.from_json(scenario.canonical_json()) == scenario
    text = to_toml(scenario)
    assert DynamicsScenario.model_validate(tomllib.loads(text)) == scenario
    assert "# Probability that a label has the wrong sign, in held-out rows too.\n" in text


@pytest.mark.parametrize(
    "data",
    [
        "{kind='chebyshev', degree=5, training=20}",
        "{kind='digits', training=100, split_seed=0}",
        "{kind='noisy_signs', dimension=2, training=100, flips=0, held_out=5}",
    ],
)
@pytest.mark.parametrize(
    "dynamics",
    [
        "{kind='sgd', batch_size=20}",
        "{kind='label_noise_sgd', batch_size=8, std=0.1}",
        "{kind='gaussian_sgd', batch_size=8, noise={kind='hessian_aligned', form='mse'}}",
        "{kind='adam', projection={kind='spectral', bound=1}}",
    ],
)
def test_data_and_dynamics_of_a_regression(regression: str, data: str, dynamics: str) -> None:
    settings = [f"problem.data={data}", f"process.0.dynamics={dynamics}"]
    scenario = load_scenario(regression, settings)
    assert DynamicsScenario.model_validate(tomllib.loads(to_toml(scenario))) == scenario


def test_a_landscape_starts_from_random_weights(chain: str) -> None:
    scenario = load_scenario(chain, ["start.seed=3"])
    assert isinstance(scenario, DynamicsScenario)
    assert scenario.start.kind == "random"
    assert DynamicsScenario.model_validate(tomllib.loads(to_toml(scenario))) == scenario
    load_scenario(chain, ["start={kind='point', theta=[1, 1, 1, 1.5]}", "escape.level=2"])


ON_REGRESSION = {
    "start={kind='point', theta=[0]}": "start.kind: a point is for a landscape; a network has too "
    "many weights to list, take random (got 'point').",
    "start.each=true": "start.each: weights of its own for every trajectory are for study = "
    '"edge"; here all trajectories start alike, leave it out (got true).',
    "process.sgd.dynamics.batch_size=101": "process.0.dynamics.batch_size: should be at most "
    "problem.data.training = 100, because a batch is drawn from these rows (got 101).",
    "process.sgd.dynamics={kind='gaussian_sgd', noise={kind='hessian_aligned', "
    "form='cross_entropy'}}": "process.0.dynamics.noise.form: should be 'mse', because that is the "
    "loss of the problem (got 'cross_entropy').",
    "problem.data.kind=noisy_sign": "problem.data.kind: unknown kind 'noisy_sign'. Did you mean "
    "'noisy_signs'? Known: chebyshev, noisy_signs, digits.",
    "problem.data={kind='digits', training=1798, split_seed=0}": "problem.data.training: should be "
    "at most 1797, as many as there are (got 1798).",
    "problem.data={kind='hypercube', dimension=4, training=9}": "problem.data.kind: unknown kind "
    "'hypercube'. Known: chebyshev, noisy_signs, digits.",
    "problem.data.flips=0.6": "problem.data.flips: should be less than or equal to 0.5 (got 0.6).",
    "problem.data.dimension=0": "problem.data.dimension: should be greater than or equal to 1 "
    "(got 0).",
    "problem.model.kind=softmax": "problem.model.kind: unknown kind 'softmax'. Known: mlp.",
    "problem.model.depth=2": "problem.model: give either hidden = [32, 32] or width and depth, not "
    "both.",
    "problem.model.initial=glorot": "problem.model.initial: unknown value 'glorot'. Known: "
    "uniform, xavier.",
    "problem.kind=regresion": "problem.kind: unknown kind 'regresion'. Did you mean 'regression'? "
    "Known: classification, regression, landscape.",
    "escape={}": "escape: escapes are watched on a landscape only; leave the table out.",
}


@pytest.mark.parametrize(("setting", "expected"), ON_REGRESSION.items(), ids=ON_REGRESSION.keys())
def test_refused_on_a_regression(regression: str, setting: str, expected: str) -> None:
    assert message(regression, setting) == expected


ON_A_CHAIN = {
    "start.each=true": "start.each: weights of its own for every trajectory are for study = "
    '"edge"; here all trajectories start alike, leave it out (got true).',
    "start={kind='point', theta=[1, 1]}": "start.theta: should have 4 coordinates, as many as "
    "problem.landscape has parameters (got 2).",
    "escape.coordinate=4": "escape.coordinate: should be less than 4, the number of parameters "
    "(got 4).",
    "problem.landscape={kind='lipschitz_product'}": "start.kind: random weights are for a network; "
    'a landscape starts at a point, for example start = {kind = "point", theta = [0.5]} (got '
    "'random').",
    "problem.landscape.hidden=[]": "problem.landscape.hidden: should have at least one entry "
    "(got []).",
    "problem.landscape={kind='lipschitz_product', loss='huber'}": "problem.landscape.loss: unknown "
    "value 'huber'. Known: square_root, log_cosh.",
    "process.0.dynamics={kind='sgd', batch_size=4}": "process.0.dynamics.kind: 'sgd' draws "
    "batches, and a landscape has no samples; take gaussian_sgd or sde with langevin, isotropic "
    "or constant noise.",
}


@pytest.mark.parametrize(("setting", "expected"), ON_A_CHAIN.items(), ids=ON_A_CHAIN.keys())
def test_refused_on_a_chain(chain: str, setting: str, expected: str) -> None:
    assert message(chain, setting) == expected


@pytest.mark.parametrize("name", ["stagnation", "bound-tightness"])
def test_other_studies_of_networks_classify(name: str) -> None:
    settings = ["problem.kind=regression"]
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name, settings)
    expected = "problem.kind: unknown kind 'regression'. Known: classification."
    assert any(line.endswith(expected) for line in str(caught.value).splitlines())


def test_bounds_start_alike() -> None:
    assert message("bound-tightness", "start.each=true").startswith(
        "start.each: weights of its own for every trajectory are for"
    )


@pytest.mark.parametrize(
    "kind", ["{kind='deep_linear', target=1, hidden=[1]}", "{kind='lipschitz_product'}"]
)
def test_exits_are_not_asked_of_them(kind: str) -> None:
    named = kind.split("'")[1]
    setting = f"case.0.problem={{kind='landscape', landscape={kind}}}"
    with pytest.raises(ScenarioError) as caught:
        load_scenario("exit-times", [setting])
    expected = (
        "case.0.problem.landscape.kind: exits from sets around its minima are not known; take "
        f"another landscape, or study = \"dynamics\" (got '{named}')."
    )
    assert any(line.endswith(expected) for line in str(caught.value).splitlines())


def test_the_schema_knows_them() -> None:
    tables = scenario_schema()["$defs"]
    assert set(tables["NoisySigns"]["properties"]) >= {"kind", "dimension", "flips", "held_out"}
    assert tables["BiasedMlp"]["properties"]["initial"]["enum"] == ["uniform", "xavier"]
    assert tables["RandomStart"]["properties"]["each"]["type"] == "boolean"
    assert tables["DeepLinear"]["properties"]["hidden"]["minItems"] == 1
