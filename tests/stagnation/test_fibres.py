from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import fminbound

from sgdsim.curvature import random_direction
from sgdsim.dynamics import IsotropicNoise, MinibatchNoise
from sgdsim.problems import (
    DeepLinear,
    DoubleWell,
    Hyperbola,
    LeastSquares,
    Problem,
    Quadratic,
    Sphere,
)
from sgdsim.stagnation import (
    CONDITIONS,
    constants_by_radius,
    delta_star,
    normal_directions,
    refine_delta_star,
    sample_fibres,
    summarise_convexity,
)

ESC, WSC, RSI, PL, QG = range(5)
KEY = jax.random.key(0)
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


def fibre_at(landscape, point, **settings):
    return normal_directions(landscape.problem(), jnp.asarray(point, float), KEY, **settings)


def along(fibre, directions, families):
    """The same minimum with other directions."""
    nothing = np.full(len(directions), np.nan)
    return replace(fibre, directions=directions, families=families, curvatures=nothing)


def sample(landscape, fibres, radii, project=None):
    radii = np.asarray(radii, float)
    return sample_fibres(landscape.problem(), fibres, radii, learning_rate=0.1, project=project)


def test_normal_space_of_a_regression_with_more_parameters_than_rows(x64):
    random = np.random.default_rng(1)
    inputs = random.normal(size=(5, 12))
    line = LeastSquares(jnp.asarray(inputs), jnp.asarray(random.normal(size=5)))
    noisy = line.problem()
    point = line.minimum_norm + line.null_component(jnp.asarray(random.normal(size=12)))
    hessian = inputs.T @ inputs / 5
    projector = np.linalg.pinv(inputs) @ inputs
    # At an interpolating point the minibatch noise is zero; isotropic noise is mostly tangent.
    fibre = normal_directions(noisy, point, KEY, count=4, noise=IsotropicNoise(2.0), ends=2)
    values = np.linalg.eigvalsh(hessian)[-5:]
    assert fibre.families == ("top",) * 2 + ("bottom",) * 2 + ("random",) * 4 + ("noise",) * 4
    assert_allclose(fibre.eigenvalues, values, rtol=1e-9)
    assert_allclose(fibre.directions @ projector, fibre.directions, atol=1e-9)
    assert_allclose(np.linalg.norm(fibre.directions, axis=1), 1.0)
    quadratic_form = np.einsum("di,ij,dj->d", fibre.directions, hessian, fibre.directions)
    assert_allclose(fibre.curvatures, quadratic_form, rtol=1e-9)
    assert_allclose(fibre.curvatures[:4], values[[3, 4, 0, 1]], rtol=1e-9)
    assert fibre.unresolved < 1e-12
    assert fibre.gradient_norm < 1e-12
    assert fibre.assumption_violated == ""
    silent = normal_directions(noisy, point, KEY, count=4, noise=MinibatchNoise(1), ends=2)
    assert silent.families == ("top",) * 2 + ("bottom",) * 2 + ("random",) * 4
    ratios = sample_fibres(noisy, [fibre], np.array([0.1, 2.0]), learning_rate=0.1)
    expected = np.broadcast_to(fibre.curvatures[:, None, None], (12, 2, 2))
    for condition in (WSC, RSI, QG):
        assert_allclose(ratios.ratio[condition, :, :, :2], expected, rtol=1e-8)


def test_noise_aligned_directions_are_the_projected_noise():
    """In the valley 4 x^2 / 2 + y^2 / 2 the noise has equal parts in x, y and the flat z."""
    valley = Quadratic([4.0, 1.0, 0.0])
    point, noise = jnp.array([0.0, 0.0, 5.0]), IsotropicNoise(2.0)
    fibre = fibre_at(valley, point, count=3, noise=noise)
    keys = jax.random.split(KEY, 7)[4:]
    problem = valley.problem().astype(jnp.float64)
    draws = np.array([noise.sample(key, problem, point) for key in keys])
    flat = draws * np.array([1.0, 1.0, 0.0])
    expected = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    found = fibre.directions[[name == "noise" for name in fibre.families]]
    assert_allclose(found, expected, atol=1e-9)


