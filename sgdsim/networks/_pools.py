"""Pooling layers: exact norm of the mean, Lipschitz constant of the maximum."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from sgdsim.bounds import layer_norms
from sgdsim.networks._convolution import Interval
from sgdsim.networks._geometry import ConvolutionGeometry, convolution_geometry
from sgdsim.networks._layers import Extent, Layer, as_static

_EPS = float(np.finfo(np.float64).eps)


def _static_or_none(value: Extent | None) -> Any:
    return None if value is None else as_static(value)


class AveragePool(Layer):
    """Mean over windows of every channel, without padding; an incomplete window is left out.

    Parameters
    ----------
    size
        Extent of the window, one for all axes or one per axis.
    stride
        Distance of the windows; the size if left out.

    Notes
    -----
    The norm is the product of the norms of the one-dimensional means, which are decomposed as
    dense matrices: one over the square root of the size where windows do not overlap.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import AveragePool
    >>> pool = AveragePool(2)
    >>> pool(jnp.array([[[[1.0, 2.0], [3.0, 6.0]]]])).tolist()
    [[[[3.0]]]]
    >>> round(pool.lipschitz((1, 8, 8)).high, 6)
    0.5
    """

    size: Extent = eqx.field(static=True, converter=as_static)
    stride: Extent | None = eqx.field(static=True, default=None, converter=_static_or_none)

    def _geometry(self, input_shape: tuple[int, ...]) -> ConvolutionGeometry:
        return _pool_geometry(input_shape, self.size, self.stride, 0)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """``(channels, *space)`` with one position per window."""
        return self._geometry(input_shape).output_shape

    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """Norm of the linear map."""
        geometry = self._geometry(input_shape)
        means = [_windows(geometry, axis) / _taps(geometry)[axis] for axis in range(geometry.axes)]
        norms = [layer_norms([mean]) for mean in means]
        low = math.prod(float(norm.spectral_low[0]) for norm in norms)
        high = math.prod(float(norm.spectral_high[0]) for norm in norms)
        return Interval(low, high, "dense")

    def inf_lipschitz(self) -> float:
        """Lipschitz constant in the largest entry: the weights of a mean add up to one."""
        return 1.0

    def window(self, input_shape: tuple[int, ...]) -> int:
        """Count the positions that every mean is over."""
        return math.prod(_taps(self._geometry(input_shape)))

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Evaluate on a batch of shape ``(n, channels, *space)``."""
        geometry = self._geometry(inputs.shape[1:])
        sums = _reduce(inputs, geometry, 0.0, lax.add)
        return sums / math.prod(_taps(geometry))


class MaxPool(Layer):
    r"""Maximum over windows of every channel.

    Parameters
    ----------
    size
        Extent of the window, one for all axes or one per axis.
    stride
        Distance of the windows; the size if left out.
    padding
        Positions around the image that never are the maximum, at most half the size.

    Notes
    -----
    :math:`\|P(x)-P(y)\|^2 \le \sum_w \max_{i\in w}|x_i-y_i|^2 \le m\,\|x-y\|^2` with ``m`` the
    largest number of windows that a pixel is in: the constant is :math:`\sqrt m`, one where
    windows do not overlap.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import MaxPool
    >>> MaxPool(2)(jnp.array([[[[1.0, 2.0], [3.0, 6.0]]]])).tolist()
    [[[[6.0]]]]
    >>> MaxPool(3, stride=1).lipschitz((1, 8, 8)).high
    3.0
    """

    size: Extent = eqx.field(static=True, converter=as_static)
    stride: Extent | None = eqx.field(static=True, default=None, converter=_static_or_none)
    padding: Extent = eqx.field(static=True, default=0, converter=as_static)

    def _geometry(self, input_shape: tuple[int, ...]) -> ConvolutionGeometry:
        geometry = _pool_geometry(input_shape, self.size, self.stride, self.padding)
        for taps, (zeros, _) in zip(_taps(geometry), geometry.padding, strict=True):
            if zeros > taps // 2:
                raise ValueError(f"a window of size {taps} allows padding {taps // 2}, not {zeros}")
        return geometry

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """``(channels, *space)`` with one position per window."""
        return self._geometry(input_shape).output_shape

    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """Root of the largest number of windows that share a pixel."""
        geometry = self._geometry(input_shape)
        counts = [_windows(geometry, axis).sum(axis=0).max() for axis in range(geometry.axes)]
        constant = math.sqrt(math.prod(counts))
        # The root of a perfect square is exact.
        slack = 0.0 if constant.is_integer() else _EPS
        return Interval(constant * (1.0 - slack), constant * (1.0 + slack), "windows")

    def inf_lipschitz(self) -> float:
        """Lipschitz constant in the largest entry, which no maximum can increase."""
        return 1.0

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Evaluate on a batch of shape ``(n, channels, *space)``."""
        return _reduce(inputs, self._geometry(inputs.shape[1:]), -math.inf, lax.max)


def _pool_geometry(
    input_shape: tuple[int, ...], size: Extent, stride: Extent | None, padding: Extent
) -> ConvolutionGeometry:
    """Sizes of windows over every channel on its own."""
    axes = len(input_shape) - 1
    if axes not in (1, 2):
        raise ValueError("a pool needs inputs of shape (channels, *space) with one or two axes")
    window = (size,) * axes if isinstance(size, int) else tuple(size)
    channels = input_shape[0]
    return convolution_geometry(
        (channels, 1, *window),
        input_shape,
        size if stride is None else stride,
        padding,
        groups=channels,
    )


def _taps(geometry: ConvolutionGeometry) -> tuple[int, ...]:
    return geometry.kernel_shape[2:]


def _windows(geometry: ConvolutionGeometry, axis: int) -> Float[np.ndarray, "outputs inputs"]:
    """One where a window of an axis holds a position."""
    return np.asarray(geometry.meetings(axis).any(axis=0), np.float64)


def _reduce(
    inputs: Float[Array, "n channels *space"],
    geometry: ConvolutionGeometry,
    start: float,
    combine: Callable,
) -> Float[Array, "n channels *positions"]:
    return lax.reduce_window(
        inputs,
        start,
        combine,
        (1, 1, *_taps(geometry)),
        (1, 1, *geometry.stride),
        ((0, 0), (0, 0), *geometry.padding),
    )
