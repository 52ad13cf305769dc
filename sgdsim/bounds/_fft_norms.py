r"""Spectral norms of convolutions by FFT, as the measures named ``*_fft`` read them.

The norm of the convolution that wraps around at the border of an image of a given size. It ignores
stride and zero padding, so it is no bound of the norm of the layer; ``sgdsim.networks`` encloses
that one.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sgdsim.bounds._logdomain import log


def fft_ingredients(
    kernels: Sequence[Float[np.ndarray, "..."]],
    initial: Sequence[Float[np.ndarray, "..."]],
    image: tuple[int, int] | Sequence[tuple[int, int]],
) -> dict[str, Float[np.ndarray, ""]]:
    r"""Measure the ingredients of the measures ``*_fft`` on one network.

    Parameters
    ----------
    kernels
        Weights of the layers: ``(out, in, height, width)``, or ``(out, in)`` for a layer without
        space, whose norm by FFT is its spectral norm.
    initial
        Those of the initialisation, of the same shapes.
    image
        Height and width of the input of every layer; one pair for all layers, as in the published
        code, is that of the images of the data set.

    Returns
    -------
    dict
        Scalars for ``BoundInputs.measured``.

    Raises
    ------
    ValueError
        If shapes disagree, or an image is smaller than its kernel.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import fft_ingredients
    >>> kernel = np.ones((1, 1, 3, 3))
    >>> found = fft_ingredients([kernel], [0.0 * kernel], (8, 8))
    >>> print(f"{np.exp(found['log_spectral_fft']):.1f}")
    9.0
    """
    weights = [np.asarray(kernel, np.float64) for kernel in kernels]
    starts = [np.asarray(kernel, np.float64) for kernel in initial]
    if [a.shape for a in weights] != [a.shape for a in starts]:
        raise ValueError(
            f"The initialisation must have the shapes {[a.shape for a in weights]}; got "
            f"{[a.shape for a in starts]}."
        )
    sizes = _per_layer(image, len(weights))
    spectral = np.array([_norm(a, size) for a, size in zip(weights, sizes, strict=True)])
    moved = [a - b for a, b in zip(weights, starts, strict=True)]
    distance = np.array([_norm(a, size) for a, size in zip(moved, sizes, strict=True)])
    squares = np.array([np.sum(a**2) for a in weights])
    moved_squares = np.array([np.sum(a**2) for a in moved])
    return {
        "log_spectral_fft": np.asarray(np.sum(log(spectral))),
        "frobenius_over_spectral_fft": np.asarray(np.sum(squares / spectral**2)),
        "distance_over_spectral_fft": np.asarray(np.sum(moved_squares / spectral**2)),
        "spectral_distance_fft": np.asarray(np.sum(distance**2)),
    }


def _per_layer(
    image: tuple[int, int] | Sequence[tuple[int, int]], layers: int
) -> list[tuple[int, ...]]:
    pairs = [(side,) if isinstance(side, int) else tuple(side) for side in image]
    if all(len(pair) == 1 for pair in pairs):
        return [tuple(side for (side,) in pairs)] * layers
    if len(pairs) != layers:
        raise ValueError(f"image must be one pair or one per layer ({layers}); got {len(pairs)}.")
    return pairs


def _norm(kernel: Float[np.ndarray, "..."], image: tuple[int, ...]) -> float:
    """Largest singular value of the matrices of all frequencies."""
    if kernel.ndim == 2:
        return float(np.linalg.norm(kernel, 2))
    if kernel.ndim != 4 or any(i < k for i, k in zip(image, kernel.shape[2:], strict=True)):
        raise ValueError(
            f"A layer must be a matrix or a kernel (out, in, height, width) within an image of "
            f"{image}; got the shape {kernel.shape}."
        )
    waves = np.fft.fft2(kernel, s=image, axes=(2, 3))
    return float(np.linalg.norm(np.moveaxis(waves, (0, 1), (2, 3)), 2, axis=(2, 3)).max())