def test_too_small_a_krylov_space_says_so():
    spectrum = np.concatenate([np.geomspace(1.0, 1e-5, 30), np.zeros(10)])
    wide = Quadratic(jnp.asarray(spectrum))
    short = fibre_at(wide, np.zeros(40), depth=6, tolerance=1e-2, count=3)
    full = fibre_at(wide, np.zeros(40), depth=40, tolerance=1e-2, count=3)
    above = spectrum > 1e-2
    for key, row in zip(jax.random.split(KEY, 7)[1:4], range(-3, 0), strict=True):
        vector = np.asarray(random_direction(key, jnp.zeros(40)))
        shares = [
            np.sum((d * (d @ vector) - above * vector) ** 2) / np.sum(vector**2)
            for d in (short.directions[row], full.directions[row])
        ]
        assert 1e-3 < shares[0] <= short.unresolved
        assert shares[1] <= full.unresolved + 1e-14
    assert full.unresolved < 1e-8
    assert np.all(full.eigenvalues > 1e-2)


def test_a_saddle_names_its_eigenvalue_and_gives_no_radius():
    well = DoubleWell(2.0, 3.0)
    fibres = [fibre_at(well, [1.0, 0.0]), fibre_at(well, [0.0, 0.0])]
    assert "eigenvalue -2 (" in fibres[1].assumption_violated
    ratios = sample(well, fibres, [0.1, 0.2])
    found, constants = delta_star(ratios), constants_by_radius(ratios).at(0.1)
    for reason in (found.assumption_violated, constants.assumption_violated):
        assert reason == f"fibre 1: {fibres[1].assumption_violated}"
    assert np.isnan([found.value, constants.rsi, constants.growth, constants.contraction]).all()
    assert np.isnan(list(found.by_family.values())).all()
    alone = delta_star(sample(well, fibres[:1], [0.1, 0.2]))
    assert (alone.value, alone.assumption_violated) == (0.2, "")


def test_every_ratio_of_the_sphere_is_its_modulus():
    sphere = Sphere(1.7, dimension=4)
    points = np.random.default_rng(2).normal(size=(3, 4))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    fibres = [fibre_at(sphere, point, count=2, ends=1) for point in points]
    for point, fibre in zip(points, fibres, strict=True):
        assert_allclose(np.abs(fibre.directions @ point), 1.0, rtol=1e-10)
        assert_allclose(fibre.eigenvalues, [1.7], rtol=1e-10)
    for project in (None, sphere.project):
        ratios = sample(sphere, fibres, [0.01, 0.3, 0.9], project)
        assert_allclose(ratios.ratio[ratios.counted], 1.7, rtol=1e-8)
        assert ratios.fibre.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert_allclose(ratios.growth, 1.7, rtol=1e-9)
        assert_allclose(ratios.contraction, 1 - 0.17, rtol=1e-9)
        # Per direction: 2 + 10 + 18 ordered pairs on the line. Neighbours, always parallel here,
        # join points on opposite sides only, and a pair of directions counts once.
        sizes = summarise_convexity(ratios, 0.95).sample_size[ESC]
        assert (
            sizes.sum() == 12 * 30 + 3 * 3 * (1 + 1 + 0) * 0 + ratios.counted[ESC, ..., 18:].sum()
        )


def test_pairs_of_points_never_join_two_fibres():
    """Values that differ from fibre to fibre would show in a pair that joins two of them."""
    valley = Quadratic([2.0, 2.0, 0.0])
    fibres = [fibre_at(valley, [0.0, 0.0, z], count=3) for z in (0.0, 50.0)]
    together = sample(valley, fibres, [0.5, 1.0])
    apart = [sample(valley, [fibre], [0.5, 1.0]) for fibre in fibres]
    assert together.counted.sum() == sum(one.counted.sum() for one in apart)
    assert_allclose(together.ratio[together.counted], 2.0, rtol=1e-7)
    assert together.families == apart[0].families + apart[1].families


