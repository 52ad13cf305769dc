"""Slow and obvious: every certificate as its formula in plain scalars, from the matrices."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import brentq


@dataclass(frozen=True, eq=False)
class CertificateCase:
    """One network and what the certificates know of it, with nothing precomputed."""

    weights: list[np.ndarray]
    centre: list[np.ndarray]
    initial: list[np.ndarray]
    caps: list[np.ndarray]
    n: int = 900
    input_bound: float = 1.25
    x_frobenius: float = 31.0
    x_column: float = 20.0
    gamma: float = 0.8
    delta: float = 0.05
    grid: tuple[float, float, float] = (1e-3, 1e4, 1.1)
    deviations: list[float] = field(default_factory=lambda: [0.01, 0.1, 1.0])
    errors: list[float] = field(default_factory=lambda: [0.02, 0.05, 0.4])
    draws: int = 500

    @property
    def cells(self) -> int:
        low, high, ratio = self.grid
        count = 1
        while low * ratio ** (count - 1) < high:
            count += 1
        return count

    def up(self, value: float) -> float:
        """Smallest grid point that is not below the value; NaN if there is none."""
        low, high, ratio = self.grid
        for k in range(self.cells):
            if min(low * ratio**k, high) >= value:
                return min(low * ratio**k, high)
        return math.nan

    @property
    def depth(self) -> int:
        return len(self.weights)

    @property
    def outputs(self) -> int:
        return len(self.weights[-1])

    @property
    def width(self) -> int:
        return max(max(a.shape) for a in self.weights)


def spectral(a: np.ndarray) -> float:
    return math.sqrt(max(np.linalg.eigvalsh(a @ a.T)))


def frobenius(a: np.ndarray) -> float:
    return math.sqrt(sum(float(v) ** 2 for v in a.ravel()))


def two_one(a: np.ndarray) -> float:
    return sum(math.sqrt(sum(float(v) ** 2 for v in row)) for row in a)


def one_inf(a: np.ndarray) -> float:
    return max(sum(abs(float(v)) for v in row) for row in a)


def path_norm(weights: list[np.ndarray]) -> float:
    """Sum over all paths, path by path."""

    def below(layer: int, unit: int) -> float:
        if layer < 0:
            return 1.0
        row = weights[layer][unit]
        return sum(abs(float(v)) * below(layer - 1, j) for j, v in enumerate(row))

    return sum(below(len(weights) - 1, unit) for unit in range(len(weights[-1])))


def distance(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    return math.sqrt(sum(frobenius(a - b) ** 2 for a, b in zip(first, second, strict=True)))


def _lipschitz(q: CertificateCase, r: float) -> tuple[list[float], float]:
    s = [spectral(a) + r for a in q.centre]
    lam = math.prod(s) * math.sqrt(sum(1 / v**2 for v in s))
    return s, math.sqrt(2) / q.gamma * q.input_bound * lam * r


def _g1(q: CertificateCase) -> float:
    _, change = _lipschitz(q, distance(q.weights, q.centre))
    return math.sqrt(math.log(1 / q.delta) / (2 * q.n)) + 2 * change


def _g2(q: CertificateCase) -> float:
    _, change = _lipschitz(q, q.up(distance(q.weights, q.centre)))
    p = sum(a.size for a in q.weights)
    return (
        math.sqrt(math.log(2 / q.delta) / (2 * q.n))
        + 24 * 1.3525813582548 * change * math.sqrt(p / q.n)
        + change * math.sqrt(2 * math.log(2 * q.cells / q.delta) / q.n)
    )


def _g3(q: CertificateCase) -> float:
    r = q.up(distance(q.weights, q.centre))
    s, change = _lipschitz(q, r)
    moved = [(math.sqrt(len(a)) * r / v) ** (2 / 3) for a, v in zip(q.weights, s, strict=True)]
    log_cover = math.log(2 * q.width**2 + 1)
    entropy = math.sqrt(2) / q.gamma * math.sqrt(log_cover) * math.sqrt(q.n) * q.input_bound
    return (
        math.sqrt(math.log(2 / q.delta) / (2 * q.n))
        + 8 / q.n
        + 24 * math.log(q.n) / q.n * entropy * math.prod(s) * sum(moved) ** 1.5
        + min(1, change) * math.sqrt(2 * math.log(2 * q.cells / q.delta) / q.n)
    )


def _nbs(q: CertificateCase) -> float:
    s = [q.up(spectral(a)) for a in q.weights]
    d, h = q.depth, q.width
    tail = math.sqrt(2 * h * math.log(4 * h * d))
    kappa = q.gamma / (4 * math.e * d * q.input_bound * math.prod(s) * tail)
    divergence = sum(
        frobenius(a) ** 2 / (2 * (kappa * v) ** 2) for a, v in zip(q.weights, s, strict=True)
    )
    return 4 * math.sqrt((divergence + math.log(6 * q.n * q.cells**d / q.delta)) / (q.n - 1))


def _capacity(s: list[float], b: list[float]) -> float:
    return math.prod(s) * sum((u / v) ** (2 / 3) for u, v in zip(b, s, strict=True)) ** 1.5


def _bft(q: CertificateCase, s: list[float], b: list[float], classes: float | int) -> float:
    return (
        8 / q.n**1.5
        + 72
        * q.x_frobenius
        * math.sqrt(math.log(2 * q.width**2))
        * math.log(q.n)
        * _capacity(s, b)
        / (q.gamma * q.n)
        + 3 * math.sqrt(math.log(2 * classes / q.delta) / (2 * q.n))
    )


def _bft_zero(q: CertificateCase) -> float:
    s, b = ([q.up(norm(a)) for a in q.weights] for norm in (spectral, two_one))
    return _bft(q, s, b, q.cells ** (2 * q.depth))


def _bft_initial(q: CertificateCase) -> float:
    b = [q.up(two_one(a - m)) for a, m in zip(q.weights, q.initial, strict=True)]
    return _bft(q, [q.up(spectral(a)) for a in q.weights], b, q.cells ** (2 * q.depth))


def _bft_fixed(q: CertificateCase) -> float:
    inside = all(
        spectral(a) <= spectral(c) and two_one(a) <= two_one(c)
        for a, c in zip(q.weights, q.caps, strict=True)
    )
    value = _bft(q, [spectral(a) for a in q.caps], [two_one(a) for a in q.caps], 1)
    return value if inside else math.nan


def _bft_cut(q: CertificateCase) -> float:
    """Minimum over the cut by search, not by calculus."""
    s, b = ([q.up(norm(a)) for a in q.weights] for norm in (spectral, two_one))
    log_cover = math.log(2 * q.width**2 + 1)
    root = math.sqrt(2) / q.gamma * q.x_frobenius * math.sqrt(log_cover) * _capacity(s, b)

    def dudley(log_cut: float) -> float:
        cut = math.exp(log_cut)
        integral = root * math.log(math.sqrt(q.n) / cut)
        return 2 * (4 * cut / math.sqrt(q.n) + 12 / q.n * integral)

    low, high = -40.0, 0.5 * math.log(q.n)
    # Convex in the logarithm of the cut: thirds.
    for _ in range(300):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, second) if dudley(first) <= dudley(second) else (first, high)
    classes = q.cells ** (2 * q.depth)
    return dudley(high) + 3 * math.sqrt(math.log(2 * classes / q.delta) / (2 * q.n))


def _uniform(q: CertificateCase, complexity: float) -> float:
    return 2 * complexity + 3 * math.sqrt(math.log(2 * q.cells / q.delta) / (2 * q.n))


def _rounded(q: CertificateCase, product: float, count: int) -> float:
    """Product in units of gamma/B_x whose mean per layer is on the grid."""
    units = q.input_bound / q.gamma
    return q.up((product * units) ** (1 / count)) ** count / units


def _frobenius(q: CertificateCase, depth_factor: float | int) -> float:
    product = _rounded(q, math.prod(frobenius(a) for a in q.weights), q.depth)
    one = product * q.x_frobenius / q.n
    if q.outputs == 2:
        return _uniform(q, math.sqrt(2) * depth_factor * one / q.gamma)
    per_output = math.sqrt(q.outputs * (depth_factor**2 + 1))
    return _uniform(q, math.sqrt(2) * math.sqrt(2) / q.gamma * per_output * one)


def _nts(q: CertificateCase) -> float:
    return _frobenius(q, 2 ** (q.depth - 1))


def _grs(q: CertificateCase) -> float:
    return _frobenius(q, 1 + math.sqrt(2 * math.log(2) * (q.depth - 1)))


def _grs_rows(q: CertificateCase) -> float:
    product = _rounded(q, math.prod(one_inf(a) for a in q.weights), q.depth)
    entries = q.depth * math.log(2) + math.log(q.weights[0].shape[1])
    one = product * q.x_column / q.n * math.sqrt(2 * entries)
    return _uniform(q, (2 if q.outputs == 2 else 2 * q.outputs) * one / q.gamma)


def _path(q: CertificateCase) -> float:
    product = _rounded(q, path_norm(q.weights), 1)
    entries = q.weights[0].shape[1] * (1 if q.outputs == 2 else q.outputs)
    logs = q.depth * math.log(2) + math.log(entries)
    one = product * q.x_column / q.n * math.sqrt(2 * logs)
    return _uniform(q, (1 if q.outputs == 2 else 2) * one / q.gamma)


def _vc(q: CertificateCase) -> float:
    """Count in bits, layer by layer."""
    bits, weights = 0.0, 0
    for layer, a in enumerate(q.weights, start=1):
        weights += a.size
        signs = q.n * (len(a) - (layer == q.depth))
        warren = 1 + weights * math.log2(2 * math.e * signs * layer / weights) if signs else 0.0
        bits += min(signs, warren) if weights <= signs else signs
    count = min(bits, q.n) * math.log(2)
    return math.sqrt(2 * count / q.n) + math.sqrt(math.log(1 / q.delta) / (2 * q.n))


def _linear(q: CertificateCase) -> float:
    if q.depth > 1:
        return math.nan
    product = _rounded(q, frobenius(q.weights[0]), 1)
    constant = math.sqrt(2) if q.outputs == 2 else 2 * math.sqrt(q.outputs)
    complexity = constant * product * q.input_bound / (q.gamma * math.sqrt(q.n))
    return 2 * complexity + math.sqrt(math.log(q.cells / q.delta) / (2 * q.n))


def binary_divergence(q: float, p: float) -> float:
    terms = [(q, p), (1 - q, 1 - p)]
    if any(a > 0 and b <= 0 for a, b in terms):
        return math.inf
    return sum(a * math.log(a / b) for a, b in terms if a > 0)


def inverse_divergence(q: float, budget: float) -> float:
    """Largest mean within the budget, by Brent's method."""
    if q >= 1 or binary_divergence(q, 1 - 1e-15) <= budget:
        return 1.0
    root: Any = brentq(lambda p: binary_divergence(q, p) - budget, q, 1 - 1e-15, xtol=1e-15)
    return float(root)


