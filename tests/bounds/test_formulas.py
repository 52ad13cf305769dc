"""Every certificate against its formula in plain scalars that share nothing with the library."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.integrate import quad

from sgdsim.bounds import CERTIFICATES, BoundInputs, evaluate_all
from sgdsim.bounds._stagnation_entropy import ENTROPY_INTEGRAL

Make = Callable[..., BoundInputs]


@dataclass
class Numbers:
    reference_spectral: list[float]
    spectral: list[float]
    frobenius: list[float]
    two_one: list[float]
    shapes: list[tuple[int, int]]
    radius: float
    n: int
    input_bound: float
    x_frobenius: float
    gamma: float
    delta: float
    low: float = 1e-3
    high: float = 1e4
    ratio: float = 1.1

    @property
    def cells(self) -> int:
        count = 1
        while self.low * self.ratio ** (count - 1) < self.high:
            count += 1
        return count

    def up(self, value: float) -> float:
        k = 0
        while self.low * self.ratio**k < value:
            k += 1
        return self.low * self.ratio**k


def _ball(q: Numbers, r: float) -> tuple[list[float], float]:
    s = [norm + r for norm in q.reference_spectral]
    lam = math.prod(s) * math.sqrt(sum(1 / v**2 for v in s))
    return s, math.sqrt(2) / q.gamma * q.input_bound * lam * r


def g1(q: Numbers) -> float:
    _, change = _ball(q, q.radius)
    return math.sqrt(math.log(1 / q.delta) / (2 * q.n)) + 2 * change


def g2(q: Numbers) -> float:
    _, change = _ball(q, q.up(q.radius))
    p = sum(a * b for a, b in q.shapes)
    return (
        math.sqrt(math.log(2 / q.delta) / (2 * q.n))
        + 24 * 1.3525813582548 * change * math.sqrt(p / q.n)
        + change * math.sqrt(2 * math.log(2 * q.cells / q.delta) / q.n)
    )


def g3(q: Numbers) -> float:
    r = q.up(q.radius)
    s, change = _ball(q, r)
    w = max(max(shape) for shape in q.shapes)
    terms = [(math.sqrt(rows) * r / v) ** (2 / 3) for (rows, _), v in zip(q.shapes, s, strict=True)]
    capacity = math.prod(s) * sum(terms) ** 1.5
    return (
        math.sqrt(math.log(2 / q.delta) / (2 * q.n))
        + 8 / q.n
        + 24
        * (math.sqrt(2) / q.gamma)
        * math.log(q.n)
        * math.sqrt(math.log(2 * w * w + 1))
        * (math.sqrt(q.n) * q.input_bound)
        / q.n
        * capacity
        + min(1, change) * math.sqrt(2 * math.log(2 * q.cells / q.delta) / q.n)
    )


def bft(q: Numbers) -> float:
    s = [q.up(v) for v in q.spectral]
    b = [q.up(v) for v in q.two_one]
    w = max(max(shape) for shape in q.shapes)
    capacity = math.prod(s) * sum((u / v) ** (2 / 3) for u, v in zip(b, s, strict=True)) ** 1.5
    log_classes = 2 * len(s) * math.log(q.cells)
    return (
        8 / q.n**1.5
        + 72
        * q.x_frobenius
        * math.sqrt(math.log(2 * w * w))
        * math.log(q.n)
        * capacity
        / (q.gamma * q.n)
        + 3 * math.sqrt((math.log(2 / q.delta) + log_classes) / (2 * q.n))
    )


def nbs(q: Numbers) -> float:
    s = [q.up(v) for v in q.spectral]
    d = len(s)
    h = max(max(shape) for shape in q.shapes)
    kappa = q.gamma / (
        4 * math.e * d * q.input_bound * math.prod(s) * math.sqrt(2 * h * math.log(4 * h * d))
    )
    divergence = sum(f**2 / (2 * (kappa * v) ** 2) for f, v in zip(q.frobenius, s, strict=True))
    log_term = math.log(6 * q.n * q.cells**d / q.delta)
    return 4 * math.sqrt((divergence + log_term) / (q.n - 1))


ORACLES = {"G1": g1, "G2": g2, "G3": g3, "BFT": bft, "NBS": nbs}


def numbers(inputs: BoundInputs, index: tuple[int, ...]) -> Numbers:
    assert inputs.reference is not None
    assert inputs.radius is not None
    return Numbers(
        reference_spectral=inputs.reference.spectral_high.tolist(),
        spectral=inputs.iterate.spectral_high[index].tolist(),
        frobenius=inputs.iterate.frobenius[index].tolist(),
        two_one=inputs.iterate.two_one[index].tolist(),
        shapes=list(inputs.reference.shapes),
        radius=float(inputs.radius[index]),
        n=inputs.sample.size,
        input_bound=inputs.sample.input_bound,
        x_frobenius=inputs.sample.frobenius,
        gamma=inputs.margin,
        delta=inputs.failure_probability,
    )


def test_order_and_loss_pairs() -> None:
    assert list(CERTIFICATES)[:5] == ["G1", "G2", "G3", "BFT", "NBS"]
    pairs = {(CERTIFICATES[n].population_loss, CERTIFICATES[n].empirical_loss) for n in ORACLES}
    assert pairs == {("ramp", "ramp"), ("zero_one", "margin")}
    nbs = CERTIFICATES["NBS"]
    assert (nbs.population_loss, nbs.empirical_loss) == ("zero_one", "margin")


def test_entropy_integral() -> None:
    # With u = 2/(e^{v^2} - 1) the integral is that of u over v, plus the corner below sqrt(ln 3).
    corner = math.sqrt(math.log(3.0))
    tail, _ = quad(lambda v: 2.0 / math.expm1(v * v), corner, 26.0, epsabs=1e-13, limit=200)
    direct, _ = quad(lambda u: math.sqrt(math.log1p(2.0 / u)), 0.0, 1.0, epsabs=1e-9)
    assert pytest.approx(corner + tail, abs=1e-12) == ENTROPY_INTEGRAL
    assert pytest.approx(direct, abs=1e-8) == ENTROPY_INTEGRAL


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("move", [1e-4, 0.05, 1.0])
def test_equals_the_scalar_formula(
    name: str, move: float, make_inputs: Make, weights_of: Callable[..., list[np.ndarray]]
) -> None:
    centre = weights_of(5)
    noise = weights_of(6, (3, 2), move)
    inputs = make_inputs(centre, [a + b for a, b in zip(centre, noise, strict=True)])
    evaluation = evaluate_all(inputs)[name]
    assert evaluation.value.shape == (3, 2)
    assert not evaluation.assumption_violated.any()
    assert evaluation.reason == ""
    expected = [[ORACLES[name](numbers(inputs, (i, j))) for j in range(2)] for i in range(3)]
    np.testing.assert_allclose(evaluation.value, expected, rtol=1e-12)
    np.testing.assert_allclose(evaluation.log_value, np.log(expected), rtol=1e-11, atol=1e-12)
    parts = np.sum(list(evaluation.log_factors.values()), axis=0)
    np.testing.assert_allclose(parts, evaluation.log_value, rtol=1e-12)
    # What is told apart is the term that grows with the norms, so it is part of the sum.
    assert (evaluation.log_factors["rest"] > -1e-12).all()


@pytest.mark.parametrize("name", ORACLES)
def test_one_iterate_has_no_axes(
    name: str, make_inputs: Make, weights_of: Callable[..., list[np.ndarray]]
) -> None:
    inputs = make_inputs(weights_of(0), weights_of(2))
    evaluation = CERTIFICATES[name].evaluate(inputs)
    assert evaluation.value.shape == ()
    assert float(evaluation.value) == pytest.approx(ORACLES[name](numbers(inputs, ())), rel=1e-12)


@pytest.mark.parametrize("name", ORACLES)
def test_one_layer(name: str, make_inputs: Make) -> None:
    centre = [np.arange(6.0).reshape(2, 3)]
    inputs = make_inputs(centre, [centre[0] + 0.01])
    expected = ORACLES[name](numbers(inputs, ()))
    assert float(CERTIFICATES[name].evaluate(inputs).value) == pytest.approx(expected, rel=1e-12)


def test_small_change_of_the_loss_is_not_replaced_by_its_range(make_inputs: Make) -> None:
    # G3 takes min(1, Delta): both branches occur among the cases of the oracle test.
    inputs = make_inputs()
    changes = [_ball(q, q.up(q.radius))[1] for q in [numbers(inputs, (0, 0))]]
    near = replace(numbers(inputs, (0, 0)), radius=1e-4)
    assert min(changes) > 1.0 > _ball(near, near.up(near.radius))[1]
