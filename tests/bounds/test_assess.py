"""All bounds and measures side by side with their gaps."""

import numpy as np
import pytest

from sgdsim.bounds import (
    CERTIFICATES,
    FACTORS,
    MEASURES,
    Certificate,
    GibbsErrors,
    MarginSample,
    Measure,
    assess,
    best_scale,
    certificate,
    evaluate_all,
    evaluate_measures,
    explain,
    generalization_gap,
    layer_distances,
    lookup,
)

NAMES = ("BFT", "NBS", "NTS", "PB-kl", "params", "log.prod.of.spec")


@pytest.fixture
def inputs(make_inputs, weights_of):
    """Six networks, with errors of noisy weights."""
    centre = weights_of(0)
    iterate = [a + b for a, b in zip(centre, weights_of(1, (3, 2), 0.05), strict=True)]
    random = np.random.default_rng(2)
    gibbs = GibbsErrors(
        deviations=np.array([0.01, 0.1]),
        training=random.uniform(0.0, 0.2, (3, 2, 2)),
        held_out=random.uniform(0.2, 0.4, (3, 2, 2)),
        draws=50,
        parameters=sum(matrix.size for matrix in centre),
    )
    return make_inputs(
        centre,
        iterate,
        activation="relu",
        initial=layer_distances(iterate, centre),
        gibbs=gibbs,
    )


@pytest.fixture
def margins():
    random = np.random.default_rng(3)
    return MarginSample(random.normal(1.0, 1.0, (3, 2, 40)), random.normal(0.5, 1.0, (3, 2, 60)))


def test_columns_are_those_of_the_single_functions(inputs, margins):
    found = assess(inputs, margins, NAMES)
    assert found.names == NAMES
    certificates = evaluate_all(inputs, ["BFT", "NBS", "NTS", "PB-kl"])
    measures = evaluate_measures(inputs, names=["params", "log.prod.of.spec"])
    for i, name in enumerate(NAMES):
        one = (certificates | measures)[name]
        np.testing.assert_array_equal(found.value[..., i], one.value)
        np.testing.assert_array_equal(found.log_value[..., i], one.log_value)
    pairs = [("ramp", "ramp"), ("zero_one", "margin"), ("ramp", "ramp"), None]
    for i, pair in enumerate(pairs):
        if pair is not None:
            gap = generalization_gap(margins.training, margins.held_out, pair, inputs.margin)
            np.testing.assert_array_equal(found.gap[..., i], gap.value)
            np.testing.assert_array_equal(found.gap_stderr[..., i], gap.stderr)
    zero_one = margins.gap(("zero_one", "zero_one"), 1.0)
    np.testing.assert_array_equal(found.gap[..., 4], zero_one.value)
    positive = found.gap > 0
    np.testing.assert_allclose(
        found.tightness[..., :4][positive[..., :4]],
        (found.value / found.gap)[..., :4][positive[..., :4]],
    )
    assert np.isnan(found.tightness[..., 4:]).all()


def test_factors_add_up(inputs, margins):
    found = assess(inputs, margins, NAMES)
    assert found.log_factor.shape == (3, 2, len(NAMES), len(FACTORS))
    np.testing.assert_allclose(found.log_factor.sum(axis=-1), found.log_value, atol=1e-12)


def test_the_gap_of_a_noisy_network_is_at_the_scale_of_its_certificate(inputs, margins):
    found = assess(inputs, margins, ["PB-kl"])
    scale = best_scale("PB-kl", inputs)
    gibbs = inputs.gibbs
    for i, j in np.ndindex(3, 2):
        s = scale[i, j]
        train, fresh = gibbs.training[i, j, s], gibbs.held_out[i, j, s]
        assert found.gap[i, j, 0] == pytest.approx(fresh - train)
        variance = (train * (1 - train) + fresh * (1 - fresh)) / 50 + fresh * (1 - fresh) / 60
        assert found.gap_stderr[i, j, 0] == pytest.approx(variance**0.5)


def test_an_exact_population_has_no_standard_error(inputs, margins):
    exact = assess(inputs, margins._replace(exact=True), ["BFT", "params", "PB-kl"])
    assert exact.names == ("BFT", "PB-kl", "params")  # certificates first
    assert (exact.gap_stderr[..., [0, 2]] == 0).all()
    known = assess(inputs, margins, ["PB-kl"]).gap_stderr[..., 0]
    assert (exact.gap_stderr[..., 1] < known).all()  # that of the draws remains
    assert (exact.gap_stderr[..., 1] > 0).all()


def test_without_margins_there_is_no_gap(inputs):
    found = assess(inputs, None, ["BFT", "params"])
    assert np.isnan(found.gap).all()
    assert np.isfinite(found.value).all()


def test_flags(inputs, margins):
    found = assess(inputs, margins, ["BFT", "linear", "params"])
    np.testing.assert_array_equal(found.vacuous[0, 0], [1, -1, -1])
    np.testing.assert_array_equal(found.assumption_violated[0, 0], [0, 1, -1])
    assert list(found.reasons) == ["linear"]
    assert "3 layers instead of one" in found.reasons["linear"]


def test_by_default_everything_that_the_inputs_suffice_for(inputs):
    names = assess(inputs).names
    assert {"G1", "BFT", "BFT-init", "PB-kl-data", "params"} <= set(names)
    assert not {"BFT-fixed", "path", "path.norm"} & set(names)  # caps, path norms are missing


def test_a_name_that_lacks_something_is_refused(inputs):
    with pytest.raises(ValueError, match="BFT-fixed needs caps, which the inputs do not have"):
        assess(inputs, None, ["BFT-fixed"])
    with pytest.raises(ValueError, match=r"no bound or measure 'BTF'\. Did you mean 'BFT'"):
        assess(inputs, None, ["BTF"])


@pytest.mark.parametrize("name", MEASURES)
def test_no_certificate_can_be_made_from_a_measure(name):
    measure = lookup(name)
    assert isinstance(measure, Measure)
    with pytest.raises(TypeError, match="it ranks networks and bounds nothing"):
        certificate(name)
    fields = {
        "name": name,
        "formula": measure.formula,
        "source": measure.source,
        "statement": "with probability one",
        "population_loss": "ramp",
        "empirical_loss": "ramp",
        "fixed_in_advance": "nothing",
        "union_bound": "nothing",
        "assumptions": (),
    }
    with pytest.raises(TypeError, match=r"is a measure \(dropped: .*no certificate can be made"):
        Certificate(**fields, evaluate=measure)  # pyright: ignore[reportArgumentType]


def test_nor_from_its_scores(inputs):
    sneaky = Certificate(
        name="sneaky",
        formula="",
        source="",
        statement="",
        population_loss="ramp",
        empirical_loss="ramp",
        fixed_in_advance="",
        union_bound="",
        assumptions=(),
        evaluate=lambda given: MEASURES["params"](given),  # pyright: ignore[reportArgumentType]
    )
    with pytest.raises(TypeError, match="returned a Score, not an Evaluation"):
        sneaky(inputs)


@pytest.mark.parametrize("name", [*CERTIFICATES, *MEASURES])
def test_explanations_say_what_one_must_know(name):
    text, entry = explain(name), lookup(name)
    assert text.startswith(f"{name}: {'certificate' if name in CERTIFICATES else 'measure'}")
    wanted = ["formula", "source", "unchanged by"]
    if isinstance(entry, Certificate):
        wanted += ["bounds", "holds", "fixed before", "union over", "assumes"]
    else:
        wanted += ["dropped"]
    for word in wanted:
        assert f"\n  {word}" in text
    assert all(len(line) > 15 for line in text.splitlines()[1:])
