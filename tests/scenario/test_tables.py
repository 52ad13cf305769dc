"""Every key of the tables that a kind chooses, on both sides of its boundary."""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from sgdsim.dynamics._solvers import SOLVERS
from sgdsim.scenario import (
    AnalyticLandscape,
    BiasedMlp,
    BoundsClaim,
    Curvature,
    Detector,
    Dynamics,
    DynamicsClaim,
    EdgeClaim,
    EdgeProcess,
    Escape,
    Fork,
    Measuring,
    Noise,
    PointStart,
    Process,
    Projection,
    RandomStart,
    RegressionData,
    Schedule,
    Training,
    Validity,
)
from sgdsim.scenario._classification import Data
from sgdsim.scenario._dynamics import FlowSolver, SdeSolver
from sgdsim.scenario._fields import Table
from sgdsim.scenario._shape import tables_in

Boundary = tuple[list[Any], list[Any]]
INFINITY = float("inf")

POSITIVE: Boundary = ([1e-300, 1], [0, -1, "1", INFINITY, True])
COUNT: Boundary = ([1, 2**31 - 1], [0, -1, 1.0, 2**31, True])
FRACTION: Boundary = ([0, 0.999], [-1e-9, 1, 2.0])
MOMENTUM: Boundary = ([0, 0.9], [-0.1, 1, 1.5, INFINITY])
SWITCH: Boundary = ([True, False], [0, "yes"])
ORDER: Boundary = ([1, 2], [0, 3, 1.5, "1"])
BALL = {"kind": "ball", "radius": 1.0}
STEADY = {"kind": "isotropic", "variance": 1.0}
LINEAR = {"kind": "linear", "final": 0.1, "steps": 5}

# What all dynamics have, what those with noise have, what optimizers have.
COMMON: dict[str, Boundary] = {
    "learning_rate": ([1e-300, 1], [0, -0.1, "0.1", INFINITY, None]),
    "weight_decay": ([0, 0.1], [-1e-9, INFINITY, None]),
    "schedule": ([None, LINEAR], [0.1, {"kind": "linear"}, {"kind": "lin"}]),
    "projection": ([None, BALL], [1.0, {"kind": "ball"}, {"kind": "sphere", "radius": 1.0}]),
}
NOISY = COMMON | {
    "noise": ([STEADY, {"kind": "minibatch"}], [None, {}, {"kind": "minibtach"}]),
    "batch_size": ([1, 8], [0, -1, 8.0]),
}
EQUATION = NOISY | {"substeps": COUNT, "adaptive": ([False], [True, 0])}
OPTIMIZER = COMMON | {
    "noise": ([None, STEADY], [{}, {"kind": "minibtach"}]),
    "batch_size": ([None, 1, 8], [0, -1, 8.0]),
    "replacement": SWITCH,
}
BATCH: dict[str, Boundary] = {"batch_size": ([1, 8], [0, -1, 8.0, None]), "replacement": SWITCH}
SOLVER: Boundary = (list(get_args(SdeSolver)), ["Euler", "tsit5", "euler_heun", 1])
ETA = {"learning_rate": 0.1}
ROWS = {**ETA, "batch_size": 8}
SDE = {**ROWS, "substeps": 2}
FLOW_STEPS: Boundary = ([2, 8], [1, 0, 2.0])
AVERAGES = {"b1": FRACTION, "b2": FRACTION, "epsilon": POSITIVE}

