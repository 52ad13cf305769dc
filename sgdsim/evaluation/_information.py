"""What the order of a measure tells about the order of the gap beyond the hyper-parameters."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import xarray as xr

from sgdsim.evaluation._runs import Runs, read_runs


def conditional_information(
    measure: xr.DataArray, gap: xr.DataArray, axes: Sequence[str], most: int = 2
) -> xr.Dataset:
    r"""Measure what the order of the measure tells about the order of the gap.

    .. math:: K = \min_{|S|\le \text{most}} \hat I(V_\mu; V_g \mid U_S) / \hat H(V_g \mid U_S)

    is the normalized conditional mutual information over ordered pairs of configurations, where
    :math:`V_\mu` and :math:`V_g` say whether the first one has the larger measure and the larger
    gap, and :math:`U_S` are the values of the hyper-parameters ``S`` in both.

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
    most
        Largest number of hyper-parameters to condition on.

    Returns
    -------
    xarray.Dataset
        ``score``, the minimum, and ``pgdl_score``, which is 100 times that; along ``given`` (names
        joined by a comma, ``""`` for none) ``information`` normalized, ``entropy`` in nats and
        ``pairs_per_condition``; ``configurations``, the number of them that are known. All are nan
        for fewer than 3 known configurations.

    Raises
    ------
    ValueError
        If ``most`` is negative or the arrays do not belong together.

    Notes
    -----
    Jiang et al. 2020 (arXiv:1912.02178); the competition "Predicting Generalization
    in Deep Learning" of 2020 reports 100 times the score. A tie counts as "not larger". Where the
    conditions determine the order of the gap, the entropy is 0, there is nothing left to inform
    about, and the set is left out.

    The estimates put in frequencies for probabilities, so they are above 0 also for a measure
    without any information; with few ``pairs_per_condition`` they are far above. Compare with
    ``permutation_test``.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from sgdsim.evaluation import conditional_information
    >>> dims = ("width", "rate")
    >>> gap = xr.DataArray(np.random.default_rng(0).normal(size=(4, 5)), dims=dims)
    >>> float(conditional_information(np.exp(gap), gap, dims)["pgdl_score"].round(6))
    100.0
    """
    if most < 0:
        raise ValueError(f"most must not be negative; got {most}.")
    runs = read_runs(measure, gap, axes)
    chosen = [
        given
        for size in range(min(most, len(runs.axes)) + 1)
        for given in combinations(range(len(runs.axes)), size)
    ]
    count = len(runs.measure)
    number = np.zeros(count, dtype=int)
    information, entropy, pairs = (np.full((count, len(chosen)), np.nan) for _ in range(3))
    for k in range(count):
        known = np.flatnonzero(~np.isnan(runs.means[0][k]))
        number[k] = known.size
        if known.size < 3:
            continue
        larger, left, right = _ordered_pairs(runs, k, known)
        for s, given in enumerate(chosen):
            # Equal conditions get equal numbers: the levels in both members, in mixed radix.
            condition = np.zeros(left.size, dtype=int)
            for axis in given:
                values = runs.values[axis].size
                for member in (left, right):
                    condition = condition * values + runs.levels[axis, member]
            information[k, s], entropy[k, s], pairs[k, s] = _information(larger, condition)
    defined = ~np.isnan(information)
    lowest = np.where(defined, information, np.inf).min(axis=1)
    score = np.where(defined.any(axis=1), lowest, np.nan)
    return runs.dataset(
        {
            "score": runs.variable(score),
            "pgdl_score": runs.variable(100.0 * score),
            "information": runs.variable(information, "given"),
            "entropy": runs.variable(entropy, "given"),
            "pairs_per_condition": runs.variable(pairs, "given"),
            "configurations": runs.variable(number),
        },
        given=[",".join(runs.axes[axis] for axis in given) for given in chosen],
    )


def _ordered_pairs(
    runs: Runs, bound: int, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orders ``2 [measure larger] + [gap larger]`` of all pairs, and both members.

    Copies of one configuration, as a bootstrap makes them, are no pair.
    """
    levels = runs.levels[:, known]
    different = (levels[:, :, None] != levels[:, None, :]).any(axis=0)
    left, right = (known[side] for side in np.nonzero(different))
    m, g = (mean[bound] for mean in runs.means)
    return 2 * (m[left] > m[right]) + (g[left] > g[right]), left, right


def _information(larger: np.ndarray, condition: np.ndarray) -> tuple[float, float, float]:
    """Give normalized information, entropy and mean number of pairs per condition."""
    _, condition = np.unique(condition, return_inverse=True)
    size = int(condition.max()) + 1
    counts = np.bincount(4 * condition + larger, minlength=4 * size).reshape(size, 2, 2)
    total = counts.sum()

    def entropy(part: np.ndarray) -> float:
        positive = part[part > 0]
        return float(-np.sum(positive * np.log(positive / total)) / total)

    of_condition = entropy(counts.sum(axis=(1, 2)))
    of_gap = entropy(counts.sum(axis=1)) - of_condition
    of_measure = entropy(counts.sum(axis=2)) - of_condition
    shared = of_gap + of_measure - (entropy(counts) - of_condition)
    # Differences of entropies are exact to rounding only; below that the gap's order is determined.
    normalized = max(shared, 0.0) / of_gap if of_gap > 1e-12 else np.nan
    return normalized, max(of_gap, 0.0), larger.size / size
