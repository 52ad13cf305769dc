"""Density of the Hessian eigenvalues along a run."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sgdsim.plotting._edge_look import (
    draw_threshold,
    is_preconditioned,
    legend_of,
    measured,
    plain_name,
    threshold_text,
)
from sgdsim.plotting._exits import case_panels, text_of
from sgdsim.plotting._style import axis_label, group, run_name

#: Places along the eigenvalues, and the width of the Gaussian as a share of their range.
_PLACES, _WIDTH = 240, 0.012
#: As many recorded steps are drawn; more could not be told apart.
_MOST_STEPS = 400
#: Decades of density that are shown at least and at most.
_DECADES = (2.0, 8.0)


class _Image(NamedTuple):
    """Logarithm of a density: rows are places, columns are steps, with the edges of both.

    ``lowest`` is what must still be seen: a tenth of the peak of one outermost eigenvalue.
    """

    step_edges: Float[np.ndarray, " step_edge"]
    place_edges: Float[np.ndarray, " place_edge"]
    heights: Float[np.ndarray, "place step"]
    lowest: float


def plot_spectral_density(tree: xr.DataTree) -> Figure | None:
    r"""Draw the density of the Hessian eigenvalues along the first trajectory of every process.

    .. math:: \rho(x) = \frac1m\sum_{j=1}^m\sum_k w_{jk}\,N(x; x_{jk}, \sigma^2)

    Parameters
    ----------
    tree
        A run of the edge study.

    Returns
    -------
    matplotlib.figure.Figure or None
        One panel for each process: colours are the logarithm of the density, smoothed by a Gaussian
        of 1.2 % of the range of the panel, on one scale for all of them. Steps that were not
        recorded are grey. Nothing where no density was recorded.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_spectral_density
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_edge_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_spectral_density(open_run(synthetic_edge_run(Path(folder))))
    >>> figure.axes[0].get_ylabel()
    'Hessian eigenvalue'
    """
    data = group(tree, "edge")
    if "density_node" not in data or "density_weight" not in data:
        return None
    first = data.isel(trajectory=slice(0, 1))
    images = {
        name: image
        for name in data["process"].values.tolist()
        if (image := _image(first.sel(process=name))) is not None
    }
    if not images:
        return None
    colours = colormaps["magma_r"].with_extremes(under="white", bad="0.85")
    highest = max(float(np.nanmax(image.heights)) for image in images.values())
    lowest = min(image.lowest for image in images.values())
    scale = Normalize(highest - float(np.clip(highest - lowest, *_DECADES)), highest)
    smoothed = f"smoothed over {100 * _WIDTH:g} % of each range"
    title = f"{run_name(tree)}: density of the Hessian eigenvalues, {smoothed}"
    if data.sizes["trajectory"] > 1:
        title += ", first trajectory"
    figure, panels = case_panels(len(images), plain_name(title), 3.9, 3.2)
    for number, (ax, (name, image)) in enumerate(zip(panels, images.items(), strict=True)):
        one = first.sel(process=name)
        ax.pcolormesh(
            image.step_edges,
            image.place_edges,
            image.heights,
            cmap=colours,
            norm=scale,
            rasterized=True,
        )
        ax.grid(visible=False)
        lines = [text_of(name, 40)]
        if not is_preconditioned(one) and (text := threshold_text(tree, one)):
            lines.append(f"threshold {text}")
            draw_threshold(ax, one)
        ax.set_title("\n".join(lines), fontsize="medium")
        ax.set_xlim(image.step_edges[0], image.step_edges[-1])
        ax.set_ylim(image.place_edges[0], image.place_edges[-1])
        ax.set_xlabel(axis_label(data["step"], "step"))
        if number % 4 == 0:
            ax.set_ylabel("Hessian eigenvalue")
    drawn = ScalarMappable(scale, colours)
    bar = figure.colorbar(drawn, ax=panels, extend="min", fraction=0.05, pad=0.01)
    bar.set_label("log10 of the density [1/eigenvalue]")
    legend_of(figure, panels, [], 4)
    return figure


def _image(one: xr.Dataset) -> _Image | None:
    """Smooth the quadratures of a process with one trajectory; nothing where there are none."""
    order = ("trajectory", "step", "draw", "node")
    nodes, weights = (
        one[name].transpose(*order).values[0] for name in ("density_node", "density_weight")
    )
    known = np.isfinite(nodes) & np.isfinite(weights) & (weights > 0)
    if not known.any():
        return None
    nodes, weights = np.where(known, nodes, 0.0), np.where(known, weights, 0.0)
    low, high = _range(nodes[known], one)
    width = _WIDTH * (high - low)
    edges = np.linspace(low - 4 * width, high + 4 * width, _PLACES + 1)
    places = (edges[1:] + edges[:-1]) / 2
    recorded = known.any(axis=(1, 2))
    first, end = np.flatnonzero(recorded)[[0, -1]]
    chosen = np.unique(np.linspace(first, end, _MOST_STEPS).round().astype(np.int64))
    density = np.stack([_density(places, nodes[i], weights[i], width) for i in chosen], axis=1)
    # What is zero is not shown, and is not what was never recorded.
    heights = np.log10(np.maximum(density, np.finfo(np.float64).tiny))
    heights[:, ~recorded[chosen]] = np.nan
    last = np.where(known, nodes, -np.inf).argmax(axis=2)
    outermost = np.take_along_axis(weights, last[..., None], axis=2)[..., 0]
    peak = np.median(outermost[outermost > 0]) / (np.sqrt(2 * np.pi) * width)
    return _Image(_edges(one["step"].values[chosen]), edges, heights, float(np.log10(peak / 10)))


def _range(nodes: Float[np.ndarray, " node"], one: xr.Dataset) -> tuple[float, float]:
    """Smallest and largest place to show; a threshold that is not far away is among them."""
    low, high = float(nodes.min()), float(nodes.max())
    edge = measured(one, "threshold").values
    if not is_preconditioned(one) and np.isfinite(edge).any():
        near = float(np.nanmin(edge))
        high = max(high, near) if near <= 2 * high else high
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _density(
    places: Float[np.ndarray, " place"],
    nodes: Float[np.ndarray, "draw node"],
    weights: Float[np.ndarray, "draw node"],
    width: float,
) -> Float[np.ndarray, " place"]:
    """Mean over start vectors of the Gaussians at their nodes."""
    scaled = (places[:, None, None] - nodes[None]) / width
    gaussians = np.exp(-(scaled**2) / 2) / (np.sqrt(2 * np.pi) * width)
    return (weights[None] * gaussians).sum(axis=2).mean(axis=1)


def _edges(steps: Int[np.ndarray, " step"]) -> Float[np.ndarray, " step_edge"]:
    """Midpoints between steps, and as far beyond the first and the last one."""
    if steps.size == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middles = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middles[0]], middles, [2 * steps[-1] - middles[-1]]])
