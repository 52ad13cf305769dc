"""No certificate below the error of a network that has learnt coins by heart."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from sgdsim.bounds import (
    CERTIFICATES,
    BoundInputs,
    GeometricGrid,
    GibbsErrors,
    TrainingSample,
    best_scale,
    evaluate_all,
    layer_distances,
    layer_norms,
    margins,
    zero_one,
)

DEVIATIONS = np.array([1e-6, 1e-3, 1e-2, 0.1, 1.0])
DRAWS = 100


@dataclass
class Learnt:
    """A network, the coins that it has learnt, and what was fixed before them."""

    weights: list[np.ndarray]
    initial: list[np.ndarray]
    centre: list[np.ndarray]
    x: np.ndarray
    labels: np.ndarray


def forward(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    for matrix in weights[:-1]:
        x = np.maximum(x @ np.swapaxes(matrix, -1, -2), 0.0)
    return x @ np.swapaxes(weights[-1], -1, -2)


def unit_rows(random: np.random.Generator, count: int, features: int) -> np.ndarray:
    x = random.normal(size=(count, features))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def interpolating(rows: int, features: int, hidden: int, seed: int) -> Learnt:
    """Shortest last layer that gives the outputs +-1 of the right sign; ``hidden`` may be 0."""
    random = np.random.default_rng(seed)
    first = [unit_rows(random, hidden, features)] if hidden else []

    def learn() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        x = unit_rows(random, rows, features)
        labels = random.integers(0, 2, size=rows)
        values = np.maximum(x @ first[0].T, 0.0) if hidden else x
        last, *_ = np.linalg.lstsq(values, 2 * np.eye(2)[labels] - 1, rcond=None)
        return [*first, last.T], x, labels

    weights, x, labels = learn()
    centre, *_ = learn()
    initial = [*first, np.zeros_like(weights[-1])]
    return Learnt(weights, initial, centre, x, labels)


def one_unit_for_each_row(rows: int, seed: int) -> Learnt:
    """Closed form: projections on a line, a hidden unit between neighbouring rows."""
    random = np.random.default_rng(seed)
    x = np.column_stack([unit_rows(random, rows, 3), np.ones(rows)]) / math.sqrt(2)
    labels = random.integers(0, 2, size=rows)
    direction = np.array([0.8, 0.5, -0.3])
    place = x[:, :3] @ direction
    order = np.argsort(place)
    breaks = np.append(place[order[0]] - 0.1, (place[order[1:]] + place[order[:-1]]) / 2)
    # Inputs end with the constant 1/sqrt(2), which carries the thresholds.
    first = np.column_stack([np.tile(direction, (rows, 1)), -breaks * math.sqrt(2)])
    values = np.maximum(x @ first.T, 0.0)
    target = 2 * np.eye(2)[labels] - 1
    last = np.linalg.solve(values[order], target[order]).T
    initial = [first, np.zeros_like(last)]
    centre = [first, np.zeros_like(last)]
    return Learnt([first, last], initial, centre, x, labels)


CASES: dict[str, Callable[[], Learnt]] = {
    "linear": lambda: interpolating(30, 60, 0, 0),
    "random features": lambda: interpolating(150, 10, 300, 1),
    "more rows": lambda: interpolating(300, 20, 600, 2),
    "one unit a row": lambda: one_unit_for_each_row(60, 3),
}


def inputs_of(learnt: Learnt, gibbs: GibbsErrors | None, activation: str) -> BoundInputs:
    rows = len(learnt.labels)
    paths = np.ones(learnt.x.shape[1])
    for matrix in learnt.weights:
        paths = np.abs(matrix) @ paths
    values = margins(forward(learnt.weights, learnt.x), learnt.labels)
    return BoundInputs(
        iterate=layer_norms(learnt.weights),
        reference=layer_norms(learnt.centre),
        radius=layer_distances(learnt.weights, learnt.centre).radius,
        initial=layer_distances(learnt.weights, learnt.initial),
        caps=layer_norms([1.01 * a for a in learnt.weights]),
        sample=TrainingSample(
            size=rows,
            input_bound=1.0,
            frobenius=float(np.linalg.norm(learnt.x)),
            largest_column=float(np.linalg.norm(learnt.x, axis=0).max()),
        ),
        # The most that leaves no margin below it, less a rounding error.
        margin=float(values.min()) * (1 - 1e-6),
        failure_probability=0.05,
        grid=GeometricGrid(1e-3, 1e12, 1.1),
        activation=activation,  # pyright: ignore[reportArgumentType]
        gibbs=gibbs,
        measured={"path_norm_1": np.asarray(paths.sum())},
    )


def gibbs_errors(learnt: Learnt) -> GibbsErrors:
    random = np.random.default_rng(9)
    size = sum(a.size for a in learnt.weights)
    draws = DRAWS if size < 5000 else 20
    errors = []
    for deviation in DEVIATIONS:
        wrong = []
        for _ in range(draws):
            moved = [a + deviation * random.normal(size=a.shape) for a in learnt.weights]
            wrong.append(zero_one(margins(forward(moved, learnt.x), learnt.labels)).mean())
        errors.append(np.mean(wrong))
    return GibbsErrors(
        deviations=DEVIATIONS, training=np.array(errors), draws=draws, parameters=size
    )


@pytest.mark.parametrize("label", CASES)
def test_no_certificate_below_one_half(label: str) -> None:
    """The labels are coins: whatever the network, its population error is exactly 1/2."""
    learnt = CASES[label]()
    assert zero_one(margins(forward(learnt.weights, learnt.x), learnt.labels)).max() == 0.0
    gibbs = gibbs_errors(learnt)
    assert gibbs.training[0] < 0.05
    inputs = inputs_of(learnt, gibbs, "relu")
    checked = 0
    for name, evaluation in evaluate_all(inputs).items():
        if evaluation.assumption_violated:
            assert name == "linear"
            continue
        training = 0.0
        if CERTIFICATES[name].empirical_loss == "gibbs":
            training = float(gibbs.training[int(best_scale(name, inputs))])
        assert float(evaluation.value) + training >= 0.5, name
        checked += 1
    assert checked >= len(CERTIFICATES) - 1


def test_a_rule_with_few_weights_is_certified() -> None:
    """The same test with labels that can be known: some certificates then are below 1/2."""
    random = np.random.default_rng(4)
    x = unit_rows(random, 40_000, 2)
    x[:, 0] += np.sign(x[:, 0])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    weights = [np.array([[1.0, 0.0], [-1.0, 0.0]])]
    learnt = Learnt(weights, [0.9 * weights[0]], weights, x, (x[:, 0] < 0).astype(int))
    inputs = inputs_of(learnt, gibbs_errors(learnt), "relu")
    below = {name for name, e in evaluate_all(inputs).items() if float(e.value) < 0.5}
    assert {"VC", "linear", "NTS", "GRS", "GRS-1inf", "path", "PB-kl", "G1"} <= below
