"""Judging a dataset by the edge of stability, whoever made it."""

import json
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console

from sgdsim._errors import SgdsimError
from sgdsim.plotting import save_figures
from sgdsim.runs._edge_assess import assess
from sgdsim.runs._edge_report import print_edge
from sgdsim.runs._output import find_run
from sgdsim.scenario import Scenario, sweep_points
from sgdsim.store import open_point, open_run, variables_of

#: Relative distance from the threshold that counts as the edge, where a run does not say it.
BAND = 0.1


def analyze(
    store: str,
    console: Console,
    *,
    band: float | None = None,
    point: int | None = None,
    figures: bool = True,
) -> None:
    """Print what every process does at the edge of stability, and draw the figures again.

    Parameters
    ----------
    store
        Folder of a run, or its URL.
    console
        Where to print.
    band
        Relative distance from the threshold that counts as the edge; that of the run if ``None``.
    point
        Number of the point of a sweep.
    figures
        Whether to draw.

    Raises
    ------
    SgdsimError
        If there is no such run, nothing of it can be judged, or the band is no share.

    Notes
    -----
    The dataset itself stays as it is. Of a run of the study ``dynamics`` the eigenvalues at its
    probes are judged, and no figures are drawn.
    """
    if band is not None and not 0 < band < 1:
        raise SgdsimError(f"band must be a share between 0 and 1, got {band:g}; try 0.1.")
    tree = open_run(store) if point is None else open_point(store, point)
    if tree.to_dataset()["status"].dims:
        count = tree.to_dataset()["status"].size
        raise SgdsimError(f"{store} is a sweep of {count} points; choose one by --point.")
    study = str(tree.attrs["study"])
    if study == "dynamics":
        print_edge(judged(at_probes(tree), band, point), console)
        return
    if study != "edge":
        raise SgdsimError(
            f"{store} is a run of the study {study!r}, in which no process has a sharpness along "
            "its way; the studies that have it are edge and dynamics."
        )
    found = judged(tree, band, point)
    print_edge(found, console)
    if figures:
        folder = find_run(store).figures
        save_figures(found, folder if point is None else folder / f"point-{point}")


def judged(tree: xr.DataTree, band: float | None = None, point: int | None = None) -> xr.DataTree:
    """Dataset of the edge study with thresholds, states and steps of entry worked out anew.

    Parameters
    ----------
    tree
        With everything that was measured.
    band, point
        As for `analyze`.
    """
    scenario = _scenario_of(tree, point)
    if band is None:
        band = float(scenario.get("detector", {}).get("band", BAND))
    edge = tree["edge"].to_dataset()
    values, said = assess(edge, [one["dynamics"] for one in scenario["process"]], band)
    specs = variables_of("edge")
    changed = edge.assign({name: (specs[name].dims, value) for name, value in values.items()})
    return xr.DataTree(
        tree.to_dataset().assign_attrs({**tree.attrs, **said}),
        children={"edge": xr.DataTree(changed)},
    )


def _scenario_of(tree: xr.DataTree, point: int | None) -> dict[str, Any]:
    """Scenario of what is judged: of a point of a sweep that with the values of the point."""
    text = str(tree.attrs["scenario"])
    if point is None:
        return json.loads(text)
    return json.loads(sweep_points(Scenario.from_json(text))[point].canonical_json())


def at_probes(tree: xr.DataTree) -> xr.DataTree:
    """Measurements of a dynamics run at its probes, under the names of the edge study.

    Raises
    ------
    SgdsimError
        If the run has no probes of the curvature, or a schedule of the learning rate.
    """
    dynamics = tree["dynamics"].to_dataset()
    scenario: dict[str, Any] = json.loads(str(tree.attrs["scenario"]))
    if any(process["dynamics"].get("schedule") for process in scenario["process"]):
        raise SgdsimError(
            "A run of the study 'dynamics' with a schedule does not store its learning rates; run "
            'study = "edge".'
        )
    members = dynamics["member"].values
    if not (members.size and dynamics.sizes["probe"]):
        raise SgdsimError("The run has no probes of the curvature; set probe.members.")
    measured = dynamics.sel(trajectory=members, step=dynamics["probe"].values)
    shape = dynamics.sizes["process"], members.size, dynamics.sizes["probe"]
    known = {
        "loss": measured["loss"].values,
        "gradient_norm": measured["gradient_norm"].values,
        "sharpness": dynamics["hessian_eigenvalue"].isel(rank=0).values,
        "sharpness_residual": dynamics["hessian_residual"].isel(rank=0).values,
        "diverged_step": dynamics["diverged_step"].sel(trajectory=members).values,
        "step_size": np.repeat(dynamics["learning_rate"].values[:, None], shape[2], axis=1),
    }
    coords = {
        "process": dynamics["process"].values,
        "trajectory": members,
        "step": dynamics["probe"].values,
        "learning_rate": ("process", dynamics["learning_rate"].values),
    }
    sizes: dict[str, int] = dict(zip(("process", "trajectory", "step"), shape, strict=True))
    variables = {}
    for name, spec in variables_of("edge").items():
        if set(spec.dims) <= set(sizes):
            dtype = spec.resolve_dtype("float64")
            empty = np.full([sizes[dim] for dim in spec.dims], spec.fill, dtype)
            variables[name] = (spec.dims, known.get(name, empty))
    edge = xr.Dataset(variables, coords)
    return xr.DataTree(
        tree.to_dataset().drop_dims(tree.to_dataset().dims), children={"edge": xr.DataTree(edge)}
    )
