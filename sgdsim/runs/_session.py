"""What holds around every computation: devices, float64, the same machine as before."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from sgdsim._errors import StoreError
from sgdsim.ensemble import Layout, choose_layout, use_host_devices
from sgdsim.runs._provenance import provenance
from sgdsim.scenario import Scenario
from sgdsim.store import RunStore


@contextlib.contextmanager
def session(scenario: Scenario) -> Iterator[None]:
    """All cores as devices, float64 available."""
    use_host_devices(scenario.compute.devices)
    with jax.enable_x64(True):
        yield


def layout_of(scenario: Scenario) -> Layout:
    """Devices and mapping of a scenario on this machine."""
    return choose_layout(scenario.compute.mapping, scenario.compute.devices)


def differences(attrs: dict[str, Any], layout: Layout) -> dict[str, tuple[Any, Any]]:
    """Compare what decides the last bits: by name, the value of the dataset and the one here.

    With the mapping ``map`` every trajectory is computed alone, whatever the number of devices.
    """
    here = provenance(layout)
    names = ["backend", "device", "mapping", "threads", "compiler", "versions"]
    if layout.mapping != "map":
        names.append("device_count")
    return {n: (attrs.get(n), here[n]) for n in names if attrs.get(n) != here[n]}


def require_same_machine(store: RunStore, layout: Layout) -> None:
    """Refuse to continue where the numbers would silently differ."""
    for name, (before, now) in differences(store.attrs, layout).items():
        advice = f" NPROC={before} in the environment makes it so." if name == "threads" else ""
        raise StoreError(
            f"the run was started with {name} = {before}, here it is {now}; the rest would not "
            f"equal an uninterrupted run. Continue it where it is the same, or start again.{advice}"
        )
