"""G1, G2, G3 for K centres and any clipped loss: numbers, proofs, scaling, refusals.

What a wrong factor of 2 would do to each term, and where it is caught:

* centre: below the quantile that Hoeffding bounds (simulation with 30 wells);
* displacement: below what a sample can do to a linear network (exact example);
* concentration: below the quantile that McDiarmid bounds (simulation with one sign);
* entropy of G2 and G3, cut: *not* visible in any simulation, because Dudley's integral is ten
  times and more above the supremum it bounds; they are recomputed by quadrature from
  2 (symmetrization) x 12 (Dudley) x the covering number.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from sgdsim.bounds import (
    BoundInputs,
    BoundTerms,
    GeometricGrid,
    LayerNorms,
    LossBound,
    Neighbourhoods,
    TrainingSample,
    ball_entropy,
    empirical_terms,
    evaluate_all,
    layer_norms,
    stagnation_terms,
)

NAMES = ("G1", "G2", "G3")
SAMPLE = TrainingSample(size=700, input_bound=1.25, frobenius=20.0)


def norms(spectral: Any, shapes: tuple[tuple[int, int], ...]) -> LayerNorms:
    values = np.asarray(spectral, dtype=np.float64)
    return LayerNorms(values, values, values, values, values, shapes)


def scalar_terms(
    spectral: list[float], shapes: Any, radius: float, loss: tuple[float, float], log_count: float
) -> dict[str, dict[str, float]]:
    """One centre, in plain scalars, with the integrals as quadratures."""
    (reach, slope), n, bound, delta = loss, SAMPLE.size, SAMPLE.input_bound, 0.02
    s = [value + radius for value in spectral]
    change = slope * bound * radius * math.prod(s) * math.sqrt(sum(v**-2 for v in s))
    d, w = sum(a * b for a, b in shapes), max(max(shape) for shape in shapes)
    once, twice = log_count + math.log(1 / delta), log_count + math.log(2 / delta)
    ball = quad(lambda e: math.sqrt(d * math.log1p(2 * change / e)), 0.0, change, epsrel=1e-9)[0]
    pieces = [(math.sqrt(a) * radius / v) ** (2 / 3) for (a, _), v in zip(shapes, s, strict=True)]
    # log N(e) = capacity^2/e^2 in the norm of the n values; E||X||_F <= sqrt(n) B_x.
    capacity = (
        slope
        * (math.sqrt(n) * bound)
        * math.prod(s)
        * sum(pieces) ** 1.5
        * math.sqrt(math.log(2 * w * w + 1))
    )
    cut = reach / math.sqrt(n)
    layers = quad(lambda t: capacity, math.log(cut), math.log(reach * math.sqrt(n)))[0]
    tail = math.sqrt(2 * twice / n)
    centre = reach * math.sqrt(twice / (2 * n))
    return {
        "G1": {"centre": reach * math.sqrt(once / (2 * n)), "displacement": 2 * change},
        "G2": {
            "centre": centre,
            "entropy": 2 * 12 / math.sqrt(n) * ball,
            "concentration": change * tail,
        },
        "G3": {
            "centre": centre,
            "cut": 2 * 4 * cut / math.sqrt(n),
            "entropy": 2 * 12 / n * layers,
            "concentration": min(reach, change) * tail,
        },
    }


@pytest.mark.parametrize("loss", [LossBound(0.3, 0.8), LossBound.clipped_half_squared(5.0)])
@pytest.mark.parametrize("log_count", [None, 40.0])
def test_equals_the_scalar_formula_for_the_worst_centre(
    loss: LossBound, log_count: float | None
) -> None:
    shapes = ((12, 7), (9, 12), (4, 9))
    spectral = [[1.0, 2.0, 0.5], [1.5, 0.1, 3.0], [0.9, 1.9, 0.6]]
    radii, rho = np.array([[0.001, 0.02], [0.3, 4.0]]), 0.05
    bounds = stagnation_terms(
        Neighbourhoods(norms=norms(spectral, shapes), log_count=log_count, cover_radius=rho),
        radii,
        loss,
        SAMPLE,
        0.02,
    )
    assert list(bounds) == list(NAMES)
    for name, bound in bounds.items():
        for index, radius in np.ndenumerate(radii):
            candidates = [
                scalar_terms(
                    row,
                    shapes,
                    float(radius) + rho,
                    (loss.range_, loss.lipschitz),
                    math.log(3) if log_count is None else log_count,
                )[name]
                for row in spectral
            ]
            totals = [sum(terms.values()) for terms in candidates]
            worst = int(np.argmax(totals))
            assert bound.worst_centre[index] == worst
            assert float(bound.total[index]) == pytest.approx(totals[worst], rel=1e-8)
            assert {key: float(v[index]) for key, v in bound.terms.items()} == pytest.approx(
                candidates[worst], rel=1e-8
            )
        assert not bound.assumption_violated.any()
        assert bound.log_count_per_row == pytest.approx((log_count or math.log(3)) / 700)


def test_certificates_are_these_terms_with_the_ramp_and_the_grid(
    make_inputs: Callable[..., BoundInputs],
) -> None:
    inputs = make_inputs()
    assert inputs.reference is not None
    assert inputs.radius is not None
    bounds = stagnation_terms(
        Neighbourhoods(norms=inputs.reference),
        inputs.radius,
        LossBound.ramp(inputs.margin),
        inputs.sample,
        inputs.failure_probability,
        inputs.grid,
    )
    evaluations = evaluate_all(inputs)
    for name, bound in bounds.items():
        np.testing.assert_array_equal(evaluations[name].log_value, bound.log_total)


def test_a_radius_fixed_in_advance_pays_for_no_cells() -> None:
    where = Neighbourhoods(norms=norms([1.0, 1.0], ((5, 5), (5, 5))))
    grid = GeometricGrid(0.125, 8.0, 2.0)  # 7 cells, 0.5 among them
    fixed, free = (
        stagnation_terms(where, 0.5, LossBound(1.0, 1.0), SAMPLE, 0.1, g) for g in (None, grid)
    )
    np.testing.assert_array_equal(fixed["G1"].log_total, free["G1"].log_total)
    for name in ("G2", "G3"):
        ratio = np.exp(
            free[name].log_terms["concentration"] - fixed[name].log_terms["concentration"]
        )
        assert float(ratio) == pytest.approx(math.sqrt(math.log(2 * 7 / 0.1) / math.log(2 / 0.1)))
        for term in ("centre", "entropy"):
            np.testing.assert_array_equal(free[name].log_terms[term], fixed[name].log_terms[term])


def test_constants_of_the_losses_are_sharp() -> None:
    random = np.random.default_rng(3)
    first = 4.0 * random.normal(size=(40_000, 3))
    second = first + 1e-3 * random.normal(size=first.shape)
    clip = 1.5

    def half_squared(f: np.ndarray) -> np.ndarray:
        return np.minimum(0.5 * np.sum(f**2, axis=-1), clip)

    def cross_entropy(f: np.ndarray) -> np.ndarray:
        return np.minimum(np.logaddexp.reduce(f, axis=-1) - f[:, 0], 30.0)

    for function, loss in (
        (half_squared, LossBound.clipped_half_squared(clip)),
        (cross_entropy, LossBound.clipped_cross_entropy(30.0)),
    ):
        slope = np.abs(function(first) - function(second)) / np.linalg.norm(first - second, axis=-1)
        assert 0.97 < slope.max() / loss.lipschitz <= 1.0 + 1e-9
        assert function(first).max() <= loss.range_
    assert LossBound.ramp(0.5) == LossBound(1.0, math.sqrt(2.0) / 0.5)


# --- the steps of the proofs that a wrong factor would break -------------------------------------


@pytest.mark.statistical
@pytest.mark.parametrize("wells", [1, 30])
def test_centre_term_is_above_the_quantile_that_it_bounds_by_less_than_a_factor_of_two(
    wells: int,
) -> None:
    """The loss at every centre is a coin of its own: the largest of the gaps."""
    random = np.random.default_rng(4)
    rows, delta, range_ = 64, 0.05, 3.0
    losses = range_ * random.binomial(rows, 0.5, size=(40_000, wells)) / rows
    quantile = np.quantile((0.5 * range_ - losses).max(axis=-1), 1 - delta)
    bound = stagnation_terms(
        Neighbourhoods(norms=norms([[1.0]] * wells, ((1, 1),))),
        0.0,
        LossBound(range_, 1.0),
        TrainingSample(size=rows, input_bound=1.0, frobenius=1.0),
        delta,
    )["G1"]
    value = float(bound.total)
    assert quantile <= value < 2.0 * quantile
    if wells > 1:  # without log K the statement would be false
        assert range_ * math.sqrt(math.log(1 / delta) / (2 * rows)) < quantile


def test_displacement_is_attained_within_a_percent() -> None:
    """Rows of a rare kind fill the sample: their loss falls by Delta, all others rise by Delta."""
    radius, rare, slope = 0.01, 0.005, 0.7
    inputs = np.array([1.0, -1.0])
    population, sample = np.array([rare, 1 - rare]), np.array([1.0, 0.0])

    def loss(weight: float) -> np.ndarray:  # linear network; identity clipped to [-1, 1], shifted
        return np.clip(-slope * weight * inputs, -1.0, 1.0) + 1.0

    moved = loss(radius) - loss(0.0)
    gap = float((population - sample) @ moved)
    where = Neighbourhoods(norms=norms([0.0], ((1, 1),)))
    rows = TrainingSample(size=50, input_bound=1.0, frobenius=1.0)
    bound = stagnation_terms(where, radius, LossBound(2.0, slope), rows, 0.1)["G1"]
    assert 0.99 < gap / float(bound.terms["displacement"]) <= 1.0


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["G2", "G3"])
def test_concentration_is_above_the_quantile_that_it_bounds(name: str) -> None:
    """Every row moves the supremum of the two signs by the most that is possible, 2 Delta/n."""
    random = np.random.default_rng(5)
    rows, delta, radius = 100, 0.01, 0.02
    signs = 2.0 * random.binomial(rows, 0.5, size=200_000) / rows - 1.0
    where = Neighbourhoods(norms=norms([0.0], ((1, 1),)))
    sample = TrainingSample(size=rows, input_bound=1.0, frobenius=1.0)
    bound = stagnation_terms(where, radius, LossBound(2.0, 1.0), sample, delta)[name]
    # Half of the failure probability belongs to the centre.
    quantile = np.quantile(radius * signs, 1 - delta / 2)
    assert quantile <= float(bound.terms["concentration"]) < 2.0 * quantile


# --- who pays, and how it scales -----------------------------------------------------------------


def test_shares_add_up_and_name_who_pays() -> None:
    where = {
        "K": Neighbourhoods(norms=norms([1.0] * 3, ((20, 20),) * 3), log_count=60.0),
        "delta": Neighbourhoods(norms=norms([1.0] * 3, ((20, 20),) * 3), entropy=0.01),
        "entropy": Neighbourhoods(norms=norms([1.0] * 3, ((20, 20),) * 3)),
    }
    radius = {"K": 1e-4, "delta": 3.0, "entropy": 0.1}
    for payer, neighbourhoods in where.items():
        bounds = stagnation_terms(
            neighbourhoods, np.array([radius[payer]]), LossBound(1.0, 1.0), SAMPLE, 0.05
        )
        for bound in bounds.values():
            assert sum(bound.shares.values()) == pytest.approx([1.0])
            assert sum(bound.payers.values()) == pytest.approx([1.0])
        paid = bounds["G2"].payers
        assert max(paid, key=lambda key: float(paid[key][0])) == payer
    assert stagnation_terms(where["K"], 1e-4, LossBound(1.0, 1.0), SAMPLE, 0.05)[
        "G1"
    ].largest_term == ("centre")


def test_g2_overtakes_g1_at_263_rows_per_dimension() -> None:
    dimension = 10_000
    where = Neighbourhoods(norms=norms([1.0], ((200, 200),)), entropy=ball_entropy(dimension))

    def difference(rows: int) -> float:
        sample = TrainingSample(size=rows, input_bound=1.0, frobenius=1.0)
        bounds = stagnation_terms(where, 1.0, LossBound(1.0, 1.0), sample, 0.05)
        return float(bounds["G2"].total - bounds["G1"].total)

    low, high = 1_000, 100_000_000
    assert difference(low) > 0.0 > difference(high)
    while high - low > 100:
        middle = (low + high) // 2
        low, high = (middle, high) if difference(middle) > 0.0 else (low, middle)
    assert low / dimension == pytest.approx(263.4, rel=0.01)


def test_width_at_fixed_spectral_norms() -> None:
    """G1 is flat, G2 grows like sqrt(d), G3 like sqrt(w) up to the logarithm of the cover."""
    widths = np.array([32, 128, 512])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    for width in widths:
        shapes = ((int(width), int(width)),) * 3
        bounds = stagnation_terms(
            Neighbourhoods(norms=norms([1.2] * 3, shapes)), 0.1, LossBound(1.0, 1.0), SAMPLE, 0.05
        )
        for name, bound in bounds.items():
            found[name].append({key: float(value) for key, value in bound.terms.items()})
    assert found["G1"][0] == found["G1"][1] == found["G1"][2]
    entropy = {name: np.array([terms["entropy"] for terms in found[name]]) for name in ("G2", "G3")}
    # d = 3 w^2 parameters, hence sqrt(d) is proportional to w.
    np.testing.assert_allclose(entropy["G2"] / entropy["G2"][0], widths / widths[0], rtol=1e-12)
    cover = np.sqrt(np.log(2.0 * widths**2 + 1.0))
    np.testing.assert_allclose(
        entropy["G3"] / entropy["G3"][0] * cover[0] / cover,
        np.sqrt(widths / widths[0]),
        rtol=1e-12,
    )
    for name in ("G2", "G3"):  # nothing else depends on the width
        rest = [{k: v for k, v in t.items() if k != "entropy"} for t in found[name]]
        assert rest[0] == rest[1] == rest[2]


def test_floor_of_g1_and_decay_of_g2_in_the_number_of_rows() -> None:
    where = Neighbourhoods(norms=norms([1.0], ((4, 4),)))
    totals = []
    for rows in (10**8, 4 * 10**8):
        sample = TrainingSample(size=rows, input_bound=1.0, frobenius=1.0)
        totals.append(stagnation_terms(where, 0.1, LossBound(1.0, 1.0), sample, 0.05))
    assert float(totals[1]["G1"].total) == pytest.approx(0.2, rel=1e-3)
    assert float(totals[0]["G2"].total / totals[1]["G2"].total) == pytest.approx(2.0, rel=1e-9)


# --- where nothing is claimed --------------------------------------------------------------------


def test_radius_outside_its_range_has_a_reason() -> None:
    bounds = stagnation_terms(
        Neighbourhoods(norms=norms([[1.0], [2.0]], ((1, 1),))),
        np.array([0.1, -0.1, np.inf, np.nan, 0.0, 9.0]),
        LossBound(1.0, 1.0),
        SAMPLE,
        0.05,
        GeometricGrid(0.01, 8.0, 2.0),
    )
    for name, bound in bounds.items():
        beyond = name != "G1"
        np.testing.assert_array_equal(
            bound.assumption_violated, [False, True, True, True, False, beyond]
        )
        np.testing.assert_array_equal(np.isnan(bound.total), bound.assumption_violated)
        assert (bound.largest_term == "").tolist() == bound.assumption_violated.tolist()
        assert "radius not in [0, inf) (3 of 6)" in bound.reason
        assert ("radius above the grid, which ends at 8 (1 of 6)" in bound.reason) == beyond
        assert not bound.vacuous[bound.assumption_violated].any()
    assert bounds["G1"].vacuous.tolist() == [False, False, False, False, False, True]


def test_vacuous_means_above_the_range_of_the_loss_not_above_1() -> None:
    where = Neighbourhoods(norms=norms([1.0], ((1, 1),)))
    sample = TrainingSample(size=10**6, input_bound=1.0, frobenius=1.0)
    for range_, radius, vacuous in ((0.1, 0.2, True), (3.0, 1.2, False), (3.0, 1.6, True)):
        bound = stagnation_terms(where, radius, LossBound(range_, 1.0), sample, 0.05)["G1"]
        assert float(bound.total) == pytest.approx(2 * radius, rel=0.01)
        assert bool(bound.vacuous) == vacuous


def test_an_absurd_product_of_norms_stays_finite_in_the_logarithm() -> None:
    deep = Neighbourhoods(norms=norms([1e3] * 400, ((1, 1),) * 400), log_count=1e7)
    for bound in stagnation_terms(deep, 1.0, LossBound(1.0, 1.0), SAMPLE, 0.05).values():
        assert math.isfinite(float(bound.log_total))
        assert float(bound.total) == math.inf
        assert bound.vacuous
        assert sum(bound.shares.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LossBound(0.0, 1.0), "clip the loss"),
        (lambda: LossBound.clipped_half_squared(-1.0), "range_ of a loss"),
        (lambda: LossBound.ramp(0.0), "margin of a ramp"),
        (
            lambda: Neighbourhoods(norms=norms([[1.0]] * 3, ((1, 1),)), log_count=1.0),
            "at least log",
        ),
        (lambda: Neighbourhoods(norms=norms([1.0], ((1, 1),)), cover_radius=-1.0), "cover_radius"),
        (lambda: Neighbourhoods(norms=norms([1.0], ((1, 1),)), entropy=0.0), "entropy must be"),
        (lambda: Neighbourhoods(norms=norms([np.nan], ((1, 1),))), "not finite"),
        (lambda: Neighbourhoods(norms=norms(np.ones((1, 1, 1)), ((1, 1),))), "shape"),
        (
            lambda: stagnation_terms(
                Neighbourhoods(norms=norms([1.0], ((1, 1),))), 0.1, LossBound(1, 1), SAMPLE, 1.0
            ),
            "failure_probability",
        ),
    ],
)
def test_refuses(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# --- the diagnostic ------------------------------------------------------------------------------


def test_measured_slope_of_a_linear_network_is_below_the_certificate() -> None:
    """Two layers: the derivative in (A, C) of C A x is known, its norm (|Cx'|^2 + |Ax|^2)^(1/2)."""
    random = np.random.default_rng(8)
    first, second = random.normal(size=(6, 5)), random.normal(size=(3, 6))
    inputs = random.normal(size=(50, 5))
    inputs /= np.linalg.norm(inputs, axis=-1, keepdims=True)
    slopes = np.sqrt(np.linalg.norm(second, 2) ** 2 + np.sum((inputs @ first.T) ** 2, axis=-1))
    sample = TrainingSample(size=50, input_bound=1.0, frobenius=float(np.linalg.norm(inputs)))
    loss, radius = LossBound(1.0, 1.0), np.array(0.01)
    seen = empirical_terms(np.asarray(slopes.max()), radius, loss, 50, 0.05)
    proved = stagnation_terms(
        Neighbourhoods(norms=layer_norms([first, second])), radius, loss, sample, 0.05
    )["G1"]
    assert isinstance(seen, BoundTerms)
    assert (seen.kind, proved.kind) == ("diagnostic", "certificate")
    assert float(seen.terms["centre"]) == pytest.approx(float(proved.terms["centre"]), rel=1e-12)
    assert 0.3 < float(seen.terms["displacement"] / proved.terms["displacement"]) < 1.0
    assert float(seen.terms["displacement"]) == pytest.approx(2 * 0.01 * slopes.max(), rel=1e-12)
    lost = empirical_terms(np.array([np.nan, 1.0]), np.array([0.1, np.inf]), loss, 50, 0.05)
    assert np.isnan(lost.total).all()
    assert lost.reason == "slope or radius not in [0, inf) (2 of 2)"
