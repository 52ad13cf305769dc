"""Devices and mappings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim._errors import SgdsimError
from sgdsim.ensemble import Layout, choose_layout, map_ensemble, use_host_devices


def test_auto_takes_all_devices_and_map_on_cpu():
    assert jax.device_count() == 2, "conftest asks for two CPU devices before JAX starts"
    assert choose_layout() == Layout("map", 2)
    assert choose_layout("vmap", 1) == Layout("vmap", 1)


def test_more_devices_than_there_are_is_an_error():
    assert choose_layout("map", 2) == Layout("map", 2)
    with pytest.raises(SgdsimError, match=r"compute\.devices = 3, but JAX has 2; give a smaller"):
        choose_layout("map", 3)


@pytest.mark.parametrize(
    ("trajectories", "devices", "padded"), [(3, 2, 4), (4, 2, 4), (1, 2, 2), (5, 1, 5), (7, 4, 8)]
)
def test_padding(trajectories, devices, padded):
    assert Layout("map", devices).padded(trajectories) == padded


def test_host_devices_are_left_alone_once_jax_runs():
    before = jax.device_count()
    use_host_devices(1)
    assert jax.device_count() == before


@pytest.mark.parametrize("mapping", ["map", "vmap"])
@pytest.mark.parametrize("devices", [1, 2])
def test_map_ensemble_applies_the_function_to_every_member(mapping, devices):
    mapped = jnp.arange(4.0), {"y": jnp.arange(8.0).reshape(4, 2)}

    def function(x, tree, shared):
        return x + shared["a"], tree["y"] * shared["b"]

    shared = {"a": jnp.asarray(10.0), "b": jnp.array([2.0, 3.0])}
    first, second = jax.jit(lambda m, s: map_ensemble(Layout(mapping, devices), function, m, s))(
        mapped, shared
    )
    np.testing.assert_array_equal(first, np.arange(4.0) + 10)
    np.testing.assert_array_equal(second, np.arange(8.0).reshape(4, 2) * [2.0, 3.0])
    assert len(first.sharding.device_set) == devices
