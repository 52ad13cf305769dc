"""Does a statistic change between SGD and its SDE? The l-sweep of SVAG answers by simulation."""

from typing import Literal, NamedTuple

import numpy as np

from sgdsim.stability._mean_square import Numbers


class SvagTest(NamedTuple):
    r"""How a statistic changes from the smallest to the largest ``l`` of a sweep.

    Attributes
    ----------
    name
        What was measured.
    smallest, largest
        The two ``l``; SVAG(1) is SGD, large ``l`` its SDE.
    value
        Statistic at the smallest ``l``.
    difference, stderr, z
        Value at the largest ``l`` minus ``value``, its standard error and their ratio.
    limit, limit_stderr
        Extrapolation to :math:`l\to\infty`, the SDE.
    trend, trend_stderr
        Slope :math:`c` of the fit ``limit + c/l``.
    """

    name: str
    smallest: float
    largest: float
    value: float
    difference: float
    stderr: float
    z: float
    limit: float
    limit_stderr: float
    trend: float
    trend_stderr: float

    def outcome(
        self, tolerance: float = 0.1, z_limit: float = 3.0
    ) -> Literal["changed", "agrees", "inconclusive"]:
        """Say whether the statistic changes by more than a relative tolerance.

        Parameters
        ----------
        tolerance
            Relative change that matters.
        z_limit
            Standard errors that count as evidence.

        Returns
        -------
        str
            ``"changed"``: significant and larger than the tolerance. ``"agrees"``: a change
            larger than the tolerance is excluded. ``"inconclusive"``: neither; more trajectories
            are needed.
        """
        allowed = tolerance * abs(self.value)
        if abs(self.z) > z_limit and abs(self.difference) > allowed:
            return "changed"
        excluded = abs(self.difference) + z_limit * self.stderr <= allowed
        return "agrees" if excluded else "inconclusive"


def svag_sweep_test(
    values: Numbers, stderrs: Numbers, l: Numbers, *, name: str = "statistic"
) -> SvagTest:
    r"""Test whether a statistic changes along an l-sweep of SVAG.

    .. math:: z = \frac{\bar y_{l_{\max}} - \bar y_{l_{\min}}}{\sqrt{s_{\max}^2+s_{\min}^2}},
        \qquad \bar y_l \approx \mathrm{limit} + c/l

    Parameters
    ----------
    values, stderrs
        Mean of the statistic over an ensemble and its standard error, one for every ``l``.
    l
        Positive numbers of SVAG, all different, at least two; 1 is SGD.
    name
        What the statistic is, as a noun phrase for the verdict.

    Returns
    -------
    SvagTest
        Difference of the ends and weighted least-squares fit in ``1/l``.

    Raises
    ------
    ValueError
        If the sweep has fewer than two ``l``, repeats one, or contains numbers that are not
        finite.

    Notes
    -----
    The standard errors are taken as independent. With common random numbers the ensembles are
    positively correlated and the test errs on the side of no change. Source: Li, Malladi and
    Arora 2021 (arXiv 2102.12470), whose l-sweep this is.

    Examples
    --------
    >>> from sgdsim.stability import svag_sweep_test
    >>> test = svag_sweep_test([1.0, 0.8, 0.7], [0.02, 0.02, 0.02], [1, 2, 4], name="loss")
    >>> round(test.z, 1), round(test.limit, 2), test.outcome()
    (-10.6, 0.6, 'changed')
    """
    order = np.asarray(l, dtype=np.float64)
    y, s = np.asarray(values, dtype=np.float64), np.asarray(stderrs, dtype=np.float64)
    if not (order.ndim == 1 and order.size >= 2 and y.shape == s.shape == order.shape):
        raise ValueError(
            "a sweep needs one value and one standard error for each of at least two l, got "
            f"shapes {y.shape}, {s.shape} and {order.shape}."
        )
    if len(np.unique(order)) < order.size or not np.all(order > 0):
        raise ValueError(f"l must be positive and all different, got {order.tolist()}.")
    if not (np.all(np.isfinite([y, s, order])) and np.all(s > 0)):
        raise ValueError(
            "values and l must be finite, standard errors finite and positive: leave out an l at "
            "which the simulation diverged, or whose statistic has no spread."
        )
    first, last = np.argmin(order), np.argmax(order)
    stderr = float(np.hypot(s[first], s[last]))
    difference = float(y[last] - y[first])
    design = np.stack([np.ones_like(order), 1.0 / order], axis=1) / s[:, None]
    covariance = np.linalg.inv(design.T @ design)
    limit, trend = covariance @ (design.T @ (y / s))
    return SvagTest(
        name=name,
        smallest=float(order[first]),
        largest=float(order[last]),
        value=float(y[first]),
        difference=difference,
        stderr=stderr,
        z=difference / stderr,
        limit=float(limit),
        limit_stderr=float(covariance[0, 0] ** 0.5),
        trend=float(trend),
        trend_stderr=float(covariance[1, 1] ** 0.5),
    )
