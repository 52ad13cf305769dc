"""Enclosures of convolution norms against dense matrices that are filled entry by entry."""

import math

import jax
import numpy as np
import pytest

from sgdsim.networks import convolution_geometry, convolution_norm, convolution_norms
from sgdsim.networks._circulant import circulant_bound
from sgdsim.testing import dense_convolution

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unoptimised")]

# Singular values of LAPACK, the oracle, have rounding errors of their own.
ROUNDING = 1e-13


def random_kernel(random, shape, kind):
    kernel = random.normal(size=shape)
    return kernel if kind == "gaussian" else 1.0 + 0.2 * kernel


# Strides 1 to 3, even and odd kernels and images, out above and below in.
SIZES = (
    (1, (4, 2, 3, 3), (8, 8)),
    (1, (3, 5, 2, 5), (7, 10)),
    (1, (4, 4, 4, 4), (9, 6)),
    (2, (4, 3, 3, 3), (8, 8)),
    (2, (2, 4, 2, 2), (9, 7)),
    (2, (5, 3, 5, 4), (10, 7)),
    (3, (4, 2, 3, 3), (9, 8)),
    (3, (3, 5, 5, 2), (7, 12)),
    (3, (4, 3, 1, 4), (8, 9)),
)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("stride", "shape", "space"), SIZES)
def test_enclosure_holds_the_dense_norm(stride, shape, space, padding):
    random = np.random.default_rng([stride, *shape, *space])
    image = (shape[1], *space)
    for kind in ("gaussian", "smooth", "gaussian", "smooth"):
        kernel = random_kernel(random, shape, kind)
        true = np.linalg.norm(dense_convolution(kernel, image, (stride, stride), padding), 2)
        dense = convolution_norm(kernel, image, stride, padding)
        assert dense.method == "dense"
        assert dense.low <= true * (1 + ROUNDING)
        assert dense.high >= true * (1 - ROUNDING)
        assert dense.high - dense.low <= 1e-11 * true
        free = convolution_norm(kernel, image, stride, padding, largest_dense=0)
        assert free.method != "dense"
        assert free.low <= true * (1 + ROUNDING)
        assert free.high >= true * (1 - ROUNDING)
        # Thirty products suffice for these small maps, and no bound is far off.
        assert free.low >= 0.999 * true
        assert free.high <= 1.25 * true


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("taps", "size"), [((2, 2), 16), ((3, 3), 17), ((4, 4), 18)])
def test_interval_is_narrow_at_stride_one(taps, size, padding):
    random = np.random.default_rng(5)
    for out, channels in ((2, 2), (8, 4)):
        for kind in ("gaussian", "smooth", "gaussian"):
            kernel = random_kernel(random, (out, channels, *taps), kind)
            norm = convolution_norm(kernel, (channels, size, size), 1, padding, largest_dense=0)
            assert norm.high - norm.low <= 0.05 * norm.high


@pytest.mark.parametrize("stride", [2, 3])
def test_stride_costs_no_width(stride):
    # A circulant operator without the stride is 1.3 to 2 times too large here.
    random = np.random.default_rng(6)
    for kind in ("gaussian", "smooth"):
        kernel = random_kernel(random, (16, 8, 3, 3), kind)
        norm = convolution_norm(kernel, (8, 12, 12), stride, "SAME", largest_dense=0)
        whole = convolution_norm(kernel, (8, 12, 12), 1, "SAME", largest_dense=0)
        assert norm.high <= 1.05 * norm.low
        assert norm.high < 0.9 * whole.low


