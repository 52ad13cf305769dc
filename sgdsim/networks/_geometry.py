"""Where a convolution reads its input: sizes, strides, zero padding and the positions it meets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

#: "SAME", "VALID", one number of zeros for all sides, one per axis, or (before, after) per axis.
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class ConvolutionGeometry:
    r"""Everything about a convolution except the numbers in its kernel.

    Along an axis, output position ``t`` reads the input at
    :math:`s\,t + d\,j - p` for the taps ``j = 0, ..., k-1``, with stride ``s``, dilation ``d`` and
    ``p`` zeros before the input.

    Parameters
    ----------
    input_shape
        ``(channels, *space)``.
    kernel_shape
        ``(out, channels / groups, *taps)``, the layout of PyTorch.
    stride, dilation
        One per axis of space.
    padding
        Zeros ``(before, after)`` per axis.
    groups
        Number of blocks of channels that do not mix.
    """

    input_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def axes(self) -> int:
        """Number of axes of space."""
        return len(self.stride)

    @property
    def reach(self) -> tuple[int, ...]:
        """Taps of the kernel per axis, including the holes that dilation makes."""
        return _reach(self.kernel_shape, self.dilation)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``(out, *space)``."""
        space = (
            (size + sum(padding) - reach) // stride + 1
            for size, padding, reach, stride in zip(
                self.input_shape[1:], self.padding, self.reach, self.stride, strict=True
            )
        )
        return (self.kernel_shape[0], *space)

    @property
    def operator_shape(self) -> tuple[int, int]:
        """``(rows, cols)`` of the linear map between flattened images."""
        return math.prod(self.output_shape), math.prod(self.input_shape)

    def meetings(self, axis: int) -> Bool[np.ndarray, "taps outputs inputs"]:
        """Tell which tap of an axis joins which output position to which input position."""
        taps, outputs = self.kernel_shape[2 + axis], self.output_shape[1 + axis]
        start = self.stride[axis] * np.arange(outputs) - self.padding[axis][0]
        read = start[None, :] + self.dilation[axis] * np.arange(taps)[:, None]
        return read[..., None] == np.arange(self.input_shape[1 + axis])


def convolution_geometry(
    kernel_shape: Sequence[int],
    input_shape: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> ConvolutionGeometry:
    r"""Resolve the sizes of a convolution, refusing what does not fit together.

    Parameters
    ----------
    kernel_shape
        ``(out, in / groups, *taps)`` with one or two axes of taps, the layout of PyTorch.
    input_shape
        ``(in, *space)``.
    stride, dilation
        Positive integers, one for all axes or one per axis.
    padding
        ``"VALID"`` (none), ``"SAME"`` (the output has ``ceil(size / stride)`` positions; an odd
        zero goes to the end), one number of zeros for all sides, one per axis, or
        ``(before, after)`` per axis.
    groups
        Number of blocks of channels that do not mix.

    Returns
    -------
    ConvolutionGeometry
        With one stride, dilation and pair of paddings per axis.

    Raises
    ------
    ValueError
        If the kernel does not fit the input or a number is out of range.

    Examples
    --------
    >>> from sgdsim.networks import convolution_geometry
    >>> geometry = convolution_geometry((8, 3, 3, 3), (3, 32, 32), stride=2, padding=1)
    >>> geometry.output_shape, geometry.operator_shape
    ((8, 16, 16), (2048, 3072))
    """
    kernel, image = tuple(kernel_shape), tuple(input_shape)
    axes = len(kernel) - 2
    if axes not in (1, 2) or min(kernel) < 1:
        raise ValueError(
            "A kernel must have the shape (out, in, taps) or (out, in, height, width); got "
            f"{kernel}."
        )
    if len(image) != axes + 1 or min(image) < 1:
        raise ValueError(
            f"The input of a kernel of shape {kernel} must have the shape (in, *space) with "
            f"{axes} axes of space; got {image}."
        )
    if groups < 1 or image[0] % groups or kernel[0] % groups:
        raise ValueError(
            f"groups must divide the {image[0]} input and the {kernel[0]} output channels; got "
            f"{groups}."
        )
    if kernel[1] * groups != image[0]:
        raise ValueError(
            f"A kernel of shape {kernel} with groups={groups} reads {kernel[1] * groups} channels, "
            f"but the input has {image[0]} (its shape is {image})."
        )
    strides = _per_axis("stride", stride, axes)
    dilations = _per_axis("dilation", dilation, axes)
    reach = _reach(kernel, dilations)
    zeros = _zeros(padding, image[1:], reach, strides)
    geometry = ConvolutionGeometry(image, kernel, strides, zeros, dilations, groups)
    if min(geometry.output_shape) < 1:
        raise ValueError(
            f"A kernel that reaches over {reach} does not fit into an input of {image[1:]} with "
            f"padding {zeros}; pad more or use a smaller kernel."
        )
    return geometry


def _reach(kernel_shape: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel_shape[2:], dilation, strict=True))


def _per_axis(name: str, value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes or min(values) < 1:
        raise ValueError(f"{name} must be a positive integer or {axes} of them; got {value}.")
    return values


def _zeros(
    padding: Padding, space: tuple[int, ...], reach: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """Zeros (before, after) per axis."""
    if padding == "SAME":
        totals = [
            max((math.ceil(size / s) - 1) * s + r - size, 0)
            for size, r, s in zip(space, reach, stride, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    if padding == "VALID":
        padding = 0
    sides: tuple[tuple[int, ...], ...] = ()
    if isinstance(padding, int):
        sides = ((padding, padding),) * len(space)
    elif not isinstance(padding, str):
        sides = tuple((side, side) if isinstance(side, int) else tuple(side) for side in padding)
    if len(sides) != len(space) or any(len(side) != 2 or min(side) < 0 for side in sides):
        raise ValueError(
            f'padding must be "SAME", "VALID", a number of zeros, {len(space)} of them or '
            f"{len(space)} pairs (before, after), none negative; got {padding!r}."
        )
    return tuple((before, after) for before, after in sides)
