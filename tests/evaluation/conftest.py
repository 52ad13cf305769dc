"""Random sweeps as labelled grids, and as the tables that an independent library reads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

AXES = ("width", "depth", "rate")


def random_sweep(
    seed: int,
    sizes: tuple[int, ...] = (3, 4, 3),
    *,
    repetitions: int = 0,
    bounds: int = 0,
    rounded: bool = False,
) -> tuple[xr.DataArray, xr.DataArray]:
    """Measure and gap that are related; rounded to few values, so that there are ties."""
    random = np.random.default_rng(seed)
    axes = AXES[: len(sizes)]
    shape = sizes + (repetitions,) * (repetitions > 0)
    dims = axes + ("seed",) * (repetitions > 0)
    coords = {name: 2.0 ** np.arange(size) for name, size in zip(axes, sizes, strict=True)}
    gap = 0.3 + 0.1 * random.normal(size=shape)
    noise = random.normal(size=(bounds,) * (bounds > 0) + shape)
    measure = 10.0 * (gap - 0.3) + noise
    if rounded:
        gap, measure = gap.round(1), measure.round(0)
    names = ("bound",) * (bounds > 0) + dims
    return (
        xr.DataArray(measure, dims=names, coords=coords),
        xr.DataArray(gap, dims=dims, coords=coords),
    )


@pytest.fixture
def sweep() -> Callable[..., tuple[xr.DataArray, xr.DataArray]]:
    """``random_sweep``: test modules cannot import each other."""
    return random_sweep


@pytest.fixture
def table() -> Callable[..., Any]:
    """Runs as a table with the columns ``m``, ``g``, hyper-parameters and ``config_id``."""
    pandas = pytest.importorskip("pandas")

    def build(measure: xr.DataArray, gap: xr.DataArray, axes: tuple[str, ...]) -> Any:
        rows = []
        for place in np.ndindex(*gap.shape):
            at = dict(zip(gap.dims, place, strict=True))
            row = {str(d): float(gap[d][i]) for d, i in at.items() if d in axes}
            config = "-".join(f"{at[name]:03d}" for name in axes)
            m, g = float(measure.isel(at)), float(gap.isel(at))
            rows.append({"m": m, "g": g, **row, "config_id": config})
        return pandas.DataFrame(rows)

    return build


@pytest.fixture
def bounds_of() -> Callable[..., xr.DataArray]:
    """Measures along the dimension ``bound``."""

    def build(*measures: Any) -> Any:
        return xr.concat(measures, dim="bound", coords="minimal")

    return build
