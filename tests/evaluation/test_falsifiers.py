"""Growth along an axis against dense least squares, and random labels by hand."""

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import linregress

from sgdsim.evaluation import growth, random_label_ratio

ROWS = np.array([64.0, 128.0, 512.0, 1024.0, 4096.0])


def power_law(seed: int, cells: int, noise: float, exponent: float = -0.5) -> xr.DataArray:
    random = np.random.default_rng(seed)
    log = exponent * np.log(ROWS) + random.normal(size=(cells, 1))
    values = np.exp(log + noise * random.normal(size=(cells, 5)))
    return xr.DataArray(values, dims=("width", "rows"), coords={"rows": ROWS})


def test_one_cell_is_simple_regression():
    measure = power_law(0, 1, 0.3)
    result = growth(measure, "rows")
    expected: Any = linregress(np.log(ROWS), np.log(measure.values[0]))
    assert float(result["exponent"]) == pytest.approx(expected.slope, rel=1e-12)
    assert float(result["stderr"]) == pytest.approx(expected.stderr, rel=1e-12)


def test_levels_of_cells_against_dense_least_squares():
    measure = power_law(1, 4, 0.3)
    measure[0, 2], measure[1, 1], measure[2, 1:], measure[3, 0] = np.nan, np.inf, 0.0, -1.0
    columns, targets, cells = [], [], []
    for c in (0, 1, 3):
        for i, x in enumerate(ROWS):
            if 0 < float(measure[c, i]) < np.inf:
                columns.append([math.log(x), *(float(c == d) for d in (0, 1, 3))])
                targets.append(math.log(float(measure[c, i])))
                cells.append(c)
    a, b = np.array(columns), np.array(targets)
    solution, squares, *_ = np.linalg.lstsq(a, b)
    stderr = math.sqrt(squares[0] / (len(b) - 4) * np.linalg.inv(a.T @ a)[0, 0])
    result = growth(measure[:, ::-1], "rows")
    assert float(result["exponent"]) == pytest.approx(solution[0], rel=1e-10)
    assert float(result["stderr"]) == pytest.approx(stderr, rel=1e-10)
    counts = {name: int(result[name]) for name in ("cells", "values", "left_out")}
    assert counts == {"cells": 3, "values": 12, "left_out": 8}


@pytest.mark.statistical
def test_error_of_the_exponent():
    measures = xr.concat([power_law(s, 3, 0.2) for s in range(300)], dim="bound")
    result = growth(measures, "rows")
    z = (result["exponent"] + 0.5) / result["stderr"]
    free = 15 - 3 - 1
    assert abs(float(z.mean())) < 5 * math.sqrt(free / (free - 2) / 300)
    ratio = float((result["stderr"] ** 2).mean()) / float(result["exponent"].var(ddof=1))
    assert abs(ratio - 1) < 5 * math.sqrt(2 / 300 + 2 / free / 300)


def test_share_of_falling_pairs():
    values = [[1.0, 2.0, 1.0], [3.0, 2.0, 2.0], [np.nan, 1.0, 0.5]]
    measure = xr.DataArray(values, dims=("seed", "rows"), coords={"rows": [1, 2, 4]})
    assert float(growth(measure, "rows")["falling_share"]) == pytest.approx(3 / 5)
    backwards = growth(measure.isel(rows=[2, 1, 0]), "rows")
    assert float(backwards["falling_share"]) == pytest.approx(3 / 5)


def test_two_values_of_one_cell_leave_no_degree_of_freedom():
    measure = xr.DataArray([2.0, 1.0], dims="rows", coords={"rows": [10, 40]})
    result = growth(measure, "rows")
    assert float(result["exponent"]) == pytest.approx(-0.5)
    assert np.isnan(result["stderr"])
    assert np.isnan(growth(measure * np.nan, "rows")["exponent"])


def test_growth_needs_positive_numbers():
    measure = xr.DataArray([2.0, 1.0], dims="rows")
    with pytest.raises(ValueError, match="no dimension 'row'"):
        growth(measure, "row")
    for rows in (None, [0.0, 1.0], [1.0, 1.0], ["a", "b"]):
        given = measure if rows is None else measure.assign_coords(rows=rows)
        with pytest.raises(ValueError, match="at least two distinct positive numbers"):
            growth(given, "rows")


def test_random_labels_by_hand():
    values = [[[1.0, 9.0, 4.0], [2.0, 9.0, 1.0], [1.0, 9.0, np.nan], [1.0, 9.0, np.inf]]]
    dims = ("bound", "seed", "noise")
    measure = xr.DataArray(values, dims=dims, coords={"noise": [0.0, 0.5, 1.0]})
    result = random_label_ratio(measure, "noise")
    np.testing.assert_array_equal(result["ratio"], [[4.0, 0.5, np.nan, np.inf]])
    assert result["cells"].values.tolist() == [3]
    assert result["median_ratio"].values.tolist() == [4.0]
    assert float(result["ranked_right"][0]) == pytest.approx(2 / 3)
    # Clopper-Pearson for 2 of 3.
    interval = [float(result[f"ranked_right_{end}"][0]) for end in ("low", "high")]
    np.testing.assert_allclose(interval, [0.0943, 0.9916], atol=1e-4)
    half = random_label_ratio(measure, "noise", high=0.5)
    np.testing.assert_array_equal(half["ratio"], [[9.0, 4.5, 9.0, 9.0]])


def test_random_labels_need_both_fractions_and_positive_values():
    measure = xr.DataArray([1.0, 2.0], dims="noise", coords={"noise": [0.0, 0.5]})
    with pytest.raises(ValueError, match=r"noise must have the value 1.0 once"):
        random_label_ratio(measure, "noise")
    with pytest.raises(ValueError, match="positive values; the smallest is -2"):
        random_label_ratio(-measure, "noise", high=0.5)
    with pytest.raises(ValueError, match="no dimension 'labels'"):
        random_label_ratio(measure, "labels")
