"""Measures against plain loops, their factors, their refusals and the published variants."""

from itertools import pairwise

import numpy as np
import pytest

from sgdsim.bounds import (
    FACTORS,
    INGREDIENTS,
    MEASURES,
    BoundInputs,
    GeometricGrid,
    Score,
    TrainingSample,
    compat_differences,
    evaluate_measures,
    explain,
    fft_ingredients,
    layer_distances,
    layer_norms,
    why_undefined,
)
from sgdsim.testing import plain_measures, plain_path_norm

WIDTHS = (5, 4, 6, 3)
ROWS = 137
PUBLISHED = {
    "dziugaite2020": {
        "noise_tolerance": 0.37,
        "magnitude_tolerance": 0.61,
    },
    "neyshabur2018": {},
}
NUMBERS = {
    "cross_entropy": 0.3,
    "output_entropy": 1.7,
    "fisher_rao": 0.9,
    "gradient_noise_first_epoch": 4.0,
    "gradient_noise_final": 0.2,
    "steps_to_loss_01": 210.0,
    "steps_to_loss_001": 900.0,
    "average_sharpness": -0.02,
    "worst_sharpness": 0.4,
    "log_compression": 21.0,
}
SCALES = {
    "sigma": ("noise_tolerance", 0.12),
    "sigma_mag": ("magnitude_tolerance", 0.31),
    "alpha": ("ascent_tolerance", 0.02),
    "alpha_mag": ("magnitude_ascent_tolerance", 0.05),
}


def make_weights(seed, widths=WIDTHS):
    random = np.random.default_rng(seed)
    return [random.normal(size=(rows, cols)) / np.sqrt(cols) for cols, rows in pairwise(widths)]


def log_mean(weights, initial, scale):
    moved = np.concatenate([(a - b).ravel() for a, b in zip(weights, initial, strict=True)])
    return np.mean(np.log(1e-6 + scale**2 * moved**2))


