"""Which solver is right for which noise; one Brownian path for all; the Ito correction."""

import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import sgdsim.dynamics._sde
from sgdsim.dynamics import (
    SDE,
    AbstractGradientNoise,
    IsotropicNoise,
    Iterate,
    MinibatchNoise,
    StudentNoise,
    check_solver,
)
from sgdsim.dynamics._brownian import LevyNormals, LevyPath, draw_substeps
from sgdsim.dynamics._solvers import SOLVERS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

ETA, BATCH = 0.3, 2.0
ADDITIVE, MINIBATCH = IsotropicNoise(0.4), MinibatchNoise(BATCH)
HEAVY = StudentNoise(MINIBATCH, 3.0)
STRATONOVICH = [
    name
    for name, (_, facts) in SOLVERS.items()
    if facts.limit == "stratonovich" and facts.noise == "any" and not facts.refusal
]
ADDITIVE_ONLY = ["shark", "sra1", "sea"]


class NoCorrection(AbstractGradientNoise):
    """State-dependent noise whose Ito correction nobody has derived."""


def test_the_sets_of_solvers_are_those_that_work():
    one_term = {"heun", "midpoint", "ralston"}
    two_terms = {"eulerheun", "stratonovichmilstein", "generalshark", "spark", "slowrk"}
    assert set(STRATONOVICH) == one_term | two_terms
    for solver in ["euler", *STRATONOVICH, *ADDITIVE_ONLY]:
        SDE(ETA, ADDITIVE, 2, solver=solver)
    for solver in STRATONOVICH:
        SDE(ETA, MINIBATCH, 2, solver=solver, ito_correction=True)
    SDE(ETA, HEAVY)
    assert SDE(ETA, ADDITIVE, solver="GeneralShARK").solver == "generalshark"
    SDE(ETA, ADDITIVE, order=2, solver="heun")


@pytest.mark.parametrize(
    ("noise", "settings", "reason", "alternative"),
    [
        (MINIBATCH, {"solver": "heun"}, "Stratonovich equation", "or ito_correction=True"),
        (MINIBATCH, {"solver": "spark"}, "another process than the Ito", "take 'euler'"),
        (NoCorrection(), {"solver": "heun"}, "Stratonovich equation", "take 'euler'.$"),
        (
            *(NoCorrection(), {"solver": "heun", "ito_correction": True}),
            *("correction of NoCorrection is not known", "take 'euler'"),
        ),
        (MINIBATCH, {"ito_correction": True}, "would be in excess", "ito_correction=False"),
        (MINIBATCH, {"solver": "shark"}, "is for additive noise", "ito_correction=True one of"),
        (
            *(MINIBATCH, {"solver": "sra1", "ito_correction": True}),
            *("covariance of MinibatchNoise depends on theta", "'generalshark'"),
        ),
        (MINIBATCH, {"solver": "itomilstein"}, "dense matrix", "take 'euler'"),
        (ADDITIVE, {"solver": "reversibleheun"}, "second copy of theta", "'sra1'"),
        (ADDITIVE, {"solver": "tsit5"}, "equations without noise", "GradientFlow"),
        (ADDITIVE, {"solver": "quicsort"}, "underdamped Langevin", "UnderdampedSDE"),
        (ADDITIVE, {"solver": "hewn"}, "unknown solver 'hewn'", "Did you mean 'heun'"),
        (ADDITIVE, {"solver": "slow_rk"}, "unknown solver 'slow_rk'", "Did you mean 'slowrk'"),
        (MINIBATCH, {"adaptive": True}, "adaptive steps are refused", "more substeps than 1"),
        (HEAVY, {"substeps": 2}, "StudentNoise is not Gaussian", "substeps=1"),
        (HEAVY, {"resolution": 4}, "StudentNoise is not Gaussian", "substeps=1"),
        (HEAVY, {"solver": "heun", "ito_correction": True}, "not Gaussian", "solver='euler'"),
        (ADDITIVE, {"substeps": 4, "resolution": 6}, "multiple of substeps = 4", "got 6"),
        (ADDITIVE, {"substeps": 4, "resolution": 2}, "multiple of substeps = 4", "got 2"),
        (ADDITIVE, {"resolution": 0}, "resolution must be a positive integer", "got 0"),
        (ADDITIVE, {"order": 2}, "order 2 is refused for 'euler' with one", "'generalshark'"),
        (
            *(MINIBATCH, {"adaptive": True, "substeps": 2, "resolution": 8}),
            *("adaptive steps are refused", "more substeps than 2"),
        ),
        (ADDITIVE, {"order": 3}, "order must be 1 or 2", "got 3"),
    ],
)
def test_refusals_name_the_reason_and_the_alternatives(noise, settings, reason, alternative):
    with pytest.raises(ValueError, match=f"{reason}.*{alternative}"):
        SDE(ETA, noise, **settings)


