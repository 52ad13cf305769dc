"""Bounds on the mean gap along noisy trajectories: formulas, exact gaps, closed forms."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from sgdsim.bounds import (
    EXPECTATION_BOUNDS,
    GradientStream,
    certificate,
    expectation_bounds,
    explain,
    join_streams,
    lookup,
    wrong_row_weights,
)

NOISY = [name for name in EXPECTATION_BOUNDS if name != "virtual_noise"]


def random_stream(seed=0, trajectories=3, steps=5, rows=4, **changes):
    """A stream of arbitrary numbers, with every statistic."""
    random = np.random.default_rng(seed)
    both = (trajectories, steps)
    settings: dict[str, Any] = {
        "step": np.arange(steps),
        "learning_rate": random.uniform(0.05, 0.2, steps),
        "noise_variance": random.uniform(0.01, 0.05, steps),
        "samples": 7,
        "parameters": 3,
        "gradient_square": random.uniform(0.1, 1.0, both),
        "covariance_trace": random.uniform(0.1, 1.0, both),
        "deviation": random.uniform(0.1, 1.0, both),
        "pair_square": random.uniform(0.1, 2.0, (*both, rows)),
        "pair_noise": random.normal(size=(*both, rows)),
        "virtual_variance": random.uniform(0.01, 0.05, steps),
        "sensitivity": random.uniform(0.1, 1.0, both),
        "smoothing": random.normal(size=both),
        "batch_factor": 0.0,
    }
    return GradientStream(**(settings | changes))


def from_the_text(name, s, loss_range, kept=None):
    """Value after the last step by scalar loops over what the theory text says."""
    r, n, p, c = loss_range / 2, s.samples, s.parameters, s.batch_factor
    trajectories, steps = s.gradient_square.shape
    weight_square = 1 / n**2 + c * (n - 1) / n**2

    def mean(values):
        return sum(values[k] for k in range(trajectories)) / trajectories

    total, extra = 0.0, 0.0
    for t in range(steps):
        eta, v = s.learning_rate[t], s.noise_variance[t]
        trace, square = mean(s.covariance_trace[:, t]), mean(s.gradient_square[:, t])
        if name == "population_chain":  # 11.3 with s = v / eta^2
            total += 0.5 * (mean(s.deviation[:, t]) + c * trace) / (v / eta**2)
        elif name == "gradient_entropy":  # 11.2
            total += p / 2 * math.log(1 + eta**2 * (square + c * trace) / (p * v))
        elif name == "gradient_norm":
            total += eta**2 * weight_square * (square + trace) / (2 * v)
        elif name == "incoherence" and kept is None:  # 11.4, beta eta / 4 = eta^2 / (2 v)
            total += eta**2 / (2 * v) * weight_square * (n / (n - 1)) ** 2 * trace
        elif name == "incoherence":
            total += eta**2 / (2 * v) * trace / kept * (1 - kept / n) * n / (n - 1)
        elif name == "conditional":
            pairs = mean([np.mean(s.pair_square[k, t]) for k in range(trajectories)])
            total += eta**2 * weight_square * pairs / (8 * v)
        elif name == "conditional_tested":
            for k in range(trajectories):
                for i in range(s.pair_square.shape[2]):
                    odds = 0.0
                    for u in range(t):
                        a, w = s.learning_rate[u] / n, s.noise_variance[u]
                        odds += a**2 * s.pair_square[k, u, i] / (2 * w)
                        odds -= a * s.pair_noise[k, u, i] / math.sqrt(w)
                    wrong = 1 / (1 + math.exp(odds))
                    share = trajectories * s.pair_square.shape[2]
                    total += (eta / n) ** 2 * wrong**2 * s.pair_square[k, t, i] / (2 * v) / share
        else:
            dispersion = mean(s.deviation[:, t]) + c * trace
            total += eta**2 / s.virtual_variance[t] * (mean(s.sensitivity[:, t]) + dispersion)
            extra = abs(mean(s.smoothing[:, t]))
    if name in ("population_chain", "gradient_entropy", "virtual_noise"):
        return math.sqrt(2 * r**2 * total / n) + extra
    if name in ("gradient_norm", "incoherence"):
        return math.sqrt(2 * r**2 * total / (n - kept if kept else 1))
    return math.sqrt(2 * loss_range**2 * total)


@pytest.mark.parametrize("name", EXPECTATION_BOUNDS)
@pytest.mark.parametrize("batch_factor", [0.0, 0.25])
def test_against_a_scalar_loop(name, batch_factor):
    changes: dict[str, Any] = {"noise_variance": np.zeros(5)} if name == "virtual_noise" else {}
    stream = random_stream(batch_factor=batch_factor, **changes)
    if name == "conditional_tested" and batch_factor:
        with pytest.raises(ValueError, match="use conditional"):
            expectation_bounds(stream, 2.0, [name])
        return
    value = expectation_bounds(stream, 2.0, [name])[name].value
    assert value[-1] == pytest.approx(from_the_text(name, stream, 2.0), rel=1e-12)


@pytest.mark.parametrize("kept", [1, 4, 6])
def test_fewer_kept_rows_against_a_scalar_loop(kept):
    stream = random_stream()
    value = expectation_bounds(stream, 2.0, ["incoherence"], kept=kept)["incoherence"].value
    assert value[-1] == pytest.approx(from_the_text("incoherence", stream, 2.0, kept), rel=1e-12)
    best = expectation_bounds(stream, 2.0, ["incoherence"])["incoherence"].value
    # It goes like 1/sqrt(m), so that n - 1 is best.
    np.testing.assert_allclose(value / best, math.sqrt(6 / kept))


@pytest.mark.parametrize("name", EXPECTATION_BOUNDS)
def test_a_prefix_of_the_trajectory_has_the_prefix_of_the_bound(name):
    changes: dict[str, Any] = {"noise_variance": np.zeros(5)} if name == "virtual_noise" else {}
    stream = random_stream(**changes)
    whole = expectation_bounds(stream, 1, [name])[name]
    fields: dict[str, Any] = {f.name: getattr(stream, f.name) for f in dataclasses.fields(stream)}
    first: dict[str, Any] = {
        key: value[..., :3, :] if key.startswith("pair") else value[..., :3]
        for key, value in fields.items()
        if isinstance(value, np.ndarray)
    }
    part = expectation_bounds(dataclasses.replace(stream, **first), 1, [name])[name]
    np.testing.assert_allclose(part.value, whole.value[:3], rtol=1e-12)
    np.testing.assert_allclose(part.information, whole.information[:3], rtol=1e-12)
    np.testing.assert_allclose(part.stderr, whole.stderr[:3], rtol=1e-10)


# Exact gaps: one noisy step from 0 on n fair signs z_i, gradient theta - z_i, and the loss
# (1 - sign(theta) z) / 2 of the sign of theta. Everything is a sum over the binomial law.
ROWS, RATE = 40, 0.5


def sign_gap(gradient_variance):
    """Mean gap, exactly."""
    heads = np.arange(ROWS + 1)
    means = 2 * heads / ROWS - 1
    spread = math.sqrt(gradient_variance)
    return 0.5 * np.sum(binom.pmf(heads, ROWS, 0.5) * means * (2 * ndtr(means / spread) - 1))


def sign_stream(gradient_variance, injected=True, batch_factor=0.0):
    """Give the means of all statistics, exactly, as one trajectory."""
    n = ROWS

    def constant(value):
        return np.full((1, 1), value)

    settings: dict[str, Any] = {
        "gradient_square": constant(1 / n),
        "covariance_trace": constant(1 - 1 / n),
        "deviation": constant(1 / n),
        "pair_square": np.full((1, 1, 1), 2.0),
        "pair_noise": np.zeros((1, 1, 1)),
    }
    variance = np.array([RATE**2 * gradient_variance])
    if not injected:
        # Without smoothing at u = 0: the gap of the smoothed iterate and the difference to it.
        zero = sign_gap(1e-12) - sign_gap(gradient_variance)
        settings |= {
            "virtual_variance": variance,
            "sensitivity": constant(0.0),
            "smoothing": constant(zero),
        }
    return GradientStream(
        step=np.arange(1),
        learning_rate=np.array([RATE]),
        noise_variance=variance if injected else np.zeros(1),
        samples=n,
        parameters=1,
        batch_factor=batch_factor,
        **settings,
    )


@pytest.mark.parametrize("gradient_variance", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("name", EXPECTATION_BOUNDS)
def test_no_bound_is_below_an_exactly_known_gap(name, gradient_variance):
    injected = name != "virtual_noise"
    stream = sign_stream(gradient_variance, injected)
    bound = expectation_bounds(stream, 1, [name])[name].value[-1]
    assert bound >= sign_gap(gradient_variance if injected else 1e-12)


@pytest.mark.parametrize("gradient_variance", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("name", [name for name in NOISY if name != "conditional_tested"])
def test_no_bound_is_below_the_exact_gap_of_batches_of_one_row(name, gradient_variance):
    """The row of the batch moves theta, so the gap is that of one row over n."""
    gap = (ndtr(1 / math.sqrt(gradient_variance)) - 0.5) / ROWS
    stream = sign_stream(gradient_variance, batch_factor=1.0)
    assert expectation_bounds(stream, 1, [name])[name].value[-1] >= gap


@pytest.mark.parametrize(
    ("name", "largest_ratio"),
    [
        ("population_chain", 2),
        ("gradient_entropy", 2),
        ("gradient_norm", 2),
        ("incoherence", 2),
        ("conditional", 4),
        ("conditional_tested", 4),
    ],
)
def test_the_constants_cannot_be_smaller(name, largest_ratio):
    """With the information divided by so much (a lost factor) the exact gap exceeds the bound."""
    bound = expectation_bounds(sign_stream(10.0), 1, [name])[name].value[-1]
    assert bound / math.sqrt(largest_ratio) < sign_gap(10.0) < bound


# Mean estimation, loss |theta - z|^2 / 2, z ~ N(0, I_d): stagnation theory 13.
D, N, ETA, S, T = 5, 50, 0.1, 0.3, 60


def mean_estimation(sets, seed):
    """Iterates and statistics on many training sets, from the laws of mean and scatter."""
    random = np.random.default_rng(seed)
    centre = random.normal(size=(sets, D)) / math.sqrt(N)
    trace = random.chisquare((N - 1) * D, sets) / N
    theta, squares = np.zeros((sets, D)), []
    for _ in range(T):
        squares.append(np.sum((theta - centre) ** 2, axis=1))
        theta = theta - ETA * (theta - centre + math.sqrt(S) * random.normal(size=(sets, D)))
    stream = GradientStream(
        step=np.arange(T),
        learning_rate=np.full(T, ETA),
        noise_variance=np.full(T, ETA**2 * S),
        samples=N,
        parameters=D,
        gradient_square=np.stack(squares, axis=1),
        covariance_trace=np.repeat(trace[:, None], T, axis=1),
        deviation=np.repeat(np.sum(centre**2, axis=1)[:, None], T, axis=1),
        training_set=np.arange(sets),
    )
    gap = 0.5 * (np.sum(theta**2, axis=1) + D - np.sum((theta - centre) ** 2, axis=1) - trace)
    return stream, gap


@pytest.fixture(scope="module")
def oracle():
    return mean_estimation(40_000, seed=1)


def expected_square(t):
    """Mean of |grad L_n|^2 at step t."""
    shrink = (1 - ETA) ** (2 * t)
    return D * (shrink / N + ETA**2 * S * (1 - shrink) / (1 - (1 - ETA) ** 2))


EXPECTED = {
    "population_chain": T * D / (2 * N * S),
    "gradient_entropy": sum(D / 2 * math.log1p(expected_square(t) / (D * S)) for t in range(T)),
    "gradient_norm": sum(expected_square(t) + D * (N - 1) / N for t in range(T)) / (2 * S * N**2),
    "incoherence": T * D / (2 * S * N * (N - 1)),
}


def z_of(name, oracle, information):
    """Deviation of the bound from the one with a given information, in standard errors."""
    bound = expectation_bounds(oracle[0], 1, [name])[name]
    factor = 1 / (2 * N) if name in ("population_chain", "gradient_entropy") else 0.5
    return (bound.value[-1] - math.sqrt(factor * information)) / bound.stderr[-1]


@pytest.mark.statistical
@pytest.mark.parametrize("name", EXPECTED)
def test_mean_estimation_has_the_closed_form(name, oracle):
    assert abs(z_of(name, oracle, EXPECTED[name])) < 4


@pytest.mark.statistical
@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("factor", [2.0, 0.5, N / (N - 1), (N - 1) / N])
def test_wrong_closed_forms_are_rejected(name, oracle, factor):
    assert abs(z_of(name, oracle, factor * EXPECTED[name])) > 5


def test_the_numbers_of_the_theory(oracle):
    assert EXPECTED["population_chain"] == pytest.approx(10)
    shrink = (1 - ETA) ** np.arange(1, T + 1)
    variance = ETA**2 * S * (1 - shrink**2) / (1 - (1 - ETA) ** 2)
    exact = D / 2 * np.log1p((1 - shrink) ** 2 / (N * variance))
    assert exact[-1] == pytest.approx(2.04076, abs=5e-6)
    # Of every iterate about the rows; the first step has no slack beyond ln(1 + x) <= x.
    for name in ("population_chain", "gradient_entropy"):
        bound = expectation_bounds(oracle[0], 1, [name])[name]
        stderr = 4 * bound.stderr / bound.value * bound.information
        assert np.all(exact <= bound.information + stderr)
    chain = expectation_bounds(oracle[0], 1, ["population_chain"])["population_chain"]
    assert chain.information[0] / exact[0] == pytest.approx(1.033, abs=0.02)


@pytest.mark.statistical
def test_the_gap_of_mean_estimation_is_below_the_bounds():
    """For the squared loss clipped at 6, on rows drawn one by one; unclipped it is 0.0998203."""
    stream, gap = mean_estimation(40_000, seed=2)
    stderr = gap.std(ddof=1) / math.sqrt(gap.size)
    assert abs(gap.mean() - 0.0998203) < 4 * stderr
    assert abs(gap.mean() - 0.0998203 / 2) > 5 * stderr
    random, top = np.random.default_rng(3), 6.0
    rows, fresh = random.normal(size=(2, 1500, N, D))
    theta = np.zeros((1500, D))
    for _ in range(T):
        noise = math.sqrt(S) * random.normal(size=theta.shape)
        theta = theta - ETA * (theta - rows.mean(axis=1) + noise)

    def clipped(z):
        losses = 0.5 * np.sum((theta[:, None] - z) ** 2, axis=2)
        return np.minimum(losses, top).mean(axis=1)

    gaps = clipped(fresh) - clipped(rows)
    smallest = min(bound.value[-1] for bound in expectation_bounds(stream, top).values())
    assert 0.03 < gaps.mean() < smallest


# Two hypotheses about one row: with ||D|| constant the log odds before step t are N(a t, 2 a t).
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(100)


def gaussian_mean(function, mean, variance):
    return np.sum(WEIGHTS * function(mean + math.sqrt(variance) * NODES)) / math.sqrt(2 * math.pi)


def pair_stream(steps, signal, trajectories):
    """``signal`` is the mean of the log odds at the end."""
    square = 2 * signal / steps
    random = np.random.default_rng(4)
    noise = math.sqrt(square) * random.normal(size=(trajectories, steps, 1))
    ones = np.ones((trajectories, steps))
    return GradientStream(
        step=np.arange(steps),
        learning_rate=np.full(steps, 2.0),
        noise_variance=np.ones(steps),
        samples=2,
        parameters=1,
        gradient_square=ones,
        covariance_trace=ones,
        pair_square=np.full(noise.shape, square),
        pair_noise=noise,
    )


@pytest.mark.statistical
@pytest.mark.parametrize("signal", [0.5, 3.0])
def test_the_tested_pairs_reach_the_exact_information(signal):
    steps = 200
    a = signal / steps
    bound = expectation_bounds(pair_stream(steps, signal, 4000), 1, ["conditional_tested"])
    value, stderr, information, _ = bound["conditional_tested"]
    stderr = stderr[-1] * 2 * information[-1] / value[-1]
    # KL of a step is a pi^2; pi is the logistic function of minus the log odds.
    discrete = sum(
        a * gaussian_mean(lambda x: 1 / (1 + np.exp(x)) ** 2, a * t, 2 * a * t)
        for t in range(steps)
    )
    assert abs(information[-1] - discrete) < 4 * stderr
    # Exact information of a coin through two Gaussians; the steps are small, so little is lost.
    exact = math.log(2) - gaussian_mean(lambda x: np.log1p(np.exp(-x)), signal, 2 * signal)
    assert exact < discrete < exact * 1.02
    simple = expectation_bounds(pair_stream(steps, signal, 2), 1, ["conditional"])
    assert simple["conditional"].information[-1] == pytest.approx(signal / 4)


def test_weights_are_the_posterior_of_the_path():
    """Densities of a path written out under both rows; the sign of the noise matters."""
    random = np.random.default_rng(5)
    steps, n, p = 6, 3, 2
    eta, v = random.uniform(0.2, 0.6, steps), random.uniform(0.1, 0.3, steps)
    theta, log_odds, expected, square, product = np.zeros(p), 0.0, [], [], []
    for t in range(steps):
        own, ghost, others = random.normal(size=(3, p)) + theta
        zeta = random.normal(size=p)
        moved = theta - eta[t] * (others + own / n) + math.sqrt(v[t]) * zeta
        expected.append(1 / (1 + math.exp(log_odds)))
        for row, sign in ((own, 1), (ghost, -1)):
            offset = moved - (theta - eta[t] * (others + row / n))
            log_odds -= sign * np.sum(offset**2) / (2 * v[t])
        square.append([np.sum((own - ghost) ** 2)])
        product.append([zeta @ (own - ghost)])
        theta = moved
    weights = wrong_row_weights(np.array(square), np.array(product), eta, v, n)
    np.testing.assert_allclose(weights.ravel(), expected, rtol=1e-10)
    flipped = wrong_row_weights(np.array(square), -np.array(product), eta, v, n)
    assert np.abs(flipped.ravel() - expected).max() > 0.05


@pytest.mark.parametrize("sets", [None, np.repeat(np.arange(5), 4)])
def test_standard_errors_are_those_of_the_mean(sets):
    """Delta method, over trajectories or over training sets."""
    stream = random_stream(trajectories=20, training_set=sets)
    bound = expectation_bounds(stream, 1, ["population_chain"])["population_chain"]
    each = np.cumsum(
        0.5 * stream.learning_rate**2 / stream.noise_variance * np.asarray(stream.deviation), axis=1
    )
    if sets is not None:
        each = each.reshape(5, 4, -1).mean(axis=1)
    stderr = each.std(axis=0, ddof=1) / math.sqrt(len(each))
    delta = math.sqrt(0.5 / 7) * stderr / (2 * np.sqrt(bound.information))
    np.testing.assert_allclose(bound.stderr, delta, rtol=0.03)
    assert ("one training set" in bound.note) == (sets is None)


def test_a_single_trajectory_has_no_standard_error():
    bound = expectation_bounds(random_stream(trajectories=1), 1, ["incoherence"])["incoherence"]
    assert np.isnan(bound.stderr).all()
    assert np.isfinite(bound.value).all()


def test_thinned_records_are_estimates_and_say_so():
    both = (2, 3)
    stream = GradientStream(
        step=np.array([0, 10, 20]),
        learning_rate=np.full(3, 0.1),
        noise_variance=np.full(3, 0.01),
        samples=5,
        parameters=2,
        gradient_square=np.ones(both),
        covariance_trace=np.ones(both),
        pair_square=np.ones((*both, 1)),
        pair_noise=np.ones((*both, 1)),
        every=10,
    )
    bounds = expectation_bounds(stream, 1)
    assert "conditional_tested" not in bounds
    assert bounds["incoherence"].information[-1] == pytest.approx(30 * 0.5 / 16)
    assert "stands for 10" in bounds["incoherence"].note
    with pytest.raises(ValueError, match="records are thinned"):
        expectation_bounds(stream, 1, ["conditional_tested"])


def test_a_step_that_does_not_move_says_nothing():
    rates, variances = np.array([0.1, 0.0]), np.array([0.02, 0.0])
    stream = random_stream(steps=2, learning_rate=rates, noise_variance=variances)
    for name in NOISY:
        value = expectation_bounds(stream, 1, [name])[name].value
        assert value[1] == value[0] > 0


def test_joined_streams_are_the_mean_over_training_sets():
    one, other = random_stream(0, 2), random_stream(1, 2)
    same = {name: getattr(one, name) for name in ("learning_rate", "noise_variance")}
    other = dataclasses.replace(other, virtual_variance=one.virtual_variance, **same)
    joined = join_streams([one, other])
    both = expectation_bounds(joined, 1, NOISY)
    for name in set(NOISY) - {"gradient_entropy"}:
        parts = [expectation_bounds(s, 1, [name])[name].information for s in (one, other)]
        np.testing.assert_allclose(both[name].information, np.mean(parts, axis=0))
        assert both[name].note == ""
    with pytest.raises(ValueError, match="differ in samples"):
        join_streams([one, dataclasses.replace(other, samples=8)])
    with pytest.raises(ValueError, match="at least one"):
        join_streams([])


def test_all_that_the_stream_suffices_for():
    full = random_stream()
    assert list(expectation_bounds(full, 1)) == NOISY
    bare = dataclasses.replace(full, deviation=None, pair_square=None, pair_noise=None)
    assert list(expectation_bounds(bare, 1)) == ["gradient_entropy", "gradient_norm", "incoherence"]
    silent = dataclasses.replace(full, noise_variance=np.zeros(5))
    assert list(expectation_bounds(silent, 1)) == ["virtual_noise"]


def test_the_registry_knows_them():
    fields = {field.name for field in dataclasses.fields(GradientStream)}
    for name, bound in EXPECTATION_BOUNDS.items():
        assert lookup(name) is bound
        assert set(bound.needs) <= fields
        assert explain(name).splitlines()[0] == f"{name}: bound on the mean gap"
        with pytest.raises(TypeError, match="mean gap"):
            certificate(name)


@pytest.mark.parametrize("name", NOISY)
def test_plain_sgd_has_virtual_noise_only(name):
    stream = random_stream(noise_variance=np.zeros(5))
    with pytest.raises(ValueError, match=r"5 of 5 inject none.*use virtual_noise"):
        expectation_bounds(stream, 1, [name])


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"loss_range": math.inf}, "clip the loss"),
        ({}, {"loss_range": 0}, "loss_range must be positive"),
        ({}, {"names": ["pensia"]}, "named 'pensia'; there are population_chain"),
        ({}, {"names": ["virtual_noise"]}, "these inject some; use population_chain"),
        ({}, {"names": ["incoherence"], "kept": 7}, "between 1 and n - 1 = 6, got 7"),
        (
            {"batch_factor": 0.5},
            {"names": ["incoherence"], "kept": 3},
            "for the full gradient; leave kept out",
        ),
        ({"deviation": None}, {"names": ["population_chain"]}, "needs deviation, which the stream"),
        ({"pair_square": None}, {"names": ["conditional"]}, "needs pair_square"),
        (
            {"noise_variance": np.zeros(5), "plain_steps": False},
            {"names": ["virtual_noise"]},
            "shrink or project",
        ),
        (
            {"noise_variance": np.zeros(5), "virtual_variance": np.zeros(5)},
            {"names": ["virtual_noise"]},
            "positive virtual_variance",
        ),
    ],
)
def test_refused_bounds(changes, arguments, message):
    with pytest.raises(ValueError, match=message):
        expectation_bounds(random_stream(**changes), **({"loss_range": 1} | arguments))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, "at least two training rows"),
        ({"batch_factor": -0.1}, "batch_factor must be finite"),
        ({"step": np.array([0, 2, 4, 6, 8])}, "record every step"),
        ({"step": np.arange(1, 6)}, "record every step"),
        ({"every": 2}, "multiples of every = 2"),
        ({"learning_rate": np.ones(4)}, r"learning_rate has the shape \(4,\)"),
        ({"pair_square": np.ones((3, 4, 2))}, "one more axis for the rows"),
        ({"deviation": np.full((3, 5), np.nan)}, "15 of 15 values are not"),
        ({"covariance_trace": np.full((3, 5), -1.0)}, "finite and not negative"),
        ({"gradient_square": np.ones(5)}, "leading axis of length 1"),
    ],
)
def test_refused_streams(changes, message):
    with pytest.raises(ValueError, match=message):
        random_stream(**changes)
