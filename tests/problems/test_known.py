"""What every problem with a known population minimum promises, whatever it is."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from pydantic import TypeAdapter

from sgdsim.problems import (
    KnownLandscape,
    KnownProblem,
    LinearRegression,
    ManyMinima,
    Quadratic,
    TeacherStudent,
    build_known,
)
from sgdsim.scenario import CaseProblem
from sgdsim.testing._dense import dense_hessian

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

LANDSCAPES = {
    "quadratic": {"kind": "quadratic", "eigenvalues": [3.0, 0.5, 0.0]},
    "sphere": {"kind": "sphere", "modulus": 1.5, "dimension": 3},
    "double well": {"kind": "double_well", "transverse": 2.0},
}
NETWORK = {
    "kind": "teacher_student",
    "dimension": 4,
    "hidden": [2],
    "samples": 300,
    "label_noise": 0.3,
    "clip": 0.5,
    "fresh": 4000,
}
TABLES = {
    **{name: {"kind": "landscape", "landscape": table} for name, table in LANDSCAPES.items()},
    "regression": {
        "kind": "linear_regression",
        "dimension": 4,
        "samples": 60,
        "label_noise": 0.5,
    },
    "tanh": NETWORK | {"activation": "tanh"},
    "relu": NETWORK | {"activation": "relu", "hidden": [3, 2]},
    "many minima": {
        "kind": "many_minima",
        "wells": 5,
        "amplitude": 1.0,
        "period": 2.0,
        "plateau": 0.4,
        "samples": 25,
        "spread": 1.0,
        "start": "best",
        "replicas": 4,
    },
}
KINDS = {"regression": LinearRegression, "many minima": ManyMinima}


def build(name: str) -> KnownProblem:
    return build_known(TypeAdapter(CaseProblem).validate_python(TABLES[name]))


@pytest.fixture(scope="module", params=TABLES)
def known(request, x64) -> KnownProblem:
    return build(request.param)


risk = eqx.filter_jit(lambda problem, theta: problem.empirical_risk(theta))
slope = eqx.filter_jit(lambda problem, theta: jax.grad(problem.empirical_risk)(theta))


def near(known: KnownProblem, key, scale: float):
    flat, unravel = ravel_pytree(known.centre)
    return unravel(flat + scale * jax.random.normal(key, flat.shape))


@pytest.mark.parametrize("name", TABLES)
def test_tables_make_the_problem_that_they_name(name):
    expected = KINDS.get(name, TeacherStudent if name in ("tanh", "relu") else KnownLandscape)
    assert type(build(name)) is expected


def test_the_centre_is_a_minimum_of_the_population_risk(known, getkey):
    gradient, _ = ravel_pytree(slope(known.population, known.centre))
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
    spectrum = np.linalg.eigvalsh(dense_hessian(known.population, known.centre))
    assert spectrum[0] >= -1e-12
    assert spectrum[-1] > 0.1
    lowest = risk(known.population, known.centre)
    for scale in (1e-3, 0.1, 0.3):
        assert risk(known.population, near(known, getkey(), scale)) > lowest


def test_deviations_against_dense_derivatives(known):
    """Of the training loss at the centre; sampling the population only makes them larger."""
    dense = [dense_hessian(problem, known.centre) for problem in (known.training, known.population)]
    gradients = [
        ravel_pytree(slope(problem, known.centre))[0]
        for problem in (known.training, known.population)
    ]
    deviations = known.deviations()
    expected = float(jnp.linalg.norm(gradients[0] - gradients[1]))
    np.testing.assert_allclose(deviations.gradient, expected, atol=1e-12)
    expected = np.linalg.norm(dense[0] - dense[1], 2)
    if isinstance(known, TeacherStudent):
        half = known.fresh.shape[0] // 2
        halves = [known.population.take(jnp.arange(half) + start) for start in (0, half)]
        first, second = (dense_hessian(part, known.centre) for part in halves)
        error = np.linalg.norm(first - second, 2) / 2
        assert 0.05 * expected < error < expected
        expected += error
    np.testing.assert_allclose(deviations.hessian, expected, rtol=1e-5, atol=1e-12)


def test_the_gap_maps_over_iterates_and_keeps_their_precision(known, getkey):
    thetas = [near(known, getkey(), 0.2) for _ in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas)
    mapped = eqx.filter_jit(lambda known, thetas: jax.vmap(known.gap)(thetas))(known, stacked)
    assert mapped.value.shape == mapped.stderr.shape == (3,)
    for i, theta in enumerate(thetas):
        single = known.gap(theta)
        np.testing.assert_allclose(mapped.value[i], single.value, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(mapped.stderr[i], single.stderr, rtol=1e-6, atol=1e-14)
    half = known.gap(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), thetas[0]))
    assert half.value.dtype == half.stderr.dtype == jnp.float32


@pytest.mark.parametrize("name", sorted(set(TABLES) - {"tanh", "relu"}))
def test_exact_gaps_are_population_minus_empirical_risk(name, getkey):
    known = build(name)
    for scale in (0.0, 0.3, 1.0, 3.0):
        theta = near(known, getkey(), scale)
        risks = [risk(problem, theta) for problem in (known.population, known.training)]
        gap = known.gap(theta)
        np.testing.assert_allclose(gap.value, risks[0] - risks[1], atol=1e-12)
        assert float(gap.stderr) == 0.0


def test_proved_curvature_holds_everywhere(known, getkey):
    if known.curvature is None:
        assert not isinstance(known, LinearRegression)
        return
    ratios = []
    for scale in (0.1, 1.0, 10.0) * 5:
        theta = near(known, getkey(), scale)
        nearest = known.centre if known.minimum_set is None else known.minimum_set.project(theta)
        offset = theta - nearest
        gradient = slope(known.population, theta)
        distance = jnp.linalg.norm(offset)
        ratios.append([gradient @ offset / distance**2, jnp.linalg.norm(gradient) / distance])
    secant, growth = np.array(ratios).T
    assert secant.min() >= known.curvature.modulus * (1 - 1e-9)
    assert growth.max() <= known.curvature.growth * (1 + 1e-9)
    if isinstance(known, KnownLandscape) and isinstance(known.landscape, Quadratic):
        assert known.curvature == (0.5, 3.0)  # the flat direction does not count


def test_only_networks_have_weights_and_facts_about_the_loss(known):
    is_network = isinstance(known, TeacherStudent)
    assert (known.loss is not None) == is_network
    weights = known.weights(known.centre)
    assert (weights is not None) == is_network
    assert (known.starts(3) is not None) == isinstance(known, ManyMinima)
