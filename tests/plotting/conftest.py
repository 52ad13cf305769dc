import numpy as np
import pytest
import xarray as xr

from sgdsim.store import open_run
from sgdsim.testing import synthetic_run


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A run of 12 trajectories, one of them diverged."""
    return open_run(synthetic_run(tmp_path_factory.mktemp("run"))).load()


@pytest.fixture
def edited():
    """Replace variables of one group: ``edited(tree, "bounds", value=array)``."""

    def edit(tree, group, **values):
        nodes = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
        dataset = nodes[f"/{group}"].copy()
        for name, value in values.items():
            old = dataset[name]
            new = np.broadcast_to(np.asarray(value, old.dtype), old.shape)
            dataset[name] = (old.dims, new.copy(), old.attrs)
        return xr.DataTree.from_dict(nodes | {f"/{group}": dataset})

    return edit
