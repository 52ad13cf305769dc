"""Certificate or plug-in: a stay bound together with where its constants come from."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from sgdsim.stagnation._stay_constants import StayConstants, assumption_violation
from sgdsim.stagnation._supermartingale import log_exit_bound_s2


@dataclass(frozen=True)
class Proved:
    """A constant that holds on the whole set by a proof, or that was chosen.

    Parameters
    ----------
    value
        The constant.
    reason
        The proof in words, "chosen" for a learning rate or radius that was fixed in advance.
    """

    value: float | int
    reason: str


@dataclass(frozen=True)
class Sampled:
    """A constant that was measured or sampled: it may fail to hold somewhere in the set.

    Parameters
    ----------
    value
        The estimate that enters the bound.
    low, high
        Interval for the true constant.
    sample_size
        Number of points, minibatches or trajectories behind it.
    method
        How value and interval were obtained, with the confidence.
    """

    value: float | int
    low: float | int
    high: float | int
    sample_size: int
    method: str


@dataclass(frozen=True)
class StatementRow:
    """One line of the table of a `StayStatement`.

    Parameters
    ----------
    name
        Name of the constant, as in `StayConstants`.
    value
        Its value.
    origin
        "proved: reason" or "sampled: method".
    sample_size
        Number of samples, None for what is proved.
    interval
        Low and high end, None for what is proved.
    """

    name: str
    value: float
    origin: str
    sample_size: int | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class StayStatement:
    r"""A bound on the exit probability that knows how far its constants can be trusted.

    .. math:: P(\exists t \le T: d_t > \delta) \le \text{S2}(T)

    It is a *certificate* when every constant is proved on the whole set, a *plug-in* as soon as one
    of them is sampled: then the number is what the theorem would give if the sampled constants
    were true.

    Parameters
    ----------
    sources
        `Proved` or `Sampled` by name of the field of `StayConstants`; ``start_distance`` and
        ``gradient_bias`` may be left out where they are 0 by construction.

    Raises
    ------
    ValueError
        A name is unknown or a needed one is missing.

    Notes
    -----
    A sampled constant can make no certificate, however large the sample: a supremum over a ball is
    not seen by finitely many points. Certificates are certain up to rounding in float64, and about
    the recursion whose noise meets the assumptions (Gaussian, or sub-Gaussian with the proxy).

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import Proved, Sampled, StayStatement, quadratic_constants
    >>> proved = quadratic_constants(np.array([1.0, 1.0]), 0.05, 0.04)
    >>> ball = {"radius": Proved(0.15, "chosen")}
    >>> statement = StayStatement(proved | ball)
    >>> statement.kind
    'certificate'
    >>> float(np.exp(statement.log_exit_bound(np.array([1000])))[0].round(4))
    0.0473
    >>> trace = Sampled(0.08, low=0.08, high=0.1, sample_size=50, method="maximum over the ball")
    >>> StayStatement(proved | ball | {"noise_trace": trace}).kind
    'plug-in'
    """

    sources: Mapping[str, Proved | Sampled]

    def __post_init__(self) -> None:
        known = {field.name: field.default for field in fields(StayConstants)}
        unknown = [name for name in self.sources if name not in known]
        missing = [
            name
            for name, default in known.items()
            if default is MISSING and name not in self.sources
        ]
        if unknown or missing:
            raise ValueError(
                f"a statement needs the fields of StayConstants: unknown {unknown}, "
                f"missing {missing}"
            )

    @property
    def kind(self) -> Literal["certificate", "plug-in"]:
        """Give "certificate" when all constants are proved, "plug-in" otherwise."""
        proved = all(isinstance(source, Proved) for source in self.sources.values())
        return "certificate" if proved else "plug-in"

    @property
    def constants(self) -> StayConstants:
        """The values of the constants."""
        return StayConstants(**{name: source.value for name, source in self.sources.items()})

    @property
    def violation(self) -> str | None:
        """The assumption that the constants violate, None when the bound applies."""
        return assumption_violation(self.constants)

    def log_exit_bound(self, steps: Int[np.ndarray, " step"]) -> Float[np.ndarray, " step"]:
        """Give the logarithm of S2 for numbers of steps, nan when an assumption is violated."""
        return log_exit_bound_s2(self.constants, steps)

    def table(self) -> list[StatementRow]:
        """List the constants with value, origin, sample size and interval, one row each."""
        return [
            StatementRow(name, float(source.value), f"proved: {source.reason}", None, None)
            if isinstance(source, Proved)
            else StatementRow(
                name,
                float(source.value),
                f"sampled: {source.method}",
                source.sample_size,
                (float(source.low), float(source.high)),
            )
            for name, source in self.sources.items()
        ]

    def __str__(self) -> str:
        sampled = [
            f"{row.name} = {row.value:g} in [{row.interval[0]:g}, {row.interval[1]:g}] "
            f"({row.sample_size} samples)"
            for row in self.table()
            if row.interval is not None
        ]
        support = (
            "plug-in, the number the theorem gives if these sampled constants are true: "
            + ", ".join(sampled)
            if sampled
            else "certificate, every constant is proved on the whole set"
        )
        applies = "" if self.violation is None else f"; the bound does not apply: {self.violation}"
        radius = self.sources["radius"].value
        return f"Bound on the exit from the ball of radius {radius:g}: {support}{applies}."


def sampled_maximum(
    values: Float[np.ndarray, " sample"], confidence: float = 0.95, *, method: str = ""
) -> Sampled:
    r"""Estimate the supremum of a quantity over a set from values at random points of it.

    .. math:: \Bigl[X_{(n)},\; X_{(n)} + \frac{1 - a}{a} (X_{(n)} - X_{(n-1)})\Bigr],
              \qquad 1 - a = \text{confidence}

    Parameters
    ----------
    values
        The quantity at independent points, shape (sample,), at least two.
    confidence
        Of the upper end, between 0 and 1.
    method
        What was sampled, in words.

    Returns
    -------
    Sampled
        Value and low end are the largest value; nan values give nan.

    Raises
    ------
    ValueError
        Fewer than two values, or the confidence is not in (0, 1).

    Notes
    -----
    The upper end has its confidence, for large samples, when the values are independent, of one
    law, with a density that is positive and continuous at the end point. Most quantities over a
    high-dimensional ball are not like that: the end point is reached in a corner that no sample
    sees. It shows how fast the sample still grows; it is no proof.

    Source: Robson & Whitlock (1964), Estimation of a truncation point.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import sampled_maximum
    >>> found = sampled_maximum(np.array([0.1, 0.75, 0.5]), 0.9)
    >>> found.value, round(found.high, 6)
    (0.75, 3.0)
    """
    high, reach = _ends(values, confidence)
    words = f"maximum, end point at {confidence:g} confidence (Robson & Whitlock)"
    return Sampled(high, high, high + reach, values.size, f"{method}, {words}" if method else words)


def sampled_minimum(
    values: Float[np.ndarray, " sample"], confidence: float = 0.95, *, method: str = ""
) -> Sampled:
    r"""Estimate the infimum of a quantity over a set from values at random points of it.

    .. math:: \Bigl[X_{(1)} - \frac{1 - a}{a} (X_{(2)} - X_{(1)}),\; X_{(1)}\Bigr],
              \qquad 1 - a = \text{confidence}

    Parameters
    ----------
    values, confidence, method
        As in `sampled_maximum`.

    Returns
    -------
    Sampled
        Value and high end are the smallest value.

    Raises
    ------
    ValueError
        Fewer than two values, or the confidence is not in (0, 1).

    Notes
    -----
    The assumptions of `sampled_maximum`, and as little a proof.

    Source: Robson & Whitlock (1964), Estimation of a truncation point.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import sampled_minimum
    >>> found = sampled_minimum(np.array([1.5, 1.25, 4.0]), 0.8)
    >>> found.value, round(found.low, 6)
    (1.25, 0.25)
    """
    low, reach = _ends(-values, confidence)
    words = f"minimum, end point at {confidence:g} confidence (Robson & Whitlock)"
    return Sampled(-low, -low - reach, -low, values.size, f"{method}, {words}" if method else words)


def _ends(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Largest value, and how far the end point may lie above it."""
    if values.size < 2:
        raise ValueError(f"an end point needs at least two values, got {values.size}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(
            f"confidence must lie strictly between 0 and 1, got {confidence:g}: no finite interval "
            "is certain"
        )
    if np.isnan(values).any():
        return math.nan, math.nan
    second, first = np.partition(values, -2)[-2:]
    return float(first), float(confidence / (1.0 - confidence) * (first - second))
