"""Two runs that have to be the same."""

import json
import os
from typing import Any

import numpy as np
import xarray as xr

from sgdsim.store import Location, open_run

#: When a run was made, who waited for it, how long it took, how it was cut into batches.
OF_THE_RUN = frozenset({"created_at", "plan", "session", "wall_seconds"})


def assert_same_run(one: str | os.PathLike | Location, other: str | os.PathLike | Location) -> None:
    """Require that two datasets are equal bit for bit, what is said in words included.

    Parameters
    ----------
    one, other
        Run folders or URLs. When and by how many devices they were made may differ.

    Raises
    ------
    AssertionError
        If anything else differs; it names the variable.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.testing import assert_same_run, synthetic_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = synthetic_run(Path(folder))
    ...     assert_same_run(run, run)
    """
    first, second = open_run(one), open_run(other)
    assert [node.path for node in first.subtree] == [node.path for node in second.subtree]
    for node in first.subtree:
        mine, theirs = (tree[node.path].to_dataset() for tree in (first, second))
        said, others = (told(one.attrs) | {"device_count": None} for one in (mine, theirs))
        assert said == others, node.path
        assert set(mine.variables) == set(theirs.variables), node.path
        for name in mine.variables:
            _assert_same(mine[name], theirs[name], f"{node.path}/{name}")


def told(attrs: dict[Any, Any]) -> dict[Any, Any]:
    """Attributes without those that are of the run itself."""
    return {name: value for name, value in attrs.items() if name not in OF_THE_RUN}


def _assert_same(mine: xr.DataArray, theirs: xr.DataArray, name: str) -> None:
    assert (mine.dims, mine.dtype) == (theirs.dims, theirs.dtype), name
    if mine.name == "details":  # JSON, one text a point
        texts = zip(mine.values.flat, theirs.values.flat, strict=True)
        assert all(told(json.loads(a or "{}")) == told(json.loads(b or "{}")) for a, b in texts), (
            name
        )
    else:
        np.testing.assert_array_equal(mine.values, theirs.values, name)