def test_hyperbola_numbers_of_the_table_on_its_fibres():
    hyperbola = Hyperbola(1.0)
    points = np.array([[1.5, 1 / 1.5], [0.8, 1.25]])
    fibres = [fibre_at(hyperbola, point, count=1, ends=1) for point in points]
    normal = np.array([1 / 1.5, 1.5]) / np.hypot(1.5, 1 / 1.5)
    assert fibres[0].eigenvalues == pytest.approx([2.69444], abs=5e-6)
    for project in (None, hyperbola.project):
        ratios = sample(hyperbola, fibres, [1e-4, 0.1], project)
        side = int(fibres[0].directions[0] @ normal < 0)
        rsi = ratios.ratio[RSI, 0, 1, :2]
        assert rsi[side] == pytest.approx(2.87996, abs=5e-6)
        assert rsi[1 - side] == pytest.approx(2.51444, abs=5e-6)
        # Towards radius 0 all ratios tend to the curvature along the direction.
        for condition in (WSC, RSI, PL, QG):
            limit = np.broadcast_to(ratios_limit(fibres)[:, None], (len(ratios.families), 2))
            assert_allclose(ratios.ratio[condition, :, 0, :2], limit, rtol=1e-3)


def ratios_limit(fibres):
    return np.concatenate([fibre.curvatures for fibre in fibres])


def distance_to_branch(point, w):
    return np.hypot(w - point[0], 1 / w - point[1])


def test_true_projection_of_a_direction_that_is_not_normal():
    """Reference: nearest point of the branch w2 = 1 / w1 by a scalar minimisation."""
    hyperbola = Hyperbola(1.0)
    fibre = fibre_at(hyperbola, [1.5, 1 / 1.5], count=1, ends=1)
    tilted = np.array([[0.8, 0.6], [0.6, -0.8]])
    fibre = along(fibre, tilted, ("a", "a"))
    radii = np.array([0.05, 0.4])
    found = sample(hyperbola, [fibre], radii, hyperbola.project)
    plain = sample(hyperbola, [fibre], radii)
    for direction, shell, sign in np.ndindex(2, 2, 2):
        point = np.array([1.5, 1 / 1.5]) + (1, -1)[sign] * radii[shell] * tilted[direction]
        distance = partial(distance_to_branch, point)
        nearest = float(np.asarray(fminbound(distance, 0.3, 4.0, xtol=1e-12)))
        u = point - np.array([nearest, 1 / nearest])
        rest = point[0] * point[1] - 1
        gradient = rest * point[::-1]
        at = direction, shell, sign
        assert found.distance[at] == pytest.approx(np.linalg.norm(u), rel=1e-6)
        assert found.ratio[RSI][at] == pytest.approx(gradient @ u / (u @ u), rel=1e-5)
        assert found.ratio[QG][at] == pytest.approx(rest**2 / (u @ u), rel=1e-5)
        assert found.growth[at] == pytest.approx(
            np.linalg.norm(gradient) / np.linalg.norm(u), rel=1e-5
        )
        step = np.linalg.norm(u - 0.1 * gradient) / np.linalg.norm(u)
        assert found.contraction[at] == pytest.approx(step, rel=1e-5)
    # No two points share a nearest minimum, so none is a pair of essential strong convexity.
    assert not found.counted[ESC].any()
    assert plain.counted[ESC].any()
    summary = summarise_convexity(found, 0.95)
    assert np.isnan(summary.minimum[ESC]).all()
    assert summary.sample_size[ESC].tolist() == [0, 0]
    assert summary.violation_fraction_high[ESC].tolist() == [1.0, 1.0]
    assert summary.nonconvex_fraction_high.tolist() == [1.0, 1.0]


def test_points_on_the_set_have_no_ratio_and_a_failed_projection_is_a_violation():
    valley = Quadratic([1.0, 0.0])
    fibre = fibre_at(valley, [0.0, 3.0], count=1, ends=1)
    floor = along(fibre, np.array([[0.0, 1.0]]), ("floor",))
    found = sample(valley, [floor], [0.5], valley.project)
    assert not found.counted.any()
    failed = sample(valley, [fibre], [0.5], lambda theta: jnp.nan * theta)
    summary = summarise_convexity(failed, 0.95)
    assert summary.violation_fraction[[WSC, RSI, QG], 0].tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(delta_star(failed).value)


