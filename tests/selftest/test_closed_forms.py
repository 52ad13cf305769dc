"""Every closed form holds, and a wrong formula or a wrong simulator is seen."""

import importlib
from types import ModuleType

import numpy as np
import pytest

from sgdsim import dynamics, stability
from sgdsim.selftest import CLOSED_FORMS, run_check, variance

pytestmark = pytest.mark.slow


def module(name: str) -> ModuleType:
    return importlib.import_module(f"sgdsim.selftest._{name}")


def failing(name: str) -> list[str]:
    return [line.quantity for line in run_check(name, CLOSED_FORMS[name]) if not line.holds]


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_every_line_holds(name):
    lines = run_check(name, CLOSED_FORMS[name])
    assert len(lines) >= 2
    assert not [line for line in lines if not line.holds]
    assert len({line.quantity for line in lines}) == len(lines)
    assert all(line.source for line in lines)


def test_the_standard_errors_resolve_the_tolerance(x64):
    """A quarter of it: what is off by the tolerance is seen with four standard errors."""
    found, error = variance(dynamics.minibatch_sgd(1.8, 1), 50, 400)
    assert abs(found - 9) < 4 * error
    assert error < 0.0025 * found


#: Where a formula is compared, its name, and by how much it is wrong.
FORMULAS = [
    ("edges of linear methods", "edges", "gradient_descent_threshold", 1 + 1e-7),
    ("edges of linear methods", "edges", "heavy_ball_threshold", 1 + 1e-7),
    ("edges of linear methods", "edges", "nesterov_threshold", 1 - 1e-7),
    ("edges of linear methods", "edges", "unnormalised_sam_threshold", 1 + 1e-7),
    ("edges of adaptive methods", "edges", "adam_threshold", 1 + 1e-7),
    ("edges of adaptive methods", "edges", "rmsprop_threshold", 19.0),
    ("edges of adaptive methods", "edges", "sam_threshold", 1 - 1e-7),
    ("mean-square edges", "mean_square", "mean_square_threshold", 1 + 1e-5),
    ("mean-square edges", "mean_square", "homogenised_threshold", 1 - 1e-5),
    ("edges with momentum", "mean_square", "critical_curvature_variance", 1 + 1e-6),
]


@pytest.mark.parametrize(("check", "where", "formula", "factor"), FORMULAS)
def test_a_wrong_formula_is_seen(check, where, formula, factor, monkeypatch):
    right = getattr(stability, formula)
    monkeypatch.setattr(module(where), formula, lambda *given: factor * right(*given))
    assert failing(check)


def test_a_wrong_plateau_is_seen(monkeypatch):
    monkeypatch.setattr(module("mean_square"), "momentum_plateaus", lambda eta, b: (0.41, 7.6))
    assert failing("edges with momentum") == [
        "batch sharpness at the edge of heavy ball, b = 0.9, small batches"
    ]


@pytest.mark.parametrize("formula", ["stationary_variance", "heavy_ball_variance"])
def test_a_wrong_variance_is_seen(formula, monkeypatch):
    """Against exact variances; that the simulated ones are right is another test."""
    variances = module("variances")
    exact = iter([3.0, 9.0, 9.0, 0.9, 21.111])
    monkeypatch.setattr(variances, "variance", lambda *given: (next(exact), 0.0))
    right = getattr(stability, formula)
    monkeypatch.setattr(variances, formula, lambda *a, **k: 1.02 * right(*a, **k))
    assert len(failing("stationary variances")) == {"stationary_variance": 4}.get(formula, 1)


def test_another_momentum_is_seen(monkeypatch):
    monkeypatch.setattr(module("edges"), "nesterov", dynamics.heavy_ball)
    assert failing("edges of linear methods") == ["edge of Nesterov, b = 0.9"]


def test_a_flow_of_the_first_order_is_not_of_the_second(monkeypatch):
    def flow(eta, order, **settings):
        return dynamics.GradientFlow(eta, 1, **settings)

    monkeypatch.setattr(module("orders"), "GradientFlow", flow)
    assert failing("orders of gradient flows") == [
        "order of GD against the flow of L + eta/4 |grad L|^2"
    ]


def test_other_noise_of_the_sde_is_seen(monkeypatch):
    def noise(batch, form):
        return dynamics.HessianAlignedNoise(2 * batch, form)

    monkeypatch.setattr(module("mean_square"), "HessianAlignedNoise", noise)
    assert len(failing("mean-square edges")) == 4


def test_another_learning_rate_is_seen(monkeypatch):
    landscapes = module("landscapes")
    monkeypatch.setattr(
        landscapes, "gradient_descent", lambda eta: dynamics.gradient_descent(0.9 * eta)
    )
    monkeypatch.setattr(landscapes, "_SEEDS", 2)
    assert len(failing("catapult")) >= 3
    assert len(failing("product of four")) == 3


def test_the_oscillation_is_part_of_the_averages(monkeypatch):
    """The numbers of the flow without what its covariance adds to loss and squared gradient."""
    monkeypatch.setattr(module("flows"), "_flow", lambda: (np.array([20.0, 20.0]), 0.0625, 0.0125))
    assert len(failing("central flow")) == 2


def test_a_flow_beyond_the_edge_is_seen(monkeypatch):
    monkeypatch.setattr(module("flows"), "_flow", lambda: (np.array([21.0, 20.0]), 1.5625, 60.0))
    assert failing("central flow") == ["central flow, largest eigenvalue"]


def test_curvature_along_another_direction_is_seen(monkeypatch):
    critical = module("critical")

    def find(risk, theta, direction, start, **settings):
        from sgdsim.curvature import critical_sharpness

        return critical_sharpness(risk, theta, direction * np.array([1.0, 1.1, 1.0]), start)

    monkeypatch.setattr(critical, "critical_sharpness", find)
    assert len(failing("critical sharpness")) == 2


def test_an_error_in_a_check_is_a_line_that_fails():
    def broken():
        raise ValueError("no bracket")

    (line,) = run_check("edges", broken)
    assert line.quantity == "edges: ValueError: no bracket"
    assert not line.holds
