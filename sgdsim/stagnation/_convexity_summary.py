"""Statistics of sampled convexity ratios by condition and radius."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sgdsim.stagnation._convexity_ratios import ConvexityRatios
from sgdsim.stagnation._survival import clopper_pearson


@dataclass(frozen=True, kw_only=True)
class ConvexitySummary:
    """Statistics of the ratios by condition and radius shell.

    Parameters
    ----------
    minimum
        Smallest ratio: the estimated modulus on the shell; nan if there is no sample.
    quantile_01, quantile_05, quantile_50
        Sample quantiles (an element of the sample, no interpolation).
    violation_fraction
        Share of ratios that are not positive; a nan counts as a violation.
    violation_fraction_high
        Upper Clopper-Pearson limit of that share; 1 if there is no sample.
    nonconvex_fraction, nonconvex_fraction_high
        The same of EC, convexity on the fibres: share of ESC ratios that are negative. A risk that
        is affine between two points is convex there, but not strongly.
    sample_size
        Number of ratios.
    minimum_by_family
        Smallest ratio within each family of directions; nan if it has no sample.
    families
        Names of the families, in order of first appearance.
    """

    minimum: Float[np.ndarray, "condition radius"]
    quantile_01: Float[np.ndarray, "condition radius"]
    quantile_05: Float[np.ndarray, "condition radius"]
    quantile_50: Float[np.ndarray, "condition radius"]
    violation_fraction: Float[np.ndarray, "condition radius"]
    violation_fraction_high: Float[np.ndarray, "condition radius"]
    nonconvex_fraction: Float[np.ndarray, " radius"]
    nonconvex_fraction_high: Float[np.ndarray, " radius"]
    sample_size: Int[np.ndarray, "condition radius"]
    minimum_by_family: Float[np.ndarray, "condition family radius"]
    families: tuple[str, ...]


def summarise_convexity(ratios: ConvexityRatios, confidence: float) -> ConvexitySummary:
    """Reduce sampled ratios to statistics by condition and radius shell.

    Parameters
    ----------
    ratios
        Result of `sample_convexity`.
    confidence
        Of the two-sided Clopper-Pearson interval whose upper limit is reported.

    Returns
    -------
    ConvexitySummary
        Arrays (condition, radius) and (condition, family, radius).

    Raises
    ------
    ValueError
        The confidence is not in (0, 1).

    Notes
    -----
    A row is one shell, not the whole ball within it: the radius at which a condition begins to
    fail stays visible. The modulus on the ball is the minimum over the shells up to its radius.
    The upper limit takes the ratios for independent draws. That is fair for the two points of a
    random direction and optimistic for ESC, whose pairs share points.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import CONDITIONS, sample_convexity, summarise_convexity
    >>> ratios = sample_convexity(
    ...     lambda _, theta: (0.5 * (theta**2).sum(), theta),
    ...     None,
    ...     np.zeros(3),
    ...     np.eye(3),
    ...     np.array([0.1, 0.2]),
    ...     learning_rate=0.5,
    ... )
    >>> summary = summarise_convexity(ratios, 0.95)
    >>> dict(zip(CONDITIONS, summary.sample_size[:, 1].tolist(), strict=True))
    {'ESC': 54, 'WSC': 6, 'RSI': 6, 'PL': 6, 'QG': 6}
    """
    families = tuple(dict.fromkeys(ratios.families))
    member = np.array([[own == name for own in ratios.families] for name in families])
    conditions, _, shells, _ = ratios.ratio.shape
    statistics = np.full((4, conditions, shells), np.nan)
    by_family = np.full((conditions, len(families), shells), np.nan)
    violated = np.empty((conditions, shells), np.int64)
    size = np.empty((conditions, shells), np.int64)
    for condition in range(conditions):
        for shell in range(shells):
            ratio, counted = ratios.ratio[condition, :, shell], ratios.counted[condition, :, shell]
            sample = ratio[counted]
            size[condition, shell] = sample.size
            violated[condition, shell] = np.count_nonzero(~(sample > 0))
            if sample.size == 0:
                continue
            statistics[0, condition, shell] = sample.min()
            # An element of the sample: between inf and a number there is nothing to interpolate.
            statistics[1:, condition, shell] = np.quantile(
                sample, [0.01, 0.05, 0.5], method="inverted_cdf"
            )
            for index, row in enumerate(member):
                if counted[row].any():
                    by_family[condition, index, shell] = ratio[row][counted[row]].min()
    essential, counted = ratios.ratio[0], ratios.counted[0]
    nonconvex = np.count_nonzero(counted & ~(essential >= 0), axis=(0, 2))
    fraction, high = _fraction(violated, size, confidence)
    nonconvex_fraction, nonconvex_high = _fraction(nonconvex, size[0], confidence)
    return ConvexitySummary(
        minimum=statistics[0],
        quantile_01=statistics[1],
        quantile_05=statistics[2],
        quantile_50=statistics[3],
        violation_fraction=fraction,
        violation_fraction_high=high,
        nonconvex_fraction=nonconvex_fraction,
        nonconvex_fraction_high=nonconvex_high,
        sample_size=size,
        minimum_by_family=by_family,
        families=families,
    )


def _fraction(
    count: Int[np.ndarray, "*dims"], size: Int[np.ndarray, "*dims"], confidence: float
) -> tuple[Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"]]:
    """Share and its upper limit; nan and 1 without a sample."""
    some = np.maximum(size, 1)
    high = clopper_pearson(count, some, confidence)[1]
    return np.where(size > 0, count / some, np.nan), np.where(size > 0, high, 1.0)
