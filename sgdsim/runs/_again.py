"""Making a run again that a dataset describes."""

from collections.abc import Sequence

from rich.console import Console

from sgdsim._errors import ScenarioError, StoreError
from sgdsim.runs._output import find_run
from sgdsim.scenario import Scenario
from sgdsim.store import RunStore


def scenario_of(place: str, settings: Sequence[str] = ()) -> Scenario:
    """Read the scenario of a run.

    Parameters
    ----------
    place
        Run folder or its URL.
    settings
        Must be empty: what is made again is what the dataset says.

    Raises
    ------
    ScenarioError
        If there are settings.
    StoreError
        If there is no run, or somebody edited its scenario.
    """
    if settings:
        raise ScenarioError(
            f"{place} is a run, which is made again exactly, so that --set and --seed do not go "
            "with it; give the scenario instead."
        )
    return stored_scenario(_store_of(place))


def _store_of(place: str) -> RunStore:
    return RunStore.open(find_run(place).dataset)


def stored_scenario(store: RunStore) -> Scenario:
    """Read the scenario that a dataset is of.

    Raises
    ------
    StoreError
        If somebody edited it, or there is none.
    """
    if "imported" in store.attrs:
        raise StoreError(
            f"{store.path} holds runs that were made elsewhere; they can be analyzed, but neither "
            "resumed nor made again."
        )
    scenario = Scenario.from_json(str(store.attrs["scenario"]))
    if scenario.digest() != store.attrs["scenario_digest"]:
        raise StoreError(
            f"the scenario stored in {store.path} does not match its digest; the dataset was "
            "edited and can be neither resumed nor made again."
        )
    return scenario


def print_differences(before: str, after: str) -> None:
    """Say in how far versions and devices are other ones than those of the first run."""
    old, new = (_store_of(place).attrs for place in (before, after))
    names = ("versions", "backend", "device", "device_count", "mapping", "threads", "compiler")
    different = [name for name in names if old.get(name) != new.get(name)]
    console = Console(stderr=True)
    if not different:
        console.print("made again with the same versions, devices and mapping.", highlight=False)
    for name in different:
        console.print(
            f"{name} was {old.get(name)}, now it is {new.get(name)}: the last digits may differ.",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
