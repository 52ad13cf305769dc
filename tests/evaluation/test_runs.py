"""Grids, lists of runs, and input that does not fit together."""

import numpy as np
import pytest
import xarray as xr

from sgdsim.evaluation import (
    conditional_information,
    granulated_tau,
    kendall_tau,
    robust_sign_error,
    single_network_error,
    slope_reversals,
)

AXES = ("width", "depth")
ALL = {
    "granulated": granulated_tau,
    "information": conditional_information,
    "sign error": lambda m, g, axes: robust_sign_error(m, g, axes, 100, 2),
    "regression": single_network_error,
    "reversals": slope_reversals,
}


@pytest.fixture(params=sorted(ALL))
def function(request):
    return ALL[request.param]


def test_a_list_of_configurations_is_read_like_the_grid(sweep, function):
    measure, gap = sweep(0, (3, 4), repetitions=4, bounds=2)
    listed = [
        a.stack(configuration=AXES).reset_index("configuration").isel(configuration=slice(None))
        for a in (measure, gap)
    ]
    order = np.random.default_rng(0).permutation(12)
    shuffled = [a.isel(configuration=order) for a in listed]
    expected = function(measure, gap, AXES)
    for pair in (listed, shuffled):
        result = function(*pair, AXES)
        assert set(result) == set(expected)
        for name in expected:
            ours, theirs = (np.sort(r[name].values, axis=-1) for r in (result, expected))
            np.testing.assert_allclose(ours, theirs, atol=1e-12, equal_nan=True)


def test_the_order_of_dimensions_and_of_values_does_not_matter(sweep, function):
    measure, gap = sweep(1, (3, 4), repetitions=4, bounds=2)
    expected = function(measure, gap, AXES)
    turned = measure.transpose("seed", "depth", "bound", "width")[:, ::-1]
    result = function(turned, gap[:, ::-1], AXES)
    xr.testing.assert_allclose(result, expected, atol=1e-12)


def test_each_bound_is_treated_alone(sweep, function):
    measure, gap = sweep(2, (3, 4), repetitions=4, bounds=3)
    measure[1, 0, 0] = np.nan
    together = function(measure, gap, AXES)
    for k in range(3):
        alone = function(measure.isel(bound=k), gap, AXES)
        xr.testing.assert_allclose(together.isel(bound=k).drop_vars("bound"), alone)


def test_a_gap_that_is_not_known_or_infinite_marks_a_missing_run(sweep, function):
    measure, gap = sweep(3, (3, 4), repetitions=4)
    first, second, third = gap.copy(), gap.copy(), measure.copy()
    first[1, 1], second[1, 1], third[1, 1] = np.nan, np.inf, np.nan
    result = function(measure, first, AXES)
    xr.testing.assert_identical(result, function(measure, second, AXES))
    xr.testing.assert_identical(result, function(third, gap, AXES))
    assert not result.equals(function(measure, gap, AXES))


def test_a_configuration_with_fewer_runs_has_their_mean():
    """A sum over the runs would put the last gap below the middle one."""
    measure = xr.DataArray([[-1.0, -1.0], [-0.5, -0.5], [1.0, 1.0]], dims=("width", "seed"))
    gap = xr.DataArray([[1.0, 1.0], [2.0, 2.0], [3.0, np.nan]], dims=("width", "seed"))
    assert float(granulated_tau(measure, gap, ["width"])["granulated_tau"]) == 1.0
    assert int(slope_reversals(measure, gap, ["width"])["reversals"][0]) == 0


def test_infinite_measures_of_opposite_sign_have_no_mean():
    measure = xr.DataArray([[np.inf, -np.inf], [1.0, 1.0], [2.0, 2.0]], dims=("width", "seed"))
    gap = xr.DataArray([[3.0, 3.0], [1.0, 1.0], [2.0, 2.0]], dims=("width", "seed"))
    assert float(granulated_tau(measure, gap, ["width"])["granulated_tau"]) == 1.0
    assert int(slope_reversals(measure, gap, ["width"])["pairs"][0]) == 1


def test_entries_of_a_list_with_equal_settings_are_no_pair():
    """Two seeds of each width, listed on their own: 4 of 6 pairs differ in the width."""
    widths = {"width": ("configuration", [1.0, 1.0, 2.0, 2.0])}
    gap = xr.DataArray([0.1, 0.2, 0.3, 0.4], dims="configuration", coords=widths)
    measure = gap.copy(data=[2.0, 1.0, 4.0, 3.0])
    assert float(granulated_tau(measure, gap, ["width"])["granulated_tau"]) == 1.0
    errors = robust_sign_error(measure, gap, ["width"], float("inf"), 1)
    assert errors["sign_error"].values.tolist() == [0.0] * 4


def test_names_of_values_are_ordered_as_they_come():
    gap = xr.DataArray([0.1, 0.2, 0.3], dims="data", coords={"data": ["small", "big", "all"]})
    result = slope_reversals(-gap, gap, ["data"])
    assert int(result["reversals"][0]) == 2
    errors = robust_sign_error(gap, gap, ["data"], float("inf"), 1)
    assert errors["low"].values.tolist() == ["small", "small", "big"]


def test_unknown_hyper_parameter_names_the_nearest(sweep, function):
    measure, gap = sweep(0, (3, 4))
    with pytest.raises(ValueError, match=r"no hyper-parameter 'widht'.*Did you mean 'width'"):
        function(measure, gap, ("widht",))


def test_axes_that_are_missing_or_named_twice(sweep, function):
    measure, gap = sweep(0, (3, 4))
    for axes in ((), ("width", "width")):
        with pytest.raises(ValueError, match="at least one hyper-parameter, each once"):
            function(measure, gap, axes)


def test_arrays_of_different_runs(sweep, function):
    measure, gap = sweep(0, (3, 4))
    with pytest.raises(ValueError, match="different coordinates"):
        function(measure, gap.assign_coords(width=[1.0, 2.0, 5.0]), AXES)
    with pytest.raises(ValueError, match="There is no run"):
        function(measure[:0], gap[:0], AXES)
    listed = measure.stack(configuration=AXES).reset_index("configuration")
    moved = listed.assign_coords(width=listed["width"][::-1])
    with pytest.raises(ValueError, match="list different values of 'width'"):
        function(listed, moved, AXES)


@pytest.mark.parametrize("name", ["probe", "step", "time"])
def test_iterates_of_one_run_are_no_repetitions(sweep, function, name):
    measure, gap = sweep(0, (3, 4), repetitions=4)
    with pytest.raises(ValueError, match=rf"{name!r} belongs to a single run.*isel\({name}=-1\)"):
        function(measure.rename(seed=name), gap.rename(seed=name), AXES)
    with pytest.raises(ValueError, match="belongs to a single run"):
        kendall_tau(measure.rename(seed=name), gap.rename(seed=name))


def test_a_value_that_comes_twice(sweep, function):
    measure, gap = (a.assign_coords(width=[1.0, 1.0, 2.0]) for a in sweep(0, (3, 4)))
    with pytest.raises(ValueError, match="'width' has the same value more than once"):
        function(measure, gap, AXES)
