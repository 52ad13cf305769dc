"""Rank correlation of measure and gap, over all runs and one hyper-parameter at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import kendalltau

from sgdsim.evaluation._runs import BOUND, read_runs, signs, together


def kendall_tau(measure: xr.DataArray, gap: xr.DataArray) -> xr.Dataset:
    r"""Kendall's rank correlation of measure and gap over all runs.

    .. math:: \tau = \frac{\sum_{i<j} s^\mu_{ij} s^g_{ij}}
              {\sqrt{\sum_{i<j} |s^\mu_{ij}|\;\sum_{i<j} |s^g_{ij}|}},\qquad
              s^\mu_{ij} = \mathrm{sign}(\mu_i - \mu_j),\quad s^g_{ij} = \mathrm{sign}(g_i - g_j)

    Parameters
    ----------
    measure
        Values of a measure, any dimensions; with the dimension ``bound``, one result per bound.
        Infinite values rank highest.
    gap
        Generalization gaps of the same runs.

    Returns
    -------
    xarray.Dataset
        ``tau``, between -1 and 1, nan if all runs are tied in the measure or in the gap, and
        ``runs``, the number of runs in which both are known.

    Raises
    ------
    ValueError
        If the arrays have different coordinates.

    Notes
    -----
    This is tau-b: ties leave the denominator, so that a measure in exactly the order of the gap
    has 1. Without ties it is the tau of Jiang et al. 2020 (arXiv:1912.02178).
    There is no p-value, because runs of a sweep are not exchangeable draws; see
    ``permutation_test``.

    Examples
    --------
    >>> import xarray as xr
    >>> from sgdsim.evaluation import kendall_tau
    >>> measure = xr.DataArray([1.0, 2.0, 3.0, float("nan")], dims="width")
    >>> gap = xr.DataArray([0.1, 0.3, 0.2, 0.4], dims="width")
    >>> result = kendall_tau(measure, gap)
    >>> round(float(result["tau"]), 4), int(result["runs"])
    (0.3333, 3)
    """
    measure, gap = together(measure, gap)
    listed = BOUND in measure.dims
    dims = [d for d in measure.dims if d != BOUND]
    m, g = (
        a.transpose(*[BOUND] * listed, *dims).to_numpy().astype(np.float64) for a in (measure, gap)
    )
    count = len(m) if listed else 1
    tau, number = np.full(count, np.nan), np.zeros(count, dtype=int)
    for k, (x, y) in enumerate(zip(m.reshape(count, -1), g.reshape(count, -1), strict=True)):
        kept = ~np.isnan(x) & np.isfinite(y)
        number[k] = kept.sum()
        tau[k] = _tau(x[kept], y[kept])
    if not listed:
        return xr.Dataset({"tau": tau[0], "runs": number[0]})
    return xr.Dataset(
        {"tau": (BOUND, tau), "runs": (BOUND, number)}, coords={BOUND: measure[BOUND]}
    )


def granulated_tau(measure: xr.DataArray, gap: xr.DataArray, axes: Sequence[str]) -> xr.Dataset:
    r"""Rank correlation while one hyper-parameter changes and all others are fixed.

    .. math:: \psi_i = \frac{1}{m_i}\sum_{\text{cells of axis } i} \tau_{\text{cell}},\qquad
              \Psi = \frac{1}{k}\sum_{i=1}^k \psi_i

    Parameters
    ----------
    measure
        Grid with the dimensions ``axes``, or a list of configurations; with the dimension
        ``bound``, one result per bound. Other dimensions are repetitions, and the mean over the
        runs of a configuration counts.
    gap
        Generalization gaps of the same runs.
    axes
        Names of the hyper-parameters.

    Returns
    -------
    xarray.Dataset
        ``granulated_tau``, the mean :math:`\Psi` over the hyper-parameters that have one;
        ``psi``, ``cells`` (cells that count) and ``cells_left_out`` along ``axis``.

    Raises
    ------
    ValueError
        If the arrays do not belong together or a hyper-parameter is not found.

    Notes
    -----
    Jiang et al. 2020 (arXiv:1912.02178), with tau-b within a cell. A cell with
    fewer than two known configurations, or in which the measure or the gap has only ties, has no
    rank correlation and is left out.

    Examples
    --------
    >>> import xarray as xr
    >>> from sgdsim.evaluation import granulated_tau
    >>> dims = ("width", "rate")
    >>> measure = xr.DataArray([[1.0, 2.0], [3.0, 5.0]], dims=dims)
    >>> gap = xr.DataArray([[0.4, 0.3], [0.5, 0.9]], dims=dims)
    >>> result = granulated_tau(measure, gap, dims)
    >>> result["psi"].values.tolist(), float(result["granulated_tau"])
    ([1.0, 0.0], 0.5)
    """
    runs = read_runs(measure, gap, axes)
    m, g = runs.means
    shape = (len(m), len(runs.axes))
    psi, used, left_out = np.full(shape, np.nan), np.zeros(shape, int), np.zeros(shape, int)
    for axis in range(len(runs.axes)):
        first, second, cell = runs.pairs(axis)
        for k in range(len(m)):
            tau = _tau_of_cells(m[k], g[k], first, second, cell)
            defined = tau[~np.isnan(tau)]
            used[k, axis] = defined.size
            left_out[k, axis] = runs.cells(axis) - defined.size
            if defined.size:
                psi[k, axis] = defined.mean()
    known = ~np.isnan(psi)
    total = np.where(known, psi, 0.0).sum(axis=1)
    overall = np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)
    return runs.dataset(
        {
            "granulated_tau": runs.variable(overall),
            "psi": runs.variable(psi, "axis"),
            "cells": runs.variable(used, "axis"),
            "cells_left_out": runs.variable(left_out, "axis"),
        },
        axis=list(runs.axes),
    )


def _tau(measure: np.ndarray, gap: np.ndarray) -> float:
    """Tau-b of two lists; nan where one of them has only ties."""
    if measure.size < 2 or (measure == measure[0]).all() or (gap == gap[0]).all():
        return np.nan
    result: Any = kendalltau(measure, gap)
    return float(result.statistic)


def _tau_of_cells(
    measure: np.ndarray,
    gap: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    cell: np.ndarray,
) -> np.ndarray:
    """Tau-b of every cell from its pairs; nan where it is not defined."""
    order_m, order_g = signs(measure[second], measure[first]), signs(gap[second], gap[first])
    weights = (order_m * order_g, np.abs(order_m), np.abs(order_g))
    agreement, untied_m, untied_g = (np.bincount(cell, weight) for weight in weights)
    untied = np.sqrt(untied_m * untied_g)
    return np.where(untied > 0.0, agreement / np.where(untied > 0.0, untied, 1.0), np.nan)
