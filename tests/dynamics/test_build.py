"""From the dynamics table of a scenario to a stepper: its classes, its numbers, its precision."""

import functools
import operator
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter

from sgdsim.dynamics import (
    SDE,
    SVAG,
    Adam,
    AdamSDE,
    BallProjection,
    BoxProjection,
    CentralFlow,
    Constant,
    ConstantNoise,
    CosineDecay,
    Descent,
    DiagonalNoise,
    EdgeFlow,
    ExponentialDecay,
    FullGradient,
    GaussianGradient,
    GradientFlow,
    HeavyBall,
    HessianAlignedNoise,
    IsotropicNoise,
    LabelNoise,
    LabelNoiseGradient,
    Langevin,
    LangevinNoise,
    LinearDecay,
    LowRankNoise,
    MinibatchGradient,
    MinibatchNoise,
    Nesterov,
    Piecewise,
    Plain,
    Projected,
    RMSProp,
    RMSPropSDE,
    Scheduled,
    SharpnessAware,
    SpectralProjection,
    StableNoise,
    StudentNoise,
    UnderdampedSDE,
    Warmup,
    WeightDecay,
    build_noise,
    build_stepper,
)
from sgdsim.problems import Network, OutputLoss, Problem, Rows, cast
from sgdsim.scenario import Dynamics, Noise

pytestmark = pytest.mark.usefixtures("x64")

TABLE = TypeAdapter(Dynamics)
BATCH = {"batch_size": 4}
ISOTROPIC = {"kind": "isotropic", "variance": 0.3}
MINIBATCH = {"kind": "minibatch", "replacement": False}

