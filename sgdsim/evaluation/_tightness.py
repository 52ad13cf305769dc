"""How far a bound is above the gap, whether it says anything, and whether it is violated."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.stats import binom, norm

from sgdsim.bounds import LOSS_RANGE
from sgdsim.evaluation._counts import check_positive, check_probability, share, share_interval
from sgdsim.evaluation._runs import BOUND


def tightness_ratio(
    value: xr.DataArray,
    gap: xr.DataArray,
    stderr: xr.DataArray | float | int,
    confidence: float = 0.95,
    value_stderr: xr.DataArray | float | int = 0.0,
) -> xr.Dataset:
    r"""Bound divided by gap, with an interval that knows the gap is an estimate.

    The interval holds all ratios :math:`r\ge0` with

    .. math:: (v - r g)^2 \le z^2 (s_v^2 + r^2 s_g^2).

    Parameters
    ----------
    value
        Values :math:`v` of a bound, positive or nan.
    gap
        Estimated gaps :math:`g` for the same pair of losses.
    stderr
        Standard errors :math:`s_g` of the gaps.
    confidence
        Of the interval, two-sided.
    value_stderr
        Standard errors :math:`s_v` of the values, independent of the gaps; 0 for a value that is
        computed exactly.

    Returns
    -------
    xarray.Dataset
        ``ratio``, nan where the estimated gap is not positive; ``low`` and ``high``. Where the
        interval of the gap includes 0 the ratio may be arbitrarily large and ``high`` is infinite.
        Where the gap is negative beyond its error, a ratio has no meaning and all three are nan.

    Raises
    ------
    ValueError
        If a value is not positive, a standard error is negative or the confidence is not in (0, 1).

    Notes
    -----
    Fieller 1954, "Some problems in interval estimation", JRSS B 16, for normal estimates. For an
    exact value the ends are :math:`v/(g \pm z s_g)`, and the interval covers the true ratio of a
    positive gap with exactly the stated confidence. Where the estimated gap is negative and neither
    it nor the value is clearly different from 0, the ratios are in two pieces, and the interval is
    all of them and what lies between.

    Examples
    --------
    >>> import xarray as xr
    >>> from sgdsim.evaluation import tightness_ratio
    >>> gap = xr.DataArray([0.1, 0.01, -0.1], dims="run")
    >>> result = tightness_ratio(xr.full_like(gap, 0.5), gap, 0.02)
    >>> for name in ("ratio", "low", "high"):
    ...     print(result[name].values.round(2).tolist())
    [5.0, 50.0, nan]
    [3.59, 10.16, nan]
    [8.22, inf, nan]
    """
    check_probability("confidence", confidence)
    if bool((value <= 0.0).any()):
        raise ValueError(
            f"A bound must be positive to be compared with a gap; got {float(value.min())}."
        )
    for name, error in (("stderr", stderr), ("value_stderr", value_stderr)):
        if bool((np.asarray(error) < 0.0).any()):
            raise ValueError(f"{name} must not be negative; got {float(np.min(error))}.")
    z = float(norm.ppf(0.5 * (1.0 + confidence)))
    results = xr.apply_ufunc(
        lambda v, g, s, t: _fieller(*(np.asarray(a, np.float64) for a in (v, g, z * s, z * t))),
        *(value, gap, stderr, value_stderr),
        output_core_dims=[[], [], []],
    )
    return xr.Dataset(dict(zip(("ratio", "low", "high"), results, strict=True)))


def vacuity(value: xr.DataArray, loss_range: float | int = LOSS_RANGE) -> xr.DataArray:
    r"""Share of runs in which a bound exceeds the range of the loss and so says nothing.

    Parameters
    ----------
    value
        Values of a bound, any dimensions; with the dimension ``bound``, one share per bound. Values
        that are nan do not count.
    loss_range
        Difference of the largest and the smallest loss.

    Returns
    -------
    xarray.DataArray
        Share, nan where there is no value.

    Raises
    ------
    ValueError
        If the range is not positive.

    Examples
    --------
    >>> import xarray as xr
    >>> from sgdsim.evaluation import vacuity
    >>> float(vacuity(xr.DataArray([0.5, 1.0, 7.0, float("nan")], dims="run")).round(4))
    0.3333
    """
    check_positive("loss_range", loss_range)
    dims = [d for d in value.dims if d != BOUND]
    known = value.notnull()
    vacuous = ((value > loss_range) & known).sum(dims)
    return xr.apply_ufunc(share, vacuous, known.sum(dims)).rename("vacuous_share")


def count_violations(
    value: xr.DataArray,
    gap: xr.DataArray,
    stderr: xr.DataArray | float | int,
    failure_probability: xr.DataArray | float,
    *,
    independent_dim: str | Sequence[str] | None = None,
    confidence: float = 0.95,
) -> xr.Dataset:
    r"""Count how often the gap exceeds a bound, and compare with what the bound allows.

    Parameters
    ----------
    value
        Values of a bound, any dimensions; with the dimension ``bound``, one result per bound.
    gap
        Estimated gaps for the same pair of losses.
    stderr
        Standard errors of the gaps.
    failure_probability
        Probability with which the bound may fail, a number or an array along ``bound``; nan for
        what is no bound.
    independent_dim
        Dimension or dimensions along which the training samples were drawn independently. A
        sample counts as a violation if any of its runs is one. ``None``: every run is its own
        sample.
    confidence
        Of the Clopper-Pearson interval and of the verdict; also of "clear".

    Returns
    -------
    xarray.Dataset
        Along ``counted``, ``"estimate"`` for :math:`g>v` and ``"clear"`` for
        :math:`g>v+z s` with the one-sided :math:`z`: ``violations``, ``rate`` with ``rate_low`` and
        ``rate_high``, ``p_value`` of at least so many violations if the bound holds, and
        ``compatible``, whether it is at least ``1 - confidence``; ``trials``, the number of
        samples.

    Raises
    ------
    ValueError
        If a probability is not in (0, 1), a standard error is negative or a dimension is missing.

    Warnings
    --------
    A certificate holds with its probability over the training sample, for all iterates at once.
    Runs on one training sample are violated together, so that without ``independent_dim`` the
    interval and the p-value are wrong if runs share one.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from sgdsim.evaluation import count_violations
    >>> gap = xr.DataArray(np.linspace(0.0, 1.0, 20), dims="sample")
    >>> result = count_violations(xr.full_like(gap, 0.9), gap, 0.05, 0.05, independent_dim="sample")
    >>> result["violations"].values.tolist(), int(result["trials"])
    ([2, 1], 20)
    >>> result["compatible"].values.tolist()
    [True, True]
    """
    check_probability("confidence", confidence)
    allowed = np.asarray(failure_probability)
    if bool(((allowed <= 0.0) | (allowed >= 1.0)).any()):
        raise ValueError(f"failure_probability must be in (0, 1); got {allowed}.")
    if bool((np.asarray(stderr) < 0.0).any()):
        raise ValueError(f"stderr must not be negative; got {float(np.min(stderr))}.")
    z = float(norm.ppf(confidence))
    value, gap, error = xr.broadcast(value, gap, xr.DataArray(stderr))
    known = value.notnull() & gap.notnull() & error.notnull()
    above = xr.concat(
        [gap > value, gap > value + z * error], dim="counted", coords="minimal"
    ).assign_coords(counted=["estimate", "clear"])
    wanted = _names(independent_dim, known)
    inner = [d for d in known.dims if d not in (BOUND, *wanted)]
    violated, tried = (above & known).any(inner), known.any(inner)
    number, trials = violated.sum(wanted), tried.sum(wanted)
    low, high = xr.apply_ufunc(
        lambda x, n: share_interval(x, n, confidence),
        *(number, trials),
        output_core_dims=[[], []],
    )
    p_value = xr.apply_ufunc(
        lambda x, n, p: binom.sf(x - 1, n, p), number, trials, failure_probability
    )
    return xr.Dataset(
        {
            "violations": number,
            "trials": trials,
            "rate": xr.apply_ufunc(share, number, trials),
            "rate_low": low,
            "rate_high": high,
            "p_value": p_value,
            "compatible": ~(p_value < 1.0 - confidence),
        }
    )


def _names(independent_dim: str | Sequence[str] | None, array: xr.DataArray) -> list[str]:
    """Dimensions of independent samples; all but ``bound`` if none is named."""
    if independent_dim is None:
        return [str(d) for d in array.dims if d != BOUND]
    names = [independent_dim] if isinstance(independent_dim, str) else list(independent_dim)
    missing = [name for name in names if name not in array.dims]
    if missing:
        raise ValueError(
            f"independent_dim names {missing[0]!r}, which is no dimension of {array.dims}."
        )
    return names


def _fieller(
    value: np.ndarray, gap: np.ndarray, gap_error: np.ndarray, value_error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratio and ends of its interval; errors are already multiplied by z."""
    # In units of the value, which may be close to the largest float or infinite.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        relative = np.where(value_error == 0.0, 0.0, value_error / value)
        a = (gap - gap_error) * (gap + gap_error)
        c = (1.0 - relative) * (1.0 + relative)
        # This is gap^2 - a c without its cancellation.
        root = np.sqrt(np.maximum((gap * relative) ** 2 + gap_error**2 * c, 0.0))
        low = np.where(c > 0.0, value * (c / (gap + root)), 0.0)
        high = np.where(gap > gap_error, value * ((gap + root) / a), np.inf)
        ratio = np.where(gap > 0.0, value / gap, np.nan)
    # A gap that is not known, or not positive even at the upper end of its interval.
    meaningless = ~(gap + gap_error > 0.0) | np.isnan(value)
    low, high = (np.where(meaningless, np.nan, end) for end in (low, high))
    return ratio, low, high
