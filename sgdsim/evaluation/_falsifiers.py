"""Checks that a bound must pass without knowing the gap: more data, random labels."""

import numpy as np
import xarray as xr

from sgdsim.evaluation._counts import check_probability, share, share_interval
from sgdsim.evaluation._runs import BOUND


def growth(measure: xr.DataArray, axis: str) -> xr.Dataset:
    r"""Exponent with which a measure grows along one hyper-parameter.

    .. math:: \ln \mu_{c,i} = \alpha_c + \beta \ln x_i + \text{error}

    with one level :math:`\alpha_c` for every cell ``c``, in which all other dimensions are fixed,
    and one exponent :math:`\beta`, by least squares.

    Parameters
    ----------
    measure
        Values of a measure (or gaps), with the dimension ``axis``; with the dimension ``bound``,
        one result per bound. Values that are not positive and finite are left out.
    axis
        Hyper-parameter with a positive numeric coordinate, for instance the number of rows.

    Returns
    -------
    xarray.Dataset
        ``exponent`` with ``stderr`` (nan without degrees of freedom), ``cells`` and ``values`` that
        count, ``left_out``; ``falling_share``, the share of neighbouring pairs of one cell in
        which the measure falls.

    Raises
    ------
    ValueError
        If the axis is missing, has no coordinate of distinct positive numbers, or fewer than two
        of them.

    Notes
    -----
    A bound on the gap should fall with the number of training rows; Nagarajan & Kolter 2019
    (arXiv:1902.04742) find norm-based bounds that grow. The standard error takes the deviations
    from the power law as independent and of one size.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from sgdsim.evaluation import growth
    >>> rows = np.array([100.0, 200.0, 400.0])
    >>> measure = xr.DataArray(3.0 / np.sqrt(rows), dims="rows", coords={"rows": rows})
    >>> result = growth(measure, "rows")
    >>> float(result["exponent"].round(6)), float(result["falling_share"])
    (-0.5, 1.0)
    """
    x = _positive_coordinate(measure, axis)
    order = np.argsort(x)
    cells = measure.isel({axis: order}).transpose(BOUND, ..., axis, missing_dims="ignore")
    count = measure.sizes.get(BOUND, 1)
    y = cells.to_numpy().astype(np.float64).reshape(count, -1, x.size)
    known = np.isfinite(y) & (y > 0.0)
    used = known & (known.sum(axis=-1, keepdims=True) > 1)
    log_x, log_y = np.log(x[order]), np.log(np.where(known, y, 1.0))
    dx, dy = (_centred(np.broadcast_to(a, y.shape), used) for a in (log_x, log_y))
    squares = (dx**2).sum(axis=(1, 2))
    number, groups = used.sum(axis=(1, 2)), used.any(axis=2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = (dx * dy).sum(axis=(1, 2)) / squares
        residual = (dy - exponent[:, None, None] * dx) ** 2
        free = number - groups - 1
        variance = np.where(free > 0, residual.sum(axis=(1, 2)) / free, np.nan)
        stderr = np.sqrt(variance / squares)
    pairs = known[..., 1:] & known[..., :-1]
    falling = (log_y[..., 1:] < log_y[..., :-1]) & pairs
    results = {
        "exponent": exponent,
        "stderr": stderr,
        "falling_share": share(falling.sum(axis=(1, 2)), pairs.sum(axis=(1, 2))),
        "cells": groups,
        "values": number,
        "left_out": y[0].size - number,
    }
    return _along_bound(results, measure)


def random_label_ratio(
    measure: xr.DataArray,
    axis: str,
    low: float | int = 0.0,
    high: float | int = 1.0,
    confidence: float = 0.95,
) -> xr.Dataset:
    r"""Value of a measure on random labels divided by its value on true labels.

    Parameters
    ----------
    measure
        Positive values of a measure, with the dimension ``axis``; with the dimension ``bound``,
        shares are given per bound.
    axis
        Dimension of the fraction of random labels.
    low, high
        Fractions that are compared.
    confidence
        Of the Clopper-Pearson interval, over cells taken as independent.

    Returns
    -------
    xarray.Dataset
        ``ratio`` of every cell, in which all other dimensions are fixed (nan where one of the two
        is missing), ``median_ratio``, ``cells``, ``ranked_right``, the share of cells in which
        the value is larger with random labels, with ``ranked_right_low`` and
        ``ranked_right_high``.

    Raises
    ------
    ValueError
        If the axis or one of the fractions is missing, or a value is not positive.

    Notes
    -----
    A network that fits random labels generalizes worse than one that fits true ones (Zhang et al.
    2017, arXiv:1611.03530), so a measure that does not see the difference explains nothing.

    Examples
    --------
    >>> import xarray as xr
    >>> from sgdsim.evaluation import random_label_ratio
    >>> measure = xr.DataArray(
    ...     [[1.0, 4.0], [2.0, 1.0]], dims=("seed", "noise"), coords={"noise": [0.0, 1.0]}
    ... )
    >>> result = random_label_ratio(measure, "noise")
    >>> result["ratio"].values.tolist(), float(result["ranked_right"])
    ([4.0, 0.5], 0.5)
    """
    check_probability("confidence", confidence)
    _check_dimension(measure, axis)
    known_values = measure[axis].to_numpy()
    for wanted in (low, high):
        if np.count_nonzero(known_values == wanted) != 1:
            raise ValueError(
                f"{axis} must have the value {wanted} once; it has {known_values.tolist()}."
            )
    if bool((measure <= 0.0).any()):
        raise ValueError(f"A ratio needs positive values; the smallest is {float(measure.min())}.")
    true, random = (measure.isel({axis: int(np.argmax(known_values == v))}) for v in (low, high))
    true, random = (a.drop_vars(axis, errors="ignore") for a in (true, random))
    known = true.notnull() & random.notnull()
    cells = [d for d in known.dims if d != BOUND]
    right, number = ((random > true) & known).sum(cells), known.sum(cells)
    lower, upper = xr.apply_ufunc(
        lambda x, n: share_interval(x, n, confidence), right, number, output_core_dims=[[], []]
    )
    with np.errstate(invalid="ignore"):  # both may be infinite
        ratio = random / true
    return xr.Dataset(
        {
            "ratio": ratio,
            "median_ratio": ratio.median(cells),
            "cells": number,
            "ranked_right": xr.apply_ufunc(share, right, number),
            "ranked_right_low": lower,
            "ranked_right_high": upper,
        }
    )


def _check_dimension(measure: xr.DataArray, axis: str) -> None:
    if axis not in measure.dims:
        raise ValueError(f"There is no dimension {axis!r}; there are {measure.dims}.")


def _positive_coordinate(measure: xr.DataArray, axis: str) -> np.ndarray:
    _check_dimension(measure, axis)
    x = measure[axis].to_numpy()
    numeric = axis in measure.coords and x.dtype.kind in "iuf"
    if not numeric or x.size < 2 or not (x > 0).all() or np.unique(x).size < x.size:
        raise ValueError(
            f"{axis} must have a coordinate of at least two distinct positive numbers; got "
            f"{x.tolist() if axis in measure.coords else 'none'}."
        )
    return x.astype(np.float64)


def _centred(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Deviations from the mean of each cell; 0 where a value is not used."""
    number = np.maximum(used.sum(axis=-1, keepdims=True), 1)
    mean = np.where(used, values, 0.0).sum(axis=-1, keepdims=True) / number
    return np.where(used, values - mean, 0.0)


def _along_bound(results: dict[str, np.ndarray], measure: xr.DataArray) -> xr.Dataset:
    if BOUND not in measure.dims:
        return xr.Dataset({name: a[0] for name, a in results.items()})
    return xr.Dataset(
        {name: (BOUND, a) for name, a in results.items()}, coords={BOUND: measure[BOUND]}
    )
