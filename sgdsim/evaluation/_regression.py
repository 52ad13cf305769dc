"""How well one straight line through the measure predicts the gap in the worst environment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import minimize_scalar

from sgdsim.evaluation._runs import Runs, read_runs


def single_network_error(
    measure: xr.DataArray, gap: xr.DataArray, axes: Sequence[str]
) -> xr.Dataset:
    r"""Best rising straight line from measure to gap, judged by its worst environment.

    .. math:: \min_{a,\; b\ge0}\; \max_e\; \frac{1}{|e|}\sum_{i\in e} (g_i - a - b\,\mu_i)^2

    An environment holds all runs with one value of one hyper-parameter.

    Parameters
    ----------
    measure
        Grid with the dimensions ``axes``, or a list of configurations; with the dimension
        ``bound``, one result per bound. Take its logarithm first if it spans orders of magnitude.
    gap
        Generalization gaps of the same runs.
    axes
        Names of the hyper-parameters whose values define environments.

    Returns
    -------
    xarray.Dataset
        ``intercept`` :math:`a`, ``slope`` :math:`b`, ``worst_rmse`` and ``mean_rmse`` over the
        environments, ``worst_rmse_constant``, which is the best that :math:`b=0` attains,
        ``runs``, the number of runs with a finite measure and gap (without any, all is nan); along
        ``environment`` the ``rmse``, with coordinates ``axis`` and ``value``.

    Raises
    ------
    ValueError
        If the arrays do not belong together or a hyper-parameter is not found.

    Notes
    -----
    After the single-network experiments of Dziugaite et al. 2020 (arXiv:2010.11924). For fixed
    :math:`b` the error of every environment is a parabola :math:`(a-c_e)^2+v_e`; the largest of
    them is least at the lowest point of one parabola or where two of them meet, and all these
    points are tried. What remains is a convex function of :math:`b` alone.

    Examples
    --------
    >>> import xarray as xr
    >>> from sgdsim.evaluation import single_network_error
    >>> measure = xr.DataArray([1.0, 2.0, 4.0], dims="width")
    >>> result = single_network_error(measure, 0.1 * measure + 0.3, ["width"])
    >>> [round(float(result[name]), 6) for name in ("intercept", "slope", "worst_rmse")]
    [0.3, 0.1, 0.0]
    """
    runs = read_runs(measure, gap, axes)
    places = [(a, v) for a, values in enumerate(runs.values) for v in range(values.size)]
    count = len(runs.measure)
    rmse = np.full((count, len(places)), np.nan)
    fitted, number = np.full((count, 5), np.nan), np.zeros(count, dtype=int)
    for k in range(count):
        moments, number[k] = _moments(runs, k, places)
        if number[k] == 0:
            continue
        a, b = _worst_case_line(moments)
        rmse[k] = np.sqrt(_errors(moments, a, b))
        constant = np.sqrt(_best_intercept(moments, 0.0)[1])
        fitted[k] = a, b, np.nanmax(rmse[k]), np.nanmean(rmse[k]), constant
    return runs.dataset(
        {
            "intercept": runs.variable(fitted[:, 0]),
            "slope": runs.variable(fitted[:, 1]),
            "worst_rmse": runs.variable(fitted[:, 2]),
            "mean_rmse": runs.variable(fitted[:, 3]),
            "worst_rmse_constant": runs.variable(fitted[:, 4]),
            "runs": runs.variable(number),
            "rmse": runs.variable(rmse, "environment"),
        },
        axis=("environment", [runs.axes[a] for a, _ in places]),
        value=("environment", [str(runs.values[a][v]) for a, v in places]),
    )


def _moments(runs: Runs, bound: int, places: list[tuple[int, int]]) -> tuple[np.ndarray, int]:
    """Means of m, g and (co)variances of every environment, ``(5, environment)``."""
    measure, gap = runs.measure[bound], runs.gap[bound]
    known = np.isfinite(measure)
    rows = []
    for axis, level in places:
        inside = known & (runs.levels[axis] == level)[:, None]
        if not inside.any():
            rows.append(np.full(5, np.nan))
            continue
        m, g = measure[inside], gap[inside]
        dm, dg = m - m.mean(), g - g.mean()
        rows.append(
            np.array([m.mean(), g.mean(), np.mean(dm**2), np.mean(dm * dg), np.mean(dg**2)])
        )
    return np.stack(rows, axis=1), int(known.sum())


def _errors(moments: np.ndarray, intercept: float, slope: float) -> np.ndarray:
    """Mean squared error of every environment."""
    centre, spread = _parabolas(moments, slope)
    return (intercept - centre) ** 2 + spread


def _parabolas(moments: np.ndarray, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest point and lowest value of the squared error as a function of the intercept."""
    m, g, mm, mg, gg = moments
    return g - slope * m, np.maximum(gg - 2.0 * slope * mg + slope**2 * mm, 0.0)


def _best_intercept(moments: np.ndarray, slope: float) -> tuple[float, float]:
    """Intercept with the least worst error for a slope, and that error."""
    centre, spread = _parabolas(moments[:, ~np.isnan(moments[0])], slope)
    i, j = np.triu_indices(centre.size, 1)
    apart = centre[i] != centre[j]
    c, d, v, w = centre[i[apart]], centre[j[apart]], spread[i[apart]], spread[j[apart]]
    with np.errstate(over="ignore"):  # parabolas that are almost the same meet far away
        candidates = np.concatenate([centre, 0.5 * (c + d) + 0.5 * (w - v) / (d - c)])
        worst = np.max((candidates[:, None] - centre) ** 2 + spread, axis=1)
    best = int(worst.argmin())
    return float(candidates[best]), float(worst[best])


def _worst_case_line(moments: np.ndarray) -> tuple[float, float]:
    """Intercept and slope that minimize the largest error."""
    m, g, mm, _, gg = moments[:, ~np.isnan(moments[0])]
    unit_m, unit_g = (np.sqrt(np.mean(v) + np.var(c)) for c, v in ((m, mm), (g, gg)))
    if unit_m == 0.0 or unit_g == 0.0:
        return _best_intercept(moments, 0.0)[0], 0.0
    # The mean error over the environments is at least unit_g^2 (1 - b unit_m/unit_g)^2, and the
    # worst one exceeds it; beyond this slope the horizontal line is better.
    largest = unit_g / unit_m * (1.0 + np.sqrt(_best_intercept(moments, 0.0)[1]) / unit_g)
    # The scale of the errors does not change the minimum, but the tolerance of the search.
    found: Any = minimize_scalar(
        lambda share: _best_intercept(moments, share * largest)[1] / unit_g**2,
        bounds=(0.0, 1.0),
        method="bounded",
        options={"xatol": 1e-11, "maxiter": 500},
    )
    slope = min((0.0, float(found.x) * largest), key=lambda b: _best_intercept(moments, b)[1])
    return _best_intercept(moments, slope)[0], slope
