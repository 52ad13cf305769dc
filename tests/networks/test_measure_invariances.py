"""Which measures notice a change of a relu network that leaves its classifications as they are.

Deterministic measures are compared to rounding; those that search with random perturbations to the
width of their Monte-Carlo interval.
"""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.bounds import (
    MEASURES,
    BoundInputs,
    GeometricGrid,
    TrainingSample,
    evaluate_measures,
    fft_ingredients,
    layer_distances,
    layer_norms,
)
from sgdsim.bounds._types import Invariance
from sgdsim.networks import Effort, call_network, gradient_noise, measure_network
from sgdsim.problems import Network, Rows

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

EFFORT = Effort(draws=400, halvings=14, ascent_halvings=14, steps=20, starts=20)
#: About four standard errors of the difference of two random measurements, relative.
RANDOM = {"sharpness.average": 0.3, "sharpness.worst": 3e-3, "sharpness": 0.08, "pacbayes": 0.08}


def matrices(seed):
    random = np.random.default_rng(seed)
    first, second, third = (random.normal(size=s) for s in [(6, 5), (7, 6), (3, 7)])
    return [0.4 * first, second, 2.5 * third]


def rows_of():
    """Sixty rows that are all right and have an active unit in every layer."""
    inputs = 3.0 * np.random.default_rng(0).normal(size=(200, 5))
    first, second, third = matrices(5)
    hidden = np.maximum(inputs @ first.T, 0)
    above = np.maximum(hidden @ second.T, 0)
    alive = hidden.any(axis=1) & above.any(axis=1)
    labels = np.argmax(above @ third.T, axis=1)
    return Rows(jnp.asarray(inputs[alive][:60]), jnp.eye(3)[labels[alive][:60]])


def permuted(weights):
    random = np.random.default_rng(1)
    first, second = random.permutation(6), random.permutation(7)
    return [
        weights[0][first],
        weights[1][:, first][second],
        weights[2][:, second],
    ]


def doubled(weights):
    """Every hidden unit twice, with half of its outgoing weights."""
    first, second, third = weights
    return [
        np.repeat(first, 2, axis=0),
        np.repeat(np.repeat(second, 2, axis=0), 2, axis=1) / 2,
        np.repeat(third, 2, axis=1) / 2,
    ]


def layers_rescaled(weights):
    """So far that the noise of 1e-3 that all weights have is felt."""
    return [120.0 * weights[0], weights[1] / 360.0, 3.0 * weights[2]]


def nodes_rescaled(weights):
    factors = np.array([1e-3, 1e3, 2e-3, 5e2, 1e-3, 1e3])
    return [factors[:, None] * weights[0], weights[1] / factors, weights[2]]


def outputs_rescaled(weights):
    return [weights[0], weights[1], weights[2] / 1000.0]


#: The first is invariant unless the number of units limits a cushion, see its own test; the second
#: changes by as little as the error of the ascent.
UNDECIDED = {("compression", "width_doubling"), ("sharpness.mag.flatness", "width_doubling")}
CHANGES = {
    "permutation": permuted,
    "width_doubling": doubled,
    "layer_rescaling": layers_rescaled,
    "node_rescaling": nodes_rescaled,
    "output_scaling": outputs_rescaled,
}


def values_of(change):
    """All measures of the changed network; the initialisation is changed in the same way."""
    rows = rows_of()
    weights, start = change(matrices(5)), change(matrices(6))
    network, initial = (Network(tuple(map(jnp.asarray, w)), "relu") for w in (weights, start))
    measured = measure_network(
        call_network, network, initial, rows, jax.random.key(0), effort=EFFORT
    )
    measured |= fft_ingredients(weights, start, (1, 1))
    early = gradient_noise(call_network, initial, rows)
    supplied = {
        "gradient_noise_first_epoch": early,
        "steps_to_loss_01": 10.0,
        "steps_to_loss_001": 70.0,
    }
    measured |= {name: np.asarray(value, np.float64) for name, value in supplied.items()}
    inputs = BoundInputs(
        iterate=layer_norms(weights),
        initial=layer_distances(weights, start),
        sample=TrainingSample(size=60, input_bound=10.0, frobenius=9.0),
        margin=1.0,
        failure_probability=0.05,
        grid=GeometricGrid(1e-3, 1e4, 1.1),
        measured=measured,
    )
    scores = evaluate_measures(inputs)
    assert set(scores) == set(MEASURES)
    return {name: float(score.value) for name, score in scores.items()}


@pytest.fixture(scope="module")
def plain(x64, unoptimised):
    return values_of(lambda weights: weights)


def test_all_changes_are_tried():
    assert set(CHANGES) == set(get_args(Invariance))


@pytest.mark.parametrize("change", CHANGES)
def test_declared_invariances_hold_and_no_others(plain, change):
    changed = values_of(CHANGES[change])
    wrong = {}
    for name, measure in MEASURES.items():
        tolerance = next((t for prefix, t in RANDOM.items() if name.startswith(prefix)), 1e-7)
        moved = abs(changed[name] - plain[name]) / abs(plain[name])
        if (name, change) in UNDECIDED:
            continue
        # Where the change leaves no scale to be found the number is nan, which is a change too.
        if (moved <= tolerance) != (change in measure.invariances):
            wrong[name] = moved
    assert not wrong
