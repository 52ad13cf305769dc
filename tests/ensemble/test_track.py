"""Every step is watched: the compiled loop against a plain numpy loop over all iterates."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.dynamics import IsotropicNoise, gaussian_sgd, gradient_descent
from sgdsim.ensemble import (
    NEVER,
    ClassificationObserver,
    Ensemble,
    Layout,
    Schedule,
    no_observables,
    start_track,
    update_track,
)
from sgdsim.problems import PeriodicWells, Problem, Rows, cross_entropies
from sgdsim.stagnation import Ball, Union, basins_of

pytestmark = pytest.mark.usefixtures("x64")

ETA, BATCH, STEPS, EVERY, TRAJECTORIES, SEED, POINT = 0.4, 1.0, 60, 5, 8, 7, 2
HESSIAN = np.array([[1.0, 0.3], [0.3, 0.6]])
CENTRES = np.random.default_rng(5).normal(size=(4, 2))


def plain_iterates(start: np.ndarray) -> np.ndarray:
    """All iterates of Gaussian SGD on the quadratic, shape (trajectory, step, 2), without sgdsim.

    Only the contract of the keys is used: fold in the point, the trajectory, the step.
    """
    centres = CENTRES - CENTRES.mean(axis=0)
    n, paths = len(centres), []
    for member in range(TRAJECTORIES):
        key = jax.random.key(SEED)
        for counter in (POINT, member):
            key = jax.random.fold_in(key, counter)
        path = [start]
        for step in range(STEPS):
            xi = np.asarray(jax.random.normal(jax.random.fold_in(key, step), (n,)))
            gradients = (path[-1] - centres) @ HESSIAN
            noise = (xi - xi.mean()) @ gradients / np.sqrt(n * BATCH)
            path.append(path[-1] - ETA * (gradients.mean(axis=0) - noise))
        paths.append(path)
    return np.array(paths)


def brute_force(distances: np.ndarray, radius: float) -> dict[str, list]:
    """The documented statistics of every trajectory, by plain loops."""
    statistics = {name: [] for name in ("entry", "exit", "inside", "maximum", "late")}
    for path in distances:
        entry = exit_step = NEVER
        inside = 0
        late = 0.0
        for step, distance in enumerate(path):
            if distance <= radius:
                inside += step > 0
                if entry == NEVER:
                    entry = step
            elif entry != NEVER and exit_step == NEVER:
                exit_step = step
            if step > STEPS // 2:
                late += distance**2
        for name, value in zip(
            statistics, (entry, exit_step, inside, path.max(), late), strict=True
        ):
            statistics[name].append(value)
    return statistics


@pytest.mark.parametrize("start", [np.zeros(2), np.array([2.0, -1.5])], ids=["inside", "outside"])
def test_the_loop_watches_every_step(make_ensemble, finish, start):
    radius = 0.7
    iterates = plain_iterates(start)
    distances = np.linalg.norm(iterates, axis=2)
    expected = brute_force(distances, radius)
    # The comparison means something only if trajectories leave and come back between records.
    inside = distances <= radius
    returns = np.sum(~inside[:, :-1] & inside[:, 1:])
    seen = np.sum(~inside[:, :-EVERY:EVERY] & inside[:, EVERY::EVERY])
    assert returns > 2 * seen > 0
    assert len(set(expected["entry"])) > 1 or start[0] == 0.0
    assert len(set(expected["exit"])) > 2

    ensemble = make_ensemble(radius=radius, steps=STEPS, record_every=EVERY)
    keys = ensemble.keys(SEED, TRAJECTORIES, POINT)
    found = finish(ensemble, keys, ensemble.start(jnp.asarray(start), TRAJECTORIES))
    np.testing.assert_allclose(found.theta, iterates[:, -1], rtol=0, atol=1e-12)
    for name, of_track in [
        ("entry", "entry_step"),
        ("exit", "exit_step"),
        ("inside", "steps_inside"),
    ]:
        np.testing.assert_array_equal(found.track[of_track], expected[name], err_msg=name)
    np.testing.assert_allclose(found.track["maximum"], expected["maximum"], rtol=1e-12)
    np.testing.assert_allclose(found.track["late_sum"], expected["late"], rtol=1e-12)
    assert np.all(found.track["diverged_step"] == NEVER)

    # Records belong to the step they are labelled with, and the final observation to the end.
    centres = CENTRES - CENTRES.mean(axis=0)
    offsets = iterates[:, :, None, :] - centres
    risks = 0.5 * np.einsum("tkni,ij,tknj->tkn", offsets, HESSIAN, offsets).mean(axis=2)
    for records, steps in (
        (found.records, slice(0, STEPS, EVERY)),
        (found.final, slice(STEPS, None)),
    ):
        np.testing.assert_allclose(records["loss"], risks[:, steps], rtol=1e-12)
        np.testing.assert_allclose(records["distance"], distances[:, steps], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(records["inside"], inside[:, steps])
    assert np.abs(risks[:, EVERY] - risks[:, EVERY - 1]).min() > 1e-6


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_boundary_belongs_to_the_region(dtype):
    region = Ball(centre=jnp.zeros(2, dtype), radius=5.0)
    on, beyond = jnp.array([3, 4], dtype), jnp.nextafter(jnp.array([3, 4], dtype), jnp.inf)
    assert int(start_track(region, on).entry_step) == 0
    assert int(start_track(region, beyond).entry_step) == NEVER
    late = jnp.asarray(True)
    stays, finite = update_track(start_track(region, on), region, on, jnp.asarray(1), late)
    assert bool(finite)
    assert (int(stays.exit_step), int(stays.steps_inside)) == (NEVER, 1)
    leaves, _ = update_track(start_track(region, on), region, beyond, jnp.asarray(1), late)
    assert (int(leaves.exit_step), int(leaves.steps_inside)) == (1, 0)
    assert {leaf.dtype for leaf in jax.tree.leaves(leaves)} == {np.dtype("int32"), np.dtype(dtype)}


def test_ball_measures_all_leaves_from_its_centre():
    centre = {"a": jnp.ones((2, 2)), "b": jnp.zeros(3)}
    theta = {"a": jnp.ones((2, 2)).at[0, 1].set(4.0), "b": jnp.array([0.0, 4.0, 0.0])}
    np.testing.assert_allclose(Ball(centre=centre, radius=1.0).squared_distance(theta), 25.0)


@pytest.fixture(scope="module")
def quartic():
    """Gradient descent on theta^4 / 4 - theta: explodes from far away, converges from nearby."""
    problem = Problem(lambda theta, z: 0.25 * theta[0] ** 4 - theta[0] + z, jnp.zeros(2))
    region = Ball(centre=jnp.ones(1), radius=0.5)
    schedule = Schedule(steps=20, record_every=2, chunk_steps=10)
    ensemble = Ensemble(
        problem, gradient_descent(0.25), region, no_observables, schedule, Layout("map", 1)
    )

    def state_at(starts):
        state = ensemble.start(jnp.zeros(1), len(starts))
        theta = jnp.asarray(starts)[:, None]
        tracks = jax.vmap(lambda t: start_track(region, t))(theta)
        return eqx.tree_at(lambda s: (s.theta, s.track), state, (theta, tracks))

    return ensemble, state_at


def test_a_diverging_trajectory_is_recorded_and_disturbs_nobody(quartic, finish):
    ensemble, state_at = quartic
    starts = [1.2, 4.0, 0.9, 50.0]
    found = finish(ensemble, ensemble.keys(0, 4), state_at(starts))

    expected_step, last_finite = [], []
    with np.errstate(over="ignore", invalid="ignore"):
        for start in starts:
            path = [np.float64(start)]
            for _ in range(20):
                path.append(path[-1] - 0.25 * (path[-1] ** 3 - 1))
            good = np.isfinite((np.array(path) - 1) ** 2)
            expected_step.append(NEVER if good.all() else int(np.argmin(good)))
            last_finite.append(np.array(path)[good][-1])
    diverged = np.array(expected_step)
    assert diverged[0] == diverged[2] == NEVER
    assert 1 < diverged[3] < diverged[1] < 20
    np.testing.assert_array_equal(found.track["diverged_step"], diverged)
    np.testing.assert_allclose(found.theta[:, 0], last_finite, rtol=1e-10)

    steps = np.arange(0, 20, 2)
    for name in ("loss", "distance"):
        is_nan = np.isnan(found.records[name])
        after = (diverged[:, None] != NEVER) & (steps >= diverged[:, None])
        np.testing.assert_array_equal(is_nan, after, err_msg=name)
        np.testing.assert_array_equal(np.isnan(found.final[name][:, 0]), diverged != NEVER)
    assert not found.final["inside"][1, 0]
    assert found.final["inside"][0, 0]

    alone = finish(ensemble, ensemble.keys(0, 2), state_at([1.2, 0.9]))
    np.testing.assert_array_equal(alone.theta, found.theta[[0, 2]])
    for name, values in alone.track.items():
        np.testing.assert_array_equal(values, found.track[name][[0, 2]], err_msg=name)


def test_statistics_stop_at_divergence(quartic, finish):
    """Inside, then away for ever: exit, occupancy and maximum come from the finite steps."""
    ensemble, state_at = quartic
    far = eqx.tree_at(lambda e: e.region.radius, ensemble, 10.0)
    found = finish(far, far.keys(0, 1), state_at([5.0]))
    path = [5.0]
    with np.errstate(over="ignore", invalid="ignore"):
        while np.isfinite((path[-1] - 1) ** 2):
            path.append(np.float64(path[-1] - 0.25 * (path[-1] ** 3 - 1)))
    distances = np.abs(np.array(path[:-1]) - 1)
    assert found.track["diverged_step"][0] == len(path) - 1
    assert found.track["steps_inside"][0] == np.sum(distances[1:] <= 10)
    np.testing.assert_allclose(found.track["maximum"], distances.max(), rtol=1e-10)
    assert found.track["late_sum"][0] == 0.0


def test_divergence_counts_as_an_exit():
    region = Ball(centre=jnp.zeros(1), radius=1.0)
    start = start_track(region, jnp.zeros(1))
    for bad in (jnp.nan, jnp.inf):
        after, finite = update_track(
            start, region, jnp.full(1, bad), jnp.asarray(3), jnp.asarray(True)
        )
        assert not bool(finite)
        assert int(after.exit_step) == int(after.diverged_step) == 3
        again, finite = update_track(after, region, jnp.zeros(1), jnp.asarray(4), jnp.asarray(True))
        assert not bool(finite)
        jax.tree.map(np.testing.assert_array_equal, again, after)


def recount(basins: np.ndarray, inside: np.ndarray) -> dict[str, list]:
    """The basin statistics of every trajectory, by plain loops over all iterates."""
    counted = {name: [] for name in ("exit_step", "entry_basin", "basin", "hops", "switch_step")}
    for path, within in zip(basins, inside, strict=True):
        visited = [(step, int(path[step])) for step in range(len(path)) if within[step]]
        entry = visited[0] if visited else (NEVER, 0)
        out = [k for k in range(len(path)) if visited and k > entry[0] and not within[k]]
        others = [step for step, basin in visited if basin != entry[1]]
        pairs = itertools.pairwise(visited)
        counted["exit_step"].append(out[0] if out else NEVER)
        counted["entry_basin"].append(entry[1])
        counted["basin"].append(visited[-1][1] if visited else 0)
        counted["hops"].append(sum(a != b for (_, a), (_, b) in pairs))
        counted["switch_step"].append(others[0] if others else NEVER)
    return counted


@pytest.mark.parametrize(("radius", "start"), [(0.5, 0.0), (0.2, 0.1), (0.2, 0.35)])
def test_basins_of_a_periodic_landscape_against_a_recount_of_the_path(radius, start, finish):
    """Touching balls (switches without exits), separate balls, and a start outside."""
    periods, steps, members = 1, 120, 24
    wells = PeriodicWells(amplitude=0.02, period=1.0)
    ensemble = Ensemble(
        wells.problem(),
        gaussian_sgd(0.3, IsotropicNoise(0.16)),
        basins_of(wells, radius, periods=periods),
        lambda problem, theta: {"x": theta[0]},
        Schedule(steps=steps, record_every=1, chunk_steps=40),
        Layout("map", 1),
    )
    keys = ensemble.keys(3, members)
    found = finish(ensemble, keys, ensemble.start(jnp.array([start]), members))
    paths = np.concatenate([found.records["x"], found.final["x"]], axis=1)
    cells = np.clip(np.round(paths), -periods, periods)
    inside = np.abs(paths - cells) <= radius
    expected = recount(cells + periods, inside)
    for name, values in expected.items():
        np.testing.assert_array_equal(found.track[name], values, err_msg=name)
    # The comparison means something only if every kind of event happens.
    exits, switches = np.array(expected["exit_step"]), np.array(expected["switch_step"])
    assert np.max(expected["hops"]) > 1
    assert np.any(switches == NEVER)
    if radius == 0.5:
        assert np.any((exits == NEVER) & (switches != NEVER))
        assert np.any(exits != NEVER)
    else:
        assert np.any((exits != NEVER) & (exits < switches))
    assert start < 0.3 or (np.min(found.track["entry_step"]) > 0 and not np.any(inside[:, 0]))


def test_a_divergence_leaves_the_basins_as_they_were():
    region = Union([Ball(centre=jnp.array([x]), radius=0.4) for x in (0.0, 1.0)])
    track, late = start_track(region, jnp.array([0.1])), jnp.asarray(True)
    for step, x in enumerate([0.9, 0.5, 0.1, np.inf, 0.9], start=1):
        track, _ = update_track(track, region, jnp.array([x]), jnp.asarray(step), late)
    found = [int(getattr(track, name)) for name in ("entry_basin", "basin", "hops")]
    assert found == [0, 0, 2]
    assert (int(track.switch_step), int(track.exit_step)) == (1, 2)
    assert int(track.diverged_step) == 4


def test_a_region_of_one_basin_costs_nothing():
    """Its basin numbers pass through the step as they are, so that XLA drops them."""
    region = Ball(centre=jnp.zeros(2), radius=1.0)
    before = start_track(region, jnp.zeros(2))
    after, _ = update_track(before, region, jnp.ones(2), jnp.asarray(1), jnp.asarray(True))
    for name in ("entry_basin", "basin", "hops", "switch_step"):
        assert getattr(after, name) is getattr(before, name)
    assert after.exit_step is not before.exit_step


def test_classification_observer(network_problem, getkey):
    problem, theta = network_problem
    held_out = Rows(jax.random.normal(getkey(), (5, 3)), jnp.eye(2)[jnp.array([0, 1, 1, 0, 1])])
    found = ClassificationObserver(held_out)(problem, theta)

    def errors(rows):
        logits = np.asarray(theta(rows.inputs))
        return np.mean(logits.argmax(axis=1) != np.argmax(rows.targets, axis=1))

    np.testing.assert_allclose(found["test_risk"], np.mean(cross_entropies(theta, held_out)))
    np.testing.assert_allclose(found["error_rate"], errors(problem.data))
    np.testing.assert_allclose(found["test_error_rate"], errors(held_out))
    gradient = jax.grad(problem.empirical_risk)(theta)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(found["gradient_norm"], norm, rtol=1e-12)
