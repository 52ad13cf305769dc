"""Every certificate on 200 samples of a distribution whose population losses are known exactly."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr

from sgdsim.bounds import (
    CERTIFICATES,
    BoundInputs,
    GeometricGrid,
    GibbsErrors,
    TrainingSample,
    best_scale,
    layer_distances,
    layer_norms,
    margin_fraction,
    margins,
    ramp,
    zero_one,
)

FEATURES, ROWS, SAMPLES = 5, 24, 200
DELTA, GAMMA, DRAWS = 0.2, 0.3, 200
DEVIATIONS = np.array([0.03, 0.1, 0.3, 1.0])
GRID = GeometricGrid(1e-3, 1e4, 1.1)
CAPS = 30.0

Weights = list[np.ndarray]


@dataclass
class Samples:
    """Trained networks with a leading sample axis, and the rows of each sample."""

    weights: Weights
    initial: Weights
    centre: Weights
    support: np.ndarray
    labels: np.ndarray
    draws: np.ndarray

    @property
    def margins(self) -> np.ndarray:
        """On the support, ``(sample, support)``."""
        return margins(forward(self.weights, self.support), self.labels)


def forward(weights: Weights, x: np.ndarray) -> np.ndarray:
    values = np.swapaxes(x, -1, -2)
    for matrix in weights[:-1]:
        values = np.maximum(matrix @ values, 0.0)
    return np.swapaxes(weights[-1] @ values, -1, -2)


def trained(initial: Weights, x: np.ndarray, labels: np.ndarray, steps: int) -> Weights:
    """Gradient descent on the cross-entropy, ``x`` of shape (sample, row, feature)."""
    weights = [np.broadcast_to(a, (len(x), *a.shape)).copy() for a in initial]
    target = np.eye(len(initial[-1]))[labels]
    for _ in range(steps):
        values = [x]
        for matrix in weights[:-1]:
            values.append(np.maximum(values[-1] @ np.swapaxes(matrix, 1, 2), 0.0))
        logits = values[-1] @ np.swapaxes(weights[-1], 1, 2)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        back = (shares / shares.sum(axis=-1, keepdims=True) - target) / x.shape[1]
        for layer in reversed(range(len(weights))):
            gradient = np.swapaxes(back, 1, 2) @ values[layer]
            back = (back @ weights[layer]) * (values[layer] > 0)
            weights[layer] = weights[layer] - 3.0 * gradient
    return weights


def samples(widths: tuple[int, ...], seed: int, steps: int) -> Samples:
    """Labels are coins, so that training rows are learnt by heart."""
    random = np.random.default_rng(seed)
    # Corners of a cube, so that the norms of rows and columns are the same in every sample; each
    # with both labels, so that any network is wrong half of the time.
    corners = itertools.product((-1.0, 1.0), repeat=FEATURES - 1)
    points = np.array([(1.0, *corner) for corner in corners]) / math.sqrt(FEATURES)
    support, labels = np.concatenate([points, points]), np.repeat([0, 1], len(points))
    initial = [
        random.normal(size=(rows, cols)) / math.sqrt(cols)
        for cols, rows in itertools.pairwise(widths)
    ]
    draws = random.integers(0, len(support), size=(SAMPLES, ROWS))
    others = random.integers(0, len(support), size=(1, ROWS))
    weights = trained(initial, support[draws], labels[draws], steps)
    centres = trained(initial, support[others], labels[others], 5)
    centre = [a[0] for a in centres]
    return Samples(weights, initial, centre, support, labels, draws)


def gibbs_of_linear(found: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Population errors, in closed form, and training errors of draws, ``(sample, scale)``."""
    random = np.random.default_rng(7)
    matrix = found.weights[0]
    # The margin of a row is normal, with the deviation s sqrt(2) |x|.
    spread = DEVIATIONS[:, None] * math.sqrt(2) * np.linalg.norm(found.support, axis=-1)
    exact = ndtr(-found.margins[:, None, :] / spread).mean(axis=-1)
    measured = np.empty((SAMPLES, len(DEVIATIONS)))
    for j, deviation in enumerate(DEVIATIONS):
        noise = deviation * random.normal(size=(DRAWS, *matrix.shape))
        values = margins(forward([matrix + noise], found.support), found.labels)
        wrong = zero_one(values).mean(axis=0)
        measured[:, j] = np.take_along_axis(wrong, found.draws, axis=-1).mean(axis=-1)
    return exact, measured


