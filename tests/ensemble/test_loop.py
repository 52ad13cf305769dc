"""The loop: what a trajectory does not depend on, resumption, one compilation, no collectives."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.ensemble import EnsembleState, Schedule, Track, advance
from sgdsim.problems import Problem

pytestmark = pytest.mark.usefixtures("x64")

START = np.array([1.0, -0.5])
COLLECTIVES = re.compile(r"all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter")


def assert_same_trajectories(found, expected, count: int = 3) -> None:
    """Iterates and tracks bit for bit, and the records that both have at steps 0, 20, 40.

    Records feed back into nothing; XLA may fuse them with whatever else is recorded.
    """
    np.testing.assert_array_equal(found.theta[:count], expected.theta[:count])
    for name, values in expected.track.items():
        np.testing.assert_array_equal(found.track[name][:count], values[:count], err_msg=name)
    for name, values in expected.records.items():
        every = [len(x[0]) // 3 for x in (found.records[name], values)]
        pairs = (
            (found.records[name][:count, :: every[0]], values[:count, :: every[1]]),
            (found.final[name][:count], expected.final[name][:count]),
        )
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-13, err_msg=name)


def test_the_reference_case_moves_and_watches(run_case):
    reference = run_case()
    assert len({tuple(row) for row in reference.theta}) == 3
    assert reference.records["loss"].shape == (3, 12)
    assert reference.records["inside"].dtype == bool
    assert 0 < reference.records["inside"].sum() < 36
    assert reference.final["loss"].shape == (3, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"trajectories": 5},
        {"chunk_steps": 60},
        {"record_every": 1},
        {"record_every": 10},
        {"observed": True},
        {"devices": 2},
        {"devices": 2, "trajectories": 4},
    ],
    ids=str,
)
def test_trajectories_do_not_depend_on(run_case, changes):
    assert_same_trajectories(run_case(**changes), run_case())


@pytest.mark.parametrize(
    "changes",
    [{"trajectories": 5}, {"chunk_steps": 60}, {"record_every": 1}, {"devices": 2}],
    ids=str,
)
def test_nor_in_single_precision(run_case, changes):
    """The precision of most runs, with normals of its own (see ``unrolled_normal``)."""
    found, expected = (run_case(dtype="float32", **extra) for extra in (changes, {}))
    assert found.theta.dtype == np.float32
    np.testing.assert_array_equal(found.theta[:3], expected.theta)
    for name, values in expected.track.items():
        np.testing.assert_array_equal(found.track[name][:3], values, err_msg=name)


def test_one_record_in_a_chunk_changes_no_more_than_rounding(run_case):
    """XLA removes the outer loop, which then has one turn, and fuses differently."""
    found, expected = run_case(record_every=20), run_case()
    np.testing.assert_allclose(found.theta, expected.theta, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(found.track["exit_step"], expected.track["exit_step"])
    for name, values in expected.records.items():
        np.testing.assert_allclose(found.records[name], values[:, ::4], rtol=1e-12)


@pytest.mark.parametrize("changes", [{}, {"devices": 2}], ids=str)
def test_vmap_agrees_with_map(run_case, changes):
    found, expected = run_case(mapping="vmap", **changes), run_case()
    np.testing.assert_allclose(found.theta[:3], expected.theta, rtol=1e-12)
    np.testing.assert_array_equal(found.track["exit_step"][:3], expected.track["exit_step"])
    np.testing.assert_allclose(
        found.records["loss"][:3], expected.records["loss"], rtol=1e-12, atol=1e-14
    )


def test_one_and_two_devices_agree_with_vmap(run_case):
    one = run_case(mapping="vmap", trajectories=4)
    two = run_case(mapping="vmap", trajectories=4, devices=2)
    np.testing.assert_allclose(two.theta, one.theta, rtol=1e-12)


def test_padding_adds_trajectories_at_the_end(run_case, make_ensemble):
    padded = run_case(devices=2)
    assert padded.theta.shape == (4, 2)
    # The filler is an ordinary member of the ensemble: the fourth trajectory.
    np.testing.assert_array_equal(padded.theta, run_case(trajectories=5).theta[:4])
    assert make_ensemble(devices=2).keys(0, 3).shape == (4,)


def test_seeds_points_and_members_give_different_keys(make_ensemble):
    ensemble = make_ensemble()
    keys = [ensemble.keys(0, 5), ensemble.keys(1, 5), ensemble.keys(0, 5, point=1)]
    words = np.concatenate([jax.random.key_data(k) for k in keys])
    assert len({tuple(word) for word in words}) == 15
    root = jax.random.fold_in(jax.random.key(0), 1)
    for member, key in enumerate(keys[2]):
        assert (
            jax.random.key_data(key) == jax.random.key_data(jax.random.fold_in(root, member))
        ).all()


@pytest.mark.parametrize("stop", [20, 40])
def test_a_resumed_run_equals_an_uninterrupted_one(run_case, make_ensemble, finish, stop):
    ensemble = make_ensemble()
    keys = ensemble.keys(0, 3)
    chunks = ensemble.run(keys, ensemble.start(jnp.asarray(START), 3))
    chunk = next(c for c in chunks if c.stop == stop)
    saved = [np.array(leaf) for leaf in jax.tree.leaves(chunk.state)]

    fresh = make_ensemble()
    empty = fresh.start(jnp.zeros(2), 3)
    state = jax.tree.unflatten(jax.tree.structure(empty), [jnp.asarray(leaf) for leaf in saved])
    resumed = finish(fresh, fresh.keys(0, 3), state, start=stop)

    reference = run_case()
    np.testing.assert_array_equal(resumed.theta, reference.theta)
    for name, values in reference.track.items():
        np.testing.assert_array_equal(resumed.track[name], values, err_msg=name)
    for name, values in reference.records.items():
        np.testing.assert_array_equal(resumed.records[name], values[:, stop // 5 :])


def test_chunks_say_where_they_are(make_ensemble):
    ensemble = make_ensemble()
    chunks = list(
        ensemble.run(ensemble.keys(0, 3), ensemble.start(jnp.asarray(START), 3), start=20)
    )
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(20, 40), (40, 60)]
    assert {chunk.records["loss"].shape for chunk in chunks} == {(3, 4)}


def test_a_compiled_program_is_reused_for_other_numbers(make_ensemble, quadratic):
    traces = []
    plain = quadratic(np.eye(2), [[-1.0, 0.0], [1.0, 0.0]])[0]

    def losses(theta, data):
        traces.append(None)
        return plain.losses(theta, data)

    def run(seed: int = 0, start: int = 0, scale: float = 1.0, **changes):
        data = jax.tree.map(lambda a: scale * a, plain.data)
        ensemble = make_ensemble(problem=Problem(losses, data, 0.1 * scale), **changes)
        *_, last = ensemble.run(
            ensemble.keys(seed, 3), ensemble.start(jnp.asarray(START * scale), 3), start
        )
        return np.asarray(last.state.theta)

    reference = run()
    compiled = len(traces)
    assert compiled > 0
    for changes in [
        {"eta": 0.1},
        {"radius": 0.2},
        {"seed": 3},
        {"batch": 2.0},
        {"start": 20},
        {"scale": 0.5},
    ]:
        assert not np.array_equal(run(**changes), reference) or "radius" in changes
        assert len(traces) == compiled, changes
    # The counter does see a compilation: another shape is another program.
    run(record_every=10)
    assert len(traces) > compiled


def compiled_text(ensemble) -> str:
    state, keys = ensemble.start(jnp.asarray(START), 4), ensemble.keys(0, 4)
    traced = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, float) else a, ensemble)
    # filter_jit returns an object that can lower; its annotation is that of the function.
    compiled: Any = advance
    lowered = compiled.lower(traced, keys, state, jnp.asarray(0, jnp.int32))
    return lowered.compile().compiled.as_text()


@pytest.mark.parametrize("mapping", ["map", "vmap"])
def test_two_devices_never_talk_to_each_other(make_ensemble, mapping):
    text = compiled_text(make_ensemble(devices=2, mapping=mapping))
    assert "num_partitions=2" in text
    assert not COLLECTIVES.search(text)


def test_a_collective_would_be_found():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    rows = jax.device_put(jnp.arange(8.0), sharding)
    text = jax.jit(jnp.mean).lower(rows).compile().as_text()
    assert text is not None
    assert COLLECTIVES.search(text)


@pytest.mark.parametrize(("steps", "every", "chunk"), [(60, 7, 20), (60, 5, 25), (50, 5, 20)])
def test_schedules_that_do_not_divide_are_refused(steps, every, chunk):
    with pytest.raises(ValueError, match=rf"chunk_steps \({chunk}\) must be a multiple of"):
        Schedule(steps, every, chunk)


def test_state_is_theta_and_track_alone(make_ensemble):
    """What a checkpoint has to hold: 1 + 10 leaves, all with the trajectory in front."""
    state = make_ensemble().start(jnp.asarray(START), 3)
    assert isinstance(state, EnsembleState)
    assert isinstance(state.track, Track)
    leaves = jax.tree.leaves(state)
    assert len(leaves) == 1 + 10
    assert {leaf.shape[0] for leaf in leaves} == {3}