def test_ratios_tend_to_the_second_derivative():
    well, points = DoubleWell(1.5, 0.7), [[1.0, 0.0], [-1.0, 0.0]]
    fibres = [fibre_at(well, point, count=2, ends=1) for point in points]
    ratios = sample(well, fibres, [1e-4])
    hessian = np.diag([3.0, 0.7])
    dense = [np.einsum("di,ij,dj->d", f.directions, hessian, f.directions) for f in fibres]
    assert_allclose(ratios_limit(fibres), np.concatenate(dense), rtol=1e-9)
    for condition in (WSC, RSI, QG):
        limit = np.broadcast_to(ratios_limit(fibres)[:, None], ratios.distance[:, 0].shape)
        assert_allclose(ratios.ratio[condition, :, 0, :2], limit, rtol=2e-3)


def test_fibres_of_a_pytree_share_one_program():
    """Two-layer linear network: PL of the theory, and one trace however many fibres."""
    network = DeepLinear(jnp.diag(jnp.array([2.0, 1.0])), hidden=(2,))
    first, second = (leaf[0] for leaf in network.minima)
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    points = [(first, second), (turn @ first, second @ turn.T)]
    row = network.problem()
    traces = []

    def counted(theta, rows):
        traces.append(None)
        return row.losses(theta, rows)

    problem = Problem(counted, row.data, row.ridge)
    fibres = [normal_directions(problem, point, KEY, count=3, ends=1) for point in points]
    after = len(traces)
    sample_fibres(problem, fibres[:1], np.array([0.05, 0.1]), learning_rate=0.1)
    one = len(traces) - after
    ratios = sample_fibres(problem, fibres, np.array([0.04, 0.1]), learning_rate=0.2)
    assert len(traces) - after == one
    # The orbit of the balanced minimum under rotations of the hidden layer is one of isometries.
    assert_allclose(fibres[0].eigenvalues[-1], fibres[1].eigenvalues[-1], rtol=1e-8)
    flat = np.concatenate([np.ravel(leaf) for leaf in points[0]])
    for shell, sign in np.ndindex(2, 2):
        v = (1, -1)[sign] * (0.04, 0.1)[shell] * fibres[0].directions[0]
        w1, w2 = (flat + v).reshape(2, 2, 2)
        singular = [np.linalg.svd(w)[1].min() for w in (w1, w2)]
        assert ratios.ratio[PL, 0, shell, sign] >= singular[0] ** 2 + singular[1] ** 2 - 1e-9


def test_delta_star_of_the_double_well_ends_at_its_ridge():
    well = DoubleWell(1.0)
    fibres = [fibre_at(well, [x], count=1) for x in (1.0, -1.0)]
    radii = np.linspace(0.15, 1.35, 9)
    ratios = sample(well, fibres, radii)
    x = 1 - radii * (1, -1)[int(fibres[0].directions[0, 0] > 0)]
    side = ratios.ratio[RSI, 0, :, 0]
    assert_allclose(side, x * (x + 1), rtol=1e-9, atol=1e-12)
    found = delta_star(ratios)
    assert found.value == pytest.approx(0.9)
    assert found.bounded
    assert found.first_violation == pytest.approx(1.05)
    assert found.sample_size == ratios.distance[:, :6].size
    assert found.assumption_violated == ""
    for project in (None, lambda theta: jnp.sign(theta) ** 0 * fibres[0].point):
        only = sample(well, fibres[:1], radii, project)
        edge = refine_delta_star(well.problem(), fibres, only, delta_star(only), project=project)
        assert edge == pytest.approx(1.0, abs=1e-10)
    # Seen from the nearest of both wells the inequality holds everywhere but on the ridge.
    nearest = delta_star(sample(well, fibres, radii, well.project))
    assert not nearest.bounded
    assert nearest.value == pytest.approx(1.35)
    assert nearest.worst == (-1, -1, -1)
    assert refine_delta_star(well.problem(), fibres, ratios, nearest) == nearest.value


