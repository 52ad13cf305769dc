r"""Low-dimensionality of the iterates, estimated from snapshots without a p x p matrix.

How many directions the iterates move in (participation ratio, effective rank) and how much of
their motion lies in a given subspace. Snapshots of one trajectory are dependent: every standard
error is over *groups of consecutive snapshots*, which should be longer than the correlation time.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.stats
from jaxtyping import Float, Int

from sgdsim.stagnation._survival import check_confidence

# Columns of the snapshots that are converted to float64 at a time.
_COLUMNS = 65_536


class ParticipationRatio(NamedTuple):
    r"""Participation ratio of the covariance of snapshots.

    Attributes
    ----------
    value
        Of the sample covariance: never above m - 1, and biased downwards.
    corrected
        Ratio of unbiased estimates, for independent snapshots of any distribution.
    low, high
        Jackknife interval of ``corrected``.
    assumption_violated
        Why something is nan, "" if nothing is.
    """

    value: float
    corrected: float
    low: float
    high: float
    assumption_violated: str


def participation_ratio(
    snapshots: Float[np.ndarray, "snapshot p"],
    confidence: float = 0.95,
    groups: int | None = None,
) -> ParticipationRatio:
    r"""Estimate the participation ratio of the covariance S of the iterates.

    .. math:: \frac{(\mathrm{tr}\,S)^2}{\mathrm{tr}\,S^2}
              = \frac{(\sum_i \lambda_i)^2}{\sum_i \lambda_i^2} \in [1, p]

    It is the number of directions of equal variance that would give the same ratio. Only the
    m x m Gram matrix of the centred snapshots is formed.

    Parameters
    ----------
    snapshots
        Iterates in the window, one a row, m of them.
    confidence
        Of the two-sided interval.
    groups
        Number of groups of consecutive snapshots of the delete-a-group jackknife; every snapshot
        its own group if left out, which takes them for independent.

    Returns
    -------
    ParticipationRatio
        Plug-in value, corrected value and interval.

    Raises
    ------
    ValueError
        The confidence is not in (0, 1), or there are too few snapshots or groups.

    Notes
    -----
    For independent Gaussian snapshots :math:`E\,\mathrm{tr}\,\hat S^2 = \mathrm{tr}\,S^2 (1 + 1/
    \nu) + (\mathrm{tr}\,S)^2/\nu` with :math:`\nu = m - 1`, so the plug-in value of a covariance
    with the ratio D is about :math:`D/(1 + (D + 1)/\nu)`: for m below D it only tells m. The
    corrected value divides the unbiased estimates of :math:`(\mathrm{tr}\,S)^2` and
    :math:`\mathrm{tr}\,S^2`; the ratio itself keeps a bias of order 1/m. Positive correlation in
    time makes a sample worth fewer snapshots, and both values smaller. The interval is symmetric
    in the logarithm, with t quantiles.
    Source: Himeno & Yamada (2014), unbiased estimates; stagnation theory section 4.6.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import participation_ratio
    >>> plane = np.random.default_rng(0).normal(size=(200, 50)) * (np.arange(50) < 2)
    >>> found = participation_ratio(plane)
    >>> found.low < 2.0 < found.high
    True
    """
    check_confidence(confidence)
    m = len(snapshots)
    parts = _groups(m, groups)
    if m - max(map(len, parts)) < 4:
        raise ValueError(
            f"snapshots are {m} in {len(parts)} groups; without any one group at least 4 must be "
            "left, for the unbiased estimates need four different snapshots"
        )
    gram = _gram(snapshots)
    if not gram.trace() > 0.0:
        reason = "the snapshots do not differ or are not finite"
        return ParticipationRatio(np.nan, np.nan, np.nan, np.nan, reason)
    sums, entries = gram.sum(axis=1), float(np.sum(gram**2))
    value, corrected = _ratios(gram, sums, entries, parts[0][:0])
    without = np.array([_ratios(gram, sums, entries, part)[1] for part in parts])
    if not (np.isfinite(corrected) and np.all(np.isfinite(without))):
        reason = (
            f"{m} snapshots do not tell the number of directions: up to rounding no two "
            "differences of them have a common part"
        )
        return ParticipationRatio(value, corrected, np.nan, np.nan, reason)
    spread = np.sqrt((len(parts) - 1) * np.var(np.log(without)))
    factor = np.exp(scipy.stats.t.ppf(0.5 + confidence / 2, len(parts) - 1) * spread)
    return ParticipationRatio(
        value, corrected, float(corrected / factor), float(corrected * factor), ""
    )


def effective_rank(
    trace: Float[np.ndarray, "*dims"] | float, operator_norm: Float[np.ndarray, "*dims"] | float
) -> Float[np.ndarray, "*dims"] | float:
    r"""Effective rank :math:`r = \mathrm{tr}\,\Sigma / \|\Sigma\|_{op}` of a covariance.

    Parameters
    ----------
    trace, operator_norm
        Of one covariance, or suprema over a set; any shape.

    Returns
    -------
    numpy.ndarray or float
        From 1 to p; nan for a covariance that is zero.

    Raises
    ------
    ValueError
        A number is negative, or the trace is below the norm.

    Notes
    -----
    A norm from Lanczos is a lower bound, the rank then an upper one.

    Examples
    --------
    >>> from sgdsim.stagnation import effective_rank
    >>> effective_rank(6.0, 3.0)
    2.0
    """
    trace_, norm = np.asarray(trace, np.float64), np.asarray(operator_norm, np.float64)
    if np.any(norm < 0) or np.any(trace_ < norm * (1 - 1e-6)):
        raise ValueError(
            f"the trace {trace} must be at least the operator norm {operator_norm}, and that not "
            "negative: no covariance has other ones"
        )
    rank = np.where(norm > 0, trace_ / np.where(norm > 0, norm, 1.0), np.nan)
    return rank if rank.ndim else float(rank)


class SubspaceAngles(NamedTuple):
    r"""Position of two subspaces to each other.

    Attributes
    ----------
    angles
        Principal angles in radians, descending, as many as the smaller subspace has dimensions.
    overlap
        Mean squared cosine of them, :math:`\|AB^\top\|_F^2/r` for orthonormal rows.
    null_overlap
        Its expectation if one subspace is drawn uniformly at random.
    """

    angles: Float[np.ndarray, " angle"]
    overlap: float
    null_overlap: float


def subspace_angles(
    first: Float[np.ndarray, "a p"], second: Float[np.ndarray, "b p"]
) -> SubspaceAngles:
    r"""Principal angles between the row spaces of two matrices, and their overlap.

    Parameters
    ----------
    first, second
        Spanning vectors as rows, linearly independent; r is the smaller number of them.

    Returns
    -------
    SubspaceAngles
        ``null_overlap`` is the larger number of rows divided by p: r/p for equal ones.

    Raises
    ------
    ValueError
        A matrix has no row, or dependent rows.

    Notes
    -----
    Angles from `scipy.linalg.subspace_angles` (Knyazev & Argentati 2002), exact for small ones.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import subspace_angles
    >>> found = subspace_angles(np.eye(4)[:2], np.eye(4)[1:3])
    >>> np.rad2deg(found.angles).round(6).tolist(), found.overlap, found.null_overlap
    ([90.0, 0.0], 0.5, 0.5)
    """
    a, b = _orthonormal(first), _orthonormal(second)
    small, large = sorted((len(a), len(b)))
    return SubspaceAngles(
        angles=scipy.linalg.subspace_angles(a.T, b.T),
        overlap=float(np.sum((a @ b.T) ** 2) / small),
        null_overlap=large / a.shape[1],
    )


class EnergyShare(NamedTuple):
    """Share of the squared displacement that lies in a subspace.

    Attributes
    ----------
    share
        Between 0 and 1; the rest is in the orthogonal complement. nan if nothing moved.
    stderr
        Standard error over the groups of snapshots.
    null_share
        Its expectation for isotropic displacements.
    """

    share: float
    stderr: float
    null_share: float


def top_space_energy(
    displacements: Float[np.ndarray, "snapshot p"],
    basis: Float[np.ndarray, "r p"],
    groups: int | None = None,
) -> EnergyShare:
    r"""Share of the displacement energy in a subspace, against the rest.

    .. math:: \frac{\sum_t \|P u_t\|^2}{\sum_t \|u_t\|^2}, \qquad u_t = \theta_t - \theta^*

    With the top r eigenvectors of the Hessian as a basis: the top normal space against the tangent
    space and everything flatter.

    Parameters
    ----------
    displacements
        u_t, one a row.
    basis
        Spanning vectors as rows, linearly independent.
    groups
        Number of groups of consecutive snapshots for the standard error; every snapshot its own
        group if left out, which takes them for independent.

    Returns
    -------
    EnergyShare
        ``null_share`` is r/p.

    Raises
    ------
    ValueError
        The basis is empty or dependent, or there are fewer than two groups.

    Notes
    -----
    A ratio of sums: consistent for :math:`\mathrm{tr}(PS)/\mathrm{tr}\,S` with S the second
    moment, with a bias of order 1/m. The standard error is that of a ratio estimator.
    Source: stagnation theory section 4.6.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import top_space_energy
    >>> found = top_space_energy(np.array([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0]]), np.eye(3)[:2])
    >>> found.share, round(found.null_share, 4)
    (0.8, 0.6667)
    """
    rows = _orthonormal(basis)
    u = np.asarray(displacements, np.float64)
    parts = _groups(len(u), groups)
    inside, whole = np.sum((u @ rows.T) ** 2, axis=1), np.sum(u**2, axis=1)
    total = whole.sum()
    null = len(rows) / rows.shape[1]
    if not total > 0.0:
        return EnergyShare(np.nan, np.nan, null)
    share = inside.sum() / total
    rest = np.array([np.sum(inside[part] - share * whole[part]) for part in parts])
    stderr = np.sqrt(len(parts) / (len(parts) - 1) * np.sum(rest**2)) / total
    return EnergyShare(float(share), float(stderr), null)


def _groups(m: int, groups: int | None) -> list[Int[np.ndarray, " member"]]:
    """Consecutive snapshots, in groups of equal size up to one."""
    count = m if groups is None else groups
    if not 2 <= count <= m:
        raise ValueError(
            f"groups must be at least 2 and at most the number of snapshots {m}, got {count}: a "
            "standard error needs repetitions"
        )
    return np.array_split(np.arange(m), count)


def _gram(snapshots: Float[np.ndarray, "snapshot p"]) -> Float[np.ndarray, "snapshot snapshot"]:
    """Inner products of the centred snapshots, a block of columns at a time."""
    gram = np.zeros((len(snapshots), len(snapshots)))
    for first in range(0, snapshots.shape[1], _COLUMNS):
        block = np.asarray(snapshots[:, first : first + _COLUMNS], np.float64)
        block = block - block.mean(axis=0)
        gram += block @ block.T
    return gram


def _ratios(
    gram: Float[np.ndarray, "m m"],
    sums: Float[np.ndarray, " m"],
    entries: float,
    without: Int[np.ndarray, " member"],
) -> tuple[float, float]:
    """Plug-in and corrected participation ratio of the snapshots, without some of them.

    ``sums`` and ``entries`` are the row sums and the squared norm of the whole Gram matrix. What is
    left out is subtracted from them, so that a jackknife, whatever the groups, costs no more than
    the Gram matrix has entries.
    """
    kept = np.ones(len(gram), bool)
    kept[without] = False
    n = int(kept.sum())
    beside = gram[:, without]
    rows = (sums - beside.sum(axis=1))[kept]
    entries += -2 * np.sum(beside**2) + np.sum(beside[without] ** 2)
    # Diagonal and squared Frobenius norm of the Gram matrix about the mean of those kept.
    squares = np.diag(gram)[kept] - 2 * rows / n + rows.sum() / n**2
    trace_of_square = (entries - 2 * np.sum(rows**2) / n + (rows.sum() / n) ** 2) / (n - 1) ** 2
    square_of_trace = (squares.sum() / (n - 1)) ** 2
    fourth = n * np.sum(squares**2) / (n - 1)
    numerator = 2 * trace_of_square + (n * n - 3 * n + 1) * square_of_trace - fourth
    denominator = (n - 1) * (n - 2) * trace_of_square + square_of_trace - fourth
    plug_in = square_of_trace / trace_of_square if trace_of_square > 0 else np.nan
    # The denominator is a mean of squares, times a number: zero at the least, but for rounding.
    certain = denominator > 1e-10 * n**2 * trace_of_square
    return float(plug_in), float(numerator / denominator) if certain else np.nan


def _orthonormal(rows: Float[np.ndarray, "r p"]) -> Float[np.ndarray, "r p"]:
    """Orthonormal basis of the row space."""
    rows = np.asarray(rows, np.float64)
    if not len(rows):
        raise ValueError("the basis of a subspace is empty: give at least one vector")
    basis, triangle = np.linalg.qr(rows.T)
    pivots = np.abs(np.diag(triangle))
    if len(rows) > rows.shape[1] or not np.all(pivots > 1e-10 * np.linalg.norm(rows, axis=1)):
        raise ValueError(
            f"the {len(rows)} vectors that are to span a subspace are not linearly independent; "
            "leave out those that add nothing"
        )
    return basis.T
