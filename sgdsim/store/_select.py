"""One point out of the dataset of a sweep, as a run of its own."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from sgdsim.store._schema import RELABELLED, coordinates_of, variables_of
from sgdsim.store._sweep import stored_name

#: Key of ``details`` under which a point keeps its lengths, where it is shorter than the arrays.
LENGTHS = "lengths"


def parsed_details(text: str) -> dict[str, Any]:
    """Content of the variable ``details`` at one point; empty if nothing was written.

    Raises
    ------
    ValueError
        If the text is no JSON object.
    """
    content = json.loads(text) if text else {}
    if not isinstance(content, dict):
        raise ValueError(f"{text[:40]!r} is no JSON object")
    return content


def select_point(
    tree: xr.DataTree, number: int, attrs: Mapping[str, Any], details: Mapping[str, Any]
) -> xr.DataTree:
    """Take one point, cut to its lengths, without the dimensions and names of the sweep.

    Parameters
    ----------
    tree
        The whole dataset as it is on disk.
    number
        Number of the point.
    attrs
        Attributes of the root.
    details
        What was said of the point; becomes attributes of the root.

    Returns
    -------
    xarray.DataTree
        What a run without sweep is opened as; values are still read when they are used.
    """
    status = tree.to_dataset()["status"]
    place = np.unravel_index(number, status.shape) if status.shape else ()
    here = {dim: int(i) for dim, i in zip(status.dims, place, strict=True)}
    swept = {str(name) for name in tree.to_dataset().coords}
    ends = {dim: slice(0, int(length)) for dim, length in details.get(LENGTHS, {}).items()}
    nodes = {}
    for node in tree.subtree:
        group = node.path.strip("/") or "/"
        data = node.to_dataset(inherit=False).isel(here, drop=True, missing_dims="ignore")
        specs = (*variables_of(group).values(), *coordinates_of(group))
        renamed = {stored_name(spec, swept): spec.name for spec in specs}
        data = data.rename({old: new for old, new in renamed.items() if old != new and old in data})
        data = data.isel(ends, missing_dims="ignore")
        if group in RELABELLED:
            old, new = RELABELLED[group]
            data = data.swap_dims({old: new}).drop_vars(old)
        nodes[node.path] = data
    said = {key: value for key, value in details.items() if key != LENGTHS}
    nodes["/"] = nodes["/"].drop_vars("details").assign_attrs(dict(attrs) | said)
    return xr.DataTree.from_dict(nodes)
