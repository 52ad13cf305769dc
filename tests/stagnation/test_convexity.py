import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.stagnation import (
    CONDITIONS,
    ConvexityRatios,
    contraction_strongly_convex,
    sample_convexity,
    summarise_convexity,
)

ESC, WSC, RSI, PL, QG = range(5)


def quadratic(hessian, theta):
    return 0.5 * theta @ hessian @ theta, hessian @ theta


def hyperbola(a, theta):
    rest = theta[0] * theta[1] - a
    return 0.5 * rest**2, rest * theta[::-1]


def quartic_sphere(_, theta):
    rest = theta @ theta - 1
    return 0.25 * rest**2, rest * theta


def rippled(data, theta):
    """L' = u (1 + a cos(k u)): all tangents point home, but the value overshoots them."""
    a, k = data
    u = theta[0]
    value = 0.5 * u**2 + a * (u * jnp.sin(k * u) / k + (jnp.cos(k * u) - 1) / k**2)
    return value, theta * (1 + a * jnp.cos(k * u))


def sample(function, data, minimum, directions, radii, learning_rate=0.1, families=None):
    return sample_convexity(
        function,
        data,
        np.asarray(minimum, float),
        np.asarray(directions, float),
        np.asarray(radii, float),
        learning_rate=learning_rate,
        families=families,
    )


def random_hessian():
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    return rotation @ np.diag([0.5, 1.0, 2.0, 3.0]) @ rotation.T


def test_quadratic_ratios_are_the_curvatures_along_the_directions():
    hessian = random_hessian()
    directions = np.random.default_rng(1).standard_normal((5, 4))
    ratios = sample(quadratic, hessian, np.zeros(4), directions, [0.01, 0.1, 1.0])
    v = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    curvature = np.einsum("di,ij,dj->d", v, hessian, v)[:, None, None]
    for condition in (WSC, RSI, QG):
        np.testing.assert_allclose(
            ratios.ratio[condition, :, :, :2] / curvature, 1.0, rtol=0, atol=1e-10
        )
    gradient = np.linalg.norm(v @ hessian, axis=1)[:, None, None]
    np.testing.assert_allclose(ratios.ratio[PL, :, :, :2] * curvature / gradient**2, 1, atol=1e-10)
    on_line = ratios.ratio[ESC, :, 2, :18] / curvature[:, 0]
    np.testing.assert_allclose(on_line, 1.0, atol=1e-8)
    essential = ratios.ratio[ESC][ratios.counted[ESC]]
    assert essential.min() > 0.5 - 1e-8
    assert essential.max() < 3.0 + 1e-8
    np.testing.assert_allclose(ratios.growth / gradient, 1.0, atol=1e-10)
    step = np.linalg.norm(v - 0.1 * v @ hessian, axis=1)[:, None, None]
    np.testing.assert_allclose(ratios.contraction / step, 1.0, atol=1e-10)
    assert ratios.contraction.max() <= contraction_strongly_convex(0.1, 0.5, 3.0)


def test_hyperbola_matches_the_table_along_its_normal():
    u, a = 1.5, 1.0
    ratios = sample(hyperbola, a, [u, a / u], [[a / u, u]], [1e-4, 0.1])
    assert ratios.ratio[RSI, 0, 1, 0] == pytest.approx(2.87996, abs=5e-6)
    assert ratios.ratio[RSI, 0, 1, 1] == pytest.approx(2.51444, abs=5e-6)
    eigenvalue = u**2 + a**2 / u**2
    counted = ratios.ratio[:, 0, 0][ratios.counted[:, 0, 0]]
    np.testing.assert_allclose(counted, eigenvalue, rtol=1e-3)
    # ||grad L||^2 = 2 (w1^2 + w2^2) L exactly.
    normal = np.array([a / u, u]) / np.hypot(a / u, u)
    for sign in (0, 1):
        point = np.array([u, a / u]) + (0.1, -0.1)[sign] * normal
        assert ratios.ratio[PL, 0, 1, sign] == pytest.approx(point @ point, rel=1e-12)


