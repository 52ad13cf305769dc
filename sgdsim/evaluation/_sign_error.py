"""How often a measure predicts the wrong sign of a change of the gap, in the worst environments."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from sgdsim.evaluation._runs import Runs, read_runs, signs

#: Numbers that are held at once while pairs of repetitions are compared.
_AT_ONCE = 2_000_000


def robust_sign_error(
    measure: xr.DataArray,
    gap: xr.DataArray,
    axes: Sequence[str],
    samples: float | int,
    fewest: float | int = 12,
    environments: Literal["configurations", "values"] = "configurations",
) -> xr.Dataset:
    r"""Sign error of a measure in every environment, and its mean, 90th percentile and maximum.

    .. math:: \ell_e = \frac{\sum_{(i,j)\in e} w_{ij}\,\tfrac12
              \bigl(1 - \mathrm{sign}(\mu_i-\mu_j)\,\mathrm{sign}(g_i-g_j)\bigr)}
              {\sum_{(i,j)\in e} w_{ij}},\qquad
              w_{ij} = \max\bigl(0,\; \max(0, 1 - 2e^{-2n(D_{ij}/2)^2})^2 - \tfrac12\bigr)

    with :math:`D_{ij} = g_i - g_j`.

    Parameters
    ----------
    measure
        Grid with the dimensions ``axes``, or a list of configurations; with the dimension
        ``bound``, one result per bound. Other dimensions are repetitions, and every pair of
        repetitions of two configurations is a pair.
    gap
        Generalization gaps of the same runs, for a loss in [0, 1]: divide by the range otherwise.
    axes
        Names of the hyper-parameters.
    samples
        Number ``n`` of held-out rows behind every gap; ``inf`` for an exact gap, so that every
        pair that differs has the same weight.
    fewest
        Environments with a smaller effective number of pairs :math:`(\sum w)^2/\sum w^2` are
        left out.
    environments
        ``"configurations"``: all pairs of runs of two configurations that differ in one
        hyper-parameter, as published; it takes several repetitions to reach ``fewest``.
        ``"values"``: all pairs that go from one value of a hyper-parameter to another one, over
        all settings of the others; for sweeps with few repetitions.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``p90`` and ``max`` over the environments that are kept, ``environments``, their
        number, counting both directions of a pair as published; along ``environment`` the
        ``sign_error`` (nan where left out), ``effective_pairs``, and the coordinates ``axis``,
        ``low`` and ``high`` (values of the hyper-parameter, as text).

    Raises
    ------
    ValueError
        If ``samples`` or ``fewest`` is not positive, the kind of environments is not known, or the
        arrays do not belong together.

    Notes
    -----
    Dziugaite et al. 2020 (arXiv:2010.11924), coupled-network experiments. Where the measure is
    tied, the error is 1/2. Both directions of a pair have the same error; the direction matters
    for the interpolation of the percentile only.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from sgdsim.evaluation import robust_sign_error
    >>> dims = ("width", "seed")
    >>> gap = xr.DataArray(np.arange(12.0).reshape(3, 4) / 12, dims=dims)
    >>> measure = gap.copy(data=[[1.0] * 4, [2.0] * 4, [1.5] * 4])
    >>> result = robust_sign_error(measure, gap, ["width"], samples=float("inf"))
    >>> result["sign_error"].values.tolist(), result["high"].values.tolist()
    ([0.0, 0.0, 1.0], ['1', '2', '2'])
    >>> float(result["max"]), int(result["environments"])
    (1.0, 6)
    """
    for name, value in (("samples", samples), ("fewest", fewest)):
        if not value > 0:
            raise ValueError(f"{name} must be positive; got {value}.")
    if environments not in ("configurations", "values"):
        raise ValueError(
            f"environments must be 'configurations' or 'values'; got {environments!r}."
        )
    runs = read_runs(measure, gap, axes)
    sums, axis_of, low, high = [], [], [], []
    for axis, name in enumerate(runs.axes):
        first, second, _ = runs.pairs(axis)
        of_pair = _pair_sums(runs, first, second, samples)
        start, end = runs.levels[axis, first], runs.levels[axis, second]
        if environments == "values":
            both = np.stack([start, end])
            (start, end), place = np.unique(both, axis=1, return_inverse=True)
            of_pair = of_pair @ (place.reshape(-1, 1) == np.arange(start.size))
        sums.append(of_pair)
        axis_of += [name] * start.size
        low += [str(value) for value in runs.values[axis][start]]
        high += [str(value) for value in runs.values[axis][end]]
    weight, squares, wrong = np.concatenate(sums, axis=-1)
    effective = np.where(squares > 0.0, weight**2 / np.where(squares > 0.0, squares, 1.0), 0.0)
    # Equal weights should give their number, but for rounding.
    kept = effective >= fewest * (1.0 - 1e-9)
    error = np.where(kept, wrong / np.where(weight > 0.0, weight, 1.0), np.nan)
    summary = np.array([_summary(row[~np.isnan(row)]) for row in error])
    return runs.dataset(
        {
            "mean": runs.variable(summary[:, 0]),
            "p90": runs.variable(summary[:, 1]),
            "max": runs.variable(summary[:, 2]),
            "environments": runs.variable(2 * kept.sum(axis=1)),
            "sign_error": runs.variable(error, "environment"),
            "effective_pairs": runs.variable(effective, "environment"),
        },
        axis=("environment", np.asarray(axis_of, dtype=str)),
        low=("environment", np.asarray(low, dtype=str)),
        high=("environment", np.asarray(high, dtype=str)),
    )


def _pair_sums(
    runs: Runs, first: np.ndarray, second: np.ndarray, samples: float | int
) -> np.ndarray:
    """Sum weights, their squares and weighted errors per pair, ``(3, bound, pair)``."""
    count, _, repetitions = runs.measure.shape
    sums = np.zeros((3, count, first.size))
    step = max(1, _AT_ONCE // repetitions**2)
    for k in range(count):
        measure, gap = runs.measure[k], runs.gap[k]
        for start in range(0, first.size, step):
            part = slice(start, start + step)
            one, two = first[part], second[part]
            change = gap[one][:, :, None] - gap[two][:, None, :]
            weight = _weights(change, samples)
            order = signs(measure[one][:, :, None], measure[two][:, None, :])
            error = 0.5 * (1.0 - order * np.sign(np.nan_to_num(change)))
            for row, terms in enumerate((weight, weight**2, weight * error)):
                sums[row, k, part] = terms.sum(axis=(1, 2))
    return sums


def _weights(change: np.ndarray, samples: float | int) -> np.ndarray:
    """Weights from Hoeffding's inequality for both gaps; 0 where one of them is not known."""
    known = np.nan_to_num(change)
    if math.isinf(samples):
        return 0.5 * (known != 0.0)
    doubt = 2.0 * np.exp(-2.0 * samples * (0.5 * known) ** 2)
    return np.maximum(0.0, np.maximum(0.0, 1.0 - doubt) ** 2 - 0.5)


def _summary(error: np.ndarray) -> tuple[float, float, float]:
    if error.size == 0:
        return np.nan, np.nan, np.nan
    both_directions = np.repeat(error, 2)
    return error.mean(), float(np.quantile(both_directions, 0.9)), error.max()
