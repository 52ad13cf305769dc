"""Basins: clusters of quenches with one risk and one function, and what has not been seen."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from sgdsim._checks import check_positive


class BasinCensus(NamedTuple):
    r"""Basins that a set of quenches ended in.

    Attributes
    ----------
    labels
        Basin of every quench, 0 for the one of lowest risk, shape (quench,).
    counts
        Quenches in every basin, shape (basin,).
    representatives
        Index of the quench of lowest risk in every basin, shape (basin,).
    risks
        Its risk, shape (basin,).
    tolerance
        Distance up to which two quenches were joined.
    within
        Largest distance between neighbours that were joined (zero if none were).
    between
        Smallest distance between two basins (infinite if there is one only). The number of
        basins is the same for every tolerance from ``within`` to ``between``.
    unseen_mass
        Good-Turing estimate of the probability that the next quench finds a new basin.
    unseen_upper
        Upper limit on it at confidence 0.95 (`good_turing_upper_limit`).
    """

    labels: Int[np.ndarray, " quench"]
    counts: Int[np.ndarray, " basin"]
    representatives: Int[np.ndarray, " basin"]
    risks: Float[np.ndarray, " basin"]
    tolerance: float
    within: float
    between: float
    unseen_mass: float
    unseen_upper: float

    @property
    def number(self) -> int:
        r"""Observed number of basins :math:`\hat K`."""
        return len(self.counts)

    @property
    def sentence(self) -> str:
        """Say the result in one sentence."""
        quenches = int(self.counts.sum())
        return (
            f"{quenches} quenches ended in {self.number} basin{'s' * (self.number > 1)} (the "
            f"number is the same for tolerances from {self.within:.1e} to {self.between:.1e}); "
            f"the next one finds a new basin with probability about {self.unseen_mass:.2g}, at "
            f"most {self.unseen_upper:.2g} at confidence 0.95."
        )


def cluster_basins(
    risks: ArrayLike,
    tolerance: float,
    *,
    outputs: ArrayLike | None = None,
    parameters: ArrayLike | None = None,
    risk_tolerance: float | None = None,
    method: Literal["single", "complete"] = "single",
) -> BasinCensus:
    r"""Cluster the ends of quenches into basins by risk and by function.

    Two ends are neighbours if

    .. math:: |L_i - L_j| \le \text{risk tolerance} \quad\text{and}\quad
        \Big(\frac1n\sum_{x}\|f_i(x) - f_j(x)\|^2\Big)^{1/2} \le \text{tolerance}.

    Parameters
    ----------
    risks
        Risk at every end, shape (quench,). Leave out ends that are no minima.
    tolerance
        On the root mean square of the difference of the outputs, or on the Euclidean distance
        of the parameters.
    outputs
        Outputs on the same n rows, shape (quench, n, k). They do not see symmetries.
    parameters
        Or parameters, shape (quench, p), with symmetries removed (`canonical`).
    risk_tolerance
        The ``tolerance`` if left out.
    method
        ``"single"``: a basin is a connected set of neighbours, as a set of minima is connected.
        ``"complete"``: all its members are neighbours.

    Returns
    -------
    BasinCensus
        Basins in the order of their risks; independent of the order of the quenches (but for
        ties with ``"complete"``).

    Raises
    ------
    ValueError
        Neither or both of outputs and parameters are given, shapes do not fit, a number is not
        finite.

    Notes
    -----
    The unseen mass supposes that the starts are independent draws from one law.
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 4.5.

    Examples
    --------
    >>> from sgdsim.stagnation import cluster_basins
    >>> census = cluster_basins([0.0, 0.0, 1.0], 0.1, parameters=[[1.0], [1.01], [-1.0]])
    >>> census.labels.tolist(), census.counts.tolist(), round(census.unseen_mass, 3)
    ([0, 0, 1], [2, 1], 0.333)
    """
    check_positive("tolerance", tolerance)
    if risk_tolerance is not None:
        check_positive("risk_tolerance", risk_tolerance)
    levels = np.asarray(risks, np.float64)
    points = _points(outputs, parameters)
    if levels.ndim != 1 or len(levels) != len(points) or len(levels) == 0:
        raise ValueError(
            f"risks have the shape {levels.shape} and there are {len(points)} ends: each end of a "
            "quench needs one risk, and at least one end."
        )
    if not (np.all(np.isfinite(levels)) and np.all(np.isfinite(points))):
        raise ValueError(
            "risks and ends must be finite: a quench that ran away is in no basin; leave out "
            "those that are no minima."
        )
    if method not in ("single", "complete"):
        raise ValueError(f"method must be 'single' or 'complete', got {method!r}.")
    if len(levels) == 1:
        labels, heights = np.zeros(1, int), np.zeros(0)
    else:
        # Scaled so that both conditions are one: the distance is at most the tolerance.
        scale = tolerance / (tolerance if risk_tolerance is None else risk_tolerance)
        distances = np.maximum(pdist(points), scale * pdist(levels[:, None]))
        tree = linkage(distances, method)
        labels, heights = fcluster(tree, tolerance, criterion="distance") - 1, tree[:, 2]
    # Lowest risk first; the index breaks ties between equal risks.
    first = [_lowest(levels, labels == label) for label in range(labels.max() + 1)]
    order = sorted(range(len(first)), key=lambda label: (levels[first[label]], first[label]))
    rank = np.argsort(order)
    counts = np.bincount(rank[labels])
    representatives = np.array([first[label] for label in order])
    return BasinCensus(
        labels=rank[labels],
        counts=counts,
        representatives=representatives,
        risks=levels[representatives],
        tolerance=float(tolerance),
        within=float(np.max(heights[heights <= tolerance], initial=0.0)),
        between=float(np.min(heights[heights > tolerance], initial=np.inf)),
        unseen_mass=good_turing_unseen_mass(counts),
        unseen_upper=good_turing_upper_limit(counts),
    )


def good_turing_unseen_mass(counts: ArrayLike) -> float:
    r"""Estimate the probability that the next quench ends in a basin not seen so far.

    .. math:: \hat M_0 = \frac{\#\{\text{basins seen once}\}}{N}

    Parameters
    ----------
    counts
        Quenches in every basin seen, shape (basin,); N is their sum.

    Raises
    ------
    ValueError
        A count is no positive integer or there is none.

    Notes
    -----
    For independent starts its expectation is the expected unseen mass after N - 1 quenches.
    Source: Good 1953; section 4.5 of the theory.

    Examples
    --------
    >>> from sgdsim.stagnation import good_turing_unseen_mass
    >>> good_turing_unseen_mass([5, 3, 1, 1])
    0.2
    """
    checked = _counts(counts)
    return float(np.sum(checked == 1) / np.sum(checked))


def good_turing_upper_limit(counts: ArrayLike, confidence: float = 0.95) -> float:
    r"""Upper confidence limit on the probability of the basins not seen.

    .. math:: M_0 \le \hat M_0 + (1 + \sqrt2)\sqrt{\frac{\log(2/\alpha)}{N}}
        \quad\text{with probability} \ge 1 - \alpha

    Parameters
    ----------
    counts
        Quenches in every basin seen, shape (basin,); N is their sum.
    confidence
        1 - alpha, in (0, 1).

    Returns
    -------
    float
        At most 1.

    Raises
    ------
    ValueError
        A count or the confidence is out of range.

    Notes
    -----
    Three steps. The unseen mass exceeds its mean by x with probability at most
    :math:`e^{-Nx^2}` (McAllester and Ortiz 2003; Berend and Kontorovich 2013). One quench changes
    :math:`\hat M_0` by at most 2/N, so it is below its mean by x with probability at most
    :math:`e^{-Nx^2/2}` (McDiarmid). The mean of the estimate is the mean unseen mass after N - 1
    quenches, not less than after N. Smaller than the limit of McAllester and Schapire 2000, whose
    constants are :math:`2\sqrt2 + \sqrt3` and :math:`\log(3/\alpha)`. Independent starts are
    supposed.

    Examples
    --------
    >>> from sgdsim.stagnation import good_turing_upper_limit
    >>> round(good_turing_upper_limit([500, 500]), 3)
    0.147
    """
    checked = _counts(counts)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}.")
    half_width = (1 + np.sqrt(2)) * np.sqrt(np.log(2 / (1 - confidence)) / np.sum(checked))
    return float(min(1.0, good_turing_unseen_mass(checked) + half_width))


def _counts(counts: ArrayLike) -> np.ndarray:
    array = np.asarray(counts)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu" or array.min() < 1:
        raise ValueError(
            f"counts must be positive integers, one for every basin seen, got {counts!r}."
        )
    return array


def _points(outputs: ArrayLike | None, parameters: ArrayLike | None) -> np.ndarray:
    """Give the ends as rows whose Euclidean distance is the distance of the ends."""
    if outputs is not None and parameters is None:
        array = np.asarray(outputs, np.float64)
        if array.ndim != 3:
            raise ValueError(f"outputs must have the shape (quench, n, k), got {array.shape}.")
        return array.reshape(len(array), -1) / np.sqrt(array.shape[1])
    if parameters is None or outputs is not None:
        raise ValueError(
            "give either outputs or parameters: one of them says what tells two basins apart."
        )
    array = np.asarray(parameters, np.float64)
    if array.ndim != 2:
        raise ValueError(f"parameters must have the shape (quench, p), got {array.shape}.")
    return array


def _lowest(levels: np.ndarray, members: np.ndarray) -> int:
    inside = np.flatnonzero(members)
    return int(inside[np.argmin(levels[inside])])
