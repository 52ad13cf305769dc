"""Points of a sweep in one program: the same numbers as each alone, one compilation."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytestmark = pytest.mark.slow

TRAJECTORIES = 3
ETAS = (0.1, 0.2, 0.4, 0.3)
RADII = (0.5, 0.7, 0.2, 0.9)


@pytest.fixture(scope="module")
def legs_of(make_ensemble):
    """First legs of ensembles that differ in learning rate and radius, keys by point."""
    from sgdsim.ensemble import Leg

    def make(**settings):
        legs = []
        for point, (eta, radius) in enumerate(zip(ETAS, RADII, strict=True)):
            ensemble = make_ensemble(eta=eta, radius=radius, observed=True, **settings)
            keys = ensemble.keys(7, TRAJECTORIES, point)
            state = ensemble.start(jnp.asarray([1.0, -0.5], settings["dtype"]), TRAJECTORIES)
            legs.append(Leg(ensemble, keys, state, 0, TRAJECTORIES))
        return legs

    return make


def leaves(tree):
    return [np.asarray(leaf)[:TRAJECTORIES] for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("mapping", ["map", "vmap"])
def test_a_batch_gives_every_point_what_it_gets_alone(legs_of, mapping, devices):
    from sgdsim.ensemble import Batch

    legs = legs_of(mapping=mapping, devices=devices, dtype="float64")
    batch = Batch(legs, capacity=6)  # two copies fill it up
    alone, chunks = legs, []
    for _ in range(2):
        chunks = batch.advance(legs)
        for chunk, leg in zip(chunks, alone, strict=True):
            expected = leg.advance()
            assert (chunk.start, chunk.stop) == (expected.start, expected.stop)
            for got, wanted in zip(
                leaves((chunk.records, chunk.state)),
                leaves((expected.records, expected.state)),
                strict=True,
            ):
                np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)
        alone = [
            leg._replace(state=chunk.state, start=chunk.stop)
            for leg, chunk in zip(alone, chunks, strict=True)
        ]
        legs = alone
        assert batch.holds(legs)
    # Other learning rates would be another law: the comparison can fail.
    assert not np.allclose(leaves(chunks[0].state)[0], leaves(chunks[1].state)[0])


def test_under_map_the_bits_depend_neither_on_the_batch_nor_on_the_devices(legs_of):
    from sgdsim.ensemble import Batch

    def bits(devices, count, capacity):
        legs = legs_of(mapping="map", devices=devices, dtype="float32")[:count]
        return [leaves((c.records, c.state)) for c in Batch(legs, capacity).advance(legs)]

    reference = bits(1, 4, 4)
    for other in (bits(2, 4, 4), bits(1, 2, 8), bits(2, 1, 1)):
        for point, wanted in zip(other, reference, strict=False):
            for got, expected in zip(point, wanted, strict=True):
                np.testing.assert_array_equal(got, expected)


def test_other_numbers_reuse_the_program(legs_of):
    from sgdsim.ensemble import Batch
    from sgdsim.ensemble._batch import _advance_batch

    legs = legs_of(mapping="map", devices=1, dtype="float64")
    Batch(legs[:2]).advance(legs[:2])
    before = _advance_batch._cached._cache_size()  # pyright: ignore[reportFunctionMemberAccess]
    Batch(legs[2:]).advance(legs[2:])
    after = _advance_batch._cached._cache_size()  # pyright: ignore[reportFunctionMemberAccess]
    assert after == before


def test_rows_that_all_share_are_held_once_and_others_per_point(legs_of):
    from sgdsim.ensemble import Batch

    legs = legs_of(mapping="map", devices=1, dtype="float64")
    same = Batch(legs)
    rows = legs[0].ensemble.problem.data
    shared = sum(leaf.size for leaf in jax.tree.leaves(same._shared))
    assert shared == sum(leaf.size for leaf in jax.tree.leaves(rows))
    moved = jax.tree.map(lambda a: a + 1.0, rows)
    own = legs[1]._replace(ensemble=eqx.tree_at(lambda e: e.problem.data, legs[1].ensemble, moved))
    mixed = [legs[0], own, *legs[2:]]
    batch = Batch(mixed)
    assert sum(leaf.size for leaf in jax.tree.leaves(batch._shared)) < shared
    for chunk, leg in zip(batch.advance(mixed), mixed, strict=True):
        np.testing.assert_allclose(
            leaves(chunk.state)[0], leaves(leg.advance().state)[0], rtol=1e-12
        )


def test_ensembles_of_other_shapes_are_refused(legs_of):
    from sgdsim.ensemble import Batch, signature

    legs = legs_of(mapping="map", devices=1, dtype="float64")
    other = legs_of(mapping="map", devices=1, dtype="float64", chunk_steps=60)
    assert signature(legs[0]) == signature(legs[1]) != signature(other[0])
    with pytest.raises(ValueError, match="share one compiled program"):
        Batch([legs[0], other[1]])


def test_the_footprint_grows_with_the_points_and_bounds_what_xla_needs(legs_of):
    from sgdsim.ensemble import footprint
    from sgdsim.ensemble._loop import advance, as_array

    legs = legs_of(mapping="vmap", devices=1, dtype="float64")
    need = footprint(legs[0])
    assert need.per_point > 0
    assert need.of(10) - need.of(4) == 6 * need.per_point
    budget = need.of(7) + 1
    assert need.largest(budget) == 7
    assert need.largest(0) == 1
    leg = legs[0]
    whole = jax.tree.map(as_array, leg.ensemble)
    step: Any = advance  # a filter_jit can be lowered, which its type does not tell
    lowered = step.lower(whole, leg.keys, leg.state, jnp.asarray(0, jnp.int32))
    analysis = lowered.compile().compiled.memory_analysis()
    assert need.of(1) >= analysis.temp_size_in_bytes + analysis.output_size_in_bytes