@pytest.mark.parametrize("size", [4, 9, 30])
def test_closed_form_of_the_blur(size):
    # The tridiagonal matrix of ones has the norm 1 + 2 cos(pi / (n + 1)), and the shifted
    # circulant operator has this very frequency.
    true = 1.0 + 2.0 * math.cos(math.pi / (size + 1))
    geometry = convolution_geometry((1, 1, 3), (1, size), 1, 1)
    assert circulant_bound(np.ones((1, 1, 1, 3)), geometry) == pytest.approx(true, rel=1e-13)
    line = convolution_norm(np.ones((1, 1, 3)), (1, size), padding=1, largest_dense=0)
    assert line.low <= true * (1 + ROUNDING)
    assert line.high == pytest.approx(true, rel=1e-12)
    image = convolution_norm(np.ones((1, 1, 3, 3)), (1, size, size), padding=1, largest_dense=0)
    assert image.low <= true**2 * (1 + ROUNDING)
    assert image.high == pytest.approx(true**2, rel=1e-12)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        ((1, 2), ((1, 0), (0, 2)), (1, 1), 1),
        ((1, 1), ((2, 2), (2, 2)), (2, 3), 1),
        ((2, 1), "SAME", (1, 2), 2),
        ((2, 2), ((1, 1), (1, 1)), (1, 1), 4),
        ((3, 3), ((4, 4), (0, 3)), (2, 2), 2),
    ],
)
def test_all_norms_against_the_dense_matrix(stride, padding, dilation, groups):
    random = np.random.default_rng(7)
    kernel = random.normal(size=(4, 4 // groups, 3, 2))
    arguments = ((4, 8, 7), stride, padding, dilation, groups)
    matrix = dense_convolution(kernel, *arguments)
    true = np.linalg.norm(matrix, 2)
    for largest_dense in (0, 1024):
        norms = convolution_norms(kernel, *arguments, largest_dense=largest_dense)
        assert norms.shape == matrix.shape
        assert norms.spectral.low <= true * (1 + ROUNDING)
        assert norms.spectral.high >= true * (1 - ROUNDING)
        assert norms.frobenius == pytest.approx(np.linalg.norm(matrix), rel=1e-13)
        rows = np.linalg.norm(matrix, axis=1)
        assert norms.two_one == pytest.approx(rows.sum(), rel=1e-13)
        assert norms.one_inf == pytest.approx(np.abs(matrix).sum(axis=1).max(), rel=1e-13)


def test_the_best_of_the_upper_bounds_is_taken():
    # Where the kernel is larger than the image, most of a circulant operator is outside the map.
    methods = set()
    for shape, size in (((1, 1, 5, 5), 2), ((1, 1, 3, 3), 12), ((2, 3, 4, 4), 3)):
        kernel = np.random.default_rng(1).normal(size=shape)
        arguments = ((shape[1], size, size), 1, "SAME")
        matrix = dense_convolution(kernel, (shape[1], size, size), (1, 1), "SAME")
        norm = convolution_norm(kernel, *arguments, largest_dense=0)
        schur = math.sqrt(np.linalg.norm(matrix, 1) * np.linalg.norm(matrix, np.inf))
        assert norm.high <= min(schur, np.linalg.norm(matrix)) * (1 + 1e-11)
        methods.add(norm.method)
    assert "circulant" in methods
    assert methods & {"frobenius", "schur"}


@pytest.mark.parametrize("largest_dense", [0, 1024])
def test_degenerate_kernels(largest_dense):
    zero = convolution_norm(np.zeros((2, 3, 3, 3)), (3, 5, 5), 1, 1, largest_dense=largest_dense)
    assert (zero.low, zero.high) == (0.0, 0.0)
    # The Krylov space of a multiple of the identity ends after one product.
    copy = 3.0 * np.eye(2)[:, :, None, None]
    norm = convolution_norm(copy, (2, 5, 5), largest_dense=largest_dense)
    assert norm.low == pytest.approx(3.0, rel=1e-11)
    assert norm.low <= 3.0 <= norm.high
    single = np.zeros((3, 2, 2, 2))
    single[1, 0, 0, 1] = -2.0
    norm = convolution_norm(single, (2, 4, 4), largest_dense=largest_dense)
    assert norm.low <= 2.0 <= norm.high


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_squares_neither_overflow_nor_underflow(scale):
    kernel = np.random.default_rng(2).normal(size=(2, 2, 3, 3))
    one = convolution_norm(kernel, (2, 8, 8), 1, 1, largest_dense=0)
    scaled = convolution_norm(scale * kernel, (2, 8, 8), 1, 1, largest_dense=0)
    assert scaled.low == pytest.approx(scale * one.low, rel=1e-12)
    assert scaled.high == pytest.approx(scale * one.high, rel=1e-12)


def test_float32_and_jax_kernels_are_evaluated_in_float64():
    kernel = np.random.default_rng(3).normal(size=(4, 3, 3, 3)).astype(np.float32)
    arguments = ((3, 9, 9), 2, 1, 1, 1, 0)
    reference = convolution_norm(kernel.astype(np.float64), *arguments)
    assert convolution_norm(kernel, *arguments) == reference
    assert convolution_norm(jax.numpy.asarray(kernel), *arguments) == reference


@pytest.mark.parametrize(
    ("kernel", "image", "options", "message"),
    [
        ((2, 3), (3,), {}, "A kernel must have the shape"),
        ((2, 3, 3, 3), (3, 8), {}, "with 2 axes of space"),
        ((2, 3, 3, 3), (4, 8, 8), {}, "reads 3 channels, but the input has 4"),
        ((2, 3, 3, 3), (3, 8, 8), {"groups": 2}, "groups must divide"),
        ((2, 3, 3, 3), (3, 8, 8), {"stride": 0}, "stride must be a positive integer"),
        ((2, 3, 3, 3), (3, 8, 8), {"dilation": (1, 1, 1)}, "dilation must be a positive"),
        ((2, 3, 3, 3), (3, 8, 8), {"padding": "same"}, 'padding must be "SAME"'),
        ((2, 3, 3, 3), (3, 8, 8), {"padding": -1}, "none negative"),
        ((2, 3, 5, 5), (3, 3, 8), {}, "does not fit into an input"),
    ],
)
def test_refuses_what_does_not_fit(kernel, image, options, message):
    with pytest.raises(ValueError, match=message):
        convolution_norm(np.ones(kernel), image, **options)


def test_refuses_weights_that_are_not_finite():
    kernel = np.ones((1, 1, 2, 2))
    kernel[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 entries that are not finite"):
        convolution_norm(kernel, (1, 4, 4))
