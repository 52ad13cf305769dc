"""PAC-Bayes: inverse of the divergence, the inequalities, the union over priors, the posterior."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, rel_entr

from sgdsim.bounds import (
    CERTIFICATES,
    BoundInputs,
    best_scale,
    gaussian_kl,
    kl_inverse,
    ornstein_uhlenbeck_kl,
    ornstein_uhlenbeck_variances,
    pac_bayes_bound,
)
from sgdsim.bounds._pac_bayes import paid_divergence
from sgdsim.testing import CertificateCase, gibbs_risks, inverse_divergence

CaseOf = Callable[..., CertificateCase]
InputsOf = Callable[..., BoundInputs]


def binary_kl(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    return rel_entr(q, p) + rel_entr(1 - q, 1 - p)


def test_inverse_of_the_divergence() -> None:
    q = np.array([0.0, 1e-9, 1e-3, 0.05, 0.3, 0.5, 0.9, 0.999, 1.0])
    budgets = np.array([0.0, 1e-12, 1e-6, 1e-3, 0.1, 1.0, 5.0])
    found = kl_inverse(q[:, None], budgets)
    expected = [[inverse_divergence(a, c) for c in budgets.tolist()] for a in q.tolist()]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (found >= q[:, None]).all()
    assert (np.diff(found, axis=1) >= 0).all()
    assert (np.diff(found, axis=0) >= 0).all()


def test_inverse_of_the_divergence_with_scipy() -> None:
    random = np.random.default_rng(0)
    q, budget = random.uniform(size=500), random.exponential(0.3, size=500)
    found = kl_inverse(q, budget)
    inside = found < 1 - 1e-9
    assert inside.sum() > 450
    np.testing.assert_allclose(binary_kl(q, found)[inside], budget[inside], rtol=1e-6)


def test_inverse_without_errors_is_known() -> None:
    budget = np.array([1e-9, 0.01, 1.0, 30.0])
    np.testing.assert_allclose(kl_inverse(0.0, budget), -np.expm1(-budget), rtol=1e-12)
    assert np.isnan(kl_inverse(np.array([np.nan]), 0.1)).all()
    assert float(kl_inverse(0.3, math.inf)) == 1.0


@pytest.mark.parametrize(("q", "budget"), [(-0.1, 0.1), (1.1, 0.1), (0.5, -1.0)])
def test_inverse_refuses(q: float, budget: float) -> None:
    with pytest.raises(ValueError, match="errors from 0 to 1 and budgets of at least 0"):
        kl_inverse(q, budget)


def test_maurers_moment_is_below_twice_the_root() -> None:
    """E exp(n kl(mean || p)) of a coin is the same for every p, and at most 2 sqrt(n)."""
    for n in [*range(1, 60), 100, 1000]:
        k = np.arange(n + 1)
        q = k / n
        log_choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        entropy = rel_entr(q, 1.0) + rel_entr(1 - q, 1.0)
        moment = np.sum(np.exp(log_choose + n * entropy))
        assert math.sqrt(n) <= moment <= 2 * math.sqrt(n) * (1 + 1e-12)
    p, n = 0.3, 12
    k = np.arange(n + 1)
    direct = np.sum(stats.binom.pmf(k, n, p) * np.exp(n * binary_kl(k / n, np.full(n + 1, p))))
    expected = sum(math.comb(n, i) * (i / n) ** i * (1 - i / n) ** (n - i) for i in range(n + 1))
    assert direct == pytest.approx(expected, rel=1e-12)


def test_lambda_at_its_best_parameter_is_quad() -> None:
    random = np.random.default_rng(1)
    error, divergence = random.uniform(size=200), random.exponential(50.0, size=200)
    first, second = (pac_bayes_bound(k, error, divergence, 300, 0.02) for k in ("lambda", "quad"))
    np.testing.assert_allclose(first, second, rtol=1e-13)
    epsilon = (divergence[0] + math.log(2 * math.sqrt(300) / 0.02)) / 300

    def at(parameter: float) -> float:
        half = 1 - parameter / 2
        return float(error[0] / half + epsilon / (parameter * half))

    settings = {"bounds": (1e-6, 2 - 1e-6), "options": {"xatol": 1e-9}}
    best: Any = minimize_scalar(at, method="bounded", **settings)
    assert float(first[0]) == pytest.approx(best.fun, rel=1e-10)


def test_kl_is_the_smallest_that_follows_from_it() -> None:
    random = np.random.default_rng(2)
    error, divergence = random.uniform(0, 0.9, size=300), random.exponential(60.0, size=300)
    values = {
        kind: pac_bayes_bound(kind, error, divergence, 400, 0.05)
        for kind in ("kl", "McAllester", "quad", "Catoni")
    }
    for kind in ("McAllester", "quad"):
        assert (values["kl"] <= values[kind] + 1e-12).all()
    # Catoni pays for 64 parameters instead of 2 sqrt(n): neither is always the smaller one.
    assert (values["Catoni"] > values["kl"]).all()
    many = [pac_bayes_bound(kind, 0.02, 50.0, 10_000, 0.05) for kind in ("Catoni", "kl")]
    assert many[0] < many[1] < 1.01 * many[0]


def test_parameters_of_catoni_are_dense_enough() -> None:
    cost = (20.0 + math.log(64 / 0.05)) / 1000

    def at(log_a: float) -> float:
        a = math.exp(log_a)
        return math.expm1(-a * 0.1 - cost) / math.expm1(-a)

    result: Any = minimize_scalar(at, bounds=(-6, 3), method="bounded")
    best = result.fun
    value = float(pac_bayes_bound("Catoni", 0.1, 20.0, 1000, 0.05))
    assert best <= value < best * 1.002


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["kl", "McAllester", "quad", "Catoni"])
def test_fixed_posterior_by_exact_enumeration(kind: str) -> None:
    """Posterior = prior: the probability of a violation is that of a coin, without sampling."""
    for n, p, delta in [(8, 0.5, 0.05), (20, 0.3, 0.1), (60, 0.1, 0.05), (200, 0.02, 0.3)]:
        mean = np.arange(n + 1) / n
        bound = pac_bayes_bound(kind, mean, 0.0, n, delta)
        assert stats.binom.pmf(np.arange(n + 1), n, p)[bound < p].sum() <= delta


def test_monte_carlo_limit_is_nearly_tight() -> None:
    """The limit for the mean of draws: half the budget would be violated too often."""
    delta, draws, truth = 0.05, 20, 0.5
    mean = np.arange(draws + 1) / draws
    weights = stats.binom.pmf(np.arange(draws + 1), draws, truth)
    budget = math.log(1 / delta) / draws
    assert weights[kl_inverse(mean, budget) < truth].sum() <= delta
    assert weights[kl_inverse(mean, budget / 2) < truth].sum() > delta


def test_gaussian_divergence_by_quadrature_and_monte_carlo() -> None:
    mean, s, prior = 0.7, 0.3, 1.9
    grid = np.linspace(-8.0, 8.0, 20_001)
    first = stats.norm.logpdf(grid, mean, math.sqrt(s))
    second = stats.norm.logpdf(grid, 0.0, math.sqrt(prior))
    integral = np.trapezoid(np.exp(first) * (first - second), grid)
    assert float(gaussian_kl(np.array([mean**2]), s, prior)) == pytest.approx(integral, rel=1e-9)
    lead = gaussian_kl(np.full((3, 2, 4), mean**2), np.full(4, s), prior)
    np.testing.assert_allclose(lead, np.full((3, 2), 4 * integral), rtol=1e-9)
    assert float(gaussian_kl(np.zeros(5), 0.4, 0.4)) == 0.0
    with pytest.raises(ValueError, match="Variances must be positive"):
        gaussian_kl(np.zeros(2), np.array([1.0, 0.0]), 1.0)


@pytest.mark.parametrize("time", ["discrete", "continuous"])
def test_stationary_posterior_against_dense_matrices(time: str) -> None:
    """Lyapunov equation and divergence of full covariances in a rotated basis."""
    random = np.random.default_rng(3)
    rotation, _ = np.linalg.qr(random.normal(size=(6, 6)))
    curvatures = np.array([0.2, 0.5, 1.0, 3.0])
    noise = np.array([0.4, 0.1, 2.0, 0.7])
    rate, prior = 0.3, 0.05
    hessian = rotation[:, :4] @ np.diag(curvatures) @ rotation[:, :4].T
    mean = random.normal(size=6)
    if time == "discrete":
        moved = np.eye(4) - rate * np.diag(curvatures)
        small = solve_discrete_lyapunov(moved, rate**2 * np.diag(noise))
    else:
        small = solve_continuous_lyapunov(np.diag(curvatures), rate * np.diag(noise))
    found = ornstein_uhlenbeck_variances(curvatures, noise, rate, time)
    np.testing.assert_allclose(found, np.diag(small), rtol=1e-12)
    # Flat directions keep the variance of the prior.
    flat = np.eye(6) - rotation[:, :4] @ rotation[:, :4].T
    np.testing.assert_allclose(hessian @ flat, 0.0, atol=1e-12)
    covariance = rotation[:, :4] @ small @ rotation[:, :4].T + prior * flat
    dense = 0.5 * (
        np.trace(covariance) / prior
        - 6
        + mean @ mean / prior
        + 6 * math.log(prior)
        - np.linalg.slogdet(covariance)[1]
    )
    value = ornstein_uhlenbeck_kl(
        curvatures,
        noise,
        rate,
        float(mean @ mean),
        prior,
        time,
    )
    assert float(value) == pytest.approx(dense, rel=1e-12)


def test_stationary_posterior_refuses() -> None:
    with pytest.raises(ValueError, match="must be below 2"):
        ornstein_uhlenbeck_variances(np.array([1.0, 30.0]), 1.0, 0.1)
    assert ornstein_uhlenbeck_variances(np.array([30.0]), 1.0, 0.1, "continuous").shape == (1,)
    with pytest.raises(ValueError, match="leave flat directions out"):
        ornstein_uhlenbeck_variances(np.array([1.0, 0.0]), 1.0, 0.1)
    with pytest.raises(ValueError, match="prior_variance must be positive"):
        ornstein_uhlenbeck_kl(np.array([1.0]), 1.0, 0.1, 1.0, 0.0)
    with pytest.raises(ValueError, match="squared_distance must not be negative"):
        ornstein_uhlenbeck_kl(np.array([1.0]), 1.0, 0.1, -1.0, 1.0)


@pytest.mark.parametrize("parameters", [10, 10_000])
def test_price_of_the_prior(parameters: int) -> None:
    """At most the rounding above the best real prior plus its price, and never below the best."""
    squared = np.array([0.0, 0.3, 20.0])
    deviations = np.array([1e-3, 0.03, 0.5])
    paid = paid_divergence(squared, deviations, parameters)
    assert paid.shape == (3, 3)
    index = np.arange(1, 3000)
    prior = 10 * np.exp(-index / 100)
    for (i, j), value in np.ndenumerate(paid):
        ratio = deviations[j] ** 2 / prior
        divergence = 0.5 * (parameters * (ratio - 1 - np.log(ratio)) + squared[i] / prior)
        price = np.log(math.pi**2 * index**2 / 6)
        assert (divergence + price).min() - 1e-9 <= value
        # The price is not part of the choice, which matters for few weights only.
        assert value <= divergence.min() + price[divergence.argmin()] + 0.02
        if parameters > 1000:
            assert value <= (divergence + price).min() + 1.0
    assert np.sum(6 / (math.pi**2 * index.astype(float) ** 2)) < 1.0


def test_distance_beyond_the_largest_prior_is_still_covered() -> None:
    paid = paid_divergence(np.array([1e6]), np.array([0.1]), 10)
    prior = 10 * math.exp(-0.01)
    ratio = 0.01 / prior
    expected = 5 * (ratio - 1 - math.log(ratio)) + 0.5e6 / prior + math.log(math.pi**2 / 6)
    np.testing.assert_allclose(paid, [[expected]], rtol=1e-12)


@pytest.mark.parametrize("name", [n for n in CERTIFICATES if n.startswith("PB-")])
def test_best_scale(name: str, case_of: CaseOf, inputs_of: InputsOf) -> None:
    case = case_of()
    kind, data_dependent = name.split("-")[1], name.endswith("-data")
    cases = [replace(case, errors=e) for e in ([0.0, 0.3, 0.5], [0.4, 0.4, 0.0], [0.2, 0.0, 0.9])]
    inputs = inputs_of(*cases)
    scales = best_scale(name, inputs)
    expected = [int(np.argmin(gibbs_risks(kind, c, data_dependent))) for c in cases]
    assert scales.tolist() == expected
    assert len(set(expected)) > 1
    # The value is the risk less the error of that scale.
    risks = [gibbs_risks(kind, c, data_dependent)[j] for c, j in zip(cases, expected, strict=True)]
    errors = [c.errors[j] for c, j in zip(cases, expected, strict=True)]
    np.testing.assert_allclose(
        CERTIFICATES[name](inputs).value, np.array(risks) - errors, rtol=1e-10
    )


def test_scales_without_an_error_are_passed_over(case_of: CaseOf, inputs_of: InputsOf) -> None:
    case = case_of()
    nan = math.nan
    cases = [replace(case, errors=e) for e in ([0.02, nan, 0.4], [nan, nan, nan])]
    inputs = inputs_of(*cases)
    assert best_scale("PB-kl", inputs).tolist() == [0, -1]
    evaluation = CERTIFICATES["PB-kl"](inputs)
    assert evaluation.assumption_violated.tolist() == [False, True]
    assert evaluation.reason == "no scale has a Gibbs error (1 of 2)"


def test_all_weights_must_be_drawn(case_of: CaseOf, inputs_of: InputsOf) -> None:
    inputs = inputs_of(case_of())
    assert inputs.gibbs is not None
    fewer = replace(inputs, gibbs=replace(inputs.gibbs, parameters=5))
    assert CERTIFICATES["PB-kl"](fewer).reason == "5 of 106 weights are drawn (1 of 1)"


def test_refusals(case_of: CaseOf, inputs_of: InputsOf) -> None:
    inputs = inputs_of(case_of())
    with pytest.raises(ValueError, match="'BFT' is no PAC-Bayes certificate"):
        best_scale("BFT", inputs)
    with pytest.raises(ValueError, match="PB-kl needs initial, which"):
        best_scale("PB-kl", replace(inputs, initial=None))
    with pytest.raises(ValueError, match="Did you mean 'Catoni'"):
        pac_bayes_bound("Catony", 0.1, 1.0, 10, 0.05)
    with pytest.raises(ValueError, match="divergences of at least 0"):
        pac_bayes_bound("kl", 0.1, -1.0, 10, 0.05)
    with pytest.raises(ValueError, match="size must be at least 1"):
        pac_bayes_bound("kl", 0.1, 1.0, 10, 1.0)
