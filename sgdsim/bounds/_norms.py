"""Norms of weight matrices, with two-sided spectral norms, and distances from a reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

Weights = Sequence[Float[np.ndarray, "... _rows _cols"]]

# LAPACK's singular values are exact for a matrix within p(m, n) * eps * ||A|| of the given one,
# p a modest multiple of the larger dimension.
_BACKWARD_ERROR = 4.0


@dataclass(frozen=True, eq=False)
class LayerNorms:
    r"""Norms of every layer of one network or of an array of networks.

    Parameters
    ----------
    spectral_low, spectral_high
        Enclosure of :math:`\|A_j\|_2`, shape ``(..., layer)``.
    frobenius
        :math:`\|A_j\|_F`, shape ``(..., layer)``.
    two_one
        :math:`\|A_j^T\|_{2,1}`, the sum over output rows of the 2-norm of the row,
        shape ``(..., layer)``.
    one_inf
        :math:`\|A_j\|_{1,\infty}`, the largest 1-norm of an output row, shape ``(..., layer)``.
    shapes
        ``(rows, cols)`` of every layer, first layer first.
    """

    spectral_low: Float[np.ndarray, "... layer"]
    spectral_high: Float[np.ndarray, "... layer"]
    frobenius: Float[np.ndarray, "... layer"]
    two_one: Float[np.ndarray, "... layer"]
    one_inf: Float[np.ndarray, "... layer"]
    shapes: tuple[tuple[int, int], ...]

    @property
    def largest_dimension(self) -> int:
        """Largest number of rows or columns of any layer: the width of the bounds."""
        return max(max(shape) for shape in self.shapes)

    @property
    def parameter_count(self) -> int:
        """Number of weights."""
        return sum(rows * cols for rows, cols in self.shapes)


@dataclass(frozen=True, eq=False)
class LayerDistances:
    r"""Distances of the layers from those of a reference network.

    Parameters
    ----------
    frobenius
        :math:`\|A_j - A_j^{\mathrm{ref}}\|_F`, shape ``(..., layer)``.
    two_one
        :math:`\|(A_j - A_j^{\mathrm{ref}})^T\|_{2,1}`, shape ``(..., layer)``.
    spectral_high
        Upper end of an enclosure of :math:`\|A_j - A_j^{\mathrm{ref}}\|_2`, ``(..., layer)``.
    """

    frobenius: Float[np.ndarray, "... layer"]
    two_one: Float[np.ndarray, "... layer"]
    spectral_high: Float[np.ndarray, "... layer"]

    @property
    def radius(self) -> Float[np.ndarray, "..."]:
        r"""Euclidean distance :math:`\|\theta-\theta_{\mathrm{ref}}\|` of all weights."""
        return np.asarray(np.sqrt(np.sum(self.frobenius**2, axis=-1)))


def layer_norms(weights: Weights) -> LayerNorms:
    r"""Evaluate the norms of every layer.

    Parameters
    ----------
    weights
        ``A_j`` of shape ``(..., rows_j, cols_j)``, first layer first; the leading axes, for
        example (trajectory, probe), are the same in all layers.

    Returns
    -------
    LayerNorms
        In float64. A matrix that is not finite has nan norms.

    Raises
    ------
    ValueError
        If there is no layer, a layer is not a matrix, layers do not chain
        (``cols_{j+1} = rows_j``) or leading axes differ.

    Notes
    -----
    ``spectral_low`` and ``spectral_high`` are the largest singular value, widened by the
    backward error of the decomposition, ``4 max(rows, cols) eps`` relative. The library uses the
    upper end throughout: all its certificates increase in the spectral norms. (The quotients
    ``b_j/||A_j||`` of the literature appear multiplied by the product of all layers.)

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import layer_norms
    >>> norms = layer_norms([np.diag([3.0, 4.0]), np.ones((1, 2))])
    >>> norms.frobenius.round(6).tolist(), norms.two_one.round(6).tolist()
    ([5.0, 1.414214], [7.0, 1.414214])
    >>> bool(norms.spectral_low[0] <= 4.0 <= norms.spectral_high[0])
    True
    """
    matrices = [np.asarray(matrix, dtype=np.float64) for matrix in weights]
    _check_chain(matrices)
    spectral = np.stack([_spectral_norm(matrix) for matrix in matrices], axis=-1)
    shapes = tuple((matrix.shape[-2], matrix.shape[-1]) for matrix in matrices)
    slack = _backward_errors(shapes)
    return LayerNorms(
        spectral_low=spectral * (1.0 - slack),
        spectral_high=spectral * (1.0 + slack),
        frobenius=np.stack([_frobenius(matrix) for matrix in matrices], axis=-1),
        two_one=np.stack([_two_one(matrix) for matrix in matrices], axis=-1),
        one_inf=np.stack([_one_inf(matrix) for matrix in matrices], axis=-1),
        shapes=shapes,
    )


def layer_distances(weights: Weights, reference: Weights) -> LayerDistances:
    r"""Evaluate how far every layer is from the same layer of a reference network.

    Parameters
    ----------
    weights
        ``A_j`` of shape ``(..., rows_j, cols_j)``.
    reference
        Matrices of shape ``(rows_j, cols_j)``.

    Returns
    -------
    LayerDistances
        In float64; nan for a layer that is not finite.

    Raises
    ------
    ValueError
        If the two networks do not have the same layers.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import layer_distances
    >>> float(layer_distances([np.full((2, 2), 3.0)], [np.ones((2, 2))]).radius)
    4.0
    """
    shapes = [np.shape(matrix)[-2:] for matrix in weights]
    if shapes != [np.shape(matrix) for matrix in reference]:
        raise ValueError(
            f"The reference must have the layers {shapes}; got "
            f"{[np.shape(matrix) for matrix in reference]}."
        )
    with np.errstate(invalid="ignore"):
        moved = [
            np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
            for a, b in zip(weights, reference, strict=True)
        ]
    _check_chain(moved)
    spectral = np.stack([_spectral_norm(matrix) for matrix in moved], axis=-1)
    slack = _backward_errors([(matrix.shape[-2], matrix.shape[-1]) for matrix in moved])
    return LayerDistances(
        frobenius=np.stack([_frobenius(matrix) for matrix in moved], axis=-1),
        two_one=np.stack([_two_one(matrix) for matrix in moved], axis=-1),
        spectral_high=spectral * (1.0 + slack),
    )


def _backward_errors(shapes: Sequence[tuple[int, int]]) -> Float[np.ndarray, " layer"]:
    return _BACKWARD_ERROR * np.finfo(np.float64).eps * np.array([max(s) for s in shapes])


def _spectral_norm(matrix: Float[np.ndarray, "*lead rows cols"]) -> Float[np.ndarray, "*lead"]:
    finite = np.asarray(np.isfinite(matrix).all(axis=(-2, -1)))
    # One iterate that diverged would make LAPACK reject the whole batch.
    safe = np.where(finite[..., None, None], matrix, 0.0)
    largest = np.linalg.svd(safe, compute_uv=False)[..., 0]
    return np.asarray(np.where(finite, largest, np.nan))


def _frobenius(matrix: Float[np.ndarray, "*lead rows cols"]) -> Float[np.ndarray, "*lead"]:
    flat = matrix.reshape(*matrix.shape[:-2], -1)
    return _row_norms(flat)


def _two_one(matrix: Float[np.ndarray, "*lead rows cols"]) -> Float[np.ndarray, "*lead"]:
    return np.asarray(np.sum(_row_norms(matrix), axis=-1))


def _one_inf(matrix: Float[np.ndarray, "*lead rows cols"]) -> Float[np.ndarray, "*lead"]:
    return np.asarray(np.max(np.sum(np.abs(matrix), axis=-1), axis=-1))


def _row_norms(matrix: Float[np.ndarray, "*lead cols"]) -> Float[np.ndarray, "*lead"]:
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.sum(matrix**2, axis=-1))
    return np.asarray(np.where(np.isfinite(matrix).all(axis=-1), norms, np.nan))


def _check_chain(matrices: list[np.ndarray]) -> None:
    shapes = [matrix.shape for matrix in matrices]
    if not matrices or any(len(shape) < 2 or 0 in shape[-2:] for shape in shapes):
        raise ValueError(f"Every layer must be a non-empty matrix; got the shapes {shapes}.")
    if any(shape[:-2] != shapes[0][:-2] for shape in shapes):
        raise ValueError(f"The leading axes of all layers must agree; got the shapes {shapes}.")
    for layer, (below, above) in enumerate(pairwise(shapes)):
        if above[-1] != below[-2]:
            raise ValueError(
                f"Layer {layer + 1} has {above[-1]} columns, but layer {layer} has {below[-2]} "
                "rows; give the layers in order, first layer first, as (rows, cols)."
            )