def test_sphere_of_minima_along_its_normal():
    # L = (r^2 - 1)^2 / 4 at r = 1 + rho
    pole = np.array([0.0, 0.6, 0.8])
    ratios = sample(quartic_sphere, None, pole, pole[None], [0.05, 0.3])
    for shell, rho in enumerate([0.05, 0.3]):
        for sign, x in enumerate([rho, -rho]):
            found = ratios.ratio[1:, 0, shell, sign]
            rsi, qg = (2 + x) * (1 + x), 0.5 * (2 + x) ** 2
            expected = [2 * rsi - qg, rsi, 2 * (1 + x) ** 2, qg]
            np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_secant_inequality_without_weak_convexity():
    radii = np.linspace(0.1, 2.0, 20)
    ratios = sample(rippled, (0.9, 5.0), [0.0], [[1.0]], radii)
    summary = summarise_convexity(ratios, 0.95)
    assert summary.minimum[RSI].min() >= 0.1 - 1e-12
    assert summary.minimum[QG].min() > 0
    assert summary.minimum[PL].min() > 0
    assert summary.minimum[WSC].min() < -0.5
    assert summary.minimum[ESC].min() < -0.5
    assert summary.violation_fraction[RSI].max() == 0
    assert summary.violation_fraction[WSC].max() == 1


def quartic(weights, theta):
    def value(x):
        return jnp.sum(weights * x**4) + 0.5 * x @ x + x[0] ** 2 * x[1]

    return jax.value_and_grad(value)(theta)


def expected_pairs(sizes, radii):
    """All ordered pairs of points (direction, sign, shell), listed by owner and outer shell."""
    points = list(itertools.product((1, -1), range(len(radii))))
    first = 0
    for size in sizes:
        for local in range(size):
            own, after = first + local, first + (local + 1) % size
            for p, q in itertools.permutations(points, 2):
                yield own, max(p[1], q[1]), (own, *p), (own, *q)
            if size > 2 or (size == 2 and local == 0):
                for shell, s, t in itertools.product(range(len(radii)), (1, -1), (1, -1)):
                    yield own, shell, (own, s, shell), (after, t, shell)
                    yield own, shell, (after, t, shell), (own, s, shell)
        first += size


@pytest.mark.parametrize("sizes", [(1,), (2,), (3, 2, 1)])
def test_essential_ratios_are_those_of_all_announced_pairs(sizes):
    weights = np.array([0.3, -0.2, 0.1])
    radii = np.array([0.1, 0.25, 0.6])
    directions = np.random.default_rng(2).standard_normal((sum(sizes), 3))
    families = [name for name, size in zip("abc", sizes, strict=False) for _ in range(size)]
    ratios = sample(quartic, weights, np.zeros(3), directions, radii, families=families)
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)

    def value_and_gradient(x):
        gradient = 4 * weights * x**3 + x + np.array([2 * x[0] * x[1], x[0] ** 2, 0.0])
        return np.sum(weights * x**4) + x @ x / 2 + x[0] ** 2 * x[1], gradient

    expected = {}
    for own, outer, (i, s, k), (j, t, m) in expected_pairs(sizes, radii):
        start, end = s * radii[k] * unit[i], t * radii[m] * unit[j]
        (value, gradient), (other, _) = value_and_gradient(start), value_and_gradient(end)
        ratio = 2 * (other - value - gradient @ (end - start)) / np.sum((end - start) ** 2)
        expected.setdefault((own, outer), []).append(ratio)
    for (own, outer), values in expected.items():
        found = ratios.ratio[ESC, own, outer][ratios.counted[ESC, own, outer]]
        np.testing.assert_allclose(np.sort(found), np.sort(values), rtol=1e-9, atol=1e-9)


def test_opposite_directions_are_not_paired_with_themselves():
    ratios = sample(quadratic, np.eye(2), np.zeros(2), [[1, 0], [-2, 0], [0, 1]], [0.5])
    essential = ratios.ratio[ESC][ratios.counted[ESC]]
    np.testing.assert_allclose(essential, 1.0, rtol=1e-12)
    # 3 lines with 2 pairs, 3 x 8 pairs of neighbours, of which 4 would join a point with itself
    assert essential.size == 6 + 24 - 4


