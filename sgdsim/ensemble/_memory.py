"""How much memory the points of a sweep take, and how much there is."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import psutil
from jax.extend import core
from jaxtyping import PyTree

from sgdsim.ensemble._batch import Leg
from sgdsim.ensemble._loop import advance_one, as_array

#: Copies of a state that are alive at once: before and after a chunk, on the device and the host.
_COPIES = 4
#: Share of the free memory that a batch may plan with; the rest is for the store and the probes.
_SHARE = 0.5


class Footprint(NamedTuple):
    """Bytes that a batch needs: ``fixed + points * per_point``.

    Attributes
    ----------
    fixed
        Rows of data, and the intermediate results of one trajectory per device.
    per_point
        States, records and numbers of one point; under ``vmap`` the intermediate results too.
    """

    fixed: int
    per_point: int

    def of(self, points: int) -> int:
        """Bytes of a batch of so many points."""
        return self.fixed + points * self.per_point

    def largest(self, budget: int) -> int:
        """Most points within ``budget`` bytes; at least one, which is tried in any case."""
        return max(1, int((budget - self.fixed) // max(1, self.per_point)))


def footprint(leg: Leg) -> Footprint:
    """Bound the memory of a leg from its traced program; nothing is compiled.

    The intermediate results are those of one step, all alive at once: an upper bound, since XLA
    frees and fuses most of them.
    """
    ensemble, layout = jax.tree.map(as_array, leg.ensemble), leg.ensemble.layout
    arrays, static = eqx.partition(ensemble, eqx.is_array)
    member = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (leg.keys, leg.state)
    )

    def one(arrays: PyTree, key: Any, state: Any, start: Any) -> PyTree:
        return advance_one(eqx.combine(arrays, static), key, state, start)

    start = jax.ShapeDtypeStruct((), jnp.int32)
    traced = jax.make_jaxpr(one)(arrays, *member, start)
    results = sum(_bytes(aval) for aval in traced.out_avals)
    working = _intermediate(traced.jaxpr)
    data = _tree_bytes((ensemble.problem.data, eqx.filter(ensemble.observer, eqx.is_array)))
    own = _tree_bytes(arrays) - data
    per_point = own + leg.trajectories * _COPIES * (results + _tree_bytes(member[1]))
    if layout.mapping == "vmap":
        return Footprint(data, per_point + leg.trajectories * working)
    return Footprint(data + layout.devices * working, per_point)


def memory_budget(workers: int = 1) -> int:
    """Bytes that one of ``workers`` processes may plan with: half of what is free.

    On an accelerator it is the memory of one device times their number; on a CPU that of the
    machine, shared by the workers.
    """
    devices = jax.local_devices()
    stats = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        return int(_SHARE * free * len(devices))
    return int(_SHARE * psutil.virtual_memory().available / workers)


def _intermediate(jaxpr: core.Jaxpr) -> int:
    """Bytes of all results inside a program; the body of a loop counts once."""
    return sum(
        sum(_bytes(variable.aval) for variable in equation.outvars)
        + sum(
            _intermediate(inner) for value in equation.params.values() for inner in _inside(value)
        )
        for equation in jaxpr.eqns
    )


def _inside(value: Any) -> list[core.Jaxpr]:
    if isinstance(value, core.ClosedJaxpr):  # pyright: ignore[reportPrivateImportUsage]
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    if isinstance(value, tuple | list):
        return [inner for item in value for inner in _inside(item)]
    return []


def _tree_bytes(tree: PyTree) -> int:
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def _bytes(array: Any) -> int:
    if not hasattr(array, "shape"):
        return 0
    # A key has no size of its own; it is two words of 32 bits.
    words = 8 if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else array.dtype.itemsize
    return words * math.prod(array.shape)
