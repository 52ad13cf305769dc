"""All numbers that say how good the bounds of a sweep are, one row per bound."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from sgdsim.bounds import LOSS_RANGE, tightness
from sgdsim.evaluation._counts import check_positive
from sgdsim.evaluation._information import conditional_information
from sgdsim.evaluation._ranking import granulated_tau, kendall_tau
from sgdsim.evaluation._resampling import bootstrap_interval
from sgdsim.evaluation._runs import BOUND, read_runs
from sgdsim.evaluation._sign_error import robust_sign_error
from sgdsim.evaluation._tightness import count_violations, vacuity

_NEEDED = ("value", "generalization_gap", "generalization_gap_stderr")
#: Effective pairs that an environment needs.
_FEWEST = 12


def bound_table(
    data: xr.Dataset,
    axes: Sequence[str],
    samples: float | int,
    *,
    independent_dim: str | Sequence[str] | None = None,
    loss_range: float | int = LOSS_RANGE,
    confidence: float = 0.95,
    draws: int = 500,
    seed: int | np.random.Generator = 0,
) -> xr.Dataset:
    r"""Tightness, violations and ranking of all bounds of a sweep.

    Parameters
    ----------
    data
        Variables ``value``, ``generalization_gap`` and ``generalization_gap_stderr`` with the
        dimension ``bound`` and the hyper-parameters as dimensions (or a list of configurations);
        all other dimensions are repetitions. Coordinate ``kind`` along ``bound``:
        ``"certificate"``, ``"expectation"`` or ``"measure"``; certificates if left out. With
        ``holds_with_probability`` along ``bound``, the violations of certificates are tested.
        ``ranking_gap``, without the dimension ``bound``: the gap of the error rate, by which all
        bounds are ranked; each is ranked by its own ``generalization_gap`` if left out.
    axes
        Names of the hyper-parameters.
    samples
        Number of held-out rows behind every gap; ``inf`` for exact gaps.
    independent_dim
        Dimensions along which the training samples are independent, see ``count_violations``.
    loss_range
        Difference of the largest and the smallest loss of ``generalization_gap``.
    confidence
        Of all intervals.
    draws
        Number of bootstrap draws for the interval of tau.
    seed
        Seed or generator of the draws.

    Returns
    -------
    xarray.Dataset
        Along ``bound``: ``runs``, those that are ranked; medians ``value``, ``gap`` and
        ``tightness`` over the runs (of the last only where the gap is positive);
        ``vacuous_share``; ``violations`` and ``clear_violations`` of ``trials``,
        ``violation_p_value``; by the ranking gap ``tau`` with ``tau_low`` and ``tau_high``;
        ``granulated_tau``; ``cmi_score``; ``sign_error_mean``, ``sign_error_p90``,
        ``sign_error_max`` and ``environments``. A measure is no bound, so that it has no tightness,
        vacuous share or violations (nan, counts -1); a bound in expectation has no violations.
        The attribute ``environments`` says which environments of ``robust_sign_error`` were taken:
        those of values if configurations have too few runs.

    Raises
    ------
    ValueError
        If a variable is missing or a number is out of range.

    Notes
    -----
    Bounds are for different pairs of losses. Two of them can be compared as predictors only if they
    predict the same gap, and gaps that share the random draws of a network with the value, as those
    of PAC-Bayes bounds do, are predicted by the draws: give ``ranking_gap``.
    Sources are those of the functions that give the single columns.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from sgdsim.evaluation import bound_table
    >>> random = np.random.default_rng(0)
    >>> dims = ("rows", "width")
    >>> gap = xr.DataArray(random.uniform(0.05, 0.2, (4, 5)), dims=dims)
    >>> value = xr.concat([3.0 * gap, 2.0 - gap], dim="bound", coords="minimal")
    >>> data = xr.Dataset(
    ...     {
    ...         "value": value,
    ...         "generalization_gap": gap,
    ...         "generalization_gap_stderr": xr.full_like(gap, 0.01),
    ...     },
    ...     coords={"bound": ["good", "bad"]},
    ... )
    >>> table = bound_table(data, dims, samples=float("inf"), draws=50)
    >>> for name in ("tightness", "vacuous_share", "tau", "granulated_tau"):
    ...     print(name, table[name].values.round(1).tolist())
    tightness [3.0, 13.7]
    vacuous_share [0.0, 1.0]
    tau [1.0, -1.0]
    granulated_tau [1.0, -1.0]
    """
    check_positive("loss_range", loss_range)
    missing = [name for name in _NEEDED if name not in data]
    if missing or BOUND not in data.dims:
        raise ValueError(
            f"The dataset needs the variables {', '.join(_NEEDED)} and the dimension 'bound'; "
            f"missing: {', '.join(missing) or 'bound'}."
        )
    value, gap = xr.broadcast(data["value"], data["generalization_gap"])
    kind = data.coords.get("kind", xr.full_like(data[BOUND], "certificate", object).astype(str))
    is_bound, certain = kind != "measure", kind == "certificate"
    ranked_by = data.get("ranking_gap", gap)
    scaled = ranked_by if "ranking_gap" in data else gap / loss_range
    runs = read_runs(value, ranked_by, axes)
    flat = [d for d in value.dims if d != BOUND]
    both = value.notnull() & gap.notnull()

    tau = kendall_tau(value, ranked_by)
    interval = bootstrap_interval(
        lambda m, g: kendall_tau(m, g)["tau"],
        value,
        ranked_by,
        axes,
        draws=draws,
        confidence=confidence,
        seed=seed,
    )
    published = runs.measure.shape[-1] ** 2 >= _FEWEST
    environments = "configurations" if published else "values"
    error = robust_sign_error(
        value, scaled, axes, samples, fewest=_FEWEST, environments=environments
    )
    violations = _violations(data, independent_dim, confidence)
    ratio = xr.apply_ufunc(tightness, value, gap)
    columns = {
        "runs": tau["runs"],
        "value": value.where(both).median(flat),
        "gap": gap.where(both).median(flat),
        "tightness": ratio.median(flat).where(is_bound),
        "vacuous_share": vacuity(value, loss_range).where(is_bound),
        "violations": violations["violations"].sel(counted="estimate").where(certain, -1),
        "clear_violations": violations["violations"].sel(counted="clear").where(certain, -1),
        "trials": violations["trials"].where(certain, -1),
        "violation_p_value": violations["p_value"].sel(counted="clear").where(certain),
        "tau": tau["tau"],
        "tau_low": (BOUND, interval.low),
        "tau_high": (BOUND, interval.high),
        "granulated_tau": granulated_tau(value, ranked_by, axes)["granulated_tau"],
        "cmi_score": conditional_information(value, ranked_by, axes)["score"],
        "sign_error_mean": error["mean"],
        "sign_error_p90": error["p90"],
        "sign_error_max": error["max"],
        "environments": error["environments"],
    }
    table = xr.Dataset(
        {
            name: column.drop_vars("counted", errors="ignore")
            if isinstance(column, xr.DataArray)
            else column
            for name, column in columns.items()
        },
        attrs={"environments": environments, "confidence": confidence},
    )
    return table.assign_coords(kind=kind)


def _violations(
    data: xr.Dataset, independent_dim: str | Sequence[str] | None, confidence: float
) -> xr.Dataset:
    """Count violations; with p-values if the dataset says with which probability bounds hold."""
    if "holds_with_probability" in data:
        allowed = 1.0 - data["holds_with_probability"]
    else:
        allowed = xr.full_like(data[BOUND], np.nan, float)
    return count_violations(
        data["value"],
        data["generalization_gap"],
        data["generalization_gap_stderr"],
        allowed,
        independent_dim=independent_dim,
        confidence=confidence,
    )