def ingredients(weights, initial, margins, compat=None):
    """What ``measure_network`` would measure, from formulas."""
    n, ordered = len(margins), np.sort(margins)
    scales = {name: value for name, value in SCALES.values()}
    published = scales | PUBLISHED["dziugaite2020"]
    rows = [np.sum(np.abs(a) ** 3, axis=1) ** (1 / 3) for a in weights]
    measured = {
        "margin_10": ordered[-(-n // 10) - 1],
        "margin_05": ordered[-(-n // 20) - 1],
        "margin_10_dziugaite2020": abs(ordered[n // 10 - 1]),
        "margin_05_neyshabur2018": np.percentile(margins, 5),
        "path_norm_2": plain_path_norm(weights, 2),
        "log_l3_15_product": sum(np.log(np.sum(r**1.5)) / 1.5 for r in rows),
        "magnitude_log_mean": log_mean(weights, initial, scales["magnitude_tolerance"]),
        "magnitude_ascent_log_mean": log_mean(
            weights, initial, scales["magnitude_ascent_tolerance"]
        ),
        "magnitude_log_mean_dziugaite2020": log_mean(
            weights, initial, published["magnitude_tolerance"]
        ),
        "noise_tolerance_dziugaite2020": published["noise_tolerance"],
        "magnitude_tolerance_dziugaite2020": published["magnitude_tolerance"],
        **scales,
        **NUMBERS,
        **fft_ingredients(weights, initial, (8, 8)),
    }
    return {name: np.asarray(value, np.float64) for name, value in measured.items()}


def make_inputs(networks, lead=(), rows=ROWS):
    """Inputs of ``(weights, initial, margins)`` in an array of the given shape."""
    measured = [ingredients(*network) for network in networks]
    stack = lambda arrays: np.stack(arrays).reshape((*lead, *np.shape(arrays[0])))  # noqa: E731
    layers = range(len(networks[0][0]))
    weights = [stack([n[0][i] for n in networks]) for i in layers]
    moved = [stack([n[0][i] - n[1][i] for n in networks]) for i in layers]
    return BoundInputs(
        iterate=layer_norms(weights),
        initial=layer_distances(moved, [np.zeros(a.shape[-2:]) for a in moved]),
        sample=TrainingSample(size=rows, input_bound=1.0, frobenius=3.0),
        margin=1.0,
        failure_probability=0.05,
        grid=GeometricGrid(1e-3, 1e4, 1.1),
        measured={name: stack([m[name] for m in measured]) for name in measured[0]},
    )


@pytest.fixture(scope="module")
def networks():
    random = np.random.default_rng(5)
    return [
        (make_weights(seed), make_weights(100 + seed), random.normal(2.5, 1.0, ROWS))
        for seed in range(6)
    ]


def numbers_of(compat):
    scales = {key: value for key, (_, value) in SCALES.items()}
    if compat == "dziugaite2020":
        published = PUBLISHED[compat]
        scales |= {
            "sigma": published["noise_tolerance"],
            "sigma_mag": published["magnitude_tolerance"],
        }
    return scales | NUMBERS


@pytest.mark.parametrize("compat", [None, "dziugaite2020", "neyshabur2018"])
def test_every_measure_equals_plain_loops(networks, compat):
    scores = evaluate_measures(make_inputs(networks, (3, 2)), compat)
    for index, network in enumerate(networks):
        weights, initial, margins = network
        numbers = numbers_of(compat)
        plain = plain_measures(weights, initial, margins, numbers, compat is not None)
        if compat is None:
            assert set(scores) == set(MEASURES) == set(plain)
        for name, score in scores.items():
            assert score.value.shape == (3, 2)
            assert score.value.ravel()[index] == pytest.approx(plain[name], rel=1e-10), name


def test_published_code_has_the_measures_it_had(networks):
    inputs = make_inputs(networks[:1])
    assert len(evaluate_measures(inputs, "dziugaite2020")) == 34
    assert len(evaluate_measures(inputs, "neyshabur2018")) == 5
    assert not set(evaluate_measures(inputs, "dziugaite2020")) & {"vc.dimension", "fisher.rao"}


def test_factors_are_known_and_add_up(networks):
    for compat in (None, "dziugaite2020"):
        for name, score in evaluate_measures(make_inputs(networks, (6,)), compat).items():
            assert set(score.log_factors) <= set(FACTORS)
            total = sum(score.log_factors.values())
            np.testing.assert_allclose(total, score.log_value, rtol=1e-12, err_msg=name)
            if not name.startswith("log."):
                np.testing.assert_allclose(
                    np.exp(score.log_value[score.value >= 0]), score.value[score.value >= 0]
                )


def test_the_factors_of_a_spectral_measure_are_what_they_say(networks):
    weights, initial, margins = networks[0]
    score = evaluate_measures(make_inputs(networks[:1]))["log.spec.init.main"]
    spectral = [np.linalg.norm(a, 2) for a in weights]
    distance = sum(
        np.sum((a - b) ** 2) / s**2 for a, b, s in zip(weights, initial, spectral, strict=True)
    )
    expected = {
        "spectral_product": np.log(spectral).sum(),
        "margin": -np.log(np.sort(margins)[13]),
        "distance": 0.5 * np.log(distance),
        "size": -0.5 * np.log(ROWS),
    }
    for factor, value in expected.items():
        assert score.log_factors[factor] == pytest.approx(value, rel=1e-10)
    assert abs(score.log_factors["rest"]) < 1e-12


def test_two_hundred_layers_do_not_overflow():
    weights = [1e3 * np.eye(4)] * 200
    initial = [np.zeros((4, 4))] * 200
    inputs = BoundInputs(
        iterate=layer_norms(weights),
        initial=layer_distances(weights, initial),
        sample=TrainingSample(size=100, input_bound=1.0, frobenius=3.0),
        margin=1.0,
        failure_probability=0.05,
        grid=GeometricGrid(1e-3, 1e4, 1.1),
        measured={"margin_10": np.array(2.0), "margin_05": np.array(2.0)},
    )
    scores = evaluate_measures(inputs)
    expected = 200 * np.log(1e3) - np.log(2.0) + 0.5 * np.log(200 * 4) - 0.5 * np.log(100)
    assert scores["log.spec.orig.main"].value == pytest.approx(expected)
    assert np.isinf(scores["neyshabur.fro"].value)
    assert scores["neyshabur.fro"].log_value == pytest.approx(
        200 * np.log(2e3) - np.log(2.0) + 0.5 * np.log(200 + np.log(4)) - 0.5 * np.log(100)
    )


def test_a_negative_margin_is_nan_with_a_reason_and_a_number_in_published_code(networks):
    weights, initial, margins = networks[0]
    inputs = make_inputs([(weights, initial, margins - 4.0), networks[1]], (2,))
    assert inputs.measured is not None
    assert inputs.measured["margin_10"][0] < 0
    scores = evaluate_measures(inputs)
    for name, measure in MEASURES.items():
        over_margin = any(need.startswith("margin") for need in measure.needs)
        assert np.isnan(scores[name].value).tolist() == [over_margin, False], name
    reason = why_undefined(inputs, "path.norm.over.margin")
    assert reason.startswith("path.norm.over.margin is nan for 1 of 2 networks: margin_10 is")
    assert "train until 90 % of the training rows are right" in reason
    assert not why_undefined(inputs, "path.norm")
    published = evaluate_measures(inputs, "dziugaite2020")["inverse.margin"].value[0]
    gamma = np.sort(margins - 4.0)[ROWS // 10 - 1]
    assert published == pytest.approx(1 / abs(gamma) / np.sqrt(ROWS))
    signed = evaluate_measures(inputs, "neyshabur2018")["neyshabur.fro"]
    plain = plain_measures(weights, initial, margins - 4.0, numbers_of(None), published=True)
    assert signed.value[0] == pytest.approx(plain["neyshabur.fro"])
    assert signed.value[0] < 0
    assert np.isnan(signed.log_value[0])
    assert np.isfinite(signed.log_value[1])


def test_a_tolerance_that_was_not_found_is_the_reason(networks):
    inputs = make_inputs(networks[:1])
    assert inputs.measured is not None
    measured = dict(inputs.measured) | {"noise_tolerance": np.array(np.nan)}
    object.__setattr__(inputs, "measured", measured)
    assert np.isnan(evaluate_measures(inputs)["pacbayes.orig"].value)
    assert "noise_tolerance is nan there (1 of 1)" in why_undefined(inputs, "pacbayes.orig")


def test_diverged_weights_are_the_reason():
    inputs = BoundInputs(
        iterate=layer_norms([np.full((2, 2), np.inf)]),
        sample=TrainingSample(size=100, input_bound=1.0, frobenius=3.0),
        margin=1.0,
        failure_probability=0.05,
        grid=GeometricGrid(1e-3, 1e4, 1.1),
    )
    assert np.isnan(evaluate_measures(inputs)["param.norm"].value)
    assert "weights are not finite" in why_undefined(inputs, "param.norm")


def test_biases_count_by_default_and_not_in_published_code(networks):
    inputs = make_inputs(networks[:1])
    extra = {"parameters": 90.0, "parameter_norm": 7.0, "parameter_distance": 6.0}
    assert inputs.measured is not None
    measured = dict(inputs.measured) | {name: np.array(v) for name, v in extra.items()}
    object.__setattr__(inputs, "measured", measured)
    default = evaluate_measures(inputs)
    assert default["params"].value == pytest.approx(np.sqrt(90 / ROWS))
    raw = 49.0 / (4 * 0.12**2) + np.log(ROWS / 0.12) + 10
    assert default["pacbayes.orig"].value == pytest.approx(np.sqrt(raw / ROWS))
    published = evaluate_measures(inputs, "dziugaite2020")
    weights, initial, margins = networks[0]
    numbers = numbers_of("dziugaite2020")
    plain = plain_measures(weights, initial, margins, numbers, published=True)
    for name in ("params", "pacbayes.orig", "pacbayes.init", "pacbayes.mag.init"):
        assert published[name].value == pytest.approx(plain[name])
        assert published[name].value != pytest.approx(float(default[name].value), rel=1e-3)


def test_a_scale_that_is_a_variance_changes_the_measure_as_in_the_literature(networks):
    """The defect of the published search: sigma' = sqrt(sigma), so 1/sigma^2 becomes 1/sigma."""
    inputs = make_inputs(networks[:1])
    scores = evaluate_measures(inputs), evaluate_measures(inputs, "dziugaite2020")
    first, second = (s["pacbayes.flatness"].value * np.sqrt(ROWS) for s in scores)
    assert (first, second) == (pytest.approx(1 / 0.12), pytest.approx(1 / 0.37))


@pytest.mark.parametrize(
    ("measured", "arguments", "message"),
    [
        ({"margin_1": 1.0}, {}, "There is no ingredient 'margin_1'. Did you mean 'margin_10'"),
        ({}, {"names": ["path.norm"]}, "path.norm needs path_norm_2, which the inputs do not have"),
        ({}, {"names": ["path.nrm"]}, "There is no bound or measure 'path.nrm'. Did you mean 'pa"),
        ({}, {"names": ["vc.dimension"], "compat": "dziugaite2020"}, "is not in the code of dziu"),
        (
            {"margin_10": 1.0},
            {"names": ["inverse.margin"], "compat": "dziugaite2020"},
            "inverse.margin needs margin_10_dziugaite2020",
        ),
        ({}, {"compat": "dziugaite"}, "compat must be one of dziugaite2020, neyshabur2018"),
    ],
)
def test_refusals(measured, arguments, message):
    inputs = BoundInputs(
        iterate=layer_norms([np.eye(2)]),
        sample=TrainingSample(size=100, input_bound=1.0, frobenius=3.0),
        margin=1.0,
        failure_probability=0.05,
        grid=GeometricGrid(1e-3, 1e4, 1.1),
        measured={name: np.array(value) for name, value in measured.items()},
    )
    with pytest.raises((ValueError, TypeError)) as caught:
        evaluate_measures(inputs, **arguments)
    # Run-time types, which only the tests check, refuse a wrong compat first.
    assert message in str(caught.value) or "compat" in str(caught.value)


def test_without_initialisation_what_needs_it_is_left_out(networks):
    inputs = make_inputs(networks[:1])
    object.__setattr__(inputs, "initial", None)
    names = set(evaluate_measures(inputs))
    assert {"log.spec.orig.main", "pacbayes.orig"} <= names
    assert not names & {"log.spec.init.main", "pacbayes.init", "fro.dist", "pacbayes.mag.orig"}


def test_the_registry_explains_measures_and_knows_its_ingredients():
    fields = {"initial"}
    for name, measure in MEASURES.items():
        assert set(measure.needs) <= set(INGREDIENTS) | fields
        text = explain(name)
        assert text.startswith(f"{name}: measure, no bound")
        assert "dropped" in text
    assert all(line.endswith(".") for line in compat_differences("dziugaite2020"))
    assert any("standard deviation sigma^2" in line for line in compat_differences("dziugaite2020"))


def test_a_measure_returns_the_same_from_the_registry(networks):
    inputs = make_inputs(networks, (6,))
    for name, score in evaluate_measures(inputs).items():
        direct = MEASURES[name](inputs)
        assert isinstance(direct, Score)
        np.testing.assert_array_equal(direct.value, score.value)


def circular_matrix(kernel, size):
    """Convolution that wraps around, as a dense matrix, entry by entry."""
    out, fan, height, width = kernel.shape
    matrix = np.zeros((out, *size, fan, *size))
    for y in range(size[0]):
        for x in range(size[1]):
            for a in range(height):
                for b in range(width):
                    matrix[:, y, x, :, (y + a) % size[0], (x + b) % size[1]] += kernel[:, :, a, b]
    return matrix.reshape(out * size[0] * size[1], -1)


def test_norms_by_fft_are_those_of_circular_convolutions():
    random = np.random.default_rng(0)
    kernels = [random.normal(size=(3, 2, 3, 2)), random.normal(size=(4, 3, 2, 2))]
    kernels.append(random.normal(size=(5, 6)))
    initial = [random.normal(size=a.shape) for a in kernels]
    sizes = [(5, 4), (3, 3), (1, 1)]

    def norm(kernel, size):
        dense = circular_matrix(kernel, size) if kernel.ndim == 4 else kernel
        return np.linalg.norm(dense, 2)

    spectral = [norm(a, s) for a, s in zip(kernels, sizes, strict=True)]
    moved = [a - b for a, b in zip(kernels, initial, strict=True)]
    found = fft_ingredients(kernels, initial, sizes)
    assert found["log_spectral_fft"] == pytest.approx(np.sum(np.log(spectral)))
    assert found["frobenius_over_spectral_fft"] == pytest.approx(
        sum(np.sum(a**2) / s**2 for a, s in zip(kernels, spectral, strict=True))
    )
    assert found["distance_over_spectral_fft"] == pytest.approx(
        sum(np.sum(a**2) / s**2 for a, s in zip(moved, spectral, strict=True))
    )
    assert found["spectral_distance_fft"] == pytest.approx(
        sum(norm(a, s) ** 2 for a, s in zip(moved, sizes, strict=True))
    )
    same = fft_ingredients(kernels, initial, (5, 5))
    assert same["log_spectral_fft"] == pytest.approx(sum(np.log(norm(a, (5, 5))) for a in kernels))


@pytest.mark.parametrize(
    ("shapes", "image", "message"),
    [
        ([(2, 2, 3, 3)], (2, 2), "within an image of"),
        ([(2, 2, 3, 3)] * 2, [(4, 4)], "one pair or one per layer"),
    ],
)
def test_images_that_do_not_fit_are_refused(shapes, image, message):
    kernels = [np.ones(shape) for shape in shapes]
    with pytest.raises(ValueError, match=message):
        fft_ingredients(kernels, kernels, image)
    with pytest.raises(ValueError, match="must have the shapes"):
        fft_ingredients(kernels, kernels[:0], image)
