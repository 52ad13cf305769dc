"""Refusals: of numbers when a thing is made, of what does not fit before anything is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim
from sgdsim._checks import (
    check_count,
    check_momentum,
    check_not_negative,
    check_positive,
    check_weight_of_the_past,
)
from sgdsim.dynamics import (
    SDE,
    SVAG,
    AdamSDE,
    BoxProjection,
    Constant,
    ConstantNoise,
    DiagonalNoise,
    GaussianGradient,
    HessianAlignedNoise,
    IsotropicNoise,
    LabelNoise,
    LowRankNoise,
    MinibatchGradient,
    MinibatchNoise,
    NoisyGradient,
    Projected,
    RMSPropSDE,
    Scheduled,
    StudentNoise,
    UnderdampedSDE,
    WeightDecay,
    gaussian_sgd,
    gradient_descent,
    heavy_ball,
    label_noise_sgd,
    minibatch_sgd,
    sgld,
)
from sgdsim.problems import OutputLoss, Problem

NO_NUMBERS = [True, np.bool_(True), "0.1", None, float("nan"), 0.5j, [0.5], np.array([0.5])]


@pytest.mark.parametrize("bad", [*NO_NUMBERS, jnp.ones(2), jnp.asarray(True), jnp.asarray(-1.0)])
def test_only_one_real_number_in_range_passes(bad):
    for check in (check_positive, check_not_negative, check_weight_of_the_past):
        with pytest.raises(ValueError, match="x must be"):
            check("x", bad)
    with pytest.raises(ValueError, match="momentum must be in"):
        check_momentum(bad)


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, np.asarray, jnp.asarray])
def test_numbers_of_every_kind_are_seen(kind):
    check_positive("x", kind(0.5))
    check_not_negative("x", kind(0.0))
    check_momentum(kind(0.0))
    for bad in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="x must be a positive finite number"):
            check_positive("x", kind(bad))
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\)"):
        check_momentum(kind(1.0))


def test_traced_numbers_pass():
    def make(rate):
        check_momentum(rate)
        check_not_negative("x", rate)
        return gradient_descent(rate).learning_rate

    assert float(jax.jit(make)(-1.0)) == -1.0
    np.testing.assert_array_equal(jax.vmap(make)(jnp.array([-1.0, 2.0])), [-1.0, 2.0])


@pytest.mark.parametrize("bad", [0, -1, 2.0, 2.5, True, "2", None, np.float64(2), np.zeros(2)])
def test_only_positive_integers_are_counts(bad):
    with pytest.raises(ValueError, match="substeps must be a positive integer, got"):
        check_count("substeps", bad)
    check_count("substeps", 2)
    check_count("substeps", np.int64(2))


ROWS, SIZE = 16, 3
PLAIN = Problem(lambda theta, z: 0.5 * jnp.sum((theta[None] - z) ** 2, axis=1), jnp.ones((16, 3)))
OUTPUT = Problem(
    OutputLoss(lambda theta, z: z * theta[None], lambda f, z: 0.5 * jnp.sum((f - z) ** 2, axis=1)),
    jnp.ones((16, 3)),
)
MANY = MinibatchNoise(jnp.asarray(17.0), replacement=False)


def start(stepper, problem=PLAIN):
    return sgdsim.Ensemble(
        problem=problem,
        stepper=stepper,
        region=sgdsim.Ball(jnp.zeros(SIZE), 1.0),
        observer=sgdsim.no_observables,
        schedule=sgdsim.Schedule(1, 1, 1),
        layout=sgdsim.choose_layout(),
    ).start(jnp.zeros(SIZE), 1)


REFUSED = {
    "batch": (minibatch_sgd(0.1, 17), "a batch of 17 rows .* from 16 rows"),
    "without replacement": (minibatch_sgd(0.1, 17, False), "without replacement from 16 rows"),
    "svag": (SVAG(0.1, 17, 2), "a batch of 17 rows"),
    "sgld": (sgld(0.1, 1.0, 17), "a batch of 17 rows"),
    "labels": (label_noise_sgd(0.1, 17, 0.1), "label noise needs a problem whose losses"),
    "noisy source": (
        heavy_ball(0.1, 0.9, NoisyGradient(MinibatchGradient(17), IsotropicNoise(1.0))),
        "a batch of 17 rows",
    ),
    "noise on top": (
        heavy_ball(0.1, 0.9, NoisyGradient(MinibatchGradient(4), MANY)),
        "17.* rows cannot be drawn without replacement from 16 rows; take at most 16",
    ),
    "modifiers": (
        Scheduled(
            Projected(WeightDecay(minibatch_sgd(0.1, 17), 0.1), BoxProjection(-1.0, 1.0)),
            Constant(0.1),
        ),
        "a batch of 17 rows",
    ),
    "sde": (SDE(0.1, MANY, 2), "cannot be drawn without replacement"),
    "underdamped": (UnderdampedSDE(0.1, 0.9, MANY), "cannot be drawn without replacement"),
    "adam": (AdamSDE(0.1, MANY), "cannot be drawn without replacement"),
    "rmsprop": (RMSPropSDE(0.1, MANY), "cannot be drawn without replacement"),
    "student": (SDE(0.1, StudentNoise(MANY, 3.0)), "cannot be drawn without replacement"),
    "source": (heavy_ball(0.1, 0.9, GaussianGradient(MANY)), "cannot be drawn without"),
    "label noise": (gaussian_sgd(0.1, LabelNoise(4, 0.1)), "acts through the outputs of a model"),
    "aligned": (gaussian_sgd(0.1, HessianAlignedNoise(4, "mse")), "acts through the outputs"),
    "rank": (gaussian_sgd(0.1, LowRankNoise(4, 3)), "rank = 3 leaves nothing to approximate"),
    "factor": (gaussian_sgd(0.1, ConstantNoise(jnp.ones((2, 1)))), "do not fit the parameters"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_does_not_fit_is_refused_before_tracing(name, monkeypatch):
    stepper, message = REFUSED[name]

    def unreachable(*_):
        raise AssertionError("traced before it was checked")

    monkeypatch.setattr("sgdsim.ensemble._loop._start", unreachable)
    with pytest.raises(ValueError, match=message):
        start(stepper)


def test_what_fits_starts():
    """With replacement Gaussian noise may stand for a batch of any size."""
    for stepper in (minibatch_sgd(0.1, 16), SDE(0.1, MinibatchNoise(100)), SVAG(0.1, 16, 2)):
        start(stepper)
    for stepper in (label_noise_sgd(0.1, 16, 0.1), SDE(0.1, LabelNoise(4, 0.1))):
        start(stepper, OUTPUT)
    with pytest.raises(ValueError, match="a batch of 17 rows"):
        start(label_noise_sgd(0.1, 17, 0.1), OUTPUT)
    start(gaussian_sgd(0.1, DiagonalNoise(jnp.asarray(4.0))))
