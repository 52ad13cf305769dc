"""The steps of the proofs of the norm-based families, on cases that can be enumerated."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from sgdsim.bounds import margins, ramp
from sgdsim.bounds._dimension import log_classifications, log_sign_vectors
from sgdsim.bounds._frobenius import log_depth_of_grs, log_depth_of_nts
from sgdsim.testing import CertificateCase, path_norm

CaseOf = Callable[..., CertificateCase]

ROWS = 10
SIGNS = np.array(list(itertools.product((-1.0, 1.0), repeat=ROWS)))


def planar_rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, 2)) + np.array([0.5, 0.0])


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_peeling_of_frobenius_norms_by_enumeration(seed: int) -> None:
    """Two layers, all signs, all directions: a single hidden unit attains the supremum."""
    x = planar_rows(seed)
    angle = np.linspace(0.0, 2 * math.pi, 720, endpoint=False)
    hidden = relu(np.stack([np.cos(angle), np.sin(angle)], axis=1) @ x.T)
    supremum = np.abs(SIGNS @ hidden.T).max(axis=1)
    scale = np.linalg.norm(x)
    mean, second = supremum.mean() / scale, (supremum**2).mean() / scale**2
    for depth in (math.exp(log_depth_of_nts(2)), math.exp(log_depth_of_grs(2))):
        assert 0.2 * depth < mean <= depth
    # Efron and Stein: the second moment exceeds the squared mean by at most the squared scale.
    assert second - mean**2 <= 1.0
    # On these rows even the scale itself would do: enumeration cannot see the factor 2.
    assert mean < 1.0


def test_one_unit_attains_the_supremum_over_a_layer() -> None:
    """Random hidden layers of the same Frobenius norm never exceed the best single unit."""
    random = np.random.default_rng(5)
    x, signs = planar_rows(1), SIGNS[37]
    angle = np.linspace(0.0, 2 * math.pi, 7200, endpoint=False)
    units = relu(np.stack([np.cos(angle), np.sin(angle)], axis=1) @ x.T) @ signs
    layers = random.normal(size=(5000, 4, 2))
    layers /= np.linalg.norm(layers, axis=(1, 2), keepdims=True)
    lengths = np.linalg.norm(relu(layers @ x.T) @ signs, axis=1)
    assert lengths.max() <= np.abs(units).max() * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_peeling_of_row_norms_by_enumeration(seed: int) -> None:
    x = planar_rows(seed)
    share = np.linspace(0.0, 1.0, 400)
    units = np.concatenate(
        [np.stack([a * share, b * (1 - share)], axis=1) for a in (1, -1) for b in (1, -1)]
    )
    supremum = np.abs(SIGNS @ relu(units @ x.T).T).max(axis=1).mean()
    column = np.linalg.norm(x, axis=0).max()
    assert 0.2 < supremum / (column * math.sqrt(2 * (2 * math.log(2) + math.log(2)))) <= 1.0


@pytest.mark.parametrize("outputs", [2, 3, 5])
def test_complexity_of_linear_outputs_by_enumeration(outputs: int) -> None:
    """Both contractions bound the complexity of the ramp over a Frobenius ball."""
    random = np.random.default_rng(outputs)
    x, gamma = planar_rows(2), 1.5
    labels = random.integers(0, outputs, size=ROWS)
    matrices = random.normal(size=(4000, outputs, 2))
    matrices /= np.linalg.norm(matrices, axis=(1, 2), keepdims=True)
    losses = ramp(margins(np.swapaxes(matrices @ x.T, 1, 2), labels), gamma)
    complexity = (SIGNS @ losses.T).max(axis=1).mean() / ROWS
    constant = math.sqrt(2) if outputs == 2 else 2 * math.sqrt(outputs)
    assert 0.05 < complexity / (constant / gamma * np.linalg.norm(x) / ROWS) <= 1.0


def test_complexity_of_two_linear_outputs_is_nearly_that_of_the_bound() -> None:
    """Where the ramp does not bend, the margin alone: half of the constant would be wrong."""
    random = np.random.default_rng(0)
    # Inputs at right angles: the norm of the signed sum is the same for all signs.
    x = np.eye(ROWS)
    labels = random.integers(0, 2, size=ROWS)
    toward = np.where(labels == 0, 1.0, -1.0)
    # Best matrix for given signs: rows of opposite sign along the signed sum.
    best = SIGNS * toward / math.sqrt(ROWS)
    matrices = np.stack([best, -best], axis=1) / math.sqrt(2)
    values = margins(np.swapaxes(matrices @ x.T, 1, 2), labels)
    complexity = np.sum(SIGNS * values, axis=1).mean() / ROWS
    bound = math.sqrt(2) * np.linalg.norm(x) / ROWS
    assert 0.999 < complexity / bound < 1.0 + 1e-12


def test_rescaling_units_turns_the_path_norm_into_the_last_layer(case_of: CaseOf) -> None:
    weights = case_of(3, (4, 6, 5, 3)).weights
    rescaled, before = [], np.ones(4)
    for matrix in weights[:-1]:
        moved = matrix * before
        before = np.abs(moved).sum(axis=1)
        rescaled.append(moved / before[:, None])
    rescaled.append(weights[-1] * before)
    x = np.random.default_rng(0).normal(size=(4, 50))
    plain, other = x, x
    for first, second in zip(weights[:-1], rescaled[:-1], strict=True):
        plain, other = relu(first @ plain), relu(second @ other)
    np.testing.assert_allclose(rescaled[-1] @ other, weights[-1] @ plain, rtol=1e-12)
    for matrix in rescaled[:-1]:
        np.testing.assert_allclose(np.abs(matrix).sum(axis=1), 1.0)
    assert np.abs(rescaled[-1]).sum() == pytest.approx(path_norm(weights), rel=1e-12)


def test_sign_vectors_of_polynomials_in_one_variable() -> None:
    """Products of M D different linear factors take M D + 1 vectors of signs on the line."""
    for polynomials, degree in [(1, 1), (3, 2), (10, 4), (40, 1)]:
        zeros = np.random.default_rng(degree).permutation(polynomials * degree) + 0.5
        line = np.arange(polynomials * degree + 1.0)
        signs = np.sign(line[:, None, None] - zeros.reshape(polynomials, degree)).prod(axis=-1)
        count = len(np.unique(signs, axis=0))
        assert math.log(count) <= log_sign_vectors(polynomials, degree, 1)
    assert log_sign_vectors(5, 3, 7) == 5 * math.log(2)


@pytest.mark.parametrize("widths", [(2, 2), (2, 3, 2), (2, 4, 3)])
def test_classifications_that_networks_find(widths: tuple[int, ...]) -> None:
    """Never more than the count; one layer finds all 2 n halves of the plane."""
    random = np.random.default_rng(1)
    rows = 7
    x = random.normal(size=(rows, 2))
    labels = random.integers(0, widths[-1], size=rows)
    values = np.broadcast_to(x.T, (60_000, 2, rows))
    shapes = list(itertools.pairwise(widths))
    for layer, (columns, units) in enumerate(shapes):
        values = random.normal(size=(60_000, units, columns)) @ values
        values = values if layer == len(shapes) - 1 else relu(values)
    errors = margins(np.swapaxes(values, 1, 2), labels) <= 0
    count = len(np.unique(errors, axis=0))
    bound = log_classifications(tuple((r, c) for c, r in shapes), rows)
    assert math.log(count) <= bound <= rows * math.log(2)
    if len(shapes) == 1:
        assert count == 2 * rows


def test_massarts_lemma_with_centred_errors() -> None:
    random = np.random.default_rng(3)
    for size in (1, 2, 4, 30, 2**ROWS):
        errors = SIGNS[random.permutation(len(SIGNS))[:size]] > 0
        complexity = (SIGNS @ errors.T.astype(float)).max(axis=1).mean() / ROWS
        assert complexity <= math.sqrt(math.log(size) / (2 * ROWS)) + 1e-12
    # All vectors: 1/2, of the bound sqrt(ln(2)/2) = 0.589; half of that would be wrong.
    assert complexity == 0.5
