"""The steps of the proofs, checked on random networks without the code of the bounds."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from sgdsim.bounds import BoundInputs, GeometricGrid, layer_norms, margins, ramp
from sgdsim.bounds._neyshabur import log_noise_scales
from sgdsim.bounds._stagnation_terms import log_lipschitz

Make = Callable[..., BoundInputs]
Weights = Callable[..., list[np.ndarray]]


def forward(weights: list[np.ndarray], inputs: np.ndarray, activation: Callable) -> np.ndarray:
    """Logits ``(..., row, label)`` for stacks of matrices and inputs ``(row, feature)``."""
    values = np.swapaxes(inputs, -1, -2)
    *hidden, last = weights
    for matrix in hidden:
        values = activation(matrix @ values)
    return np.swapaxes(last @ values, -1, -2)


def unit_rows(random: np.random.Generator, rows: int, features: int) -> np.ndarray:
    inputs = random.normal(size=(rows, features))
    return inputs / np.linalg.norm(inputs, axis=-1, keepdims=True)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


@pytest.mark.parametrize("activation", [np.tanh, relu])
@pytest.mark.parametrize("radius", [0.01, 0.5, 3.0])
def test_network_moves_by_at_most_the_lipschitz_constant(
    activation: Callable, radius: float, weights_of: Weights
) -> None:
    random = np.random.default_rng(7)
    centre = weights_of(0)
    spectral = layer_norms(centre).spectral_high[None]
    constant = math.exp(float(log_lipschitz(spectral, np.asarray(radius))[0][0]))

    def points(count: int) -> list[np.ndarray]:
        moves = [random.normal(size=(count, *a.shape)) for a in centre]
        length = np.sqrt(sum(np.sum(m**2, axis=(-2, -1)) for m in moves))
        scale = (radius * random.uniform(size=count) / length)[:, None, None]
        return [a + scale * m for a, m in zip(centre, moves, strict=True)]

    first, second = points(500), points(500)
    x = unit_rows(random, 20, 7)
    change = forward(first, x, activation) - forward(second, x, activation)
    moved = np.sqrt(
        sum(np.sum((a - b) ** 2, axis=(-2, -1)) for a, b in zip(first, second, strict=True))
    )
    ratio = np.linalg.norm(change, axis=-1).max(axis=-1) / (constant * moved)
    assert 0.005 < ratio.max() <= 1.0


def test_perturbation_lemma_on_two_thousand_random_networks() -> None:
    """Never above 1; one layer comes close to 1, so that a smaller constant would be wrong."""
    random = np.random.default_rng(12)
    activations = (np.tanh, relu, lambda x: x)
    largest = dict.fromkeys(range(1, 5), 0.0)
    for _ in range(2000):
        depth = int(random.integers(1, 5))
        widths = random.integers(2, 9, size=depth + 1)
        centre = [
            random.uniform(0.2, 2.0) * random.normal(size=(rows, cols)) / math.sqrt(cols)
            for cols, rows in itertools.pairwise(widths)
        ]
        radius = 10.0 ** random.uniform(-2.0, 0.5)
        pair = []
        for _ in range(2):
            moves = [random.normal(size=a.shape) for a in centre]
            length = math.sqrt(sum(float(np.sum(m**2)) for m in moves))
            scale = radius * random.uniform() ** 0.3 / length
            pair.append([a + scale * m for a, m in zip(centre, moves, strict=True)])
        x = unit_rows(random, 60, int(widths[0]))
        activation = activations[random.integers(3)]
        change = forward(pair[0], x, activation) - forward(pair[1], x, activation)
        moved = math.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(*pair, strict=True)))
        spectral = np.array([[np.linalg.norm(a, 2) for a in centre]])
        constant = math.exp(float(log_lipschitz(spectral, np.asarray(radius))[0][0]))
        ratio = float(np.linalg.norm(change, axis=-1).max()) / (constant * moved)
        largest[depth] = max(largest[depth], ratio)
    assert max(largest.values()) <= 1.0 + 1e-12
    assert largest[1] > 0.95
    assert largest[2] > 0.5


def test_lipschitz_constant_is_attained_by_a_linear_network() -> None:
    # Two layers c I of a scalar chain: moving both by the same amount has slope Lambda at r -> 0.
    c, radius = 3.0, 1e-6
    step = radius / math.sqrt(2.0)
    change = (c + step) ** 2 - c**2
    constant = math.sqrt(2.0) * (c + radius)
    assert 0.999999 < change / (constant * radius) <= 1.0


def test_ramp_is_root_two_over_gamma_lipschitz_in_the_logits() -> None:
    random = np.random.default_rng(11)
    gamma = 0.7
    first = random.normal(size=(20_000, 3))
    second = first + random.normal(size=first.shape) * random.uniform(size=(20_000, 1))
    labels = random.integers(0, 3, size=20_000)
    change = np.abs(ramp(margins(first, labels), gamma) - ramp(margins(second, labels), gamma))
    slope = change / np.linalg.norm(first - second, axis=-1)
    assert 0.97 < slope.max() * gamma / math.sqrt(2.0) <= 1.0 + 1e-12


def test_cover_without_rounding_up_needs_one_more_point() -> None:
    """Averages of ceil(x) - 1 points, and 0, cover the hull at distance a/sqrt(x)."""
    random = np.random.default_rng(2)
    for x, dimension in itertools.product((0.7, 1.02, 1.6, 2.0, 2.4, 3.0, 3.3), (2, 3)):
        vertices = unit_rows(random, dimension, dimension)
        vertices = np.concatenate([vertices, -vertices])
        count = math.ceil(x) - 1
        cover = [np.zeros(dimension)]
        if count:
            choices = itertools.combinations_with_replacement(range(len(vertices)), count)
            cover += [vertices[list(choice)].mean(axis=0) for choice in choices]
        points = random.dirichlet(np.full(len(vertices), 0.5), size=3000) @ vertices
        distance = np.linalg.norm(points[:, None] - np.array(cover), axis=-1).min(axis=-1)
        assert distance.max() <= x**-0.5
        # The logarithm of the size is at most x ln(N + 1), the form that G3 uses.
        assert math.log(len(cover)) <= x * math.log(len(vertices) + 1)


@pytest.mark.parametrize("activation", [np.tanh, relu])
@pytest.mark.parametrize("inflate", [1.0, 1.3])
def test_perturbation_of_layers_in_rounded_norms(
    activation: Callable, inflate: float, weights_of: Weights
) -> None:
    random = np.random.default_rng(3)
    count, layers = 500, 3
    weights = weights_of(4, (count,))
    above = inflate * layer_norms(weights).spectral_high
    noise = [random.normal(size=a.shape) for a in weights]
    size = above * random.uniform(size=(count, layers)) / layers
    scale = size / layer_norms(noise).spectral_high
    noise = [scale[:, j, None, None] * u for j, u in enumerate(noise)]
    x = unit_rows(random, 20, 7)
    moved = [a + u for a, u in zip(weights, noise, strict=True)]
    change = forward(moved, x, activation) - forward(weights, x, activation)
    bound = math.e * above.prod(axis=-1) * (layer_norms(noise).spectral_high / above).sum(axis=-1)
    ratio = np.linalg.norm(change, axis=-1).max(axis=-1) / bound
    assert 0.005 < ratio.max() <= 1.0


@pytest.mark.statistical
@pytest.mark.parametrize("case", ["three layers", "one layer", "zero layer"])
def test_noise_of_the_prior_moves_no_logit_by_a_quarter_margin(
    case: str, make_inputs: Make, weights_of: Weights
) -> None:
    """P(max_x |f_{w+u} - f_w| < gamma/4) >= 1/2, with the maximum bounded, not sampled."""
    random = np.random.default_rng(5)
    weights = {
        "three layers": weights_of(8),
        "one layer": [random.normal(size=(4, 7))],
        "zero layer": [*weights_of(8)[:2], np.zeros((4, 9))],
    }[case]
    inputs = make_inputs(weights, weights)
    rounded = GeometricGrid(1e-3, 1e4, 1.1).ceil(layer_norms(weights).spectral_high)
    sigma = np.exp(log_noise_scales(inputs, rounded))
    draws = 400
    noise = [s * random.normal(size=(draws, *a.shape)) for s, a in zip(sigma, weights, strict=True)]
    moved = [np.broadcast_to(a, u.shape) + u for a, u in zip(weights, noise, strict=True)]
    noise_norms = np.stack([np.linalg.norm(u, 2, axis=(-2, -1)) for u in noise], axis=-1)
    moved_norms = np.stack([np.linalg.norm(a, 2, axis=(-2, -1)) for a in moved], axis=-1)
    norms = np.array([np.linalg.norm(a, 2) for a in weights])
    layers = len(weights)
    # Telescoping with the norms of this very draw bounds the change for all inputs at once.
    change = sum(
        norms[:j].prod() * noise_norms[:, j] * moved_norms[:, j + 1 :].prod(axis=-1)
        for j in range(layers)
    )
    largest = inputs.sample.input_bound * np.asarray(change)
    fraction = np.mean(largest < inputs.margin / 4.0)
    assert fraction >= 0.5
    # The prior is not absurdly narrow either: noise 40 times as wide would not do.
    wide = 40.0 * inputs.sample.input_bound * np.asarray(noise_norms[:, 0]) * norms[1:].prod()
    if case != "zero layer":
        assert np.mean(wide < inputs.margin / 4.0) < 0.5
    x = inputs.sample.input_bound * unit_rows(random, 50, 7)
    seen = np.linalg.norm(forward(moved, x, np.tanh) - forward(weights, x, np.tanh), axis=-1)
    assert (seen.max(axis=-1) <= largest * (1.0 + 1e-9)).all()


def test_matrix_tail_bound_of_the_noise() -> None:
    random = np.random.default_rng(6)
    rows, cols = 3, 5
    h = max(rows, cols)
    norms = np.linalg.norm(random.normal(size=(20_000, rows, cols)), 2, axis=(-2, -1))
    for t in (4.0, 5.0, 6.0):
        assert np.mean(norms > t) <= 2 * h * math.exp(-t * t / (2 * h))
