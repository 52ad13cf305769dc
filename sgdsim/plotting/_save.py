"""All figures of a run as files."""

import io
import uuid
from collections.abc import Callable
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from sgdsim.plotting._bounds import plot_bounds
from sgdsim.plotting._convexity import plot_convexity
from sgdsim.plotting._convexity_map import plot_case_convexity, plot_convexity_map
from sgdsim.plotting._distance import plot_distance
from sgdsim.plotting._edge import plot_sharpness
from sgdsim.plotting._edge_blocks import plot_block_sharpness
from sgdsim.plotting._edge_break_even import plot_break_even
from sgdsim.plotting._edge_density import plot_spectral_density
from sgdsim.plotting._edge_distance import plot_predicted_loss, plot_process_distances
from sgdsim.plotting._edge_phase import plot_phase_diagram
from sgdsim.plotting._edge_ratios import plot_sharpness_ratios, plot_spectrum
from sgdsim.plotting._exits import plot_exits
from sgdsim.plotting._exits_basins import plot_basins
from sgdsim.plotting._exits_gap import plot_gap, plot_gap_width
from sgdsim.plotting._exits_rates import plot_arrhenius
from sgdsim.plotting._exits_survival import plot_exit_survival
from sgdsim.plotting._processes import plot_escapes, plot_losses, plot_validity
from sgdsim.plotting._survival import plot_survival
from sgdsim.plotting._sweep import plot_sweep
from sgdsim.plotting._training import plot_bounds_over_time, plot_factors
from sgdsim.store import Location
from sgdsim.store._files import disk_errors

#: Figures of each study, by name; a function that has nothing to show returns nothing.
FIGURES: dict[str, dict[str, Callable[[xr.DataTree], Figure | None]]] = {
    "stagnation": {
        "survival": plot_survival,
        "distance": plot_distance,
        "bounds": plot_bounds,
        "convexity": plot_convexity,
        "convexity_map": plot_convexity_map,
    },
    "dynamics": {
        "losses": plot_losses,
        "validity": plot_validity,
        "escapes": plot_escapes,
    },
    "exits": {
        "exits": plot_exits,
        "survival": plot_exit_survival,
        "arrhenius": plot_arrhenius,
        "convexity": plot_case_convexity,
        "gap": plot_gap,
        "gap_width": plot_gap_width,
        "basins": plot_basins,
    },
    "bounds": {
        "bounds": plot_bounds,
        "bounds_over_time": plot_bounds_over_time,
        "factors": plot_factors,
    },
    "edge": {
        "sharpness": plot_sharpness,
        "ratios": plot_sharpness_ratios,
        "spectrum": plot_spectrum,
        "density": plot_spectral_density,
        "blocks": plot_block_sharpness,
        "distances": plot_process_distances,
        "predicted_loss": plot_predicted_loss,
        "break_even": plot_break_even,
    },
}
#: Figures of a sweep of a study beside the one that all sweeps have.
SWEEP_FIGURES: dict[str, dict[str, Callable[[xr.DataTree], Figure | None]]] = {
    "edge": {"phase_diagram": plot_phase_diagram, "break_even": plot_break_even},
}
_DPI = 150


def save_figures(tree: xr.DataTree, folder: Location) -> list[Location]:
    """Draw every figure of the study as PNG and SVG, each file whole or not at all.

    A figure with nothing to show is left out. A sweep has one, of its points side by side,
    and what is special to its study.

    Parameters
    ----------
    tree
        A run or a sweep, as ``sgdsim.open_run`` returns it.
    folder
        Where, also a remote one; created if needed. Files of an earlier call are replaced.

    Returns
    -------
    list of pathlib.Path or upath.UPath
        The files, PNG before SVG.

    Raises
    ------
    StoreError
        If the disk refuses.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import save_figures
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = synthetic_run(Path(folder))
    ...     print([path.name for path in save_figures(open_run(run), run / "figures")][:2])
    ['survival.png', 'survival.svg']
    """
    swept = bool(tree.to_dataset()["status"].dims)
    study = str(tree.attrs["study"])
    figures = {"sweep": plot_sweep, **SWEEP_FIGURES.get(study, {})} if swept else FIGURES[study]
    return [
        path
        for name, draw in figures.items()
        if (figure := draw(tree)) is not None
        for path in write_figure(figure, folder, name)
    ]


def write_figure(figure: Figure, folder: Location, name: str) -> list[Location]:
    """Write one figure as ``name.png`` and ``name.svg``, each file whole or not at all.

    Raises
    ------
    StoreError
        If the disk refuses.
    """
    paths: list[Location] = []
    with disk_errors("write figures to", folder):
        if isinstance(folder, Path):  # object stores have no folders
            folder.mkdir(parents=True, exist_ok=True)
        for kind in ("png", "svg"):
            paths.append(folder / f"{name}.{kind}")
            _write(figure, paths[-1], kind)
    return paths


def _write(figure: Figure, path: Location, kind: str) -> None:
    # Without the date the same run gives the same file.
    metadata = {"Date": None} if kind == "svg" else None
    if not isinstance(path, Path):
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=_DPI, metadata=metadata)
        path.fs.pipe_file(path.path, content.getvalue())
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        figure.savefig(temporary, format=kind, dpi=_DPI, metadata=metadata)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
