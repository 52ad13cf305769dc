"""Edges of stability in closed form, and the words of the verdict on both sides of them."""

import math

import numpy as np
import pytest

from sgdsim.stability import gradient_descent_threshold, sde_verdict, variance_ratio


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


@pytest.mark.parametrize(
    ("product", "tolerance", "begins"),
    [
        (0.01, 0.1, "SDE valid: eta*lambda_max/2 = 0.005;"),
        (0.19, 0.1, "SDE valid: eta*lambda_max/2 = 0.095;"),
        (0.21, 0.1, "SDE invalid: eta*lambda_max/2 = 0.1;"),
        # At eta*lambda = 1 the variance of the SDE is exactly half of the true one: error 1/2.
        (1.0, 0.5, "SDE valid: eta*lambda_max/2 = 0.5;"),
        (1.0, math.nextafter(0.5, 0.0), "SDE invalid: eta*lambda_max/2 = 0.5;"),
        (1.999, 0.1, "SDE invalid: eta*lambda_max/2 = 1;"),
        (2.0, 0.1, "SDE invalid: eta*lambda_max/2 = 1, beyond the edge of stability 1,"),
        (2.0, 1e9, "SDE invalid: eta*lambda_max/2 = 1, beyond the edge of stability 1,"),
        (6.0, 0.1, "SDE invalid: eta*lambda_max/2 = 3, beyond the edge of stability 1,"),
    ],
)
def test_verdict(product, tolerance, begins):
    assert sde_verdict(0.25, 4 * product, tolerance).startswith(begins)


@pytest.mark.parametrize(("product", "percent"), [(1.8, "90.0"), (1.0, "50.0"), (0.02, "1.0")])
def test_verdict_says_how_much_too_small_the_variance_of_the_sde_is(product, percent):
    assert f"its stationary variance is {percent} % too small." in sde_verdict(1.0, product)


@pytest.mark.parametrize("sharpness", [math.nan, math.inf])
def test_no_verdict_without_a_sharpness(sharpness):
    assert sde_verdict(0.5, sharpness) == "SDE not judged: the sharpness was not measured."
