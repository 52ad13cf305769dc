"""The geometric grid that makes a bound for fixed norms hold for the norms of the iterate."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

_MOST_CELLS = 10_000_000


@dataclass(frozen=True)
class GeometricGrid:
    r"""Finite set of values at which a bound is claimed simultaneously, by a union bound.

    .. math:: p_k = \min(\text{low}\cdot\text{ratio}^k,\ \text{high}),\qquad k = 0, \dots, m.

    A bound that increases in a norm and holds for norms fixed in advance holds, with the failure
    probability divided by the number of cells, for whatever norm the training found: round the
    norm up to the grid. The price is a factor ``ratio`` in the norm and ``log_cells`` next to
    :math:`\log 1/\delta`.

    Parameters
    ----------
    low
        Smallest point; smaller norms are rounded up to it.
    high
        Largest point; nothing is claimed for larger norms.
    ratio
        Quotient of neighbouring points, larger than one.

    Raises
    ------
    ValueError
        If the three numbers do not describe a grid of at most ten million points.

    Examples
    --------
    >>> from sgdsim.bounds import GeometricGrid
    >>> grid = GeometricGrid(low=0.5, high=8.0, ratio=2.0)
    >>> grid.points.tolist()
    [0.5, 1.0, 2.0, 4.0, 8.0]
    >>> float(grid.ceil(2.1)), float(grid.ceil(9.0))
    (4.0, nan)
    """

    low: float | int
    high: float | int
    ratio: float | int

    def __post_init__(self) -> None:
        """Refuse numbers that do not describe a grid."""
        if not (0.0 < self.low < self.high < np.inf):
            raise ValueError(
                f"A grid needs 0 < low < high < inf; got low={self.low}, high={self.high}."
            )
        if not (1.0 < self.ratio < np.inf):
            raise ValueError(f"The ratio of a grid must exceed 1; got ratio={self.ratio}.")
        if self._steps >= _MOST_CELLS:
            raise ValueError(
                f"ratio={self.ratio} gives {self._steps + 1} grid points, more than "
                f"{_MOST_CELLS}; choose a larger ratio or a shorter range."
            )

    @property
    def _steps(self) -> int:
        # The slack keeps a range that is an exact power of the ratio from gaining a cell.
        steps = np.log(self.high / self.low) / np.log(self.ratio)
        return max(1, int(np.ceil(steps - 1e-9)))

    @cached_property
    def points(self) -> Float[np.ndarray, " cell"]:
        """Grid points in increasing order, shape ``(cell,)``."""
        points = self.low * self.ratio ** np.arange(self._steps + 1, dtype=np.float64)
        points[-1] = self.high
        return points

    @property
    def log_cells(self) -> float:
        r"""Logarithm of the number of points: what the union bound costs for one norm."""
        return float(np.log(len(self.points)))

    def ceil(self, value: Float[np.ndarray, "*shape"] | float | int) -> Float[np.ndarray, "*shape"]:
        """Round up to the grid.

        Parameters
        ----------
        value
            Norms, any shape.

        Returns
        -------
        array
            Smallest grid point that is not below the value, in float64; nan where the value is
            above ``high`` or nan.
        """
        value = np.asarray(value, dtype=np.float64)
        # Infinity and nan are sorted behind every point, hence they meet the nan.
        extended = np.append(self.points, np.nan)
        return np.asarray(extended[np.searchsorted(self.points, value, side="left")])