def _divergences(q: CertificateCase, mean: list[np.ndarray], deviation: float) -> float:
    """Smallest divergence plus price among all priors, tried one by one around the best."""
    p, squared = sum(a.size for a in q.weights), distance(q.weights, mean) ** 2
    target = 100 * math.log(10 / (deviation**2 + squared / p))
    index = max(1, round(target))
    prior = 10 * math.exp(-index / 100)
    ratio = deviation**2 / prior
    divergence = 0.5 * (p * (ratio - 1 - math.log(ratio)) + squared / prior)
    return divergence + math.log(math.pi**2 * index**2 / 6)


def _risk(kind: str, q: CertificateCase, error: float, divergence: float) -> float:
    half = q.delta / 2
    if kind == "Catoni":
        cost = (divergence + math.log(64 / half)) / q.n
        values = [(32 * q.n) ** (k / 63) / q.n for k in range(64)]
        return min((1 - math.exp(-a * error - cost)) / (1 - math.exp(-a)) for a in values)
    epsilon = (divergence + math.log(2 * math.sqrt(q.n) / half)) / q.n
    if kind == "kl":
        return inverse_divergence(error, epsilon)
    if kind == "McAllester":
        return error + math.sqrt(epsilon / 2)
    return (math.sqrt(error + epsilon / 2) + math.sqrt(epsilon / 2)) ** 2


