"""Where a certificate claims nothing, and how it behaves in its arguments."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sgdsim.bounds import (
    CERTIFICATES,
    BoundInputs,
    Evaluation,
    GeometricGrid,
    TrainingSample,
    evaluate_all,
)

Make = Callable[..., BoundInputs]
NORM_BASED = ("G1", "G2", "G3", "BFT", "NBS")
STAGNATION = ("G1", "G2", "G3")
GRID_RADIUS = ("G2", "G3")


def check_nan(evaluation: Evaluation, violated: list[bool]) -> None:
    np.testing.assert_equal(evaluation.assumption_violated, violated)
    np.testing.assert_equal(np.isnan(evaluation.value), violated)
    np.testing.assert_equal(np.isnan(evaluation.log_value), violated)
    assert not evaluation.vacuous[violated].any()
    assert bool(evaluation.reason) == any(violated)


@pytest.mark.parametrize("name", NORM_BASED)
def test_iterate_that_diverged(name: str, make_inputs: Make) -> None:
    centre = [np.eye(3), np.ones((2, 3))]
    iterate = [np.stack([a, a + 0.1, a]) for a in centre]
    iterate[1][1, 0, 0] = np.nan
    iterate[0][2, 0, 0] = np.inf
    evaluation = CERTIFICATES[name].evaluate(make_inputs(centre, iterate))
    check_nan(evaluation, [False, True, True])
    assert evaluation.reason == "norms not finite (2 of 3)"


@pytest.mark.parametrize("name", NORM_BASED)
def test_outside_the_stagnation_set(name: str, make_inputs: Make) -> None:
    centre = [np.eye(3)]
    inputs = make_inputs(centre, [np.stack([np.eye(3) + 0.1] * 2)], inside=np.array([True, False]))
    evaluation = CERTIFICATES[name].evaluate(inputs)
    # BFT and NBS do not know of a stagnation set and hold everywhere.
    check_nan(evaluation, [False, name in STAGNATION])
    if name in STAGNATION:
        assert evaluation.reason == "outside the stagnation set (1 of 2)"


@pytest.mark.parametrize("name", NORM_BASED)
def test_radius_at_and_above_the_end_of_the_grid(name: str, make_inputs: Make) -> None:
    centre = [np.zeros((2, 2))]
    end = 2.0
    moved = np.zeros((3, 2, 2))
    # Rows of equal direction: radius, spectral and Frobenius norm agree.
    moved[:, 0, 0] = [end / 2, end, np.nextafter(end, 3.0)]
    inputs = make_inputs(
        centre,
        [moved],
        radius=moved[:, 0, 0],
        grid=GeometricGrid(1e-3, end, 1.1),
    )
    evaluation = CERTIFICATES[name].evaluate(inputs)
    if name == "G1":
        check_nan(evaluation, [False, False, False])
    elif name in GRID_RADIUS:
        check_nan(evaluation, [False, False, True])
        assert evaluation.reason == "radius above the grid, which ends at 2 (1 of 3)"
    else:
        # The certified upper end of a spectral norm equal to `end` already lies above it.
        check_nan(evaluation, [False, True, True])
        assert evaluation.reason == "spectral norm above the grid, which ends at 2 (2 of 3)"


def test_two_one_norm_above_the_grid_is_named(make_inputs: Make) -> None:
    centre = [np.eye(4)]
    inputs = make_inputs(centre, [np.eye(4)[None]], grid=GeometricGrid(1e-3, 3.0, 1.1))
    evaluations = evaluate_all(inputs)
    check_nan(evaluations["BFT"], [True])
    assert evaluations["BFT"].reason == "(2,1) norm above the grid, which ends at 3 (1 of 1)"
    check_nan(evaluations["NBS"], [False])


@pytest.mark.parametrize("name", NORM_BASED)
def test_zero_radius_and_zero_layers_have_values(name: str, make_inputs: Make) -> None:
    centre = [np.zeros((3, 3)), np.zeros((2, 3))]
    inputs = make_inputs(centre, centre)
    value = float(CERTIFICATES[name].evaluate(inputs).value)
    assert np.isfinite(value)
    assert value > 0.0
    if name == "G1":
        assert value == pytest.approx((np.log(1 / 0.05) / (2 * 900)) ** 0.5)


@pytest.mark.parametrize("name", NORM_BASED)
def test_product_of_200_layers_of_norm_50(name: str, make_inputs: Make) -> None:
    centre = [50.0 * np.eye(2)] * 200
    inputs = make_inputs(centre, [matrix + 0.1 for matrix in centre])
    evaluation = CERTIFICATES[name].evaluate(inputs)
    assert float(evaluation.value) == np.inf
    assert 199 * np.log(50.0) < float(evaluation.log_value) < 200 * np.log(56.0) + 20.0
    assert evaluation.vacuous
    assert not evaluation.assumption_violated


@pytest.mark.parametrize("name", NORM_BASED)
def test_vacuous_values_are_not_clipped(name: str, make_inputs: Make) -> None:
    evaluation = CERTIFICATES[name].evaluate(make_inputs())
    assert evaluation.vacuous.all()
    assert (evaluation.value > 1.0).all()


def test_a_bound_below_the_range_of_the_loss_is_not_vacuous(make_inputs: Make) -> None:
    centre = [np.eye(3)]
    evaluations = evaluate_all(make_inputs(centre, [np.eye(3) + 1e-5]))
    assert [name for name in STAGNATION if not evaluations[name].vacuous] == ["G1", "G2", "G3"]


@pytest.mark.parametrize("name", NORM_BASED)
def test_monotone(name: str, make_inputs: Make) -> None:
    certificate = CERTIFICATES[name]

    def value(**changes: Any) -> float:
        return float(certificate.evaluate(make_inputs(centre, iterate, **changes)).value)

    centre = [np.eye(3), np.ones((2, 3))]
    iterate = [1.02 * matrix for matrix in centre]
    base = value()
    assert value(margin=0.4) > base > value(margin=1.6)
    assert value(failure_probability=0.001) > base > value(failure_probability=0.2)
    # The same inputs repeated: ||X||_F grows like sqrt(n).
    assert value(sample=TrainingSample(size=3600, input_bound=1.25, frobenius=62.0)) < base
    # BFT alone depends on the inputs of the sample instead of their bound.
    wider = value(sample=TrainingSample(size=900, input_bound=2.5, frobenius=31.0))
    longer = value(sample=TrainingSample(size=900, input_bound=1.25, frobenius=35.0))
    assert (wider > base, longer > base) == ((False, True) if name == "BFT" else (True, False))
    finer = value(grid=GeometricGrid(1e-9, 1e9, 1.1))
    assert (finer > base) == (name != "G1")
    iterate = [1.5 * matrix for matrix in centre]
    assert value() > base


@pytest.mark.parametrize("name", ["G2", "G3", "BFT", "NBS"])
def test_norms_are_rounded_up_by_at_most_the_ratio(name: str, make_inputs: Make) -> None:
    """Fine and coarse grids of equally many cells differ by the rounding alone."""
    coarse = CERTIFICATES[name].evaluate(make_inputs(grid=GeometricGrid(1e-3, 1e4, 2.0)))
    cells = len(GeometricGrid(1e-3, 1e4, 2.0).points)
    low = 0.2
    fine = CERTIFICATES[name].evaluate(
        make_inputs(grid=GeometricGrid(low, 40.0, (40.0 / low) ** (1 / (cells - 1))))
    )
    # Three layers, at most three norms multiplied: a factor of at most ratio^3.
    assert (fine.value < coarse.value * 1.35**3).all()
    assert (coarse.value < fine.value * 2.0**3).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 0.0}, "margin must be positive"),
        ({"failure_probability": 1.0}, r"must be in \(0, 1\)"),
        ({"radius": np.zeros(4)}, "radius must have the shape"),
        ({"inside": np.zeros(4, dtype=bool)}, "inside must have the shape"),
    ],
)
def test_refuses_inputs_that_do_not_belong_together(
    changes: dict[str, Any], message: str, make_inputs: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        make_inputs(**changes)


def test_refuses_a_wrong_reference(make_inputs: Make) -> None:
    good = make_inputs()
    with pytest.raises(ValueError, match="must be the same network"):
        make_inputs(reference=make_inputs([np.eye(3)], [np.eye(3)]).reference)
    with pytest.raises(ValueError, match="The reference is one network"):
        make_inputs(reference=good.iterate)
    broken = make_inputs([np.eye(3)], [np.full((3, 3), np.nan)]).iterate
    with pytest.raises(ValueError, match="not finite"):
        make_inputs([np.eye(3)], [np.eye(3)], reference=broken)


@pytest.mark.parametrize(
    ("size", "input_bound", "frobenius", "message"),
    [
        (1, 1.0, 1.0, "at least 2 training rows"),
        (4, 0.0, 1.0, "input_bound must be positive"),
        (4, 1.0, 2.1, "an input is longer than"),
        (4, 1.0, float("nan"), "is not between"),
    ],
)
def test_refuses_a_sample_that_contradicts_itself(
    size: int, input_bound: float, frobenius: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSample(size=size, input_bound=input_bound, frobenius=frobenius)


def test_registry_is_read_only() -> None:
    with pytest.raises(TypeError):
        CERTIFICATES["G4"] = CERTIFICATES["G1"]  # pyright: ignore[reportIndexIssue]
