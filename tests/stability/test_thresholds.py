"""Edges of stability in closed form, and the words of the verdict on both sides of them."""

import math

import numpy as np
import pytest

from sgdsim.stability import gradient_descent_threshold, variance_ratio


def test_threshold_is_two_over_the_learning_rate():
    assert gradient_descent_threshold(0.5) == 4.0
    assert gradient_descent_threshold(2.0) == 1.0


@pytest.mark.parametrize(
    ("product", "ratio"), [(1.5, 4.0), (1.8, 10.0), (1.0, 2.0), (0.0, 1.0), (2.0, math.inf)]
)
def test_variance_ratio(product, ratio):
    """C3 and C4: 3.000 against 0.75 at eta = 1.5, 9.0 against 0.9 at 1.8; none from 2 on."""
    np.testing.assert_allclose(variance_ratio(product, 1.0), ratio, rtol=1e-12)
    np.testing.assert_allclose(variance_ratio(0.25, 4 * product), ratio, rtol=1e-12)


def test_variance_ratio_at_the_edge():
    assert math.isfinite(variance_ratio(1.0, math.nextafter(2.0, 0.0)))
    assert math.isinf(variance_ratio(1.0, 2.0))
    assert math.isinf(variance_ratio(1.0, 5.0))
