"""Slow and obvious: a convolution as the dense matrix that it is."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def dense_convolution(
    kernel: Float[np.ndarray, "out fan height width"],
    input_shape: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "VALID",
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Float[np.ndarray, "rows cols"]:
    """Matrix from flattened images (channels, height, width) to flattened outputs, entry by entry.

    Parameters
    ----------
    kernel
        ``(out, in / groups, height, width)``.
    input_shape
        ``(in, height, width)``.
    stride, dilation
        Per axis.
    padding
        ``"SAME"``, ``"VALID"`` or zeros (before, after) per axis.
    groups
        Number of blocks of channels that do not mix.
    """
    channels, height, width = input_shape
    out, fan, *taps = kernel.shape
    sizes, before = [], []
    for axis, size in enumerate((height, width)):
        span = dilation[axis] * (taps[axis] - 1) + 1
        if padding == "SAME":
            count = -(-size // stride[axis])
            zeros = max(0, stride[axis] * (count - 1) + span - size)
            first = zeros // 2
        else:
            first, last = (0, 0) if isinstance(padding, str) else padding[axis]
            count = (size + first + last - span) // stride[axis] + 1
        sizes.append(count)
        before.append(first)
    matrix = np.zeros((out, sizes[0], sizes[1], channels, height, width))
    positions = itertools.product(range(out), range(sizes[0]), range(sizes[1]))
    for o, y, x in positions:
        for c, a, b in itertools.product(range(fan), range(taps[0]), range(taps[1])):
            row = y * stride[0] + a * dilation[0] - before[0]
            column = x * stride[1] + b * dilation[1] - before[1]
            if 0 <= row < height and 0 <= column < width:
                channel = o // (out // groups) * fan + c
                matrix[o, y, x, channel, row, column] = kernel[o, c, a, b]
    return matrix.reshape(out * sizes[0] * sizes[1], -1)
