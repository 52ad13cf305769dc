"""A dataset opened for writing: its arrays and the shape of its sweep."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from sgdsim._errors import StoreError
from sgdsim.store._files import (
    FINISHED,
    damaged,
    disk_errors,
    in_short,
    read_metadata,
    unopenable,
)
from sgdsim.store._location import Location, zarr_store
from sgdsim.store._schema import GROUPS, coordinates_of, variables_of
from sgdsim.store._select import parsed_details
from sgdsim.store._specs import CoordinateSpec, VariableSpec
from sgdsim.store._sweep import stored_name


class OpenedStore:
    """Every array of a store, looked up once, so that a write is a write and nothing else.

    Parameters
    ----------
    location
        Where the store is.

    Raises
    ------
    StoreError
        If there is no store, it is damaged or incomplete, or it follows other conventions.
    """

    def __init__(self, location: Location) -> None:
        self.attach(location)

    def attach(self, location: Location) -> None:
        """Look everything up at a location, the first one or one that the store has moved to."""
        self.location = location
        metadata = read_metadata(location)
        self.study = str(metadata["attributes"]["study"])
        try:
            with disk_errors("open", location):
                self.root = zarr.open_group(zarr_store(location), mode="r+", use_consolidated=True)
                members = dict(self.root.members(max_depth=None))
        except StoreError:
            raise
        except Exception as error:  # Zarr raises many kinds for damaged metadata
            raise unopenable(location, error) from error
        self._arrays = {
            name: member for name, member in members.items() if isinstance(member, zarr.Array)
        }
        self._tree: xr.DataTree | None = None
        own = set(variables_of("/"))
        self.swept = {name for name in self._arrays if "/" not in name} - own
        status = self.array("/", variables_of("/")["status"])
        #: Lengths of the dimensions of the sweep, in the order in which they stand in front.
        self.shape = dict(zip(dimensions(status), status.shape, strict=True))
        #: Lengths of all other dimensions.
        self.sizes: dict[str, int] = {}
        for group in ("/", *GROUPS[self.study]):
            for spec in (
                *variables_of(group, self.study).values(),
                *coordinates_of(group, self.study),
            ):
                array = self.array(group, spec)
                # The copy of the metadata does not know what was deleted; a look here is cheap.
                if (
                    isinstance(location, Path)
                    and not (location / array.path / "zarr.json").exists()
                ):
                    raise damaged(location, f"{array.path}/zarr.json is missing")
                lengths = dict(zip(dimensions(array), array.shape, strict=True))
                self.sizes |= {dim: n for dim, n in lengths.items() if dim not in self.shape}

    def array(self, group: str, spec: VariableSpec | CoordinateSpec) -> zarr.Array:
        """Array of a variable or coordinate, whatever its name on disk is."""
        path = f"{group}/{stored_name(spec, self.swept)}".lstrip("/")
        if path not in self._arrays:
            raise damaged(self.location, f"{path} is missing")
        return self._arrays[path]

    def attributes(self) -> dict[str, Any]:
        """Attributes of the root group, without those that serve the store itself."""
        own = {"coordinates", FINISHED}
        return {key: value for key, value in self.root.attrs.items() if key not in own}

    def statuses(self) -> np.ndarray:
        """Codes of the states of all points, in the shape of the sweep."""
        return np.asarray(self.array("/", variables_of("/")["status"])[...], np.int8)

    def details(self, place: tuple[int, ...]) -> dict[str, Any] | None:
        """Read what was said of one point; ``None`` if nothing was written."""
        try:
            with disk_errors("read", self.location):
                array = self.array("/", variables_of("/")["details"])
                text = str(np.asarray(array[place]).item())
            return parsed_details(text) if text else None
        except StoreError:
            raise
        except Exception as error:  # codec and checksum errors have no common base
            raise damaged(self.location, f"details are unreadable ({in_short(error)})") from error

    def tree(self) -> xr.DataTree:
        """Dataset as it is on disk; opened once, values are read anew whenever they are used."""
        if self._tree is None:
            self._tree = open_tree(self.location)
        return self._tree


def dimensions(array: zarr.Array) -> tuple[str, ...]:
    """Names of the dimensions of an array on disk; empty if it has no names."""
    return tuple(str(name) for name in getattr(array.metadata, "dimension_names", None) or ())


def open_tree(location: Location) -> xr.DataTree:
    """Open the dataset as it is on disk.

    Raises
    ------
    StoreError
        If it is damaged or cannot be read.
    """
    try:
        # xarray takes Zarr's stores, though its types do not say so.
        store: Any = zarr_store(location)
        with disk_errors("read", location):
            tree = xr.open_datatree(store, engine="zarr", consolidated=True)
    except StoreError:
        raise
    except Exception as error:  # Zarr and xarray raise many kinds for damaged metadata
        raise unopenable(location, error) from error
    tree.attrs.pop(FINISHED, None)
    return tree
