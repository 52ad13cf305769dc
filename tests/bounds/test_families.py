"""Every certificate against its formula in plain scalars, and where it claims nothing."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sgdsim.bounds import (
    CERTIFICATES,
    FACTORS,
    MEASURES,
    BoundInputs,
    GeometricGrid,
    TrainingSample,
    evaluate_all,
    explain,
    layer_distances,
    layer_norms,
)
from sgdsim.bounds._frobenius import log_depth_of_grs, log_depth_of_nts
from sgdsim.testing import CERTIFICATE_ORACLES, CertificateCase

CaseOf = Callable[..., CertificateCase]
InputsOf = Callable[..., BoundInputs]

FRESH = [name for name in CERTIFICATES if name not in ("G1", "G2", "G3", "BFT", "NBS")]
#: Certificates that round one size of the network up to the grid.
ONE_SIZE = ("NTS", "GRS", "GRS-1inf", "path", "linear")
GIBBS = [name for name in CERTIFICATES if name.startswith("PB-")]
WIDTHS = {"VC": (5, 8, 6, 3), "linear": (5, 3)}


def widths_for(name: str) -> tuple[int, ...]:
    return WIDTHS.get(name, (5, 8, 6, 3))


def test_every_certificate_has_an_oracle_and_a_name_of_its_own() -> None:
    assert set(CERTIFICATE_ORACLES) == set(CERTIFICATES)
    assert not set(CERTIFICATES) & set(MEASURES)
    for name, entry in CERTIFICATES.items():
        assert name in explain(name)
        assert entry.assumptions
        assert entry.fixed_in_advance


@pytest.mark.parametrize("name", CERTIFICATES)
@pytest.mark.parametrize(
    "widths", [(5, 8, 6, 3), (4, 7, 2), (6, 4), (6, 2), (3, 4, 4, 4, 4, 2)], ids=str
)
def test_equals_the_scalar_formula(
    name: str, widths: tuple[int, ...], case_of: CaseOf, inputs_of: InputsOf
) -> None:
    for seed, move in ((1, 1e-4), (2, 0.1), (3, 1.0)):
        case = case_of(seed, widths, move)
        evaluation = CERTIFICATES[name](inputs_of(case))
        expected = CERTIFICATE_ORACLES[name](case)
        np.testing.assert_allclose(evaluation.value, expected, rtol=1e-10)
        assert evaluation.value.shape == ()
        if math.isnan(expected):
            assert name == "linear"
            assert evaluation.reason == f"{len(widths) - 1} layers instead of one (1 of 1)"
            continue
        np.testing.assert_allclose(evaluation.log_value, math.log(expected), rtol=1e-9, atol=1e-10)
        assert set(evaluation.log_factors) <= set(FACTORS)
        np.testing.assert_allclose(
            sum(evaluation.log_factors.values()), evaluation.log_value, rtol=1e-11, atol=1e-12
        )


@pytest.mark.parametrize("name", CERTIFICATES)
def test_many_iterates_at_once(name: str, case_of: CaseOf, inputs_of: InputsOf) -> None:
    first = case_of(0, widths_for(name))
    cases = [
        replace(first, weights=[a + 0.2 * k for a in first.weights], errors=[0.1 * k, 0.2, 0.5])
        for k in range(4)
    ]
    evaluation = CERTIFICATES[name](inputs_of(*cases))
    expected = [CERTIFICATE_ORACLES[name](case) for case in cases]
    np.testing.assert_allclose(evaluation.value, expected, rtol=1e-10)
    if name not in ("VC", "BFT-fixed", "BFT-cut"):
        assert len(set(evaluation.value.tolist())) > 1


@pytest.mark.parametrize("name", FRESH)
def test_what_is_told_apart_is_part_of_the_sum(
    name: str, case_of: CaseOf, inputs_of: InputsOf
) -> None:
    evaluation = CERTIFICATES[name](inputs_of(case_of(0, widths_for(name))))
    rest = float(evaluation.log_factors["rest"])
    # The cut is capped, and a PAC-Bayes bound is no sum.
    if name != "BFT-cut" and name not in GIBBS:
        assert -1e-12 < rest < 1.0


@pytest.mark.parametrize("name", CERTIFICATES)
def test_iterate_that_diverged(name: str, case_of: CaseOf, inputs_of: InputsOf) -> None:
    case = case_of(0, widths_for(name))
    broken = [np.where(np.arange(a.size).reshape(a.shape) == 0, np.nan, a) for a in case.weights]
    evaluation = CERTIFICATES[name](inputs_of(case, replace(case, weights=broken)))
    assert evaluation.assumption_violated.tolist() == [False, True]
    assert np.isnan(evaluation.value).tolist() == [False, True]
    assert evaluation.reason == "norms not finite (1 of 2)"


@pytest.mark.parametrize("name", ["NTS", "GRS", "path", "VC"])
def test_activation_that_is_not_homogeneous(
    name: str, case_of: CaseOf, inputs_of: InputsOf
) -> None:
    evaluation = CERTIFICATES[name](inputs_of(case_of(), activation="tanh"))
    assert evaluation.assumption_violated
    assert evaluation.reason == "the activation tanh is not positively homogeneous (1 of 1)"
    assert not CERTIFICATES[name](inputs_of(case_of(), activation="linear")).assumption_violated


def test_rows_of_a_network_that_is_not_homogeneous(case_of: CaseOf, inputs_of: InputsOf) -> None:
    """GRS-1inf then rounds every norm and pays for all of them."""
    case = case_of()
    entry = CERTIFICATES["GRS-1inf"]
    product = math.prod(case.up(float(np.abs(a).sum(axis=1).max())) for a in case.weights)
    logs = 2 * (3 * math.log(2) + math.log(5))
    complexity = 6 * product * case.x_column / (case.gamma * case.n) * math.sqrt(logs)
    deviation = 3 * math.sqrt(math.log(2 * case.cells**3 / case.delta) / (2 * case.n))
    evaluation = entry(inputs_of(case, activation="tanh"))
    np.testing.assert_allclose(evaluation.value, 2 * complexity + deviation, rtol=1e-12)
    capped = entry(inputs_of(case, activation="tanh", grid=GeometricGrid(1e-3, 0.5, 1.1)))
    assert capped.reason == "(1,inf) norm above the grid, which ends at 0.5 (1 of 1)"


@pytest.mark.parametrize("name", ONE_SIZE)
def test_size_above_the_grid(name: str, case_of: CaseOf, inputs_of: InputsOf) -> None:
    small = GeometricGrid(1e-4, 0.01, 1.1)
    evaluation = CERTIFICATES[name](inputs_of(case_of(0, widths_for(name)), grid=small))
    assert evaluation.assumption_violated
    assert "above the grid, which ends at 0.01 (1 of 1)" in evaluation.reason


def test_network_outside_the_caps(case_of: CaseOf, inputs_of: InputsOf) -> None:
    case = case_of()
    larger = replace(case, weights=[*case.weights[:-1], 1.6 * case.weights[-1]])
    # The same spectral norm, a larger (2,1) norm: all singular values equal.
    rank = [np.zeros_like(a) for a in case.weights]
    for matrix, weights in zip(rank, case.weights, strict=True):
        np.fill_diagonal(matrix, 1.49 * np.linalg.norm(weights, 2))
    evaluation = CERTIFICATES["BFT-fixed"](inputs_of(case, larger, replace(case, weights=rank)))
    assert evaluation.assumption_violated.tolist() == [False, True, True]
    assert evaluation.reason == (
        "spectral norm above its cap (1 of 3); (2,1) norm above its cap (1 of 3)"
    )


@pytest.mark.parametrize("name", ["BFT", "NBS", *(n for n in FRESH if n not in GIBBS)])
def test_one_output_has_no_margin(name: str, case_of: CaseOf, inputs_of: InputsOf) -> None:
    widths = (4, 1) if name == "linear" else (4, 3, 1)
    evaluation = CERTIFICATES[name](inputs_of(case_of(0, widths)))
    assert evaluation.reason == "one output has no margin (1 of 1)"


@pytest.mark.parametrize("name", ["BFT-cut", "BFT-init", "BFT-fixed", *ONE_SIZE[:4]])
def test_deep_networks_do_not_overflow(name: str, inputs_of: InputsOf) -> None:
    weights = [50.0 * np.eye(2)] * 200
    case = CertificateCase(weights, weights, [a + 0.1 for a in weights], weights)
    changes: dict[str, Any] = {"caps": layer_norms(weights), "measured": None}
    if name == "path":
        changes["measured"] = {"path_norm_1": np.asarray(50.0**180)}
        changes["grid"] = GeometricGrid(1.0, 1e307, 2.0)
    else:
        changes["measured"] = {}
    inputs = _without_paths(inputs_of, case, changes)
    evaluation = CERTIFICATES[name](inputs)
    assert not evaluation.assumption_violated
    assert np.isfinite(evaluation.log_value)
    if name == "BFT-cut":
        assert 8.0 < float(evaluation.value) < 20.0
    else:
        assert float(evaluation.log_value) > 179 * math.log(50.0) - 10.0


def _without_paths(
    inputs_of: InputsOf, case: CertificateCase, changes: dict[str, Any]
) -> BoundInputs:
    """Inputs of a network with more paths than can be counted one by one."""
    shallow = CertificateCase(case.weights[:1], case.centre[:1], case.initial[:1], case.caps[:1])
    inputs = inputs_of(shallow, reference=None, radius=None, gibbs=None, initial=None, caps=None)
    return replace(
        inputs,
        iterate=layer_norms(case.weights),
        initial=layer_distances(case.weights, case.initial),
        **changes,
    )


@pytest.mark.parametrize("name", FRESH)
def test_monotone(name: str, case_of: CaseOf, inputs_of: InputsOf) -> None:
    entry = CERTIFICATES[name]
    # Small weights and many rows: the best cut is not yet at its cap.
    case = case_of(0, widths_for(name), x_frobenius=0.9 * 1.25 * 200, x_column=120.0, n=40_000)
    case = replace(case, weights=[0.2 * a for a in case.weights])
    case = replace(case, caps=[1.01 * a for a in case.weights])

    def value(changed: CertificateCase = case, **changes: Any) -> float:
        return float(entry(inputs_of(changed, **changes)).value)

    base = value()
    assert value(failure_probability=0.001) > base > value(failure_probability=0.2)
    fewer = replace(case, n=10_000, x_frobenius=case.x_frobenius / 2, x_column=60.0)
    assert value(fewer) > base
    if name in GIBBS:
        assert value(margin=0.4) == base
        worse = replace(case, errors=[0.5, 0.5, 0.5])
        assert entry(inputs_of(worse)).value > 0
        far = replace(case, initial=[a + 1.0 for a in case.initial])
        far = replace(far, centre=[a + 1.0 for a in case.centre])
        assert value(far) > base
        assert value(replace(case, draws=50)) > base
    elif name == "VC":
        assert value(margin=0.4) == base
        assert value(case_of(0, (5, 9, 6, 3), n=40_000)) > base
    else:
        assert value(margin=0.4) > base > value(margin=1.6)
        norms = replace(case, weights=[1.3 * a for a in case.weights])
        norms = replace(norms, caps=[1.31 * a for a in case.weights])
        assert value(norms) > base


def test_depth_factors_as_published() -> None:
    """NTS is below GRS for two layers only; both are 1 for one layer."""
    nts = [math.exp(log_depth_of_nts(depth)) for depth in range(1, 7)]
    grs = [math.exp(log_depth_of_grs(depth)) for depth in range(1, 7)]
    np.testing.assert_allclose(nts, [1, 2, 4, 8, 16, 32])
    # The published factors count one activation more.
    published = [math.sqrt(2 * math.log(2) * depth) + 1 for depth in range(0, 6)]
    np.testing.assert_allclose(grs, published)
    assert [a < b for a, b in zip(nts, grs, strict=True)] == [False, True, *[False] * 4]


def test_best_cut_is_never_above_the_published_form(case_of: CaseOf, inputs_of: InputsOf) -> None:
    for scale in (1e-3, 0.03, 0.1, 0.3, 1.0):
        case = case_of()
        case = replace(case, weights=[scale * a for a in case.weights])
        values = evaluate_all(inputs_of(case), ["BFT", "BFT-cut"])
        assert values["BFT-cut"].value < values["BFT"].value


def test_growth_function_is_that_of_vc_for_few_rows(case_of: CaseOf, inputs_of: InputsOf) -> None:
    """With fewer rows than weights every classification is allowed for: sqrt(2 ln 2)."""
    case = case_of(0, (5, 8, 6, 3), n=10, x_frobenius=1.0, x_column=1.0)
    expected = math.sqrt(2 * math.log(2)) + math.sqrt(math.log(20) / 20)
    np.testing.assert_allclose(CERTIFICATES["VC"](inputs_of(case)).value, expected)


def test_names_what_is_missing(case_of: CaseOf, inputs_of: InputsOf) -> None:
    bare = inputs_of(
        case_of(), reference=None, radius=None, initial=None, caps=None, gibbs=None, measured=None
    )
    assert list(evaluate_all(bare)) == [
        "BFT", "NBS", "BFT-cut", "NTS", "GRS", "GRS-1inf", "VC", "linear"
    ]  # fmt: skip
    for name, missing in {
        "BFT-init": "initial",
        "BFT-fixed": "caps",
        "path": "path_norm_1",
        "PB-kl": "initial, gibbs",
        "PB-quad-data": "reference, radius, gibbs",
    }.items():
        with pytest.raises(ValueError, match=f"{name} needs {missing}, which"):
            evaluate_all(bare, [name])


def test_sample_without_columns_uses_the_whole_matrix(case_of: CaseOf, inputs_of: InputsOf) -> None:
    case = case_of()
    sample = TrainingSample(size=900, input_bound=1.25, frobenius=31.0)
    without = CERTIFICATES["GRS-1inf"](inputs_of(case, sample=sample))
    expected = CERTIFICATE_ORACLES["GRS-1inf"](replace(case, x_column=31.0))
    np.testing.assert_allclose(without.value, expected, rtol=1e-12)