#: Table without the learning rate; class; what is found at a dotted path: a class or a number.
CASES = {
    "gd": ({"kind": "gd"}, Descent, {"source": FullGradient, "rule": Plain}),
    "gradient_flow": (
        {"kind": "gradient_flow", "order": 2, "solver": "dopri8", "rtol": 1e-4, "atol": 1e-7},
        GradientFlow,
        {"order": 2, "solver": "dopri8", "rtol": 1e-4, "atol": 1e-7},
    ),
    "central_flow": (
        {"kind": "central_flow", "substeps": 3, "max_critical": 2, "tolerance": 1e-4},
        CentralFlow,
        {"substeps": 3, "max_critical": 2, "tolerance": 1e-4},
    ),
    "edge_flow": (
        {"kind": "edge_flow", "substeps": 3, "amplitude": 0.01},
        EdgeFlow,
        {"substeps": 3, "amplitude": 0.01},
    ),
    "sgd": (
        {"kind": "sgd", **BATCH, "replacement": False},
        Descent,
        {
            "source": MinibatchGradient,
            "source.batch_size": 4,
            "source.replacement": False,
            "rule": Plain,
        },
    ),
    "svag": (
        {"kind": "svag", **BATCH, "l": 3, "replacement": False},
        SVAG,
        {"batch_size": 4, "l": 3, "replacement": False},
    ),
    "sgld": (
        {"kind": "sgld", "inverse_temperature": 50.0},
        Langevin,
        {"inverse_temperature": 50.0, "stepper": Descent, "stepper.source": FullGradient},
    ),
    "sgld on batches": (
        {"kind": "sgld", "inverse_temperature": 50.0, **BATCH},
        Langevin,
        {"inverse_temperature": 50.0, "stepper.source.batch_size": 4},
    ),
    "label_noise_sgd": (
        {"kind": "label_noise_sgd", **BATCH, "std": 0.2, "replacement": False},
        Descent,
        {
            "source": LabelNoiseGradient,
            "source.batch_size": 4,
            "source.std": 0.2,
            "source.replacement": False,
        },
    ),
    "gaussian_sgd": (
        {"kind": "gaussian_sgd", **BATCH},
        SDE,
        {
            "substeps": 1,
            "order": 1,
            "solver": "euler",
            "noise": MinibatchNoise,
            "noise.batch_size": 4,
            "noise.replacement": True,
        },
    ),
    "sde": (
        {
            "kind": "sde",
            **BATCH,
            "substeps": 2,
            "order": 2,
            "solver": "midpoint",
            "ito_correction": True,
            "resolution": 6,
            "noise": MINIBATCH,
        },
        SDE,
        {
            "substeps": 2,
            "order": 2,
            "solver": "midpoint",
            "ito_correction": True,
            "resolution": 6,
            "noise.replacement": False,
        },
    ),
    "heavy_ball": (
        {"kind": "heavy_ball", **BATCH, "momentum": 0.7, "replacement": False},
        Descent,
        {
            "rule": HeavyBall,
            "rule.momentum": 0.7,
            "source.batch_size": 4,
            "source.replacement": False,
        },
    ),
    "nesterov": (
        {"kind": "nesterov", "momentum": 0.7, "noise": ISOTROPIC},
        Descent,
        {
            "rule": Nesterov,
            "rule.momentum": 0.7,
            "source": GaussianGradient,
            "source.noise.variance": 0.3,
        },
    ),
    "rmsprop": (
        {"kind": "rmsprop", "decay": 0.8, "epsilon": 1e-3},
        Descent,
        {"rule": RMSProp, "rule.decay": 0.8, "rule.epsilon": 1e-3, "source": FullGradient},
    ),
    "adam": (
        {"kind": "adam", "b1": 0.8, "b2": 0.95, "epsilon": 1e-3, **BATCH, "noise": MINIBATCH},
        Descent,
        {
            "rule": Adam,
            "rule.b1": 0.8,
            "rule.b2": 0.95,
            "rule.epsilon": 1e-3,
            "source.noise.batch_size": 4,
            "source.noise.replacement": False,
        },
    ),
    "sam": (
        {"kind": "sam", "rho": 0.05, "normalised": False, **BATCH},
        Descent,
        {
            "rule": SharpnessAware,
            "rule.radius": 0.05,
            "rule.normalised": False,
            "source.batch_size": 4,
        },
    ),
    "underdamped_sde": (
        {
            "kind": "underdamped_sde",
            "momentum": 0.7,
            "noise": ISOTROPIC,
            "substeps": 2,
            "solver": "should",
        },
        UnderdampedSDE,
        {"momentum": 0.7, "substeps": 2, "nesterov": False, "solver": "should"},
    ),
    "underdamped_sde of nesterov": (
        {"kind": "underdamped_sde", "momentum": 0.7, **BATCH, "substeps": 1, "nesterov": True},
        UnderdampedSDE,
        {"nesterov": True, "solver": "euler", "noise.batch_size": 4},
    ),
    "rmsprop_sde": (
        {"kind": "rmsprop_sde", **BATCH, "substeps": 2, "decay": 0.8, "epsilon": 1e-3},
        RMSPropSDE,
        {"substeps": 2, "decay": 0.8, "epsilon": 1e-3, "noise.batch_size": 4},
    ),
    "adam_sde": (
        {"kind": "adam_sde", **BATCH, "substeps": 2, "b1": 0.8, "b2": 0.95, "epsilon": 1e-3},
        AdamSDE,
        {"substeps": 2, "b1": 0.8, "b2": 0.95, "epsilon": 1e-3},
    ),
}
#: Noise table; class; numbers; whether it has a batch size.
NOISES = {
    "minibatch": (MINIBATCH, MinibatchNoise, {"replacement": False, "batch_size": 4}),
    "isotropic": (ISOTROPIC, IsotropicNoise, {"variance": 0.3}),
    "langevin": (
        {"kind": "langevin", "inverse_temperature": 50.0},
        LangevinNoise,
        {"inverse_temperature": 50.0, "learning_rate": 0.25},
    ),
    "hessian_aligned": (
        {"kind": "hessian_aligned", "form": "cross_entropy"},
        HessianAlignedNoise,
        {"form": "cross_entropy", "batch_size": 4},
    ),
    "diagonal": ({"kind": "diagonal"}, DiagonalNoise, {"batch_size": 4}),
    "low_rank": ({"kind": "low_rank", "rank": 2}, LowRankNoise, {"rank": 2, "batch_size": 4}),
    "label": ({"kind": "label", "std": 0.2}, LabelNoise, {"std": 0.2, "batch_size": 4}),
    "constant": (
        {"kind": "constant", "covariance": (np.eye(6) + 0.5).tolist()},
        ConstantNoise,
        {},
    ),
    "student": (
        {"kind": "student", "degrees": 5.0, "base": MINIBATCH},
        StudentNoise,
        {"degrees": 5.0, "base": MinibatchNoise, "base.batch_size": 4, "base.replacement": False},
    ),
    "stable": (
        {"kind": "stable", "alpha": 1.5, "base": ISOTROPIC},
        StableNoise,
        {"alpha": 1.5, "base": IsotropicNoise, "base.variance": 0.3},
    ),
}
EULER = {"kind": "sde", "substeps": 2}
#: Every solver that a scenario may name for an SDE and that is not refused.
SOLVERS = {
    solver: {**EULER, "solver": solver, "noise": ISOTROPIC}
    for solver in (
        "euler",
        "heun",
        "midpoint",
        "ralston",
        "eulerheun",
        "stratonovichmilstein",
        "generalshark",
        "spark",
        "slowrk",
        "shark",
        "sra1",
        "sea",
    )
}


