"""The geometric grid: membership at the boundaries and the number of cells."""

import math

import numpy as np
import pytest

from sgdsim.bounds import GeometricGrid


def test_value_on_a_point_stays_and_one_just_above_moves_up() -> None:
    grid = GeometricGrid(1e-3, 1e4, 1.1)
    for index, point in enumerate(grid.points[:-1]):
        assert grid.ceil(point) == point
        assert grid.ceil(np.nextafter(point, np.inf)) == grid.points[index + 1]
        assert grid.ceil(np.nextafter(point, 0.0)) == point


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, 0.25),
        (0.1, 0.25),
        (0.25, 0.25),
        (0.26, 0.5),
        (16.0, 16.0),
        (np.nextafter(16.0, 17.0), math.nan),
        (math.inf, math.nan),
        (math.nan, math.nan),
    ],
)
def test_ends(value: float, expected: float) -> None:
    np.testing.assert_equal(float(GeometricGrid(0.25, 16.0, 2.0).ceil(float(value))), expected)


def test_neighbours_differ_by_at_most_the_ratio_and_the_last_point_is_high() -> None:
    grid = GeometricGrid(1e-3, 7.3, 1.1)
    quotients = grid.points[1:] / grid.points[:-1]
    assert (quotients > 1.0).all()
    assert quotients.max() <= 1.1 * (1 + 1e-8)
    assert grid.points[-1] == 7.3


@pytest.mark.parametrize(
    ("low", "high", "ratio", "cells"), [(1, 8, 2, 4), (1, 9, 2, 5), (1, 1.5, 2, 2)]
)
def test_number_of_cells(low: float, high: float, ratio: float, cells: int) -> None:
    assert GeometricGrid(low, high, ratio).log_cells == pytest.approx(math.log(cells))


def test_shape_is_kept() -> None:
    grid = GeometricGrid(1.0, 8.0, 2.0)
    rounded = grid.ceil(np.array([[1.5, 3.0, 9.0]], dtype=np.float32))
    np.testing.assert_equal(rounded, [[2.0, 4.0, math.nan]])
    assert rounded.dtype == np.float64


@pytest.mark.parametrize(
    ("low", "high", "ratio", "message"),
    [
        (0.0, 1.0, 1.1, "0 < low < high"),
        (2.0, 1.0, 1.1, "0 < low < high"),
        (1.0, math.inf, 1.1, "0 < low < high"),
        (1.0, 2.0, 1.0, "must exceed 1"),
        (1e-3, 1e4, 1.0 + 1e-9, "choose a larger ratio"),
    ],
)
def test_refuses_what_is_no_grid(low: float, high: float, ratio: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeometricGrid(low, high, ratio)
