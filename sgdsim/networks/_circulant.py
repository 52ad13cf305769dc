r"""An upper bound on the norm of a convolution, from circulant operators that contain it.

**Stride.** A convolution with stride ``s`` is one with stride 1 on ``s`` interleaved copies of the
input per axis (its polyphase components): tap ``j = s q + a`` is tap ``q`` of copy ``a``.

**Embedding.** Along an axis, let the output have ``T`` positions, let the copies be read at
positions :math:`m_0,\dots,m_1`, and let the kernel have ``P`` taps. In a circulant operator of size

.. math::
    N = \max(m_1 + 1,\; T + P - 1 - m_0)

no output meets an input around the end, so the convolution is one of its blocks and its norm is at
most that of the circulant operator. The same holds when the entries that wrap around are
multiplied by a phase :math:`e^{2\pi i\varphi}`, since none of them is in the block.

**Norm.** Such an operator is diagonalised by the discrete Fourier transform after a diagonal
unitary, so with :math:`K_q` the matrices (out, in) of the taps

.. math::
    \|A\|_2 \le \max_{k} \Big\|\sum_q K_q e^{2\pi i\,q(k+\varphi)/N}\Big\|_2 .

Every :math:`\varphi` gives a bound. With 1/2 the frequency 0 is left out, which is where smooth
kernels are largest, although no image within zero padding can be constant up to the border: for the
kernel (1, 1, 1) on N - 1 positions the bound is then exact.
"""

import itertools
import math

import numpy as np
from jaxtyping import Complex, Float

from sgdsim.networks._geometry import ConvolutionGeometry

# Numbers that are held at once while frequencies are screened.
_CHUNK = 2**21
# Matrices whose eigenvalues are computed at once.
_BATCH = 16


def circulant_bound(
    kernel: Float[np.ndarray, "groups out fan *taps"], geometry: ConvolutionGeometry
) -> float:
    """Bound the norm of a convolution in exact arithmetic; the caller adds the rounding errors.

    Parameters
    ----------
    kernel
        The kernels of the groups, of order one.
    geometry
        Where they read their input.
    """
    phase = _polyphase(kernel, geometry)
    sizes = [
        _circulant_size(geometry, axis, phase.shape[3 + axis]) for axis in range(geometry.axes)
    ]
    best = math.inf
    for shift in itertools.product((0.0, 0.5), repeat=geometry.axes):
        best = min(best, _largest(phase, _frequencies(sizes, shift), best))
    return best


def _polyphase(
    kernel: Float[np.ndarray, "groups out fan *taps"], geometry: ConvolutionGeometry
) -> Float[np.ndarray, "groups out copies *phase_taps"]:
    """Kernel with stride 1 on interleaved copies of the input; holes of dilation become zeros."""
    copies = [math.ceil(r / s) for r, s in zip(geometry.reach, geometry.stride, strict=True)]
    padded = np.zeros(
        (*kernel.shape[:3], *(c * s for c, s in zip(copies, geometry.stride, strict=True)))
    )
    taps = tuple(
        slice(0, reach, step) for reach, step in zip(geometry.reach, geometry.dilation, strict=True)
    )
    padded[(..., *taps)] = kernel
    split = padded.reshape(
        *kernel.shape[:3], *itertools.chain(*zip(copies, geometry.stride, strict=True))
    )
    # (groups, out, in, q0, a0, q1, a1): the copies a of an input channel become channels.
    for axis in range(geometry.axes):
        split = np.moveaxis(split, 4 + 2 * axis, 3)
    return split.reshape(*kernel.shape[:2], -1, *copies)


def _circulant_size(geometry: ConvolutionGeometry, axis: int, taps: int) -> int:
    """Smallest size in which no output meets an input around the end."""
    before, stride = geometry.padding[axis][0], geometry.stride[axis]
    first = before // stride
    last = (geometry.input_shape[1 + axis] - 1 + before) // stride
    return max(last + 1, geometry.output_shape[1 + axis] + taps - 1 - first)


def _frequencies(sizes: list[int], shift: tuple[float, ...]) -> Float[np.ndarray, "frequency axes"]:
    """One of every two conjugate frequencies, in turns."""
    axes = [(np.arange(size) + phase) / size for size, phase in zip(sizes, shift, strict=True)]
    # Symmetric about 1/2, with or without the shift.
    axes[-1] = axes[-1][axes[-1] <= 0.5]
    return np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=-1)


def _largest(
    kernel: Float[np.ndarray, "groups out fan *taps"],
    frequencies: Float[np.ndarray, "frequency axes"],
    enough: float,
) -> float:
    """Largest norm over the frequencies, or a lower value of it from ``enough`` on."""
    chunk = max(1, _CHUNK // math.prod(kernel.shape[:3]))
    screen = np.concatenate(
        [
            _gram_iteration(_grams(kernel, frequencies[start : start + chunk]))
            for start in range(0, len(frequencies), chunk)
        ]
    )
    order = np.argsort(screen)[::-1]
    largest = 0.0
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        if largest >= enough or largest >= screen[batch[0]]:
            break
        values = np.linalg.eigvalsh(_grams(kernel, frequencies[batch]))[..., -1]
        largest = max(largest, math.sqrt(max(float(values.max()), 0.0)))
    return largest


def _grams(
    kernel: Float[np.ndarray, "groups out fan *taps"],
    frequencies: Float[np.ndarray, "frequency axes"],
) -> Complex[np.ndarray, "frequency groups side side"]:
    """Transfer matrices M times their adjoints, on the smaller side."""
    taps = np.stack([grid.ravel() for grid in np.indices(kernel.shape[3:])])
    waves = np.exp(2j * np.pi * (frequencies @ taps))
    groups, out, fan = kernel.shape[:3]
    matrices = (waves @ kernel.reshape(groups * out * fan, -1).T).reshape(-1, groups, out, fan)
    adjoint = np.conj(np.swapaxes(matrices, -1, -2))
    return matrices @ adjoint if out <= fan else adjoint @ matrices


def _gram_iteration(
    grams: Complex[np.ndarray, "frequency groups side side"],
) -> Float[np.ndarray, " frequency"]:
    r"""Upper bounds :math:`\|G^4\|_F^{1/8}` of the square roots of the largest eigenvalues."""
    square = grams @ grams
    fourth = square @ square
    return np.max(np.linalg.norm(fourth, axis=(-2, -1)), axis=-1) ** 0.125 * (1.0 + 1e-9)