@pytest.fixture(scope="module")
def theta(x64):
    """A softmax of two classes on three features: six parameters."""
    return Network((jnp.asarray(np.random.default_rng(0).normal(size=(2, 3))),))


@pytest.fixture(scope="module")
def problem(x64):
    random = np.random.default_rng(1)
    rows = Rows(
        jnp.asarray(random.normal(size=(7, 3))), jnp.asarray(np.eye(2)[random.integers(0, 2, 7)])
    )

    def outputs(theta, data):
        return data.inputs @ theta.weights[0].T

    def loss(outputs, data):
        return -jnp.sum(data.targets * jax.nn.log_softmax(outputs), axis=1)

    return Problem(OutputLoss(outputs, loss), rows, 0.1)


def build(table: dict, theta) -> Any:
    return build_stepper(TABLE.validate_python({"learning_rate": 0.25, **table}), theta)


def check(model, expected) -> None:
    """Compare what is at dotted paths with classes and numbers."""
    for path, value in expected.items():
        found = operator.attrgetter(path)(model) if path else model
        if isinstance(value, type):
            assert type(found) is value, path
        elif isinstance(value, float) or eqx.is_array(found):
            assert isinstance(found, jax.Array), f"{path} would be compiled in"
            assert float(found) == value, path
        else:
            assert found == value, path


def kinds(union) -> set[str]:
    tables = get_args(get_args(union)[0])
    return {get_args(table.model_fields["kind"].annotation)[0] for table in tables}


def test_every_kind_of_the_schema_is_here():
    assert {table["kind"] for table, _, _ in CASES.values()} == kinds(Dynamics)
    assert set(NOISES) == kinds(Noise)


@pytest.mark.parametrize("name", CASES)
def test_stepper_of_a_scenario(name, theta):
    table, expected, numbers = CASES[name]
    stepper = build(table, theta)
    assert type(stepper) is expected
    check(stepper, {"learning_rate": 0.25, **numbers})
    assert all(map(eqx.is_array, jax.tree.leaves(stepper))), "a number would be compiled in"


@pytest.mark.parametrize("name", NOISES)
def test_noise_of_a_scenario(name, theta):
    noise, expected, numbers = NOISES[name]
    rows = BATCH if "batch_size" in numbers or "base.batch_size" in numbers else {}
    table = {"kind": "gaussian_sgd", "noise": noise, **rows}
    stepper = build(table, theta)
    assert isinstance(stepper, SDE)
    check(stepper.noise, {**numbers, "": expected})
    assert all(map(eqx.is_array, jax.tree.leaves(stepper.noise)))
    model = build_noise(TABLE.validate_python({"learning_rate": 0.25, **table}), theta)
    if name == "stable":  # it has no covariance
        assert model is None
    else:
        assert eqx.tree_equal(model, stepper.noise)


def test_constant_noise_has_the_covariance_of_the_scenario(problem, theta):
    noise, _, _ = NOISES["constant"]
    stepper = build({"kind": "gaussian_sgd", "noise": noise}, theta)
    product = stepper.noise.covariance(problem, theta)
    columns = [
        product(Network((jnp.asarray(unit.reshape(2, 3)),))).weights[0].ravel()
        for unit in np.eye(6)
    ]
    np.testing.assert_allclose(np.stack(columns), noise["covariance"], atol=1e-12)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"kind": "gd"}, None),
        ({"kind": "gradient_flow"}, None),
        (
            {"kind": "sgd", **BATCH, "replacement": False},
            {"": MinibatchNoise, "batch_size": 4.0, "replacement": False},
        ),
        (
            {"kind": "svag", **BATCH, "l": 2, "replacement": False},
            {"": MinibatchNoise, "batch_size": 4.0, "replacement": False},
        ),
        (
            {"kind": "heavy_ball", "momentum": 0.5, **BATCH},
            {"": MinibatchNoise, "batch_size": 4.0, "replacement": True},
        ),
        ({"kind": "adam"}, None),
        ({"kind": "adam", "noise": ISOTROPIC}, {"": IsotropicNoise, "variance": 0.3}),
        # A second noise is added to that of the batch.
        ({"kind": "sgld", **BATCH, "inverse_temperature": 1.0}, None),
        ({"kind": "label_noise_sgd", **BATCH, "std": 1.0}, None),
    ],
)
def test_noise_of_one_step(theta, table, expected):
    found = build_noise(TABLE.validate_python({"learning_rate": 0.25, **table}), theta)
    assert (found is None) == (expected is None)
    check(found, expected or {})


