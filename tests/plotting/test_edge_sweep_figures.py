"""Sweeps of the edge study: phase diagram and break-even plot show what is stored."""

from collections import Counter

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba
from matplotlib.container import ErrorbarContainer

from sgdsim.plotting import plot_break_even, plot_phase_diagram, plot_sweep, save_figures
from sgdsim.plotting._edge_look import STATE_COLOURS
from sgdsim.plotting._save import SWEEP_FIGURES
from sgdsim.store import EDGE_STATES, SweepAxis, open_run
from sgdsim.testing import synthetic_sweep

RATES, SIZES = [0.4, 0.1, 0.2], [8, 32]
RATE = SweepAxis("learning_rate", {"learning_rate": RATES})
SIZE = SweepAxis("batch_size", {"batch_size": SIZES})
DRAWN = ["GD", "GD, half", "catapult", "SGD"]


def changed(tree, coords=None, **variables):
    """The sweep with other values of variables, and of coordinates, of the group."""
    other, old = tree.copy(), tree["edge"].to_dataset()
    new = {name: (old[name].dims, value, old[name].attrs) for name, value in variables.items()}
    places = {name: (old[name].dims, value) for name, value in (coords or {}).items()}
    other["edge"] = xr.DataTree(old.assign(new).assign_coords(places))
    return other


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Batch size by learning rate; two points are missing, states and rates differ."""
    folder = tmp_path_factory.mktemp("sweep")
    found = open_run(synthetic_sweep(folder, "edge", [SIZE, RATE], failed=[1], pending=[5])).load()
    states = np.random.default_rng(0).integers(3, 7, found["edge"].final_state.shape)
    rates = found["edge"].process_learning_rate.values.copy()
    rates[..., [0, 3, 4]] = np.array(RATES)[:, None]  # of GD, SGD and SDE
    return changed(found, {"process_learning_rate": rates}, final_state=states)


def drawn(figure):
    """The figure, rendered; everything that is said must be inside."""
    assert figure is not None
    FigureCanvasAgg(figure).draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.05
    assert box.x1 < width + 0.05
    assert box.y1 < height + 0.05
    return figure


def panels(figure):
    return [ax for ax in figure.axes if ax.images or ax.get_title().endswith("end")]


def cells(ax):
    return np.ma.filled(ax.images[0].get_array().astype(float), np.nan)


def curves(ax):
    """Points of every curve with error bars, by its label."""
    found = {}
    for container in ax.containers:
        assert isinstance(container, ErrorbarContainer)
        assert container.lines[0] is not None
        found[str(container.get_label())] = np.asarray(container.lines[0].get_xydata(), float)
    return found


def bar(ax):
    """Text at the colour bar of a map."""
    colorbar = ax.images[0].colorbar
    return "" if colorbar is None else colorbar.ax.get_ylabel()


def legend(figure):
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


def test_the_phase_diagram_draws_the_stored_states(tree):
    figure = drawn(plot_phase_diagram(tree))
    data = tree["edge"].to_dataset()
    states = [ax for ax in panels(figure) if "state at the end" in ax.get_title()]
    assert [ax.get_title() for ax in states] == [f"{name}: state at the end" for name in DRAWN]
    order, seen = [1, 2, 0], set()  # rates rise from bottom to top
    for ax, name in zip(states, DRAWN, strict=True):
        assert (ax.get_ylabel(), ax.get_xlabel()) == ("learning rate", "batch size")
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.1", "0.2", "0.4"]
        final = data.final_state.sel(process=name).values  # (batch, rate, trajectory)
        shares = {(round(t.get_position()[0]), round(t.get_position()[1])): t for t in ax.texts}
        for column, row in np.ndindex(2, 3):
            point = (column, order[row])
            if point in ((0, 1), (1, 2)):  # failed, pending
                assert np.isnan(cells(ax)[row, column])
                assert (column, row) not in shares
                continue
            counts = Counter(final[point].tolist())
            code = min(counts, key=lambda c: (-counts[c], c))
            seen.add(code)
            assert cells(ax)[row, column] == code
            image = ax.images[0]
            colour = to_hex(tuple(image.to_rgba(code)))
            assert colour == to_hex(to_rgba(STATE_COLOURS[EDGE_STATES[code]]))
            if counts[code] == 3:
                assert (column, row) not in shares
            else:
                text = shares[(column, row)].get_text()
                assert text == f"{100 * counts[code] / 3:.0f} %"
    names = {EDGE_STATES[code].replace("_", " ") for code in seen}
    assert set(legend(figure)) == names | {"point failed", "point pending"}
    assert figure.get_suptitle() == "synthetic: phase diagram; 4 of 8 processes"


def test_the_phase_diagram_draws_the_stored_ratios(tree):
    figure = drawn(plot_phase_diagram(tree))
    data = tree["edge"].to_dataset()
    bars = {
        "sharpness over threshold, last quarter": "late_ratio",
        "batch sharpness over 2/eta, last quarter": "late_batch_ratio",
    }
    found = [ax for ax in panels(figure) if ax.images and bar(ax)]
    labels = [bar(ax) for ax in found]
    assert labels == [*[next(iter(bars))] * 4, list(bars)[1]], "only SGD has batches"
    for ax, label, name in zip(found, labels, [*DRAWN, "SGD"], strict=True):
        stored = data[bars[label]].sel(process=name).mean("trajectory").values.T[[1, 2, 0]]
        stored[0, 0] = stored[1, 1] = np.nan
        np.testing.assert_allclose(cells(ax), stored)
        assert sum(ax.images[0].get_clim()) == pytest.approx(2.0), "palest at one"


def test_a_phase_diagram_needs_two_axes(tree, tmp_path):
    line = tree.isel(batch_size=1, drop=True)
    assert plot_phase_diagram(line) is None
    stems = [path.stem for path in save_figures(line, tmp_path)]
    assert stems[::2] == ["sweep", "break_even"]
    figure = drawn(plot_sweep(line))
    ax = next(ax for ax in figure.axes if ax.get_ylabel().startswith("sharpness over threshold"))
    stored = line["edge"].late_ratio.sel(process="SGD").mean("trajectory").values[[1, 2, 0]]
    stored[1] = np.nan  # pending
    np.testing.assert_allclose(curves(ax)["SGD"][:, 1], stored)


def test_other_axes_are_taken_at_their_first_label(tree):
    other = changed(tree, late_ratio=2 * tree["edge"].late_ratio.values)
    axis = xr.DataArray([4, 8], dims="hidden", name="hidden")
    nodes = {
        path: xr.concat([tree[path].to_dataset(inherit=False), two.to_dataset(inherit=False)], axis)
        for path, two in other.subtree_with_keys
    }
    three = xr.DataTree.from_dict(
        {"/": nodes.pop(".").transpose("batch_size", "hidden", "learning_rate"), **nodes}
    )
    figure = drawn(plot_phase_diagram(three))
    assert figure.get_suptitle() == "synthetic: phase diagram; hidden = 4; 4 of 8 processes"
    ax = next(ax for ax in panels(figure) if ax.images and bar(ax))
    stored = tree["edge"].late_ratio.sel(process="GD").mean("trajectory").values.T[[1, 2, 0]]
    stored[0, 0] = stored[1, 1] = np.nan
    np.testing.assert_allclose(cells(ax), stored)


def test_break_even_over_both_axes(tree):
    figure = drawn(plot_break_even(tree))
    data = tree["edge"].to_dataset()
    by_rate, by_size = figure.axes
    assert (by_rate.get_xlabel(), by_size.get_xlabel()) == ("learning rate", "batch size")
    lines = curves(by_rate)
    largest = data.sharpness.sel(process="SGD").max("step").mean("trajectory").values
    np.testing.assert_allclose(
        lines["SGD, batches of 8"], [[0.2, largest[0, 2]], [0.4, largest[0, 0]]]
    )
    np.testing.assert_allclose(
        lines["SGD, batches of 32"], [[0.1, largest[1, 1]], [0.4, largest[1, 0]]]
    )
    # All rows: the batch size does not matter, and only its first label is drawn.
    whole = data.sharpness.sel(process="GD").max("step").mean("trajectory").values
    np.testing.assert_allclose(lines["GD, all rows"], [[0.2, whole[0, 2]], [0.4, whole[0, 0]]])
    assert not any(label.startswith(("catapult", "Adam")) for label in lines)
    lines = curves(by_size)
    np.testing.assert_allclose(lines["SGD, eta 0.4"], [[8, largest[0, 0]], [32, largest[1, 0]]])
    assert "SGD, eta 0.1" not in lines, "there is one point only"
    assert not any(label.startswith("GD") for label in lines)


def test_a_sweep_has_more_than_one_figure():
    assert {
        "edge": {"phase_diagram": plot_phase_diagram, "break_even": plot_break_even}
    } == SWEEP_FIGURES


def test_a_sweep_of_which_nothing_is_done(tmp_path):
    begun = open_run(synthetic_sweep(tmp_path / "run", "edge", [SIZE, RATE], pending=range(6)))
    assert plot_phase_diagram(begun) is None
    assert plot_break_even(begun) is None
    assert save_figures(begun, tmp_path / "figures") == []
