"""Figures of a sweep: what is drawn equals what is stored, and what has no number is said."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from sgdsim.plotting import plot_sweep, save_figures
from sgdsim.store import SweepAxis, as_location, open_run
from sgdsim.testing import synthetic_sweep

pytestmark = pytest.mark.slow

RATE = SweepAxis("learning_rate", {"learning_rate": [0.4, 0.1, 0.2, 0.8]})
SIZE = SweepAxis("batch_size", {"batch_size": [8, 32]})
KIND = SweepAxis("kind", {"kind": ["sgd", "sde"]})
NAMES = ["SGD, small", "SDE, small", "SGD, large", "SDE, large"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    def make(study, *axes, **options):
        folder = tmp_path_factory.mktemp("sweep")
        return open_run(synthetic_sweep(folder, study, axes, **options)).load()

    return make


@pytest.fixture(scope="module")
def stagnation(sweep):
    """Point 1 failed, all trajectories of point 3 diverged, point 2 has fewer probes and steps."""
    return sweep(
        "stagnation", RATE, failed=[1], diverged=[3], lengths={2: {"probe": 3, "step": 11}}
    )


@pytest.fixture(scope="module")
def dynamics(sweep):
    """Two axes; points 0, 2 and 3 failed, are pending, and diverged."""
    return sweep("dynamics", SIZE, RATE, failed=[0], pending=[2], diverged=[3])


@pytest.fixture(scope="module")
def maps(sweep):
    return sweep("stagnation", KIND, SIZE)


@pytest.fixture(scope="module")
def exits(sweep):
    return sweep("exits", KIND)


def drawn(tree):
    figure = plot_sweep(tree)
    assert figure is not None
    FigureCanvasAgg(figure).draw()  # a warning while it is drawn is an error
    return figure


def panel(figure, label, title=""):
    (found,) = [
        ax
        for ax in figure.axes
        if ax.get_ylabel() == label and title in ("", ax.get_title().replace("\n", " "))
    ]
    return found


def bars(ax, label):
    """Middles and ends of the error bars of a curve, ``(x, y, low, high)`` by point."""
    (found,) = [c for c in ax.containers if c.get_label().split(", two")[0] == label]
    assert isinstance(found, ErrorbarContainer)
    marks, _, ends = found.lines
    assert marks is not None
    x, y = np.asarray(marks.get_xydata()).T
    limits = np.full((len(x), 2), np.nan)
    for bar in ends:
        for i, segment in enumerate(bar.get_segments()):
            limits[i] = segment[:, 1] if len(segment) else np.nan
    return x, y, limits[:, 0], limits[:, 1]


def curves(ax):
    """Lines of the curves of a panel."""
    found = [c.lines[0] for c in ax.containers if isinstance(c, ErrorbarContainer)]
    return [line for line in found if line is not None]


def limits(ax, text):
    """Where there are arrows for what has no place on the axis."""
    (found,) = [line for line in ax.lines if str(line.get_label()).startswith(text)]
    return np.asarray(found.get_ydata(), float)


def foot(ax, label):
    """Places that are marked at the foot of a panel."""
    return [x for line in ax.lines if line.get_label() == label for x in line.get_xdata()]


def cells(figure, label, title):
    """Numbers of a heat map; its colour bar has the label."""
    (found,) = [
        ax
        for ax in figure.axes
        if ax.images and ax.get_title() == title and ax.images[0].colorbar.ax.get_ylabel() == label
    ]
    return found, np.ma.filled(found.images[0].get_array().astype(float), np.nan)


def mean_and_error(values):
    known = values[~np.isnan(values)]
    return known.mean(), 2 * known.std(ddof=1) / len(known) ** 0.5


def test_a_stagnation_sweep_draws_the_stored_numbers(stagnation):
    figure = drawn(stagnation)
    data = stagnation["stagnation"].to_dataset()
    ax = panel(figure, "probability of no exit in the run")
    x, y, low, high = bars(ax, "measured, 95 % Clopper-Pearson interval")
    assert x.tolist() == [0.1, 0.2, 0.4, 0.8], "labels rise from left to right"
    order, last = [1, 2, 0, 3], [20, 10, 20, 20]  # the failed one does not matter
    for row, name in ((y, ""), (low, "_low"), (high, "_high")):
        stored = data[f"stay_probability{name}"].values[order, last]
        np.testing.assert_allclose(row[1:], stored[1:])
        assert np.isnan(row[0]), "a failed point has no number"
    assert y[1] != y[2], "a shorter point ends where it ends"
    certificate = data.certified_stay_lower_bound.sel(theory="S2").values[order, last]
    np.testing.assert_allclose(bars(ax, "S2 lower bound, certificate")[1][1:], certificate[1:])
    plug_in = data.stay_lower_bound.sel(theory="S2").values[order, last]
    np.testing.assert_allclose(bars(ax, "S2 lower bound, plug-in")[1][1:], plug_in[1:])
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "learning rate")

    ax = panel(figure, "mean squared distance, second half")
    _, y, low, high = bars(ax, "mean over trajectories")
    for place in (1, 2):
        mean, error = mean_and_error(data.mean_squared_distance.values[order[place]])
        np.testing.assert_allclose([y[place], high[place] - y[place]], [mean, error])
        np.testing.assert_allclose(y[place] - low[place], error)
    assert np.isnan(y[[0, 3]]).all()
    linear = data.linearised_mean_squared_distance.values[order, last]
    np.testing.assert_allclose(bars(ax, "linearised dynamics")[1][1:], linear[1:])


def test_a_stagnation_sweep_draws_gap_and_curvature_of_the_last_probe(stagnation):
    figure = drawn(stagnation)
    bounds, curvature = (stagnation[name].to_dataset() for name in ("bounds", "curvature"))
    ax = panel(figure, "generalization gap, last probe")
    _, y, _, _ = bars(ax, "mean over trajectories")
    _, smallest, _, _ = bars(ax, "smallest certificate")
    _, top, _, _ = bars(
        panel(figure, "largest Hessian eigenvalue, last probe"), "mean over trajectories"
    )
    for place, point, probe in ((1, 2, 2), (2, 0, 4)):
        # centre_lipschitz, 0.4, is the smallest; path_norm is no certificate.
        gap = bounds.generalization_gap.values[point, :, probe, 0]
        np.testing.assert_allclose(y[place], mean_and_error(gap)[0])
        value = bounds.value.values[point, :, probe, 0]
        np.testing.assert_allclose(smallest[place], mean_and_error(value)[0])
        largest = curvature.hessian_eigenvalue.values[point, :, probe, 0]
        np.testing.assert_allclose(top[place], mean_and_error(largest)[0])
    threshold = bars(panel(figure, "largest Hessian eigenvalue, last probe"), "2/eta")[1]
    assert threshold[1:].tolist() == [20.0] * 3


def test_points_that_failed_or_diverged_are_marked(stagnation):
    figure = drawn(stagnation)
    for ax in figure.axes[:4]:
        assert foot(ax, "point failed") == [0.1]
        assert foot(ax, "all trajectories diverged") == [0.8]
    share = bars(panel(figure, "share of trajectories that diverged"), "measured")[1]
    np.testing.assert_allclose(share[1:], [1 / 12, 1 / 12, 1.0])
    assert figure.get_suptitle() == "synthetic: sweep, 3 of 4 points done, 1 failed"


def test_a_dynamics_sweep_draws_heat_maps_of_the_stored_numbers(dynamics):
    figure = drawn(dynamics)
    data = dynamics["dynamics"].to_dataset()
    order = [1, 2, 0, 3]
    for name in NAMES:
        one = data.sel(process=name)
        ax, late = cells(figure, "mean loss, second half [nat]", name)
        known = [(i, j) for i in (0, 1) for j in range(4) if i == 1 or j == 0]
        for i, j in known:
            stored = mean_and_error(one.late_loss.values[i, order[j]])[0]
            np.testing.assert_allclose(late[i, j], stored)
        # 0.4, 0.2 and 0.8 of the first row failed, are pending, and diverged.
        assert np.isnan(late[0, 1:]).all()
        assert hatched(ax) == {"xxx": [[2, 0]], "...": [[1, 0]], "///": [[3, 0]]}
        assert [t.get_text() for t in ax.get_xticklabels()] == ["0.1", "0.2", "0.4", "0.8"]
        assert [t.get_text() for t in ax.get_yticklabels()] == ["8", "32"]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "batch size")
        assert len(ax.texts) == len(known)
        assert ax.texts[0].get_text() == f"{late[0, 0]:.2g}"
        _, top = cells(figure, "largest Hessian eigenvalue, last probe", name)
        largest = one.hessian_eigenvalue.values[1, order, :, -1, 0]
        np.testing.assert_allclose(top[1], np.nanmax(largest, axis=1))
        _, gauge = cells(figure, "gauge of the SDE, eta * lambda_max / 2", name)
        np.testing.assert_allclose(gauge[1], np.nanmax(one.sde_gauge.values[1, order], axis=1))
        _, share = cells(figure, "share of trajectories that diverged", name)
        np.testing.assert_allclose(share[1], (one.status == 2).mean("trajectory").values[1, order])
        assert share[0, 3] == 1
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ["point failed", "point pending", "all trajectories diverged"]
    assert figure.get_suptitle() == "synthetic: sweep, 6 of 8 points done, 1 failed, 1 pending"


def hatched(ax):
    """Middles of the cells under each hatch."""
    found = [c for c in ax.collections if isinstance(c, PolyCollection)]
    return {
        c.get_hatch(): [
            np.asarray(path.vertices)[:4].mean(axis=0).tolist() for path in c.get_paths()
        ]
        for c in found
    }


def test_a_dynamics_sweep_over_one_axis_has_a_line_for_each_process(dynamics):
    """One label of the other axis: a name that the sweep takes is found under its other name."""
    tree = select(dynamics, batch_size=[1])
    figure = drawn(tree)
    assert "at batch size = 32" in figure.get_suptitle()
    data = tree["dynamics"].to_dataset().isel(batch_size=0)
    ax = panel(figure, "largest Hessian eigenvalue, last probe")
    order = [1, 2, 0, 3]
    for name, color in zip(NAMES, [line.get_color() for line in curves(ax)], strict=False):
        one = data.sel(process=name)
        x, y, _, _ = bars(ax, name)
        assert x.tolist() == [0.1, 0.2, 0.4, 0.8]
        np.testing.assert_allclose(y, one.hessian_eigenvalue.values[order, :, -1, 0].max(axis=1))
        (edge,) = [
            line
            for line in curves(ax)
            if line.get_linestyle() == "--" and line.get_color() == color
        ]
        np.testing.assert_allclose(
            np.asarray(edge.get_ydata(), float), 2 / one.process_learning_rate.values[order]
        )


def test_points_at_which_a_claim_does_not_hold_are_marked(dynamics):
    tree = dynamics.copy()
    claims = dynamics["claims"].to_dataset()
    # Point 1 of the second row is refuted; what failed or is pending has no verdict.
    claims["holds"] = claims["holds"].copy()
    claims["holds"][1, 1, 0] = 0
    tree["claims"] = claims
    assert drawn(dynamics).get_suptitle().count("claim") == 0
    figure = drawn(tree)
    assert figure.get_suptitle().endswith("1 pending; a claim does not hold at 1")
    ax, _ = cells(figure, "mean loss, second half [nat]", NAMES[0])
    (line,) = ax.lines
    assert line.get_label() == "a claim does not hold"
    # Learning rate 0.1 is the leftmost column.
    np.testing.assert_array_equal(
        np.round(np.asarray(line.get_xydata(), float) + np.array([0.3, -0.3])), [[0, 1]]
    )
    one = drawn(select(tree, batch_size=[1]))
    for ax in one.axes[:3]:
        assert foot(ax, "a claim does not hold") == [0.1]


def test_marks_stand_below_the_data(stagnation):
    for ax in drawn(stagnation).axes[:5]:
        marks = [
            x
            for line in ax.lines
            if line.get_label() == "point failed"
            for x in np.asarray(line.get_ydata(), float)
        ]
        shown = [y for line in curves(ax) for y in np.asarray(line.get_ydata(), float)]
        assert len(marks) == 1
        heights = ax.transData.transform([(0.2, y) for y in shown if np.isfinite(y)])[:, 1]
        assert ax.transAxes.transform((0, marks[0]))[1] < heights.min() - 5


def test_a_share_is_drawn_between_0_and_1(stagnation, maps):
    ax = panel(drawn(stagnation), "share of trajectories that diverged")
    low, high = ax.get_ylim()
    assert low < 0
    assert 1 < high < 1.1
    ax, _ = cells(drawn(maps), "probability of no exit in the run", "measured")
    assert ax.images[0].get_clim() == (0, 1)


def test_a_process_alone_is_named_in_the_title(dynamics):
    tree = dynamics.copy()
    tree["dynamics"] = dynamics["dynamics"].to_dataset().isel(process=[2])
    figure = drawn(tree)
    assert figure.get_suptitle().endswith("\nprocess: SGD, large")
    _, ratio = cells(figure, "measured over 2/eta", "over 2/eta")
    one = tree["dynamics"].to_dataset().isel(process=0, batch_size=1)
    top = one.hessian_eigenvalue.values[:, :, -1, 0].max(axis=1)
    edge = 2 / one.process_learning_rate.values
    np.testing.assert_allclose(ratio[1], (top / edge)[[1, 2, 0, 3]])


def test_numbers_that_differ_in_late_digits_are_written_apart(maps):
    tree = maps.copy()
    data = tree["stagnation"].to_dataset()
    late = xr.zeros_like(data.stay_probability) + np.linspace(0.996, 0.9995, 4).reshape(2, 2, 1)
    tree["stagnation"] = data.assign(stay_probability=late)
    ax, _ = cells(drawn(tree), "probability of no exit in the run", "measured")
    texts = [text.get_text() for text in ax.texts]
    assert len(set(texts)) == 4
    assert "0.9995" in texts


def test_a_hundred_cells_under_one_hatch_are_one_artist(dynamics):
    one = dynamics.copy()
    one["dynamics"] = dynamics["dynamics"].to_dataset().isel(process=[0, 1])
    nodes = {node.path: node.to_dataset(inherit=False) for node in one.subtree}
    many = {"batch_size": np.arange(20) % 2, "learning_rate": np.arange(40) % 4}
    labels = {"learning_rate": np.geomspace(0.01, 1, 40), "batch_size": np.arange(1, 21)}
    large = {
        path: data.isel(many, missing_dims="ignore").assign_coords(
            {name: value for name, value in labels.items() if name in data.dims}
        )
        for path, data in nodes.items()
    }
    ax, late = cells(drawn(xr.DataTree.from_dict(large)), "mean loss, second half [nat]", NAMES[0])
    assert late.shape == (20, 40)
    assert len(hatched(ax)["xxx"]) == 100
    assert (len(ax.collections), len(ax.texts)) == (3, 0)
    assert len(ax.get_xticks()) <= 10


def select(tree, **places):
    """Some labels of a sweep, as if there were no others."""
    nodes = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
    cut = {path: data.isel(places, missing_dims="ignore") for path, data in nodes.items()}
    return xr.DataTree.from_dict(cut)


def test_maps_of_a_single_process_show_multiples_of_the_threshold(maps):
    tree, figure = maps, drawn(maps)
    curvature = tree["curvature"].to_dataset()
    ax, ratio = cells(figure, "measured over 2/eta", "over 2/eta")
    top = curvature.hessian_eigenvalue.values[:, :, :, -1, 0]
    np.testing.assert_allclose(ratio, np.nanmean(top, axis=2) / 20.0)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["sgd", "sde"]
    _, bound = cells(figure, "probability of no exit in the run", "S2 lower bound, plug-in")
    stored = tree["stagnation"].to_dataset().stay_lower_bound.sel(theory="S2").isel(step=-1)
    np.testing.assert_allclose(bound, stored.values)


def test_an_exits_sweep_has_a_column_for_each_of_four_cases(exits):
    figure = drawn(exits)
    data = exits["exits"].to_dataset()
    label = "probability of an exit in the run"
    for name in ("eta 0.1", "plane"):
        ax, one = panel(figure, label, name), data.sel(case=name)
        _, y, low, high = bars(ax, "counted, 95 % interval")
        np.testing.assert_allclose(y, 1 - one.stay_probability.values[:, -1])
        np.testing.assert_allclose(low, 1 - one.stay_probability_high.values[:, -1])
        np.testing.assert_allclose(high, 1 - one.stay_probability_low.values[:, -1])
        np.testing.assert_allclose(bars(ax, "exact law")[1], one.exact_exit_probability.values)
        for evidence in ("certificate", "plug-in"):
            logs = one.log_exit_bound.sel(evidence=evidence, theory="S2").values[:, -1]
            shown = bars(ax, f"S2 upper bound, {evidence} (1: says nothing)")[1]
            np.testing.assert_allclose(shown, np.exp(np.minimum(logs, 0)))
    # No exit: the interval ends at a limit, and the mean exit time has one below.
    rare, one = panel(figure, label, "eta 0.04"), data.sel(case="eta 0.04")
    assert (one.stay_probability[:, -1] == 1).all(), "nothing was tested"
    np.testing.assert_allclose(
        limits(rare, "not above 0"), 1 - one.stay_probability_low.values[:, -1]
    )
    time = panel(figure, "mean exit time, units of eta k", "eta 0.04")
    np.testing.assert_allclose(limits(time, "no event"), one.mean_exit_time_low.values)
    first = panel(figure, "mean exit time, units of eta k", "eta 0.1")
    np.testing.assert_allclose(
        bars(first, "counted, 95 % interval")[1],
        data.mean_exit_time.sel(case="eta 0.1").values,
    )
    assert "not drawn: width 16, width 64, width 256" in figure.get_suptitle()
    assert [t.get_text() for t in first.get_xticklabels()] == ["sgd", "sde"]
    # Text labels are no numbers to draw a line between.
    assert curves(first)[0].get_linestyle() == "None"


def test_an_exits_sweep_draws_the_gap_of_networks(exits):
    tree = exits.copy()
    data = exits["exits"].to_dataset()
    tree["exits"] = data.isel(case=[i for i, n in enumerate(data.case.values) if "width" in n])
    ax = panel(drawn(tree), "generalization gap", "width 64")
    one = data.sel(case="width 64")
    _, y, low, _ = bars(ax, "mean over trajectories")
    np.testing.assert_allclose(y, one.mean_gap.values)
    np.testing.assert_allclose(low, one.mean_gap.values - 2 * one.mean_gap_stderr.values)
    bound = np.exp(one.log_gap_bound.values).min(axis=1)
    np.testing.assert_allclose(bars(ax, "smallest bound")[1], bound)


@pytest.mark.parametrize("name", ["zip", "draw"])
def test_keys_that_change_together_are_shown_by_the_first_number(sweep, name):
    labels = {name: [0, 1, 2], "kind": ["a", "b", "c"], "steps": [30, 10, 20]}
    figure = drawn(sweep("dynamics", SweepAxis(name, labels)))
    ax = panel(figure, "mean loss, second half [nat]")
    assert bars(ax, NAMES[0])[0].tolist() == [10, 20, 30]
    assert ax.get_xlabel() == "steps (together with kind)"
    assert ax.get_xscale() == "linear"
    # Neighbouring draws differ in everything: no line joins them.
    style = curves(ax)[0].get_linestyle()
    assert style == ("-" if name == "zip" else "None")


def test_of_three_axes_the_last_two_are_drawn(sweep):
    tree = sweep("dynamics", KIND, SIZE, SweepAxis("steps", {"steps": [100, 200]}))
    figure = drawn(tree)
    assert figure.get_suptitle().endswith("\nat kind = sgd")
    _, late = cells(figure, "mean loss, second half [nat]", NAMES[0])
    stored = tree["dynamics"].late_loss.values[0, :, :, 0].mean(axis=-1)
    np.testing.assert_allclose(late, stored)


def test_nothing_done_is_nothing_to_draw(sweep, tmp_path):
    tree = sweep("dynamics", SIZE, failed=[0], pending=[1])
    assert plot_sweep(tree) is None
    assert save_figures(tree, tmp_path) == []


def test_a_sweep_is_saved_as_one_figure(dynamics, tmp_path):
    paths = save_figures(dynamics, tmp_path)
    assert [path.name for path in paths] == ["sweep.png", "sweep.svg"]
    assert isinstance(plot_sweep(dynamics), Figure)


def test_a_sweep_is_saved_on_a_remote_place(stagnation, tmp_path):
    place = as_location("memory://figures-of-a-sweep/run") / "figures"
    save_figures(stagnation, place)
    there = save_figures(stagnation, place)  # files of an earlier call are replaced
    (png, svg), here = there, save_figures(stagnation, tmp_path)
    assert [path.name for path in there] == ["sweep.png", "sweep.svg"]
    assert png.read_bytes() == here[0].read_bytes()
    assert svg.read_text().rstrip().endswith("</svg>")
    assert sorted(path.name for path in place.iterdir()) == ["sweep.png", "sweep.svg"]
