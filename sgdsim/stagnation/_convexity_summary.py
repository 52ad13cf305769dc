"""Statistics of sampled convexity ratios by condition and radius."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sgdsim.stagnation._convexity import ConvexityRatios
from sgdsim.stagnation._survival import clopper_pearson


@dataclass(frozen=True, kw_only=True)
class ConvexitySummary:
    """Statistics of the ratios by condition and radius shell.

    Parameters
    ----------
    minimum
        Smallest ratio: the estimated modulus on the shell.
    quantile_01, quantile_05, quantile_50
        Sample quantiles (an element of the sample, no interpolation).
    violation_fraction
        Share of ratios that are not positive; a nan counts as a violation.
    violation_fraction_high
        Upper Clopper-Pearson limit of that share.
    sample_size
        Number of ratios.
    minimum_by_family
        Smallest ratio within each family of directions.
    families
        Names of the families, in order of first appearance.
    """

    minimum: Float[np.ndarray, "condition radius"]
    quantile_01: Float[np.ndarray, "condition radius"]
    quantile_05: Float[np.ndarray, "condition radius"]
    quantile_50: Float[np.ndarray, "condition radius"]
    violation_fraction: Float[np.ndarray, "condition radius"]
    violation_fraction_high: Float[np.ndarray, "condition radius"]
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
    statistics = np.empty((4, conditions, shells))
    by_family = np.empty((conditions, len(families), shells))
    violated = np.empty((conditions, shells), np.int64)
    size = np.empty((conditions, shells), np.int64)
    for condition in range(conditions):
        for shell in range(shells):
            ratio, counted = ratios.ratio[condition, :, shell], ratios.counted[condition, :, shell]
            sample = ratio[counted]
            size[condition, shell] = sample.size
            violated[condition, shell] = np.count_nonzero(~(sample > 0))
            statistics[0, condition, shell] = sample.min()
            # An element of the sample: between inf and a number there is nothing to interpolate.
            statistics[1:, condition, shell] = np.quantile(
                sample, [0.01, 0.05, 0.5], method="inverted_cdf"
            )
            for index, row in enumerate(member):
                by_family[condition, index, shell] = ratio[row][counted[row]].min()
    return ConvexitySummary(
        minimum=statistics[0],
        quantile_01=statistics[1],
        quantile_05=statistics[2],
        quantile_50=statistics[3],
        violation_fraction=violated / size,
        violation_fraction_high=clopper_pearson(violated, size, confidence)[1],
        sample_size=size,
        minimum_by_family=by_family,
        families=families,
    )
