"""The registry gives every kind of dynamics its edge, with the numbers of the process."""

import math
import typing

import numpy as np
import pytest
from pydantic import TypeAdapter

from sgdsim.scenario._dynamics import Dynamics
from sgdsim.stability import (
    BATCH_EDGES,
    EDGES,
    adam_threshold,
    batch_sharpness_threshold,
    edge_of,
    heavy_ball_threshold,
    nesterov_threshold,
    sam_threshold,
    unnormalised_sam_threshold,
)
from sgdsim.store import EDGE_OPERATORS

RATES = np.array([0.05, 0.2])
FLOWS = ("gradient_flow", "sde", "underdamped_sde", "rmsprop_sde", "adam_sde")


def kinds_of_the_scenario():
    tables = typing.get_args(typing.get_args(Dynamics)[0])
    return [typing.get_args(table.model_fields["kind"].annotation)[0] for table in tables]


@pytest.mark.parametrize(
    ("kind", "numbers", "expected", "operator"),
    [
        ("gd", {}, [2 / rate - 0.3 for rate in RATES], "hessian"),
        ("sgd", {"batch_size": 8}, [2 / rate - 0.3 for rate in RATES], "hessian"),
        (
            "heavy_ball",
            {"momentum": 0.9},
            [heavy_ball_threshold(rate, 0.9, 0.3) for rate in RATES],
            "hessian",
        ),
        (
            "nesterov",
            {"momentum": 0.9},
            [nesterov_threshold(rate, 0.9, 0.3) for rate in RATES],
            "hessian",
        ),
        (
            "adam",
            {"b1": 0.9, "b2": 0.99},
            [adam_threshold(rate, 0.9, 0.3) for rate in RATES],
            "preconditioned_hessian",
        ),
        ("rmsprop", {"decay": 0.9}, [2 / rate - 0.3 for rate in RATES], "preconditioned_hessian"),
        (
            "sam",
            {"rho": 0.1, "normalised": False},
            [float(unnormalised_sam_threshold(rate, 0.1, 0.3)) for rate in RATES],
            "hessian",
        ),
    ],
)
def test_thresholds_along_a_schedule(kind, numbers, expected, operator):
    edge = edge_of(kind, {**numbers, "weight_decay": 0.3, "schedule": None})
    np.testing.assert_allclose(edge.threshold(RATES), expected, rtol=1e-14)
    assert edge.threshold(float(RATES[0])).shape == ()
    assert (edge.operator, edge.binds) == (operator, True)
    assert "2/eta - 0.3" in edge.formula
    assert "-" not in edge_of(kind, numbers).formula.replace("-b1", "").replace("- 1", "")


def test_normalised_sam_moves_with_the_gradient_norm():
    edge = edge_of("sam", {"rho": 0.1, "normalised": True})
    norms = np.array([0.4, 0.01])
    np.testing.assert_allclose(edge.threshold(RATES, norms), sam_threshold(RATES, 0.1, norms))
    assert edge.measured == "gradient_norm"
    assert edge_of("sam", {"rho": 0.1}) == edge
    with pytest.raises(ValueError, match=r"gradient_norm is missing: the edge of SAM, \|g\|/"):
        edge.threshold(0.1)


@pytest.mark.parametrize("kind", [*kinds_of_the_scenario(), "central_flow", "edge_flow"])
def test_every_kind_of_dynamics_is_known(kind):
    numbers = {"momentum": 0.9, "b1": 0.9, "rho": 0.1, "l": 4, "substeps": 4}
    edge = edge_of(kind, numbers)
    assert np.all(np.isfinite(edge.threshold(RATES, 1.0)))
    assert edge.operator in EDGE_OPERATORS[1:]
    assert edge.binds == (kind not in (*FLOWS, "svag"))
    assert edge.source
    batch = edge_of(kind, numbers, batch=True)
    assert batch.operator == ("batch_hessian" if kind in BATCH_EDGES else "none")
    value = batch.threshold(RATES, 3.0)
    assert value.shape == RATES.shape
    assert np.all(np.isfinite(value) == (kind in BATCH_EDGES))


def test_svag_of_one_step_is_sgd():
    assert edge_of("svag", {"l": 1}) == edge_of("sgd", {})
    assert edge_of("svag", {"l": 1}, batch=True).binds
    assert not edge_of("svag", {"l": 2}, batch=True).binds


def test_underdamped_equation_of_nesterov():
    plain, ahead = (
        edge_of("underdamped_sde", {"momentum": 0.9, "nesterov": flag}) for flag in (False, True)
    )
    assert float(plain.threshold(0.1)) == pytest.approx(heavy_ball_threshold(0.1, 0.9))
    assert float(ahead.threshold(0.1)) == pytest.approx(nesterov_threshold(0.1, 0.9))
    assert not plain.binds
    assert not ahead.binds


def test_edge_of_the_batch_sharpness():
    plain = edge_of("sgd", {"batch_size": 4}, batch=True)
    np.testing.assert_allclose(plain.threshold(RATES), 2 / RATES, rtol=1e-15)
    assert plain.measured == ""
    heavy = edge_of("heavy_ball", {"momentum": 0.5}, batch=True)
    sharpness = np.array([5.0, 7.0])
    np.testing.assert_allclose(
        heavy.threshold(RATES, sharpness), batch_sharpness_threshold(RATES, sharpness, 0.5)
    )
    decayed = edge_of("sgd", {"weight_decay": 0.3}, batch=True)
    np.testing.assert_allclose(
        decayed.threshold(RATES, sharpness), batch_sharpness_threshold(RATES, sharpness, 0.0, 0.3)
    )
    for edge in (heavy, decayed):
        with pytest.raises(ValueError, match="sharpness is missing"):
            edge.threshold(RATES)


def test_learning_rates_at_the_rim():
    edge = edge_of("sam", {"rho": 0.1})
    assert edge.threshold([0.0, 0.1], 1.0).tolist() == [math.inf, pytest.approx(10.0)]
    assert edge_of("gd", {}).threshold(0.0) == math.inf
    with pytest.raises(ValueError, match=r"learning_rate must not be negative, got -0\.1"):
        edge.threshold([0.1, -0.1], 1.0)


def test_a_whole_table_of_a_scenario_is_understood():
    table = TypeAdapter(Dynamics).validate_python(
        {"kind": "adam", "learning_rate": 1e-3, "b1": 0.9, "weight_decay": 0.01}
    )
    edge = edge_of(table.kind, table.model_dump())
    assert float(edge.threshold(1e-3)) == pytest.approx(38000 - 0.19)


def test_what_is_missing_or_unknown_is_said():
    with pytest.raises(ValueError, match=r"kind must be one of adam, adam_sde, .*, got 'lion'"):
        edge_of("lion", {})
    with pytest.raises(ValueError, match="momentum is missing: the edge of heavy ball is"):
        edge_of("heavy_ball", {})
    with pytest.raises(ValueError, match="momentum is missing: take the edge from edge_of"):
        EDGES["heavy_ball"].threshold(0.1)
