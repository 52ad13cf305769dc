"""All figures of a run as files."""

import uuid
from collections.abc import Callable
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from sgdsim.plotting._bounds import plot_bounds
from sgdsim.plotting._convexity import plot_convexity
from sgdsim.plotting._distance import plot_distance
from sgdsim.plotting._processes import plot_escapes, plot_losses, plot_validity
from sgdsim.plotting._survival import plot_survival
from sgdsim.store._files import disk_errors

#: Figures of each study, by name.
FIGURES: dict[str, dict[str, Callable[[xr.DataTree], Figure]]] = {
    "stagnation": {
        "survival": plot_survival,
        "distance": plot_distance,
        "bounds": plot_bounds,
        "convexity": plot_convexity,
    },
    "dynamics": {
        "losses": plot_losses,
        "validity": plot_validity,
        "escapes": plot_escapes,
    },
}
_DPI = 150


def save_figures(tree: xr.DataTree, folder: Path) -> list[Path]:
    """Draw every figure of the study as PNG and SVG, each file whole or not at all.

    Parameters
    ----------
    tree
        A run, as ``sgdsim.open_run`` returns it.
    folder
        Where; created if needed. Files of an earlier call are replaced.

    Returns
    -------
    list of pathlib.Path
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
    return [
        path
        for name, draw in _figures_of(tree).items()
        for path in write_figure(draw(tree), folder, name)
    ]


def write_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write one figure as ``name.png`` and ``name.svg``, each file whole or not at all.

    Raises
    ------
    StoreError
        If the disk refuses.
    """
    paths = []
    with disk_errors("write figures to", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("png", "svg"):
            paths.append(folder / f"{name}.{kind}")
            _write(figure, paths[-1], kind)
    return paths


def _figures_of(tree: xr.DataTree) -> dict[str, Callable[[xr.DataTree], Figure]]:
    figures = dict(FIGURES[str(tree.attrs["study"])])
    if "escapes" in figures and bool(tree["dynamics"]["mean_escape_time"].isnull().all()):
        del figures["escapes"]  # the scenario watches no escape
    return figures


def _write(figure: Figure, path: Path, kind: str) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        # Without the date the same run gives the same file.
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(temporary, format=kind, dpi=_DPI, metadata=metadata)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