def inputs_of_samples(found: Samples, gibbs: GibbsErrors | None) -> BoundInputs:
    caps = [np.full_like(a[0], CAPS / math.sqrt(a[0].size)) for a in found.weights]
    paths = np.ones((SAMPLES, FEATURES, 1))
    for matrix in found.weights:
        paths = np.abs(matrix) @ paths
    return BoundInputs(
        iterate=layer_norms(found.weights),
        reference=layer_norms(found.centre),
        radius=layer_distances(found.weights, found.centre).radius,
        initial=layer_distances(found.weights, found.initial),
        caps=layer_norms(caps),
        sample=TrainingSample(
            size=ROWS,
            input_bound=1.0,
            frobenius=math.sqrt(ROWS),
            largest_column=math.sqrt(ROWS / FEATURES),
        ),
        margin=GAMMA,
        failure_probability=DELTA,
        grid=GRID,
        activation="relu",
        gibbs=gibbs,
        measured={"path_norm_1": paths.sum(axis=(-2, -1))},
    )


def gaps_and_values(widths: tuple[int, ...], seed: int, steps: int) -> dict[str, np.ndarray]:
    """Gap and value of every certificate that applies, ``(2, sample)``; NaN: nothing claimed."""
    found = samples(widths, seed, steps)
    values = found.margins
    own = np.take_along_axis(values, found.draws, axis=-1)
    population = {"ramp": ramp(values, GAMMA), "zero_one": zero_one(values)}
    training = {
        "ramp": ramp(own, GAMMA).mean(axis=-1),
        "zero_one": zero_one(own).mean(axis=-1),
        "margin": margin_fraction(own, GAMMA),
    }
    exact, gibbs = np.empty(0), None
    if len(widths) == 2:
        exact, measured = gibbs_of_linear(found)
        size = found.initial[0].size
        gibbs = GibbsErrors(deviations=DEVIATIONS, training=measured, draws=DRAWS, parameters=size)
    inputs = inputs_of_samples(found, gibbs)
    result = {}
    for name, entry in CERTIFICATES.items():
        if inputs.missing(entry.needs):
            continue
        evaluation = entry(inputs)
        if gibbs is not None and entry.population_loss == "gibbs":
            scale = best_scale(name, inputs)[:, None]
            gap = np.take_along_axis(exact - gibbs.training, scale, axis=-1)[:, 0]
        else:
            gap = population[entry.population_loss].mean(axis=-1) - training[entry.empirical_loss]
        if not evaluation.assumption_violated.all():
            result[name] = np.stack([gap, evaluation.value])
    return result


CASES = {
    "linear": ((FEATURES, 2), 1, 60),
    "two layers": ((FEATURES, 6, 2), 2, 150),
    "three layers": ((FEATURES, 6, 5, 2), 3, 150),
}


@pytest.mark.statistical
@pytest.mark.parametrize("label", CASES)
def test_certificates_hold_on_samples_of_a_known_distribution(label: str) -> None:
    found = gaps_and_values(*CASES[label])
    deep = label != "linear"
    expected = {
        name for name in CERTIFICATES if not (deep and (name == "linear" or name.startswith("PB-")))
    }
    assert set(found) == expected
    overfitted = 0
    for name, (gap, value) in found.items():
        assert np.isfinite(value).mean() >= 0.9, name
        assert (gap > value).mean() <= DELTA, name
        overfitted += np.median(gap) > 0.05
    assert overfitted > 0.6 * len(found)


@pytest.mark.statistical
def test_half_of_a_value_would_still_hold() -> None:
    """Here violations cannot see that a factor 2 is missing; the formulas are checked for that.

    The slack is the quotient of the median value and the quantile of the gap that it bounds, the
    smallest of the three cases: 2.7 to 4 for the PAC-Bayes certificates and VC, 11 for quad, 17 to
    35 for those of norm products of rows or of Frobenius, 80 and more for all others.
    """
    slack: dict[str, float] = {}
    for arguments in CASES.values():
        for name, (gap, value) in gaps_and_values(*arguments).items():
            assert np.mean(gap > 0.5 * value) <= DELTA, name
            quotient = float(np.nanmedian(value) / np.quantile(gap, 1 - DELTA))
            slack[name] = min(slack.get(name, math.inf), quotient)
    assert set(slack) == set(CERTIFICATES)
    assert min(slack.values()) > 2.0
    assert {name for name, quotient in slack.items() if quotient < 10.0} == {
        "VC",
        *(f"PB-{kind}{end}" for kind in ("kl", "McAllester", "Catoni") for end in ("", "-data")),
    }


@pytest.mark.statistical
def test_the_simulation_can_see_a_violation() -> None:
    """A tenth of the value of PB-kl and of VC is violated far too often."""
    found = gaps_and_values(*CASES["linear"])
    for name in ("PB-kl", "VC"):
        gap, value = found[name]
        assert np.mean(gap > 0.1 * value) > DELTA