def test_the_default_path_is_drawn_as_it_always_was(network_problem, getkey):
    """Bit for bit: the key itself for one point, one stream per resolution for more."""
    problem, theta = network_problem
    key, step = getkey(), jnp.asarray(5)
    stream = jax.random.fold_in(jax.random.fold_in(key, np.uint32(0x8000_0003)), 3)

    def expected(counter, key=key):
        return jax.random.normal(jax.random.fold_in(key, counter), (problem.n,))

    one = SDE(ETA, MINIBATCH).draw(key, step, problem, theta)
    np.testing.assert_array_equal(one, expected(5))
    three = SDE(ETA, MINIBATCH, 3).draw(key, step, problem, theta)
    np.testing.assert_array_equal(three, np.stack([expected(15 + j, stream) for j in range(3)]))
    # A solver with Levy areas sees the same increments, and areas of a stream of their own.
    levy = SDE(ETA, MINIBATCH, 3, solver="spark", ito_correction=True)
    drawn = levy.draw(key, step, problem, theta)
    np.testing.assert_array_equal(drawn.increment, three)
    assert not np.intersect1d(np.ravel(drawn.area), np.ravel(three)).size


def levy_normals(problem, theta, key, substeps, resolution, step=3):
    settings = {"substeps": substeps, "resolution": resolution, "levy": 1}
    draw = jax.jit(lambda key, k: draw_substeps(ADDITIVE, key, k, problem, theta, **settings))
    drawn = draw(key, jnp.asarray(step))

    def flat(tree):
        lead = 1 if substeps == 1 else substeps
        return np.concatenate([np.reshape(a, (lead, -1)) for a in jax.tree.leaves(tree)], axis=1)

    return LevyNormals(flat(drawn.increment), flat(drawn.area))


