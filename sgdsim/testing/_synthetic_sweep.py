"""A small made-up sweep: one made-up run at every point, its numbers scaled from point to point."""

import math
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from sgdsim.store import RunStore, SweepAxis, coordinates_in, open_run, variables_of
from sgdsim.testing._synthetic import synthetic_run
from sgdsim.testing._synthetic_dynamics import synthetic_dynamics_run
from sgdsim.testing._synthetic_edge import synthetic_edge_run
from sgdsim.testing._synthetic_exits import synthetic_exits_run
from sgdsim.testing._synthetic_training import synthetic_training_run

_RUNS = {
    "stagnation": synthetic_run,
    "dynamics": synthetic_dynamics_run,
    "exits": synthetic_exits_run,
    "bounds": synthetic_training_run,
    "edge": synthetic_edge_run,
}
# What changes from point to point, in proportion; nothing else does.
_SCALED = {
    "stagnation": ("mean_squared_distance", "linearised_mean_squared_distance"),
    "curvature": ("hessian_eigenvalue",),
    "bounds": ("value", "generalization_gap", "zero_one_gap"),
    "dynamics": ("late_loss", "hessian_eigenvalue", "sde_gauge"),
    "exits": ("mean_exit_time", "mean_exit_time_low", "mean_exit_time_high"),
    "edge": ("sharpness", "late_ratio", "late_batch_ratio", "break_even_sharpness"),
}


def synthetic_sweep(
    folder: Path,
    study: str,
    axes: Sequence[SweepAxis],
    *,
    failed: Collection[int] = (),
    pending: Collection[int] = (),
    diverged: Collection[int] = (),
    lengths: Mapping[int, Mapping[str, int]] = {},
) -> Path:
    """Fabricate a sweep: the made-up run of the study at every point, numbered in C order.

    Point ``i`` of ``n`` has the mean squared distances, eigenvalues, gaps, losses, exit times,
    sharpness and its ratios of the run times ``1 + i / n``. No number here comes from a simulator.

    Parameters
    ----------
    folder
        Run folder to create.
    study
        ``"stagnation"``, ``"dynamics"``, ``"exits"``, ``"bounds"`` or ``"edge"``.
    axes
        Axes of the sweep.
    failed, pending
        Points that failed or were never run; nothing is written at them.
    diverged
        Points at which all trajectories diverged: what is measured is NaN.
    lengths
        Lengths of points that are shorter than the run, by point and dimension.

    Returns
    -------
    pathlib.Path
        ``folder``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.store import SweepAxis, open_run
    >>> from sgdsim.testing import synthetic_sweep
    >>> axis = SweepAxis("batch_size", {"batch_size": [8, 16]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tree = open_run(synthetic_sweep(Path(folder), "dynamics", [axis], failed=[1]))
    ...     print(tree.to_dataset().status.values)
    [1 2]
    """
    with tempfile.TemporaryDirectory() as scratch:
        base = open_run(_RUNS[study](Path(scratch))).load()
    coords = {
        spec.name: base[group].to_dataset()[spec.name].values
        for spec in coordinates_in(study)
        for group in base.children
        if not spec.per_point and spec.name in base[group].coords
    }
    if study == "stagnation":  # a run alone is labelled by the radii
        coords["shell"] = np.arange(base["stagnation"].sizes["convexity_radius"])
    attrs = {name: base.attrs[name] for name in ("scenario", "seed", "created_at")}
    store = RunStore.create(
        folder / "run.zarr.partial",
        coords=coords,
        attrs=attrs,
        precision=base.attrs["precision"],
        chunk_sizes={dim: len(coords[dim]) for dim in ("step", "probe") if dim in coords},
        study=study,
        sweep=axes,
    )
    number = math.prod(len(axis.coords[axis.name]) for axis in axes)
    for i in sorted(set(range(number)) - set(pending)):
        point = store.point(i, lengths.get(i))
        if i in failed:
            point.set_status("failed")
            continue
        for group in base.children:
            values = _values(base[group].to_dataset(), group, 1 + i / number, i in diverged)
            point.write(group, {k: _cut(v, lengths.get(i, {})) for k, v in values.items()})
        own = {spec.name: spec.dim for spec in coordinates_in(study) if spec.per_point}
        for group in base.children:
            labels = base[group].coords
            point.write_coords(
                {name: _cut(labels[name], lengths.get(i, {})) for name in own if name in labels}
            )
        point.set_status("done")
    store.finish(folder / "run.zarr")
    return folder


def _values(data: xr.Dataset, group: str, factor: float, diverged: bool) -> dict[str, xr.DataArray]:
    values = {name: data[name] for name in variables_of(group) if name in data}
    for name in _SCALED.get(group, ()):
        values[name] = values[name] * factor
    if diverged:
        for name, value in values.items():
            if "trajectory" in value.dims and value.dtype.kind == "f":
                values[name] = value * np.nan
        if "status" in values:
            values["status"] = xr.full_like(values["status"], 2)
    return values


def _cut(value: xr.DataArray, lengths: Mapping[str, int]) -> np.ndarray:
    ends = {dim: slice(0, length) for dim, length in lengths.items()}
    return value.isel(ends, missing_dims="ignore").values
