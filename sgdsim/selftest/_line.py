"""One line of the self-test: what was expected, what was found, and how far they may differ."""

import math
from typing import NamedTuple


class Line(NamedTuple):
    """A number with the range in which it has to lie.

    Attributes
    ----------
    quantity, source
        What was computed, and where the expected value comes from.
    expected, tolerance
        The range in words.
    got
        What was found; NaN if it could not be found.
    low, high
        The range.

    Examples
    --------
    >>> from sgdsim.selftest import Line
    >>> Line("sharpness", "2/eta", "4", "1 %", got=4.05, low=3.96, high=4.04).holds
    False
    """

    quantity: str
    source: str
    expected: str
    tolerance: str
    got: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the number lies in its range; NaN does not."""
        return bool(self.low <= self.got <= self.high)


def close(
    quantity: str, source: str, expected: float | int, got: float | int, relative: float
) -> Line:
    """Make a line whose number may be off by a share of the expected one.

    Parameters
    ----------
    quantity, source
        See `Line`.
    expected, got
        The two sides, which have to come from different code.
    relative
        Share of ``expected``.

    Examples
    --------
    >>> from sgdsim.selftest import close
    >>> close("edge", "2/eta", 4.0, 4.0001, relative=1e-3).tolerance
    '0.1 %'
    """
    width = relative * abs(expected)
    return Line(
        quantity,
        source,
        f"{expected:.6g}",
        f"{100 * relative:g} %",
        float(got),
        expected - width,
        expected + width,
    )


def near(
    quantity: str, source: str, expected: float | int, got: float | int, distance: float | int
) -> Line:
    """Make a line whose number may be off by a distance, 0 for counts.

    Parameters
    ----------
    quantity, source
        See `Line`.
    expected, got
        The two sides, which have to come from different code.
    distance
        In the units of ``expected``.

    Examples
    --------
    >>> from sgdsim.selftest import near
    >>> near("runs that converge", "catapult", 20, 19, distance=0).holds
    False
    """
    words = f"{distance:g}" if distance else "exact"
    return Line(
        quantity,
        source,
        f"{expected:.6g}",
        words,
        float(got),
        expected - distance,
        expected + distance,
    )


def between(
    quantity: str, source: str, low: float | int, high: float | int, got: float | int
) -> Line:
    """Make a line whose number has to lie in a range, of which one end may be infinite.

    Parameters
    ----------
    quantity, source
        See `Line`.
    low, high
        The range.
    got
        What was found.

    Examples
    --------
    >>> import math
    >>> from sgdsim.selftest import between
    >>> between("late sharpness over 2/eta", "flow", 1.2, math.inf, 1.4).expected
    '>= 1.2'
    """
    if math.isinf(low):
        words = f"<= {high:g}"
    else:
        words = f">= {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
    return Line(quantity, source, words, "range", float(got), float(low), float(high))
