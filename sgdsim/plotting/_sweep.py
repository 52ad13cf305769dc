"""The figure of a sweep: what a reader of its study compares between the points."""

import textwrap

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sgdsim.plotting._style import run_name
from sgdsim.plotting._sweep_axes import label_text, view_axis
from sgdsim.plotting._sweep_lines import draw_lines
from sgdsim.plotting._sweep_maps import draw_maps
from sgdsim.plotting._sweep_points import Quantity, Sweep, select_part
from sgdsim.plotting._sweep_quantities import sweep_marks, sweep_quantities
from sgdsim.store import STATUSES

#: As many processes or cases are drawn, as lines of one panel or as panels of their own.
_MOST_LINES, _MOST_PANELS = 8, 4


def plot_sweep(tree: xr.DataTree) -> Figure | None:
    """Draw the results of a sweep over its axes: lines over one axis, heat maps over two.

    Stagnation: stay probability and its S2 bounds, mean squared distance, generalization gap and
    smallest certificate, largest Hessian eigenvalue. Dynamics: late mean loss, largest
    eigenvalue, gauge of the SDE, mean escape time. Exits: exit probability, mean exit time, gap.
    Any of them: share of diverged trajectories if there are. Points that failed, are pending,
    lost all trajectories, or at which a claim does not hold are marked.

    Parameters
    ----------
    tree
        The dataset of a sweep, as ``sgdsim.open_run`` returns it.

    Returns
    -------
    matplotlib.figure.Figure or None
        Of three axes or more the last two are drawn, at the first label of each other one. Heat
        maps show what is measured; beside it bounds, and multiples of a reference, where there is
        one process or case. Nothing where no point has a number.
    """
    sweep, root = Sweep(tree), tree.to_dataset()
    dims = [str(dim) for dim in sweep.status.dims]
    drawn = [dim for dim in dims if root.sizes[dim] > 1][-2:] or dims[-1:]
    fixed = {dim: 0 for dim in dims if dim not in drawn}
    quantities = _known(sweep_quantities(sweep, tree), fixed)
    if not quantities:
        return None
    marks = [m._replace(where=m.where.isel(fixed, drop=True)) for m in sweep_marks(sweep)]
    most = _MOST_PANELS if len(drawn) == 2 or sweep.study == "exits" else _MOST_LINES
    dim, names, left_out = _choose(quantities, most)
    notes = _notes(root, fixed)
    if left_out:
        notes.append(textwrap.shorten(f"not drawn: {', '.join(left_out)}", 100))
        quantities = _known([q.mapped(lambda a: _only(a, dim, names)) for q in quantities], {})
    if len(names) == 1:
        only = {dim: names[0]}
        notes.append(f"{dim}: {names[0]}")
        quantities = [q.mapped(lambda array: select_part(array, only)) for q in quantities]
        marks = [mark._replace(where=select_part(mark.where, only)) for mark in marks]
        dim, names = "", []
    axes = [view_axis(root, name) for name in drawn]
    if len(axes) == 1:
        figure = draw_lines(quantities, axes[0], (dim, names), marks)
    else:
        figure = draw_maps(quantities, (axes[0], axes[1]), (dim, names), marks)
    title = "\n".join([f"{run_name(tree)}: {_counts(sweep)}", *notes])
    figure.suptitle(title.replace("$", r"\$"), fontsize="medium")
    return figure


def _known(quantities: list[Quantity], fixed: dict[str, int]) -> list[Quantity]:
    """Take one label of some axes; leave out what has no number there."""
    found = []
    for quantity in quantities:
        curves = quantity.mapped(lambda array: array.isel(fixed, drop=True)).curves
        kept = tuple(curve for curve in curves if np.isfinite(curve.value.values).any())
        if kept:
            found.append(quantity._replace(curves=kept))
    return found


def _choose(quantities: list[Quantity], most: int) -> tuple[str, list[str], list[str]]:
    """Dimension of processes or cases, those that are drawn, and those that are left out."""
    values = [curve.value for quantity in quantities for curve in quantity.curves]
    dim = next((dim for dim in ("process", "case") if dim in values[0].dims), "")
    if not dim:
        return "", [], []
    names = [
        str(name)
        for name in values[0][dim].values.tolist()
        if any(np.isfinite(value.sel({dim: name}).values).any() for value in values)
    ]
    return dim, names[:most], names[most:]


def _only(array: xr.DataArray, dim: str, names: list[str]) -> xr.DataArray:
    return array.sel({dim: names}) if dim in array.dims else array


def _counts(sweep: Sweep) -> str:
    """How many points there are, what became of them, and at how many the claims hold."""
    states = {name: int((sweep.status == code).sum()) for code, name in enumerate(STATUSES)}
    text = f"sweep, {states['done']} of {sweep.status.size} points done"
    text += "".join(f", {states[name]} {name}" for name in ("failed", "pending") if states[name])
    if refuted := int(sweep.refuted().sum()):
        text += f"; a claim does not hold at {refuted}"
    return text


def _notes(root: xr.Dataset, fixed: dict[str, int]) -> list[str]:
    """Which labels of the other axes a figure is drawn at, a line each."""
    axes = [view_axis(root, dim) for dim in fixed]
    return [f"at {axis.label} = {label_text(root[axis.name].values[0])}" for axis in axes]
