"""Where trajectories run: devices, and how the trajectories of one device are mapped."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from sgdsim._errors import SgdsimError

Mapping = Literal["map", "vmap"]
_AXIS = "trajectory"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an ensemble is spread: over ``devices``, and by ``mapping`` within each.

    ``map`` runs the trajectories of a device one after another, which keeps the activations of
    a small network in cache; ``vmap`` runs them together, which an accelerator needs. The two
    differ in the last bits (other matrix kernels), so both numbers belong to the provenance.

    Examples
    --------
    >>> from sgdsim import Layout
    >>> Layout("map", devices=2).padded(trajectories=5)
    6
    """

    mapping: Mapping
    devices: int

    def padded(self, trajectories: int) -> int:
        """Smallest multiple of the device count that holds all trajectories."""
        return -(-trajectories // self.devices) * self.devices

    def pad(self, members: PyTree) -> PyTree:
        """Repeat the last member on the host until every device has equally many."""

        def fill(leaf: Any) -> np.ndarray:
            own = np.asarray(leaf)
            missing = self.padded(len(own)) - len(own)
            return np.concatenate([own, np.repeat(own[-1:], missing, axis=0)]) if missing else own

        return jax.tree.map(fill, members)

    @property
    def mesh(self) -> Mesh:
        """Mesh of the devices along the trajectory axis."""
        return jax.make_mesh(
            (self.devices,),
            (_AXIS,),
            axis_types=(AxisType.Auto,),
            devices=jax.devices()[: self.devices],
        )

    def place(self, members: PyTree) -> PyTree:
        """Put arrays with a leading trajectory axis where the compiled programs want them.

        Arrays placed otherwise would make the first call compile a program of its own.
        """
        if self.devices == 1:
            return jax.tree.map(jnp.asarray, members)
        sharding = NamedSharding(self.mesh, PartitionSpec(_AXIS))

        def put(leaf: Any) -> Array:
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # other processes get only numbers
                return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
            return jax.device_put(leaf, sharding)

        return jax.tree.map(put, members)


def choose_layout(mapping: str = "auto", devices: int | str = "auto") -> Layout:
    """Resolve ``auto``: all devices; ``map`` on CPU and ``vmap`` on accelerators.

    Parameters
    ----------
    mapping
        ``"auto"``, ``"map"`` or ``"vmap"``.
    devices
        Number of devices, or ``"auto"``.

    Raises
    ------
    SgdsimError
        If there are fewer devices.

    Examples
    --------
    >>> from sgdsim import choose_layout
    >>> choose_layout("vmap", devices=1)
    Layout(mapping='vmap', devices=1)
    """
    available = jax.device_count()
    count = available if isinstance(devices, str) else devices
    if count > available:
        raise SgdsimError(
            f"compute.devices = {count}, but JAX has {available}; give a smaller number or 'auto'."
        )
    if mapping == "vmap" or (mapping == "auto" and jax.default_backend() != "cpu"):
        return Layout("vmap", count)
    return Layout("map", count)


def on_host(tree: PyTree, members: int | None = None) -> PyTree:
    """Bring arrays to this process as NumPy arrays, wherever their parts are.

    If devices of other processes hold parts, every process has to call it.

    Parameters
    ----------
    tree
        Arrays.
    members
        Take the first so many along the leading axis: the rest is padding of the layout.
    """

    def fetch(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            from jax.experimental.multihost_utils import process_allgather

            leaf = process_allgather(leaf, tiled=True)
        return np.asarray(leaf)[:members] if members is not None else np.asarray(leaf)

    return jax.tree.map(fetch, tree)


def use_host_devices(devices: int | str = "auto") -> None:
    """Make one JAX device per CPU core (or ``devices`` of them), if JAX has not started yet."""
    count = _cores() if isinstance(devices, str) else devices
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # the backends exist already; the caller's devices are used as they are
        return


def _cores() -> int:
    """Count the cores that this process may use.

    Workers that share a machine are told their part of it in ``SGDSIM_DEVICES``.
    """
    if told := os.environ.get("SGDSIM_DEVICES", ""):
        return max(1, int(told))
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_ensemble(
    layout: Layout, function: Callable[..., PyTree], mapped: tuple[Any, ...], shared: PyTree
) -> PyTree:
    """Apply ``function(*member, shared)`` to every member along the leading axes of ``mapped``.

    With several devices it is a ``shard_map``: no collective operation is ever inserted.
    """

    def block(mapped: tuple[Any, ...], shared: PyTree) -> PyTree:
        if layout.mapping == "vmap":
            return jax.vmap(lambda member: function(*member, shared))(mapped)
        return jax.lax.map(lambda member: function(*member, shared), mapped)

    if layout.devices == 1:
        return block(mapped, shared)
    split, whole = PartitionSpec(_AXIS), PartitionSpec()
    sharded: Callable[..., PyTree] = jax.shard_map(
        block, mesh=layout.mesh, in_specs=(split, whole), out_specs=split, check_vma=False
    )
    return sharded(mapped, shared)