def test_modifiers_go_around_the_stepper_in_one_order(theta):
    table = {
        "kind": "gd",
        "weight_decay": 0.01,
        "projection": {"kind": "ball", "radius": 3.0},
        "schedule": {"kind": "linear", "final": 0.05, "steps": 7},
    }
    stepper = build(table, theta)
    expected = {
        "": Scheduled,
        "schedule": LinearDecay,
        "schedule.initial": 0.25,
        "schedule.final": 0.05,
        "schedule.steps": 7.0,
        "stepper": Projected,
        "stepper.projection": BallProjection,
        "stepper.projection.radius": 3.0,
        "stepper.stepper": WeightDecay,
        "stepper.stepper.rate": 0.01,
        "stepper.stepper.stepper": Descent,
    }
    check(stepper, expected)
    assert not np.any(stepper.stepper.projection.centre.weights[0])


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            {"kind": "box", "low": -2.0, "high": 3.0},
            {"": BoxProjection, "low": -2.0, "high": 3.0},
        ),
        ({"kind": "spectral", "bound": 1.5}, {"": SpectralProjection, "bound": 1.5}),
    ],
)
def test_projections(theta, table, expected):
    check(build({"kind": "gd", "projection": table}, theta).projection, expected)


@pytest.mark.parametrize(
    ("table", "expected", "rates"),
    [
        ({"kind": "cosine", "steps": 4, "final": 0.05}, CosineDecay, {0: 0.25, 2: 0.15, 9: 0.05}),
        (
            {"kind": "exponential", "steps": 2, "factor": 0.5},
            ExponentialDecay,
            {0: 0.25, 2: 0.125, 4: 0.0625},
        ),
        (
            {"kind": "step", "boundaries": [3, 5], "factors": [0.5, 0.1]},
            Piecewise,
            {2: 0.25, 3: 0.125, 5: 0.0125},
        ),
        ({"kind": "warmup", "steps": 5}, Warmup, {5: 0.25, 50: 0.25}),
        (
            {"kind": "warmup", "steps": 2, "then": {"kind": "cosine", "steps": 4}},
            Warmup,
            {2: 0.25, 4: 0.125, 6: 0.0},
        ),
    ],
)
def test_schedules_begin_with_the_learning_rate(theta, table, expected, rates):
    schedule = build({"kind": "gd", "schedule": table}, theta).schedule
    assert type(schedule) is expected
    for step, rate in rates.items():
        assert float(schedule(jnp.asarray(step))) == pytest.approx(rate, abs=1e-12)
    if table == {"kind": "warmup", "steps": 5}:
        assert type(schedule.then) is Constant


@pytest.mark.parametrize("name", [*CASES, *NOISES, *SOLVERS])
def test_single_precision_stays_single(name, problem, theta):
    """As a run does it: a scenario in float32 while float64 is enabled."""
    if name in NOISES and name not in SOLVERS:
        rows = {} if NOISES[name][0]["kind"] in ("isotropic", "langevin", "constant") else BATCH
        table = {"kind": "gaussian_sgd", "noise": NOISES[name][0], **rows}
    else:
        table = CASES[name][0] if name in CASES else SOLVERS[name]
    stepper = cast(build(table, theta), jnp.float32)
    single, start = problem.astype(jnp.float32), cast(theta, jnp.float32)

    def steps(key, theta):
        iterate = stepper.start(single, theta)

        def one(iterate, step):
            draw = stepper.draw(key, step, single, iterate.theta)
            return stepper.step(single, iterate, draw)[0], None

        # The loop carries the memory too, whose precision must not change.
        return jax.lax.scan(one, iterate, jnp.arange(2))[0]

    end = jax.eval_shape(steps, jax.random.key(0), start)
    floats = [
        leaf.dtype for leaf in jax.tree.leaves(end) if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    assert set(floats) == {np.dtype("float32")}


def test_a_misfit_says_what_to_do(theta):
    bad = functools.partial(build, theta=theta)
    with pytest.raises(ValueError, match=r"solver 'heun' is refused: .* take 'euler', or"):
        bad({**EULER, **BATCH, "solver": "heun"})
    with pytest.raises(ValueError, match=r"give a matrix of shape \(6, 6\)"):
        bad({"kind": "gaussian_sgd", "noise": {"kind": "constant", "covariance": [[1.0]]}})