def test_delta_star_by_family():
    """Hyperbola at (1, 1): along the diagonal to the saddle the inequality ends at sqrt(2)."""
    hyperbola = Hyperbola(1.0)
    fibre = fibre_at(hyperbola, [1.0, 1.0], count=1, ends=1)
    root = np.sqrt(0.5)
    directions = np.array([[root, root], [1.0, 0.0]])
    fibre = along(fibre, directions, ("saddle", "axis"))
    radii = np.array([0.5, 0.8, 1.2, 1.5, 1.6])
    ratios = sample(hyperbola, [fibre], radii)
    # On the axis w1 - 1 = x the ratio is w2^2 = 1 everywhere.
    assert_allclose(ratios.ratio[RSI, 1, :, :2], 1.0, rtol=1e-9)
    found = delta_star(ratios)
    assert found.by_family == {"saddle": 1.2, "axis": 1.6}
    assert found.bounded_by_family == {"saddle": True, "axis": False}
    assert found.worst[:2] == (0, 3)
    edge = refine_delta_star(hyperbola.problem(), [fibre], ratios, found)
    assert edge == pytest.approx(np.sqrt(2), abs=1e-9)
    late = delta_star(sample(hyperbola, [fibre], [1.45, 1.6]))
    assert np.isnan(late.value)
    assert "fails at the distance 1.45" in late.assumption_violated


def test_constants_by_radius_of_a_quartic():
    """L = x^2 / 2 - x^4 / 4: RSI = growth = 1 - x^2, contraction 1 - eta (1 - x^2)."""
    problem = Problem(
        lambda x, rows: rows * (0.5 * jnp.sum(x**2) - 0.25 * jnp.sum(x**4)), jnp.ones(1)
    )
    fibres = [normal_directions(problem, jnp.zeros(1), KEY, count=1)]
    radii = np.array([0.2, 0.5, 1.2, 1.8])
    ratios = sample_fibres(problem, fibres, radii, learning_rate=0.1)
    constants = constants_by_radius(ratios)
    assert_allclose(constants.rsi, 1 - radii**2, rtol=1e-9)
    assert_allclose(constants.growth, [0.96, 0.96, 0.96, 1.8**2 - 1], rtol=1e-9)
    assert_allclose(constants.contraction, 1 - 0.1 * (1 - radii**2), rtol=1e-9)
    assert np.all(np.diff(constants.sample_size) > 0)
    # A radius between two shells takes the outer one.
    for delta, shell in [(0.01, 0), (0.2, 0), (0.21, 1), (1.8, 3)]:
        assert constants.at(delta).rsi == constants.rsi[shell]
        assert constants.at(delta).sample_size == constants.sample_size[shell]
        assert constants.at(delta).assumption_violated == ""
    for delta, words in [
        (1.9, "beyond the largest one sampled, 1.8"),
        (0.0, "not in (0, inf)"),
        (np.inf, "not in (0, inf)"),
        (np.nan, "not in (0, inf)"),
    ]:
        nothing = constants.at(delta)
        assert np.isnan([nothing.rsi, nothing.growth, nothing.contraction]).all()
        assert words in nothing.assumption_violated


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count must be a positive integer"),
        ({"ends": 0}, "ends must be a positive integer"),
        ({"tolerance": 1.0}, r"tolerance must be in \(0, 1\), got 1"),
    ],
)
def test_normal_directions_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        fibre_at(Sphere(1.0), [1.0, 0.0], **settings)


def test_refusals_without_normal_directions():
    flat = Problem(lambda x, rows: rows * jnp.sum(0 * x), jnp.ones(1))
    with pytest.raises(ValueError, match="no direction is normal"):
        normal_directions(flat, jnp.zeros(2), KEY)
    with pytest.raises(ValueError, match="fibres is empty"):
        sample(Sphere(1.0), [], [0.1])
    assert len(CONDITIONS) == 5
