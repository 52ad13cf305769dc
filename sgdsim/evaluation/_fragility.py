"""How often a measure and the gap move in opposite directions between neighbouring settings."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from sgdsim.evaluation._counts import check_probability, share, share_interval
from sgdsim.evaluation._runs import read_runs, signs


def slope_reversals(
    measure: xr.DataArray, gap: xr.DataArray, axes: Sequence[str], confidence: float = 0.95
) -> xr.Dataset:
    r"""Share of neighbouring pairs in which measure and gap move in opposite directions.

    Neighbours differ by one step of one hyper-parameter, in the order of its values (of their
    first appearance if they are no numbers).

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
    confidence
        Of the Clopper-Pearson interval.

    Returns
    -------
    xarray.Dataset
        Along ``axis``: ``reversals``, ``pairs`` (in which both move), ``ties`` (in which one of
        them does not), ``share`` with ``share_low`` and ``share_high``; ``total_share`` over all
        hyper-parameters.

    Raises
    ------
    ValueError
        If the confidence is not in (0, 1) or the arrays do not belong together.

    Notes
    -----
    A measure without any relation to the gap reverses in half of the pairs. The interval takes
    pairs as independent; pairs that share a configuration are not, so read it as too narrow.

    Examples
    --------
    >>> import xarray as xr
    >>> from sgdsim.evaluation import slope_reversals
    >>> measure = xr.DataArray([1.0, 2.0, 3.0, 4.0], dims="width")
    >>> gap = xr.DataArray([0.1, 0.3, 0.2, 0.4], dims="width")
    >>> result = slope_reversals(measure, gap, ["width"])
    >>> result["reversals"].values.tolist(), result["pairs"].values.tolist()
    ([1], [3])
    """
    check_probability("confidence", confidence)
    runs = read_runs(measure, gap, axes)
    m, g = runs.means
    counts = np.zeros((3, len(m), len(runs.axes)), dtype=int)
    for axis in range(len(runs.axes)):
        first, second, _ = runs.pairs(axis)
        level = runs.levels[axis]
        neighbours = level[second] == level[first] + 1
        first, second = first[neighbours], second[neighbours]
        known = ~(np.isnan(m[:, first]) | np.isnan(m[:, second]))
        product = signs(m[:, second], m[:, first]) * signs(g[:, second], g[:, first])
        for row, found in enumerate((product < 0, product != 0, product == 0)):
            counts[row, :, axis] = (found & known).sum(axis=1)
    reversals, pairs, ties = counts
    low, high = share_interval(reversals, pairs, confidence)
    return runs.dataset(
        {
            "reversals": runs.variable(reversals, "axis"),
            "pairs": runs.variable(pairs, "axis"),
            "ties": runs.variable(ties, "axis"),
            "share": runs.variable(share(reversals, pairs), "axis"),
            "share_low": runs.variable(low, "axis"),
            "share_high": runs.variable(high, "axis"),
            "total_share": runs.variable(share(reversals.sum(axis=1), pairs.sum(axis=1))),
        },
        axis=list(runs.axes),
    )