def test_coarse_increments_and_areas_are_those_of_the_fine_path(network_problem, getkey):
    """Against the integral of a path of lines and parabolas with the fine increments and areas."""
    problem, theta = network_problem
    key, parts, nodes = getkey(), 8, 21
    fine = levy_normals(problem, theta, key, parts, parts)
    coarse = levy_normals(problem, theta, key, 1, parts)
    # On the unit interval: W_j = w_j / sqrt(8), H_j = a_j / sqrt(12 * 8).
    increments, areas = fine.increment / np.sqrt(parts), fine.area / np.sqrt(12 * parts)
    u = np.linspace(0, 1, nodes)[:, None]
    simpson = np.r_[1, np.tile([4, 2], nodes // 2)[:-1], 1] / (3 * (nodes - 1))
    start, integral = np.zeros(increments.shape[1]), 0.0
    for w, h in zip(increments, areas, strict=True):
        path = start + u * w + 6 * u * (1 - u) * h  # the bump has the mean h
        integral = integral + simpson @ path / parts
        start = start + w
    np.testing.assert_allclose(coarse.increment[0], start, atol=1e-13)
    np.testing.assert_allclose(coarse.area[0], np.sqrt(12) * (integral - start / 2), atol=1e-13)


def test_scales_of_the_areas():
    """Standard deviations of W, H and K over a step, from their definitions on a fine path."""
    length, count = 0.3, 2000
    time = (np.arange(count) + 1) / count * length
    path = np.tril(np.ones((count, count))) * np.sqrt(length / count)  # by the normals
    bridge = path - np.outer(time / length, path[-1])
    area = bridge.mean(axis=0)
    second = ((length / 2 - time) / length) @ bridge / count
    expected = [np.linalg.norm(functional) for functional in (path[-1], area, second)]
    found: Any = LevyPath(LevyNormals(*jnp.ones(3)), length).evaluate(0.0, 1.0, use_levy=True)
    np.testing.assert_allclose([found.W, found.H, found.K], expected, rtol=2e-3)


def test_coarse_normals_are_independent_standard_normals(network_problem):
    """The map from fine to coarse normals has orthonormal rows; and coarsening is associative."""
    from sgdsim.dynamics._brownian import coarsen_areas, coarsen_increments

    def coarsen(w, a):
        return jnp.stack([coarsen_increments(w), coarsen_areas(w, a)])

    parts = 6
    matrix = np.hstack(jax.jacfwd(coarsen, argnums=(0, 1))(jnp.zeros(parts), jnp.zeros(parts)))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(2), atol=1e-14)
    w, a = jax.random.normal(jax.random.key(3), (2, parts))
    pairs = jax.vmap(coarsen)(w.reshape(3, 2), a.reshape(3, 2))
    np.testing.assert_allclose(coarsen(*pairs.T), coarsen(w, a), atol=1e-14)


def test_coarse_second_areas():
    """Against the integral of a path of straight lines, whose own areas vanish; orthonormal."""
    from sgdsim.dynamics._brownian import coarsen_second_areas

    parts, nodes = 6, 21
    zero = jnp.zeros(parts)
    w = jax.random.normal(jax.random.key(3), (parts,)) / np.sqrt(parts)  # on the unit interval
    # A line has H = K = 0, which are the standardised areas of the parts.
    u, corners = np.linspace(0, 1, nodes), np.append(0, np.cumsum(w))
    simpson = np.r_[1, np.tile([4, 2], nodes // 2)[:-1], 1] / (3 * (nodes - 1)) / parts
    second = 0.0
    for j in range(parts):
        t = (j + u) / parts
        path = corners[j] + u * w[j]
        second += simpson @ ((path - t * corners[-1]) * (0.5 - t))
    found = coarsen_second_areas(w * np.sqrt(parts), zero, zero)
    np.testing.assert_allclose(found, np.sqrt(720) * second, rtol=1e-10)
    rows = jax.jacfwd(coarsen_second_areas, argnums=(0, 1, 2))(zero, zero, zero)
    np.testing.assert_allclose(np.sum(np.square(rows)), 1, rtol=1e-12)


def test_ito_correction_of_minibatch_noise_is_the_dense_one(network_problem):
    r"""(1/2) sum_k D sigma_k sigma_k with the dense columns sigma_k."""
    problem, theta = network_problem
    flat, unravel = ravel_pytree(theta)

    @jax.jit
    def columns(v):
        gradients = jax.jacrev(lambda v: problem.per_sample_losses(unravel(v)))(v)
        centred = gradients - gradients.mean(axis=0, keepdims=True)
        return np.sqrt(ETA / (BATCH * problem.n)) * centred.T

    derivative = jax.jit(jax.jacfwd(columns))(flat)
    expected = 0.5 * np.einsum("ikj,jk->i", derivative, columns(flat))
    found = jax.jit(MINIBATCH.ito_correction)(problem, theta, jnp.asarray(ETA))
    np.testing.assert_allclose(ravel_pytree(found)[0], expected, atol=1e-13)
    assert np.abs(expected).max() > 1e-3


@pytest.fixture(scope="module")
def biases(network_problem):
    """Mean difference to the Ito process at the end of 128 paths of a non-commutative SDE.

    All paths are drawn on one grid of 64 points, the reference is Euler on it. In the mean the
    areas that no solver sees cancel.
    """
    problem, theta = network_problem
    keys, noise = jax.random.split(jax.random.key(8), 128), MinibatchNoise(1)

    def make(solver, substeps, correct):
        settings = {"solver": solver, "ito_correction": correct, "resolution": 64}
        return SDE(1.0, noise, substeps, **settings)

    def draw(stepper):
        return jax.vmap(lambda key: stepper.draw(key, jnp.asarray(0), problem, theta))(keys)

    def ends(stepper, normals):
        def end(normals):
            return ravel_pytree(stepper.step(problem, Iterate(theta), normals)[0].theta)[0]

        return np.asarray(jax.jit(jax.vmap(end))(normals))

    reference = make("euler", 64, False)
    reference = ends(reference, draw(reference))
    with_areas = draw(make("spark", 16, True))

    def bias(solver, correct):
        normals = with_areas if SOLVERS[solver][1].levy else with_areas.increment
        return np.linalg.norm(np.mean(ends(make(solver, 16, correct), normals) - reference, axis=0))

    return bias


@pytest.mark.parametrize("solver", ["heun", "generalshark"])
def test_without_the_correction_they_reach_another_process(biases, solver, monkeypatch):
    """The mutant of the next test: the refusal bypassed."""
    monkeypatch.setattr(sgdsim.dynamics._sde, "check_solver", lambda *args, **kwargs: None)
    assert biases(solver, False) > 0.08


@pytest.mark.parametrize("solver", STRATONOVICH)
def test_stratonovich_solvers_reach_the_ito_process_by_the_correction(biases, solver):
    assert biases(solver, True) < 0.015


def test_every_pair_of_solver_and_noise_is_either_refused_or_made():
    """Nothing falls through to tracing."""
    made, messages = 0, []
    noises = [ADDITIVE, MINIBATCH, HEAVY, NoCorrection()]
    for solver, noise, correct in itertools.product(SOLVERS, noises, [False, True]):
        try:
            check_solver(solver, noise, ito_correction=correct)
            made += 1
        except ValueError as error:
            messages.append(str(error))
    assert all(re.fullmatch("solver '.*' is refused: .*; take .*[.]", m) for m in messages)
    # Additive: Euler, and eleven with or without correction; minibatch: Euler, eight with it;
    # heavy-tailed: Euler; underived: Euler.
    assert made == (1 + 2 * 11) + (1 + 8) + 1 + 1
