"""Validity by simulation: a distribution with a known population risk, many training samples."""

import numpy as np
import pytest

from sgdsim.bounds import (
    CERTIFICATES,
    BoundInputs,
    GeometricGrid,
    LossBound,
    Neighbourhoods,
    TrainingSample,
    layer_distances,
    layer_norms,
    margin_fraction,
    margins,
    ramp,
    stagnation_terms,
    zero_one,
)

SUPPORT, FEATURES, LABELS, ROWS, SAMPLES = 24, 3, 2, 40, 200
DELTA, GAMMA = 0.05, 0.5


def population() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of equal probability; the last input column is constant."""
    random = np.random.default_rng(0)
    inputs = np.column_stack([random.normal(size=(SUPPORT, FEATURES - 1)), np.ones(SUPPORT)])
    inputs /= np.linalg.norm(inputs, axis=-1).max()
    labels = (inputs[:, 0] > 0).astype(int)
    labels[::5] = 1 - labels[::5]
    return inputs, labels


@pytest.mark.statistical
@pytest.mark.parametrize("radius", [0.002, 0.05, 0.4])
def test_supremum_over_the_ball_respects_the_certificates(radius: float) -> None:
    random = np.random.default_rng(1)
    inputs, labels = population()
    centre = np.array([[-0.5, 0.1, 0.0], [0.5, -0.1, 0.0]])
    moves = random.normal(size=(300, LABELS, FEATURES))
    moves *= radius / np.linalg.norm(moves, axis=(-2, -1), keepdims=True)
    moves[0] = 0.0
    iterate = centre + moves
    support_margins = margins(np.swapaxes(iterate @ inputs.T, -1, -2), labels)
    ramps, errors = ramp(support_margins, GAMMA), zero_one(support_margins)

    draws = random.integers(0, SUPPORT, size=(SAMPLES, ROWS))
    counts = np.stack([np.bincount(draw, minlength=SUPPORT) for draw in draws]) / ROWS
    gaps = {
        ("ramp", "ramp"): ramps.mean(axis=-1) - counts @ ramps.T,
        ("zero_one", "margin"): errors.mean(axis=-1)
        - np.stack([margin_fraction(support_margins[:, draw], GAMMA) for draw in draws]),
    }
    bound_inputs = BoundInputs(
        reference=layer_norms([centre]),
        iterate=layer_norms([iterate]),
        radius=layer_distances([iterate], [centre]).radius,
        sample=TrainingSample(
            size=ROWS, input_bound=1.0, frobenius=float(np.linalg.norm(inputs[draws[0]]))
        ),
        margin=GAMMA,
        failure_probability=DELTA,
        grid=GeometricGrid(1e-3, 1e2, 1.1),
    )
    for name in ("G1", "G2", "G3", "BFT", "NBS"):
        certificate = CERTIFICATES[name]
        gap = gaps[certificate.population_loss, certificate.empirical_loss]
        value = certificate.evaluate(bound_inputs).value
        violated = (gap > value).any(axis=-1)
        assert violated.mean() <= DELTA, name


@pytest.mark.statistical
def test_hoeffding_at_the_centre_has_the_right_order() -> None:
    """At radius 0 the value of G1 is not far above the quantile that it bounds."""
    random = np.random.default_rng(2)
    # A coin for the loss: half of the rows are right by the whole margin, half wrong.
    losses = random.integers(0, 2, size=(100_000, ROWS)).mean(axis=-1)
    quantile = np.quantile(0.5 - losses, 1 - DELTA)
    centre = [np.ones((2, 2))]
    value = float(
        CERTIFICATES["G1"]
        .evaluate(
            BoundInputs(
                reference=layer_norms(centre),
                iterate=layer_norms(centre),
                radius=np.asarray(0.0),
                sample=TrainingSample(size=ROWS, input_bound=1.0, frobenius=1.0),
                margin=GAMMA,
                failure_probability=DELTA,
                grid=GeometricGrid(1e-3, 1e2, 1.1),
            )
        )
        .value
    )
    assert quantile <= value <= 1.7 * quantile


@pytest.mark.statistical
@pytest.mark.parametrize("radius", [0.01, 0.1])
def test_supremum_over_three_neighbourhoods_of_a_clipped_squared_loss(radius: float) -> None:
    """200 samples, three centres, population known; half of the centre term would be violated."""
    random = np.random.default_rng(3)
    support, rows, clip = 4000, 2500, 0.5
    inputs = random.normal(size=(support, 3))
    inputs /= np.linalg.norm(inputs, axis=-1, keepdims=True)
    answers = random.normal(size=(support, 1))
    centres = np.array([[[0.9, 0.0, 0.0]], [[0.0, -0.5, 0.5]], [[0.0, 0.0, 0.0]]])
    moves = random.normal(size=(40, 3, 1, 3))
    moves *= radius / np.linalg.norm(moves, axis=(-2, -1), keepdims=True)
    moves[0] = 0.0
    outputs = np.swapaxes((centres + moves) @ inputs.T, -1, -2)
    losses = np.minimum(0.5 * np.sum((outputs - answers) ** 2, axis=-1), clip)
    flat = losses.reshape(-1, support)
    draws = random.integers(0, support, size=(SAMPLES, rows))
    counts = np.stack([np.bincount(draw, minlength=support) for draw in draws]) / rows
    gaps = flat.mean(axis=-1) - counts @ flat.T
    bounds = stagnation_terms(
        Neighbourhoods(norms=layer_norms([centres])),
        radius,
        LossBound.clipped_half_squared(clip),
        TrainingSample(size=rows, input_bound=1.0, frobenius=rows**0.5),
        DELTA,
    )
    supremum = gaps.max(axis=-1)
    for name, bound in bounds.items():
        assert (supremum > float(bound.total)).mean() <= DELTA, name
    assert (supremum > 0.5 * float(bounds["G1"].terms["centre"])).mean() > DELTA
    if radius < 0.1:
        assert not any(bound.vacuous for bound in bounds.values())