def gibbs_risks(kind: str, q: CertificateCase, data_dependent: bool = False) -> list[float]:
    """Risk certificate at every scale."""
    mean = q.centre if data_dependent else q.initial
    budget = math.log(len(q.deviations) / (q.delta / 2)) / q.draws
    return [
        _risk(kind, q, inverse_divergence(error, budget), _divergences(q, mean, deviation))
        for deviation, error in zip(q.deviations, q.errors, strict=True)
    ]


def _gibbs(kind: str, data_dependent: bool) -> Callable[[CertificateCase], float]:
    def value(q: CertificateCase) -> float:
        risks = gibbs_risks(kind, q, data_dependent)
        best = min(range(len(risks)), key=risks.__getitem__)
        return risks[best] - q.errors[best]

    return value


#: Formula of every certificate by its name.
CERTIFICATE_ORACLES: Mapping[str, Callable[[CertificateCase], float]] = {
    "G1": _g1,
    "G2": _g2,
    "G3": _g3,
    "BFT": _bft_zero,
    "NBS": _nbs,
    "BFT-cut": _bft_cut,
    "BFT-init": _bft_initial,
    "BFT-fixed": _bft_fixed,
    "NTS": _nts,
    "GRS": _grs,
    "GRS-1inf": _grs_rows,
    "path": _path,
    "VC": _vc,
    "linear": _linear,
    **{
        f"PB-{kind}{suffix}": _gibbs(kind, suffix == "-data")
        for suffix in ("", "-data")
        for kind in ("kl", "McAllester", "Catoni", "quad")
    },
}
