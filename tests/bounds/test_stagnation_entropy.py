"""Covers of ellipsoids by brute force; entropy integrals by quadrature; expected maxima."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi2

from sgdsim.bounds import (
    LayerNorms,
    LossBound,
    Neighbourhoods,
    TrainingSample,
    ball_entropy,
    ellipsoid_entropy,
    ellipsoid_semi_axes,
    expected_maximum_of_normals,
    log_count_bound,
    log_cover_of_ellipsoid,
    stagnation_terms,
)


def greedy_cover(axes: np.ndarray, scale: float) -> int:
    """Size of a cover of the whole ellipsoid, built on a grid that is finer than the scale."""
    spacing = scale / 12.0
    sides = [np.append(np.arange(-a, a, spacing), a) for a in axes]
    cloud = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, len(axes))
    reach = spacing * math.sqrt(len(axes)) / 2.0
    # Enlarged, so that every point of the ellipsoid has a point of the cloud within `reach`.
    enlarged = axes * (1.0 + reach / axes.min())
    cloud = cloud[np.sum((cloud / enlarged) ** 2, axis=-1) <= 1.0]
    distance = np.linalg.norm(cloud, axis=-1)
    count = 1
    while distance.max() > scale - reach:
        new = cloud[distance.argmax()]
        distance = np.minimum(distance, np.linalg.norm(cloud - new, axis=-1))
        count += 1
    return count


@pytest.mark.parametrize(
    ("axes", "scales"),
    [
        ((1.0, 0.3), (0.2, 0.5, 0.9)),
        ((1.0, 1.0), (0.3, 0.9)),
        ((1.0, 0.04), (0.1, 0.3)),
        ((1.0, 0.5, 0.05), (0.3, 0.6)),
    ],
)
def test_a_greedy_cover_is_within_the_bound(
    axes: tuple[float, ...], scales: tuple[float, ...]
) -> None:
    # The constant 6 is generous (a greedy cover needs about 2 to 4 to the power of the dimension),
    # so that a factor of 2 in it cannot be seen here; dropping it altogether can.
    for scale in scales:
        size = greedy_cover(np.array(axes), scale)
        bound = math.exp(log_cover_of_ellipsoid(np.array(axes), scale))
        kept = [a for a in axes if 2 * a > scale]
        assert math.prod(a / scale for a in kept) < size <= bound * (1.0 + 1e-12)
    assert log_cover_of_ellipsoid(np.array(axes), max(axes)) == 0.0


@pytest.mark.parametrize(
    "axes",
    [
        [2.0, 2.0, 2.0, 2.0],
        [1.0, 0.7, 0.49, 0.1, 0.1, 1e-3, 0.0],
        [3.0] + [1e-2] * 40,
        np.geomspace(1.0, 1e-8, 25).tolist(),
    ],
)
def test_entropy_integral_of_an_ellipsoid(axes: list[float]) -> None:
    values = np.array(axes)
    largest = values.max()
    kinks = sorted({2 * a / largest for a in axes if 0.0 < 2 * a < largest})
    edges = [0.0, *kinks, 1.0]

    def integrand(u: float) -> float:
        return math.sqrt(log_cover_of_ellipsoid(values, u * largest))

    pieces = [quad(integrand, a, b, epsabs=1e-12, limit=200)[0] for a, b in pairwise(edges)]
    ball = ball_entropy(int(np.count_nonzero(values)))
    assert ellipsoid_entropy(values) == pytest.approx(min(sum(pieces), ball), rel=1e-7)
    assert ellipsoid_entropy(1e-6 * values[::-1]) == pytest.approx(ellipsoid_entropy(values))


def test_equal_axes_are_the_ball_and_the_cover_alone_is_a_quarter_worse() -> None:
    axes = np.ones(9)
    assert ellipsoid_entropy(axes) == ball_entropy(9)
    alone, _ = quad(lambda u: math.sqrt(log_cover_of_ellipsoid(axes, u)), 0.0, 1.0, epsabs=1e-9)
    assert 1.2 < alone / ball_entropy(9) < 1.25


def test_decaying_axes_make_g2_independent_of_the_number_of_parameters() -> None:
    shapes = ((300, 300),)
    values = np.ones(1)
    norms = LayerNorms(values, values, values, values, values, shapes)
    sample = TrainingSample(size=10_000, input_bound=1.0, frobenius=1.0)
    axes = 0.1 / np.arange(1, 90_001) ** 2
    total = {}
    for name, entropy in (("ball", None), ("ellipsoid", ellipsoid_entropy(axes))):
        where = Neighbourhoods(norms=norms, entropy=entropy)
        bound = stagnation_terms(where, 0.1, LossBound(1.0, 1.0), sample, 0.05)["G2"]
        total[name] = float(bound.terms["entropy"])
    few = ellipsoid_entropy(axes[:1000])
    assert ellipsoid_entropy(axes) == pytest.approx(few, rel=0.02)
    assert total["ellipsoid"] / total["ball"] == pytest.approx(
        ellipsoid_entropy(axes) / (1.3525813582548 * 300.0), rel=1e-9
    )
    assert total["ellipsoid"] < 0.02 * total["ball"]


@pytest.mark.parametrize("rank", [1, 5, 50, 500])
def test_semi_axes_hold_a_stationary_draw_with_the_aimed_probability(rank: int) -> None:
    variances = np.concatenate([np.geomspace(1.0, 1e-3, rank), np.zeros(7)])
    axes = ellipsoid_semi_axes(variances, steps=1000, probability=0.1)
    assert not axes[rank:].any()
    # In units of the standard deviations the ellipsoid is a ball: the exact law is chi squared.
    reach = axes[0] / math.sqrt(variances[0])
    np.testing.assert_allclose(axes, reach * np.sqrt(variances), rtol=1e-14)
    assert chi2.sf(reach**2, rank) <= 0.1 / 1000
    # Neither part of the reach can be left out or halved ...
    assert chi2.sf((reach - math.sqrt(2 * math.log(1e4)) / 2) ** 2, rank) > 0.1 / 1000
    if rank >= 50:
        assert chi2.sf((reach - math.sqrt(rank) / 2) ** 2, rank) > 0.1 / 1000
    # ... and a smaller rank, given, makes the axes smaller.
    assert ellipsoid_semi_axes(variances, 1000, 0.1, rank=0)[0] == pytest.approx(
        math.sqrt(2 * math.log(1e4))
    )


def test_refuses_what_is_no_ellipsoid() -> None:
    for bad in ([0.0, 0.0], [1.0, -1.0], [np.inf], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="semi-axes of an ellipsoid"):
            ellipsoid_entropy(np.array(bad))
    with pytest.raises(ValueError, match="scale of a cover"):
        log_cover_of_ellipsoid(np.ones(2), 0.0)
    with pytest.raises(ValueError, match="at least 1"):
        ball_entropy(0)
    with pytest.raises(ValueError, match="finite and not negative"):
        ellipsoid_semi_axes(np.array([-1.0]), 10, 0.1)
    with pytest.raises(ValueError, match="exit probability in"):
        ellipsoid_semi_axes(np.array([1.0]), 10, 0.0)
    with pytest.raises(ValueError, match="rank must be"):
        ellipsoid_semi_axes(np.array([1.0]), 10, 0.1, rank=2)


def test_expected_maximum_of_normals() -> None:
    # Closed forms for up to five numbers.
    angle = math.asin(1.0 / 3.0)
    exact = {
        1: 0.0,
        2: 1.0 / math.sqrt(math.pi),
        3: 1.5 / math.sqrt(math.pi),
        4: 6.0 / math.pi**1.5 * math.acos(-1.0 / 3.0) * 0.5,
        5: 5.0 / (4.0 * math.sqrt(math.pi)) + 15.0 / (2.0 * math.pi**1.5) * angle,
    }
    for count, value in exact.items():
        assert expected_maximum_of_normals(count) == pytest.approx(value, abs=1e-10)
    last = 0.0
    for count in (10, 1000, 10**6, 10**12):
        found = expected_maximum_of_normals(count)
        ratio = found / math.sqrt(2 * math.log(count))
        assert last < ratio < 1.0  # tends to 1 from below, slowly
        last = ratio
    assert last == pytest.approx(0.95, abs=0.01)
    with pytest.raises(ValueError, match="number of wells"):
        expected_maximum_of_normals(0)


@pytest.mark.statistical
def test_worst_of_many_wells() -> None:
    """A z-test of the expectation; the mutant with sqrt(log K) is rejected, and so is no log."""
    random = np.random.default_rng(9)
    wells, size, deviation, repeats = 50, 400, 0.7, 20_000
    largest = random.normal(scale=deviation / math.sqrt(size), size=(repeats, wells)).max(axis=-1)
    error = largest.std() / math.sqrt(repeats)
    expected = deviation / math.sqrt(size) * expected_maximum_of_normals(wells)
    bound = log_count_bound(deviation, wells, size)
    assert abs(largest.mean() - expected) < 5 * error
    assert bound / math.sqrt(2.0) < largest.mean() - 5 * error
    assert largest.mean() + 5 * error < bound
    with pytest.raises(ValueError, match="deviation"):
        log_count_bound(-1.0, 2, 10)