# By kind: a correct table, and for every key values that are accepted and refused.
DYNAMICS: dict[str, tuple[dict[str, Any], dict[str, Boundary]]] = {
    "gd": (ETA, COMMON),
    "gradient_flow": (
        ETA,
        COMMON
        | {
            "order": ORDER,
            "solver": (list(get_args(FlowSolver)), ["euler", "Tsit5"]),
            "rtol": POSITIVE,
            "atol": POSITIVE,
        },
    ),
    "central_flow": (
        ETA,
        COMMON
        | {
            "substeps": FLOW_STEPS,
            "max_critical": ([1, 10], [0, 11, 2.0]),
            "tolerance": POSITIVE,
        },
    ),
    "edge_flow": (ETA, COMMON | {"substeps": FLOW_STEPS, "amplitude": POSITIVE}),
    "sgd": (ROWS, COMMON | BATCH),
    "gaussian_sgd": (ROWS, NOISY),
    "sde": (
        SDE,
        EQUATION
        | {
            "order": ORDER,
            "solver": SOLVER,
            "ito_correction": SWITCH,
            "resolution": ([None, 2, 6], [0, 1, 3, 4.0]),
        },
    ),
    "svag": (ROWS | {"l": 1}, COMMON | BATCH | {"l": COUNT}),
    "sgld": (
        ETA | {"inverse_temperature": 1.0},
        COMMON | {"inverse_temperature": POSITIVE, "batch_size": OPTIMIZER["batch_size"]},
    ),
    "label_noise_sgd": (ROWS | {"std": 1.0}, COMMON | BATCH | {"std": POSITIVE}),
    "heavy_ball": (ETA | {"momentum": 0.9}, OPTIMIZER | {"momentum": MOMENTUM}),
    "nesterov": (ETA | {"momentum": 0.9}, OPTIMIZER | {"momentum": MOMENTUM}),
    "rmsprop": (ETA, OPTIMIZER | {"decay": FRACTION, "epsilon": POSITIVE}),
    "adam": (ETA, OPTIMIZER | AVERAGES),
    "sam": (ETA | {"rho": 0.1}, OPTIMIZER | {"rho": POSITIVE, "normalised": SWITCH}),
    "underdamped_sde": (
        SDE | {"momentum": 0.9},
        EQUATION | {"momentum": MOMENTUM, "nesterov": SWITCH, "solver": SOLVER},
    ),
    "rmsprop_sde": (SDE, EQUATION | {"decay": FRACTION, "epsilon": POSITIVE}),
    "adam_sde": (SDE, EQUATION | AVERAGES),
}
BASE: Boundary = ([STEADY, {"kind": "low_rank", "rank": 2}], [None, {}, {"kind": "student"}])
NOISES: dict[str, tuple[dict[str, Any], dict[str, Boundary]]] = {
    "minibatch": ({}, {"replacement": SWITCH}),
    "isotropic": ({"variance": 1.0}, {"variance": POSITIVE}),
    "langevin": ({"inverse_temperature": 1.0}, {"inverse_temperature": POSITIVE}),
    "hessian_aligned": ({"form": "mse"}, {"form": (["mse", "cross_entropy"], ["ce", 1, None])}),
    "diagonal": ({}, {}),
    "low_rank": ({"rank": 2}, {"rank": COUNT}),
    "label": ({"std": 1.0}, {"std": POSITIVE}),
    "constant": (
        {"covariance": [[1.0]]},
        {
            "covariance": (
                [[[0]], [[2, -1], [-1, 2]]],
                [[], [[]], [1.0], [[1, 0]], [[1, 0], [0]], [[1, 0.5], [0, 1]], [[-1]], [["1"]]],
            )
        },
    ),
    "student": ({"base": STEADY, "degrees": 3}, {"base": BASE, "degrees": ([2.01, 100], [2, 0])}),
    "stable": ({"base": STEADY, "alpha": 1.5}, {"base": BASE, "alpha": ([1.01, 1.99], [1, 2, 0])}),
}
FINAL: Boundary = ([0, 0.1], [-0.1, INFINITY])
SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Boundary]]] = {
    "linear": ({"final": 0.1, "steps": 5}, {"final": FINAL, "steps": COUNT}),
    "cosine": ({"steps": 5}, {"final": FINAL, "steps": COUNT}),
    "exponential": ({"steps": 5, "factor": 0.5}, {"steps": COUNT, "factor": POSITIVE}),
    "step": (
        {"boundaries": [5, 9], "factors": [0.1, 2]},
        {
            "boundaries": ([[1, 2]], [[2, 2], [2, 1], [0, 1], [1], [], 3, [1.0, 2.0]]),
            "factors": ([[1, 1e-9]], [[1, 0], [1, -1], [1], [1, 1, 1], [], 0.5]),
        },
    ),
    "warmup": (
        {"steps": 5},
        {"steps": COUNT, "then": ([None, LINEAR], [{"kind": "warmup", "steps": 2}, {}, 0.1])},
    ),
}
PROJECTIONS: dict[str, tuple[dict[str, Any], dict[str, Boundary]]] = {
    "ball": ({"radius": 1.0}, {"radius": POSITIVE}),
    "box": (
        {"low": -1.0, "high": 1.0},
        {"low": ([0, -1e308], [1, 2]), "high": ([0], [-1, -2])},
    ),
    "spectral": ({"bound": 1.0}, {"bound": POSITIVE}),
}
NUMBER: Boundary = ([0, -1.5], ["0", INFINITY, None])
LANDSCAPES: dict[str, tuple[dict[str, Any], dict[str, Boundary]]] = {
    "quadratic": (
        {"eigenvalues": [1.0]},
        {"eigenvalues": ([[1, 0], [1e-9]], [[], [0, 0], [1, -1e-9], 1.0])},
    ),
    "sphere": ({"modulus": 1.0}, {"modulus": POSITIVE, "dimension": COUNT}),
    "hyperbola": ({"product": 1.0}, {"product": NUMBER}),
    "double_well": ({}, {"height": POSITIVE, "transverse": ([None, 1.0], [0, -1])}),
    "periodic_wells": (
        {"amplitude": 1.0, "period": 1.0},
        {"amplitude": POSITIVE, "period": POSITIVE},
    ),
    "two_wells": (
        {"height": 3.0, "width_left": 1.0, "width_right": 2.0},
        {
            "height": POSITIVE,
            "width_left": ([0.4, 11.6], [0, -1, 0.3, 11.7]),
            "width_right": ([0.2, 5.8], [0, -1, 0.1, 5.9]),
            "tilt": ([-15.9, 15.9], [-16, 16, "1"]),
        },
    ),
    "ripples": (
        {"curvature": 1.0, "amplitude": 1.0, "period": 1.0},
        {
            "curvature": POSITIVE,
            "amplitude": POSITIVE,
            "period": POSITIVE,
            "dimension": COUNT,
        },
    ),
    "deep_linear": (
        {"target": 0.0, "hidden": [1]},
        {"target": NUMBER, "hidden": ([[1, 1, 1], [1024]], [[], [0], 1, [1.0], None])},
    ),
    "lipschitz_product": (
        {},
        {"loss": (["square_root", "log_cosh"], ["sqrt", None, 1]), "slope": POSITIVE},
    ),
}
SEED: Boundary = ([0, 2**31 - 1], [-1, 0.5, 2**31])
ROWS_OF_DATA: Boundary = ([2, 100], [0, 1, 10.0, "10", None])
SHARE: Boundary = ([0, 0.5, 1], [-1e-9, 1.01, "0"])
SPLIT = {"training": 50, "reference": 40, "split_seed": 0}
# Too many rows are reported at the second of the two keys.
DATA: dict[str, tuple[dict[str, Any], dict[str, Boundary]]] = {
    "digits": (
        SPLIT,
        {
            "training": ([2, 1755], [0, 1, 1756, 10.0, "10"]),
            "reference": ([2, 1745], [0, 1, 1746, 10.0, "10"]),
            "split_seed": SEED,
            "random_labels": SHARE,
        },
    ),
    "hypercube": (
        {"dimension": 5, **SPLIT},
        {
            "dimension": ([2, 16], [0, 1, 17, 20, 3.0, "3"]),
            "classes": ([2, 16], [0, 1, 17, 2.0]),
            "teacher_width": COUNT,
            "teacher_seed": SEED,
            "training": ROWS_OF_DATA,
            "reference": ROWS_OF_DATA,
            "split_seed": SEED,
            "random_labels": SHARE,
        },
    ),
}
REGRESSION_DATA: dict[str, tuple[dict[str, Any], dict[str, Boundary]]] = {
    "chebyshev": (
        {"degree": 5, "training": 20},
        {"degree": ([1, 100], [0, 101, 5.0]), "training": ROWS_OF_DATA},
    ),
    "noisy_signs": (
        {"dimension": 16, "training": 1024, "flips": 0.1},
        {
            "dimension": COUNT,
            "training": ROWS_OF_DATA,
            "held_out": ([0, 1], [-1, 0.5, None]),
            "flips": ([0, 0.5], [-1e-9, 0.51, "0"]),
            "noise": ([0, 2.5], [-1e-9, "0"]),
            "seed": SEED,
        },
    ),
    "digits": (
        {"training": 50, "split_seed": 0},
        {
            "training": ([2, 1797], [0, 1, 1798, 10.0, "10"]),
            "split_seed": SEED,
            "random_labels": SHARE,
        },
    ),
}
CLAIM = {"quantity": "sde_gauge", "processes": ["a"], "at_most": 1.0, "text": "t", "source": "s"}
OTHERS: dict[type[Table], tuple[dict[str, Any], dict[str, Boundary]]] = {
    RandomStart: ({"kind": "random"}, {"seed": SEED, "gain": POSITIVE, "each": SWITCH}),
    BiasedMlp: (
        {"kind": "mlp", "hidden": [4], "activation": "tanh"},
        {
            "hidden": ([[1], [32, 32]], [[], [0], 1]),
            "width": ([None], [8, 0]),
            "depth": ([None], [2, 0]),
            "activation": (["tanh", "relu"], ["sigmoid", None]),
            "initial": (["uniform", "xavier"], ["normal", None]),
            "hidden_gain": POSITIVE,
            "output_bias": SWITCH,
        },
    ),
    PointStart: (
        {"kind": "point", "theta": [0]},
        {"theta": ([[1], [0.5, -2]], [[], 1.0, [[1.0]], ["1"], [INFINITY]])},
    ),
    Process: (
        {"name": "a", "dynamics": {"kind": "gd", "learning_rate": 1}},
        {"name": (["a b", "0"], ["", 1]), "dynamics": ([], [None, "gd", {}])},
    ),
    Validity: (
        {},
        {"tolerance": POSITIVE, "eigenvalues": COUNT, "trajectories": COUNT, "seed": SEED},
    ),
    Curvature: (
        {},
        {
            "eigenvalues": ([1, 32], [0, -1, 33, 1.0]),  # up to most_products
            "tolerance": POSITIVE,
            "most_products": ([2, 2**31 - 1], [1, 0, 2.0, 2**31]),
            "midpoint": SWITCH,
            "batch_error": POSITIVE,
            "most_batches": ([2, 2**31 - 1], [1, 0, 2.0, 2**31]),
            "trace_products": ([0, 2], [1, -1, 2.0]),
            "sketch": SEED,
            "also": (
                [[], ["critical", "smallest"], ["fisher", "noise", "blocks", "density"]],
                [["critcal"], "critical", [1]],
            ),
            "density_probes": COUNT,
            "density_depth": COUNT,
            "seed": SEED,
        },
    ),
    Detector: ({}, {"band": ([1e-3, 0.5], [-0.1, 1, "0.1"])}),
    EdgeProcess: (
        {"name": "a", "dynamics": {"kind": "gd", "learning_rate": 1}},
        {
            "name": (["a b", "0"], ["", 1]),
            "dynamics": ([], [None, "gd", {}]),
            "problem": ([None], [{}, "landscape"]),
            "start": ([None, {"kind": "random"}], [{}, "random"]),
            "steps": ([None, 1], [0, 1.0]),
            "fork": ([None, {"process": "b", "step": 1}], [{}, "b"]),
        },
    ),
    Fork: (
        {"process": "a", "step": 10},
        {"process": (["b"], ["", 1]), "step": COUNT},
    ),
    EdgeClaim: (
        CLAIM | {"quantity": "late_ratio"},
        {
            "quantity": (["at_the_edge", "survived"], ["batch_ratio", "edge"]),
            "processes": ([["b"]], [[], ["a", "b"], "a", [1], [""]]),
            "at_least": ([None, 0.5], [2.0, "1"]),
            "at_most": ([0], ["1"]),
            "text": (["x"], [""]),
            "source": (["x"], [""]),
        },
    ),
    Escape: ({}, {"coordinate": SEED, "level": NUMBER}),
    Training: (
        {},
        {
            "target": ([None, 1e-300, 1], [0, -0.1, "0.1", INFINITY]),
            "reference_target": POSITIVE,
            "reference_steps": COUNT,
            "reference_rate": POSITIVE,
        },
    ),
    Measuring: (
        {},
        {
            "draws": ([2, 2**31 - 1], [0, 1, 2.0, 2**31]),
            "deviations": ([[0.1], [1e-300, 3]], [[], [0], [0.1, -1], 0.1, ["0.1"], [INFINITY]]),
            "seed": SEED,
        },
    ),
    BoundsClaim: (
        {"quantity": "bound_value", "bound": "BFT", "at_most": 1.0, "text": "t", "source": "s"},
        {
            "quantity": (["kendall_tau", "growth_with_rows"], ["reached", "bond", 3]),
            "bound": (["G1", "path.norm"], ["", None, 3]),
            "at_least": ([None, 0.5], [2.0, "1"]),
            "at_most": ([0], ["1"]),
            "text": (["x"], [""]),
            "source": (["x"], [""]),
        },
    ),
    DynamicsClaim: (
        CLAIM,
        {
            "quantity": (["sde_valid", "escape_time_over_kramers"], ["loss_agreement", "bond"]),
            "processes": ([["b"]], [[], ["a", "b"], "a", [1], [""]]),
            "at_least": ([None, 0.5], [2.0, "1"]),
            "at_most": ([0], ["1"]),
            "text": (["x"], [""]),
            "source": (["x"], [""]),
        },
    ),
}