def test_summary_counts_by_shell_and_family():
    ratio = np.full((5, 3, 2, 4), np.nan)
    counted = np.zeros(ratio.shape, bool)
    counted[..., :2] = True
    ratio[..., :2] = np.arange(1.0, 7.0).reshape(3, 1, 2)
    ratio[RSI, 2, 1] = [-1.0, 0.0, np.nan, np.nan]
    ratio[PL, 0, 0, 0] = np.inf
    ratio[QG, 1, 0, 1] = np.nan
    ratios = ConvexityRatios(
        ratio=ratio,
        counted=counted,
        contraction=np.zeros((3, 2, 2)),
        growth=np.zeros((3, 2, 2)),
        distance=np.tile([[0.1], [0.2]], (3, 1, 2)),
        radii=np.array([0.1, 0.2]),
        families=("random", "random", "top"),
        fibre=np.zeros(3, np.int64),
    )
    summary = summarise_convexity(ratios, 0.95)
    assert summary.families == ("random", "top")
    assert summary.sample_size.tolist() == [[6, 6]] * 5
    assert summary.minimum[ESC].tolist() == [1.0, 1.0]
    assert summary.quantile_50[ESC].tolist() == [3.0, 3.0]
    assert summary.quantile_01[ESC].tolist() == [1.0, 1.0]
    assert summary.minimum_by_family[ESC].tolist() == [[1.0, 1.0], [5.0, 5.0]]
    # 0 is a violation, and so is a ratio that could not be computed.
    assert summary.violation_fraction[RSI].tolist() == [0.0, 2 / 6]
    assert summary.minimum_by_family[RSI].tolist() == [[1.0, 1.0], [5.0, -1.0]]
    assert summary.violation_fraction[QG].tolist() == [1 / 6, 0.0]
    assert np.isnan(summary.minimum[QG, 0])
    assert summary.minimum[PL, 0] == 2.0
    assert np.all(np.isfinite(summary.quantile_50[PL]))
    assert summary.violation_fraction_high[ESC, 0] == pytest.approx(1 - 0.025 ** (1 / 6))


def test_quantiles_on_a_large_sample():
    directions = np.random.default_rng(3).standard_normal((400, 2))
    ratios = sample(quadratic, np.diag([1.0, 3.0]), np.zeros(2), directions, [0.5])
    summary = summarise_convexity(ratios, 0.95)
    # v'Hv = 2 - cos(2 angle) with a uniform angle
    for name, p in (("quantile_05", 0.05), ("quantile_50", 0.5)):
        assert getattr(summary, name)[RSI, 0] == pytest.approx(2 - np.cos(np.pi * p), abs=0.15)
    assert summary.minimum[RSI, 0] < summary.quantile_01[RSI, 0] < summary.quantile_05[RSI, 0]
    assert summary.sample_size[[ESC, RSI], 0].tolist() == [400 * 10, 800]


def test_a_lower_neighbour_is_reported():
    # theta* = 0 is no minimum of cos: growth and PL are negative, nothing is clipped.
    ratios = sample(lambda _, t: (jnp.cos(t[0]), -jnp.sin(t)), None, [0.0], [[1.0]], [0.5])
    assert np.all(ratios.ratio[1:, 0, 0, :2] < 0)
    flat = sample(lambda _, t: (0.0 * t[0], 0.0 * t), None, [0.0], [[1.0]], [0.5])
    assert np.all(np.isposinf(flat.ratio[PL, 0, 0, :2]))
    assert np.all(flat.ratio[[RSI, QG], 0, 0, :2] == 0)


def test_data_are_arguments_and_the_function_is_traced_once():
    traces = []

    def counting(hessian, theta):
        traces.append(None)
        return quadratic(hessian, theta)

    first = sample(counting, np.diag([1.0, 2.0]), np.zeros(2), np.eye(2), [0.1, 0.2])
    count = len(traces)
    second = sample(
        counting, np.diag([3.0, 4.0]), np.zeros(2), np.eye(2), [0.1, 0.3], learning_rate=0.2
    )
    assert len(traces) == count
    assert summarise_convexity(first, 0.9).minimum[RSI, 0] == pytest.approx(1.0)
    assert summarise_convexity(second, 0.9).minimum[RSI, 0] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"radii": [0.2, 0.1]}, "radii must be positive and strictly increasing"),
        ({"radii": [0.0, 0.1]}, "radii must be positive"),
        ({"radii": []}, "radii must be positive"),
        ({"directions": [[1, 0], [0, 0]]}, "direction 1 has length 0"),
        ({"directions": [[np.nan, 0], [1, 0]]}, "direction 0 has length nan"),
        ({"families": ["top"]}, "families names 1 directions, but 2 are given"),
        (
            {"function": lambda h, t: (t[0].astype(jnp.float32), t)},
            "must compute in float64, got float32",
        ),
    ],
)
def test_sample_convexity_refuses(change, words):
    arguments = {
        "function": quadratic,
        "data": np.eye(2),
        "minimum": np.zeros(2),
        "directions": np.eye(2),
        "radii": [0.1, 0.2],
    }
    with pytest.raises(ValueError, match=words):
        sample(**(arguments | change))


