r"""Norms of a convolution as the linear map it is: true size, stride, padding and groups.

Reshaping a kernel to a matrix gives neither a bound nor an estimate of the norm of the map, and
power iteration gives a lower bound, on which no certificate can stand. Here the norm is enclosed.
Small maps are decomposed as dense matrices. For the others the lower end is :math:`\|Av\|/\|v\|`
at the best vector of a Krylov space, and the upper end is the smallest of

* ``circulant``: the norm of a circulant operator that contains the map (see ``_circulant.py``);
* ``schur``: :math:`\sqrt{\|A\|_1\|A\|_\infty}`;
* ``frobenius``: :math:`\|A\|_F`.

Every end is widened by the rounding errors of its evaluation, which are bounded by
:math:`c\,\epsilon\,\sqrt{\|A\|_1\|A\|_\infty}` with ``c`` a multiple of the length of the sums.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from matfree import decomp

from sgdsim.networks._circulant import circulant_bound
from sgdsim.networks._geometry import ConvolutionGeometry, Padding, convolution_geometry

#: Kernels as NumPy or JAX arrays, ``(out, in / groups, *taps)``.
Kernel = Float[np.ndarray, "out fan *taps"] | Float[Array, "out fan *taps"]

_EPS = float(np.finfo(np.float64).eps)
# Sums of n numbers are exact to n eps relative to the sum of magnitudes; the rest is reserve.
_RESERVE = 16.0
# Dimension of the Krylov space.
_PRODUCTS = 30
# Entries of a dense matrix that is still decomposed: 64 MiB.
_MOST_ENTRIES = 2**23


class Interval(NamedTuple):
    """Two numbers with the true value between them.

    Attributes
    ----------
    low, high
        Ends of the interval, rounding errors included.
    method
        What gave the upper end.
    """

    low: float
    high: float
    method: str

    def scaled(self, factor: float) -> "Interval":
        """Multiply by a number that is not negative."""
        return Interval(self.low * factor, self.high * factor, self.method)


class ConvolutionNorms(NamedTuple):
    r"""Norms of a convolution as a linear map.

    Attributes
    ----------
    spectral
        Enclosure of :math:`\|A\|_2`.
    frobenius
        :math:`\|A\|_F`.
    two_one
        :math:`\|A^T\|_{2,1}`, the sum over output positions of the 2-norm of the row.
    one_inf
        :math:`\|A\|_{1,\infty}`, the largest 1-norm of a row.
    shape
        ``(rows, cols)``: numbers in the output and in the input image.
    """

    spectral: Interval
    frobenius: float
    two_one: float
    one_inf: float
    shape: tuple[int, int]


def convolution_norm(
    kernel: Kernel,
    input_shape: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    largest_dense: int = 1024,
) -> Interval:
    r"""Enclose the spectral norm of a convolution.

    .. math::
        \|A\|_2 = \max_{x\ne0}\frac{\|Ax\|_2}{\|x\|_2},\qquad
        (Ax)_{o,t} = \sum_{i,j} K_{o,i,j}\,x_{i,\,s\,t+d\,j-p}

    Parameters
    ----------
    kernel
        ``(out, in / groups, *taps)`` with one or two axes of taps, the layout of PyTorch.
    input_shape
        ``(in, *space)``.
    stride, dilation
        Positive integers, one for all axes or one per axis.
    padding
        ``"VALID"``, ``"SAME"`` or zeros: one number, one per axis or (before, after) per axis.
    groups
        Number of blocks of channels that do not mix.
    largest_dense
        A map with at most this many rows or columns (per group) is decomposed as a dense matrix,
        if it has at most 2^23 entries; with 0 no map is.

    Returns
    -------
    Interval
        ``low <= ||A|| <= high`` in float64 and the method of the upper end: ``dense``,
        ``circulant``, ``schur`` or ``frobenius``.

    Raises
    ------
    ValueError
        If the kernel does not fit the input or is not finite.

    Notes
    -----
    The lower end takes 30 products with the map and its transpose (Golub-Kahan, by matfree) in
    double precision; one program is compiled per geometry. The circulant bound is that of Sedghi,
    Gupta & Long 2019, arXiv:1805.10408, extended to zero padding, strides and shifted frequencies.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import convolution_norm
    >>> blur = np.ones((1, 1, 3, 3)) / 9
    >>> norm = convolution_norm(blur, (1, 64, 64), padding=1)
    >>> print(f"{norm.low:.3f} {norm.high:.3f} {norm.method}")
    0.998 0.998 circulant
    >>> norm = convolution_norm(blur, (1, 8, 8), padding=1)
    >>> print(f"{norm.low:.3f} {norm.high:.3f} {norm.method}")
    0.921 0.921 dense
    """
    geometry = convolution_geometry(
        np.shape(kernel), input_shape, stride, padding, dilation, groups
    )
    return operator_norm(_checked(kernel), geometry, largest_dense)


def convolution_norms(
    kernel: Kernel,
    input_shape: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    largest_dense: int = 1024,
) -> ConvolutionNorms:
    r"""Evaluate all norms of a convolution that bounds need.

    .. math::
        \|A\|_2,\quad \|A\|_F,\quad
        \|A^T\|_{2,1} = \sum_r\|A_{r,\cdot}\|_2,\quad
        \|A\|_{1,\infty} = \max_r\|A_{r,\cdot}\|_1

    Parameters
    ----------
    kernel, input_shape, stride, padding, dilation, groups, largest_dense
        As for ``convolution_norm``.

    Returns
    -------
    ConvolutionNorms
        In float64; all but the spectral norm are exact up to rounding errors.

    Raises
    ------
    ValueError
        If the kernel does not fit the input or is not finite.

    Notes
    -----
    A row of the map is a kernel without the taps that meet the padding, so rows at the border
    are shorter.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import convolution_norms
    >>> norms = convolution_norms(np.ones((1, 1, 3)), (1, 4), padding=1)
    >>> round(norms.frobenius**2), norms.one_inf, norms.shape
    (10, 3.0, (4, 4))
    """
    geometry = convolution_geometry(
        np.shape(kernel), input_shape, stride, padding, dilation, groups
    )
    values = _checked(kernel)
    rows = _row_sums(values**2, geometry)
    return ConvolutionNorms(
        spectral=operator_norm(values, geometry, largest_dense),
        frobenius=math.sqrt(rows.sum()),
        two_one=float(np.sqrt(rows).sum()),
        one_inf=float(_row_sums(np.abs(values), geometry).max()),
        shape=geometry.operator_shape,
    )


def operator_norm(
    kernel: Float[np.ndarray, "out fan *taps"], geometry: ConvolutionGeometry, largest_dense: int
) -> Interval:
    """Enclose the spectral norm of a convolution whose sizes have been checked.

    Parameters
    ----------
    kernel
        Finite, in float64.
    geometry
        Where the kernel reads its input.
    largest_dense
        Largest smaller side, per group, of a map that is decomposed as a dense matrix.
    """
    # A power of two changes no digit, and squares neither overflow nor underflow.
    scale = math.ldexp(1.0, math.frexp(float(np.abs(kernel).max()))[1] - 1)
    if not kernel.any():
        return Interval(0.0, 0.0, "frobenius")
    unit = kernel / scale
    rows, cols = (side // geometry.groups for side in geometry.operator_shape)
    if min(rows, cols) <= largest_dense and rows * cols * geometry.groups <= _MOST_ENTRIES:
        return _dense_norm(unit, geometry).scaled(scale)
    schur = math.sqrt(
        _row_sums(np.abs(unit), geometry).max() * _column_sums(np.abs(unit), geometry).max()
    )
    # All taps count here: the circulant operator has them at every position.
    total = math.sqrt(_axis_sum(np.abs(unit), 0) * _axis_sum(np.abs(unit), 1))
    slack = _RESERVE * _EPS * (unit[0].size + unit.shape[0]) * total
    bounds = {
        "circulant": circulant_bound(_by_group(unit, geometry), geometry),
        "schur": schur,
        "frobenius": math.sqrt(_row_sums(unit**2, geometry).sum()),
    }
    method = min(bounds, key=lambda name: bounds[name])
    low = _krylov_quotient(unit, geometry) - slack
    return Interval(max(low, 0.0), bounds[method] + slack, method).scaled(scale)


def _checked(kernel: Kernel) -> Float[np.ndarray, "out fan *taps"]:
    values = np.asarray(kernel, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"The kernel of shape {values.shape} has {np.sum(~np.isfinite(values))} entries that "
            "are not finite; a norm needs finite weights."
        )
    return values


def _by_group(
    kernel: Float[np.ndarray, "out fan *taps"], geometry: ConvolutionGeometry
) -> Float[np.ndarray, "groups block fan *taps"]:
    return kernel.reshape(geometry.groups, -1, *kernel.shape[1:])


def _dense_norm(
    kernel: Float[np.ndarray, "out fan *taps"], geometry: ConvolutionGeometry
) -> Interval:
    """Largest singular value of the blocks, widened by the backward error of LAPACK."""
    matrix = _by_group(kernel, geometry)
    for axis in range(geometry.axes):
        # The first axis of taps left gives way to axes (output, input) of positions at the end.
        meetings = geometry.meetings(axis).astype(np.float64)
        matrix = np.tensordot(matrix, meetings, ((3,), (0,)))
    outputs = tuple(range(3, 3 + 2 * geometry.axes, 2))
    inputs = tuple(range(4, 4 + 2 * geometry.axes, 2))
    matrix = matrix.transpose(0, 1, *outputs, 2, *inputs)
    rows, cols = (side // geometry.groups for side in geometry.operator_shape)
    matrix = matrix.reshape(geometry.groups, rows, cols)
    largest = float(np.linalg.svd(matrix, compute_uv=False).max())
    slack = 4.0 * _EPS * max(rows, cols)
    return Interval(largest * (1.0 - slack), largest * (1.0 + slack), "dense")


def _row_sums(
    entries: Float[np.ndarray, "out fan *taps"], geometry: ConvolutionGeometry
) -> Float[np.ndarray, "out *space"]:
    """Sum over every row of the map that has these entries instead of the kernel."""
    sums = entries.sum(axis=1)
    for axis in range(geometry.axes):
        # The first axis of taps left gives way to an axis of positions at the end.
        reads = geometry.meetings(axis).any(axis=2).astype(np.float64)
        sums = np.tensordot(sums, reads, ((1,), (0,)))
    return sums


def _column_sums(
    entries: Float[np.ndarray, "out fan *taps"], geometry: ConvolutionGeometry
) -> Float[np.ndarray, "channels *space"]:
    """Sum over every column of the map that has these entries."""
    grouped = _by_group(entries, geometry).sum(axis=1)
    sums = grouped.reshape(-1, *entries.shape[2:])
    for axis in range(geometry.axes):
        read_by = geometry.meetings(axis).any(axis=1).astype(np.float64)
        sums = np.tensordot(sums, read_by, ((1,), (0,)))
    return sums


def _axis_sum(magnitudes: Float[np.ndarray, "out fan *taps"], axis: int) -> float:
    """Largest sum over all of a kernel but its axis ``axis``; groups count as one."""
    others = tuple(other for other in range(magnitudes.ndim) if other != axis)
    return float(magnitudes.sum(axis=others).max())


def _krylov_quotient(
    kernel: Float[np.ndarray, "out fan *taps"], geometry: ConvolutionGeometry
) -> float:
    """Evaluate ||Av|| / ||v|| at the best vector of a Krylov space with a fixed random start."""
    start = np.random.default_rng(0).normal(size=geometry.input_shape)
    with jax.enable_x64(True):
        taps = jnp.asarray(kernel)
        krylov = _bidiagonalised(taps, jnp.asarray(start), geometry)
        # Where the Krylov space ends, matfree divides by zero; what comes after it is left out.
        bidiagonal, basis = (np.nan_to_num(np.asarray(part)) for part in krylov)
        _, _, right = np.linalg.svd(bidiagonal)
        vector = np.tensordot(right[0], basis, 1)
        # Whatever rounding did to the basis, the quotient of this vector is a lower bound. One
        # program for both steps would be simpler, but XLA of jax 0.8 crashes in it.
        image = np.asarray(_applied(taps, jnp.asarray(vector), geometry))
    return float(np.linalg.norm(image.ravel()) / np.linalg.norm(vector.ravel()))


@functools.partial(jax.jit, static_argnames=("geometry",))
def _bidiagonalised(
    kernel: Float[Array, "out fan *taps"],
    start: Float[Array, "channels *space"],
    geometry: ConvolutionGeometry,
) -> tuple[Float[Array, "depth depth"], Float[Array, "depth channels *space"]]:
    """Bidiagonal matrix and right basis of a Golub-Kahan bidiagonalisation."""
    products = min(_PRODUCTS, *geometry.operator_shape)
    result = decomp.bidiag(products)(lambda image: _applied(kernel, image, geometry), start)
    return jnp.asarray(result.J_small), result.Q_tall[1]


@functools.partial(jax.jit, static_argnames=("geometry",))
def _applied(
    kernel: Float[Array, "out fan *taps"],
    image: Float[Array, "channels *space"],
    geometry: ConvolutionGeometry,
) -> Float[Array, "out *positions"]:
    return lax.conv_general_dilated(
        image[None],
        kernel,
        geometry.stride,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        precision=lax.Precision.HIGHEST,
    )[0]
