"""How far a sweep has come, and its dataset beside another one, bit for bit."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import xarray as xr

from sgdsim.store import STATUSES, RunStore, open_run
from sgdsim.testing._same_run import told


def states(out: Path) -> np.ndarray | None:
    """Codes of the states of all points; nothing without a dataset."""
    for name in ("run.zarr", "run.zarr.partial"):
        if (out / name).exists():
            return RunStore.open(out / name).statuses()
    return None


def done(out: Path) -> int:
    """Points that are done."""
    codes = states(out)
    return 0 if codes is None else int((codes == STATUSES.index("done")).sum())


def started(out: Path) -> list[Path]:
    """Checkpoints of points that have been started and are not done."""
    return sorted(out.glob("state/*/ensemble.npz"))


def phase(out: Path) -> str:
    """How far a sweep has come, in words."""
    codes = states(out)
    if codes is None:
        return "no dataset yet"
    finished = done(out)
    if finished == codes.size:
        return "finished" if (out / "run.zarr").exists() else "all points done, not finished"
    if not finished and not started(out):
        return "planned, nothing computed"
    return f"in progress, {finished:2} of {codes.size} points done"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A dataset beside the uninterrupted one.

    Attributes
    ----------
    points
        Points of the sweep.
    lost
        Those that are not done, or lack a value.
    differing
        Values, attributes and names that are not the same.
    """

    points: int
    lost: int
    differing: int

    @property
    def equal(self) -> bool:
        """Whether nothing is lost and nothing differs."""
        return not self.lost and not self.differing


def compare(reference: xr.DataTree, out: Path) -> Comparison:
    """Count points that are lost and values that differ in any bit."""
    wanted, found = _groups(reference), _groups(open_run(out).load())
    status = found["/"]["status"]
    lost = status.values.reshape(-1) != STATUSES.index("done")
    differing = len(set(wanted) ^ set(found))
    for group in set(wanted) & set(found):
        ours, theirs = wanted[group], found[group]
        differing += told(ours.attrs) != told(theirs.attrs)
        differing += len(set(ours.variables) ^ set(theirs.variables))
        for name in set(ours.variables) & set(theirs.variables):
            one, two = ours.variables[name], theirs.variables[name]
            if (one.dims, one.shape, one.dtype) != (two.dims, two.shape, two.dtype):
                differing += 1
                continue
            differing += one.attrs != two.attrs
            unequal = unlike(one.values, two.values, name == "details")
            differing += int(unequal.sum())
            if one.dims[: status.ndim] == status.dims:
                gone = unequal & absent(two.values)
                lost |= gone.reshape(len(lost), -1).any(1)
    return Comparison(len(lost), int(lost.sum()), differing)


def _groups(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    return {node.path: node.to_dataset(inherit=False) for node in tree.subtree}


def unlike(one: np.ndarray, two: np.ndarray, as_json: bool) -> np.ndarray:
    """Where two arrays of one shape and type differ; numbers bit by bit."""
    if as_json:
        pairs = zip(one.flat, two.flat, strict=True)
        same = [told(json.loads(a or "{}")) == told(json.loads(b or "{}")) for a, b in pairs]
        return ~np.array(same, bool).reshape(one.shape)
    if one.dtype.kind == "f":
        bits = np.dtype(f"u{one.dtype.itemsize}")
        return np.ascontiguousarray(one).view(bits) != np.ascontiguousarray(two).view(bits)
    return np.asarray(one != two)


def absent(values: np.ndarray) -> np.ndarray:
    """Where nothing was written."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.asarray(values == (-1 if values.dtype.kind in "iu" else ""))
