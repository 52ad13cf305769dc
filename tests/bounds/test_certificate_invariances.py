"""What every certificate says about its invariances, on a random relu network."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from sgdsim.bounds import CERTIFICATES, BoundInputs
from sgdsim.bounds._types import Invariance
from sgdsim.testing import CertificateCase

CaseOf = Callable[..., CertificateCase]
InputsOf = Callable[..., BoundInputs]
Weights = list[np.ndarray]


def forward(weights: Weights, x: np.ndarray) -> np.ndarray:
    for matrix in weights[:-1]:
        x = np.maximum(x @ matrix.T, 0.0)
    return x @ weights[-1].T


def permuted(weights: Weights) -> Weights:
    random = np.random.default_rng(1)
    order = [random.permutation(len(a)) for a in weights[:-1]]
    rows = [*order, np.arange(len(weights[-1]))]
    cols = [np.arange(weights[0].shape[1]), *order]
    return [a[r][:, c] for a, r, c in zip(weights, rows, cols, strict=True)]


def doubled(weights: Weights) -> Weights:
    """Copy every hidden unit, halve what leaves it."""
    wide = [np.vstack([a, a]) for a in weights[:-1]] + [weights[-1]]
    return [wide[0], *(np.hstack([a, a]) / 2 for a in wide[1:])]


def rescaled_layers(weights: Weights) -> Weights:
    factors = [3.0, 0.7, 1 / (3.0 * 0.7)]
    return [c * a for c, a in zip(factors, weights, strict=True)]


def rescaled_nodes(weights: Weights) -> Weights:
    random = np.random.default_rng(2)
    scales = [np.exp(random.normal(size=len(a))) for a in weights[:-1]]
    after = [*scales, np.ones(len(weights[-1]))]
    before = [np.ones(weights[0].shape[1]), *scales]
    return [d[:, None] * a / c for d, a, c in zip(after, weights, before, strict=True)]


CHANGES: dict[str, Callable[[Weights], Weights]] = {
    "permutation": permuted,
    "width_doubling": doubled,
    "layer_rescaling": rescaled_layers,
    "node_rescaling": rescaled_nodes,
}


def value(name: str, case: CertificateCase, inputs_of: InputsOf) -> float:
    return float(CERTIFICATES[name](inputs_of(case)).value)


def changed_case(case: CertificateCase, change: str) -> CertificateCase:
    """Change the network; what was fixed in advance stays, but for its width."""
    if change == "output_scaling":
        weights = [*case.weights[:-1], 1.7 * case.weights[-1]]
        return replace(case, weights=weights, gamma=1.7 * case.gamma)
    fixed = {}
    if change == "width_doubling":
        fixed = {name: doubled(getattr(case, name)) for name in ("centre", "initial", "caps")}
    return replace(case, weights=CHANGES[change](case.weights), **fixed)


def test_the_list_of_changes_is_complete() -> None:
    assert {*CHANGES, "output_scaling"} == set(get_args(Invariance))


@pytest.mark.parametrize("change", CHANGES)
def test_changes_leave_the_outputs(change: str, case_of: CaseOf) -> None:
    weights = case_of(4).weights
    x = np.random.default_rng(0).normal(size=(20, 5))
    np.testing.assert_allclose(forward(CHANGES[change](weights), x), forward(weights, x), rtol=1e-9)
    shapes = [a.shape for a in CHANGES[change](weights)]
    assert all(after[1] == before[0] for before, after in pairwise(shapes))


@pytest.mark.parametrize("name", [n for n in CERTIFICATES if n != "linear"])
@pytest.mark.parametrize("change", get_args(Invariance))
def test_declared_invariances_hold_and_no_others(
    name: str, change: str, case_of: CaseOf, inputs_of: InputsOf
) -> None:
    # Small weights and many rows: the best cut is below its cap.
    case = case_of(4, n=40_000, x_frobenius=240.0, x_column=150.0)
    small = {
        field: [0.1 * a for a in getattr(case, field)]
        for field in ("weights", "initial", "centre", "caps")
    }
    case = replace(case, **small)
    before = value(name, case, inputs_of)
    after = value(name, changed_case(case, change), inputs_of)
    assert np.isfinite(before)
    if change in CERTIFICATES[name].invariances:
        assert abs(after / before - 1) < 1e-9
    elif name == "BFT-fixed" and change != "width_doubling":
        assert np.isnan(after)  # outside the caps
    else:
        assert abs(after / before - 1) > 1e-6


def test_linear_has_no_hidden_units_to_change(case_of: CaseOf, inputs_of: InputsOf) -> None:
    assert CERTIFICATES["linear"].invariances == ("output_scaling",)
    case = case_of(4, (5, 3))
    before = value("linear", case, inputs_of)
    after = value("linear", changed_case(case, "output_scaling"), inputs_of)
    assert after == pytest.approx(before, rel=1e-12)