def _cases() -> list[tuple[type[Table], dict[str, Any], dict[str, Boundary]]]:
    cases = [(table, correct, keys) for table, (correct, keys) in OTHERS.items()]
    unions = [
        (Dynamics, DYNAMICS),
        (Noise, NOISES),
        (Schedule, SCHEDULES),
        (Projection, PROJECTIONS),
        (AnalyticLandscape, LANDSCAPES),
        (Data, DATA),
        (RegressionData, REGRESSION_DATA),
    ]
    for union, by_kind in unions:
        tables = {get_args(t.model_fields["kind"].annotation)[0]: t for t in tables_in(union)}
        assert set(tables) == set(by_kind)
        for kind, (correct, keys) in by_kind.items():
            cases.append((tables[kind], {"kind": kind, **correct}, keys))  # type: ignore[arg-type]
    return cases


CASES = _cases()


def accepts(table: type[Table], values: dict[str, Any]) -> bool:
    try:
        table.model_validate(values)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("table", "correct", "keys"), CASES, ids=[table.__name__ for table, _, _ in CASES]
)
def test_boundaries(table: type[Table], correct: dict[str, Any], keys: dict[str, Boundary]) -> None:
    assert set(keys) == set(table.model_fields) - {"kind"}
    assert accepts(table, correct)
    for key, (good, bad) in keys.items():
        for value in good:
            assert accepts(table, {**correct, key: value}), (key, value)
        for value in bad:
            assert not accepts(table, {**correct, key: value}), (key, value)
        without = {name: value for name, value in correct.items() if name != key}
        if table.model_fields[key].is_required():
            assert not accepts(table, without), key
    assert not accepts(table, {**correct, "unknown": 1})