def random_quartic(seed):
    """Strongly convex with modulus 0.5: quadratic plus a sum of even powers of linear forms."""
    random = np.random.default_rng(seed)
    forms, shape = random.normal(size=(4, 3)), random.normal(size=(3, 3))
    return {"forms": forms, "hessian": shape @ shape.T + 0.5 * np.eye(3)}


def convex_quartic(data, theta):
    def value(x):
        return 0.5 * x @ data["hessian"] @ x + 0.1 * jnp.sum((data["forms"] @ x) ** 4)

    return jax.value_and_grad(value)(theta)


@pytest.mark.parametrize("seed", range(3))
def test_strong_convexity_implies_all_conditions_with_its_modulus(seed):
    directions = np.random.default_rng(20 + seed).normal(size=(20, 3))
    ratios = sample(convex_quartic, random_quartic(seed), np.zeros(3), directions, [0.1, 0.5, 2.0])
    summary = summarise_convexity(ratios, 0.95)
    assert summary.violation_fraction.max() == summary.nonconvex_fraction.max() == 0.0
    modulus = np.linalg.eigvalsh(random_quartic(seed)["hessian"])[0]
    assert summary.minimum.min() >= modulus * (1 - 1e-9)
    assert not np.all(ratios.ratio[ratios.counted] >= 1.5 * modulus)


@pytest.mark.parametrize(
    ("function", "data", "p", "seed"),
    [
        (quartic, np.array([0.3, -0.2, 0.1]), 3, 0),
        (rippled, (0.9, 5.0), 1, 1),
        (quadratic, random_hessian(), 4, 2),
    ],
)
def test_implications_between_the_conditions_hold_at_every_point(function, data, p, seed):
    """WSC => PL, and RSI => error bound => PL at a point; RSI on a ray => QG, convex or not."""
    directions = np.random.default_rng(seed).normal(size=(30, p))
    radii = np.linspace(0.01, 0.9, 60)
    ratios = sample(function, data, np.zeros(p), directions, radii)
    wsc, rsi, pl, qg = ratios.ratio[1:, :, :, :2]
    np.testing.assert_allclose(2 * rsi, wsc + qg, rtol=1e-8, atol=1e-8)
    known = qg > 0  # the point lies above the minimum
    assert np.all((pl >= wsc * (1 - 1e-9))[known & (wsc > 0)])
    assert np.all(ratios.growth >= rsi * (1 - 1e-9))
    assert np.all((pl * qg >= rsi**2 * (1 - 1e-8))[known & (rsi > 0)])
    assert np.all((pl <= ratios.growth**2 / qg * (1 + 1e-8))[known])
    # The minimum over a grid of radii exceeds that over the ray by at most its variation.
    ray = np.minimum.accumulate(rsi, axis=1)
    slack = np.abs(np.diff(rsi, axis=1)).max()
    assert np.all(qg >= ray - slack)
    # Essential convexity towards and from the minimum is what WSC and QG are.
    assert np.all(rsi >= np.minimum(wsc, qg) - 1e-9)


def test_convexity_on_fibres_allows_affine_pieces():
    """|x| is convex, not strongly; -|x| is neither."""

    def kink(sign, theta):
        x = theta[0]
        return sign * jnp.abs(x), sign * jnp.sign(theta)

    radii = [0.25, 0.5, 1.0]
    summary = summarise_convexity(sample(kink, 1.0, [0.0], [[1.0]], radii), 0.95)
    assert summary.nonconvex_fraction.tolist() == [0.0] * 3
    # Pairs on one side have the ratio 0: not strongly convex. In the shells 2, 10, 18 pairs.
    assert summary.violation_fraction[ESC].tolist() == [0.0, 4 / 10, 8 / 18]
    assert summary.nonconvex_fraction_high[0] == pytest.approx(1 - 0.025 ** (1 / 2))
    hill = summarise_convexity(sample(kink, -1.0, [0.0], [[1.0]], radii), 0.95)
    assert hill.nonconvex_fraction.tolist() == pytest.approx([1.0, 6 / 10, 10 / 18])


def test_conditions_are_in_the_order_of_the_dataset():
    assert CONDITIONS == ("ESC", "WSC", "RSI", "PL", "QG")