@pytest.mark.parametrize("kind", [kind for kind, (_, keys) in DYNAMICS.items() if "noise" in keys])
@pytest.mark.parametrize("noise", NOISES)
def test_a_batch_size_is_asked_for_where_the_noise_comes_from_rows(kind: str, noise: str) -> None:
    (table,) = (t for t, correct, _ in CASES if correct.get("kind") == kind)
    correct = {"kind": kind, **DYNAMICS[kind][0], "noise": {"kind": noise, **NOISES[noise][0]}}
    table.model_validate({**correct, "batch_size": 8})
    correct.pop("batch_size", None)
    if noise in ("minibatch", "hessian_aligned", "diagonal", "low_rank", "label"):
        with pytest.raises(ValidationError, match=f"missing: {noise} noise needs it"):
            table.model_validate(correct)
        if kind == "gaussian_sgd":
            heavy = {"kind": "stable", "alpha": 1.5, "base": correct["noise"]}
            with pytest.raises(ValidationError, match="missing: stable noise needs it"):
                table.model_validate({**correct, "noise": heavy})
    else:
        table.model_validate(correct)


def test_the_solvers_are_those_that_the_dynamics_know() -> None:
    stochastic, flow = set(get_args(SdeSolver)), set(get_args(FlowSolver))
    assert stochastic == {name for name, (_, facts) in SOLVERS.items() if facts.limit != "ode"}
    assert stochastic | flow == set(SOLVERS)
