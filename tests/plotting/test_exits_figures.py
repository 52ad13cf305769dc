"""Exits: what is drawn equals what is stored, and what has nothing to show is not drawn."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.container import BarContainer, ErrorbarContainer

from sgdsim.plotting import plot_convexity_map, plot_gap, save_figures
from sgdsim.plotting._exits_rates import exit_times, fitted_slope
from sgdsim.plotting._save import FIGURES
from sgdsim.stagnation import arrhenius_fit_log_rates
from sgdsim.store import open_run
from sgdsim.testing import synthetic_exits_run

pytestmark = pytest.mark.slow

STEMS = ["exits", "survival", "arrhenius", "convexity", "gap", "gap_width", "basins"]


@pytest.fixture(scope="module")
def exits(tmp_path_factory):
    return open_run(synthetic_exits_run(tmp_path_factory.mktemp("run"))).load()


@pytest.fixture(scope="module")
def figures(exits):
    """Every figure, rendered once."""
    return {name: drawn(draw, exits) for name, draw in FIGURES["exits"].items()}


def drawn(draw, tree):
    """Figure that is really there, rendered."""
    figure = draw(tree)
    assert figure is not None
    FigureCanvasAgg(figure).draw()
    return figure


def line(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def errorbar(ax, label):
    """Points and ends of the bars."""
    (found,) = [
        c for c in ax.containers if isinstance(c, ErrorbarContainer) and c.get_label() == label
    ]
    points, _, (bars,) = found.lines
    assert points is not None
    return np.asarray(points.get_xydata()), np.array(bars.get_segments())


def panel(figure, title):
    (ax,) = [ax for ax in figure.axes if ax.get_title().split("\n")[0] == title]
    return ax


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_survival_draws_the_stored_numbers(exits, figures):
    figure = figures["survival"]
    one = exits["exits"].to_dataset().sel(case="plane")
    ax = panel(figure, "plane")
    step, counted = line(ax, "counted")
    np.testing.assert_array_equal(step, one.look_step)
    seen = one.stay_probability.values < 1
    np.testing.assert_allclose(counted[seen], 1 - one.stay_probability.values[seen])
    for kind in ("certificate", "plug-in"):
        for theory in ("S0", "S1", "S2"):
            stored = np.exp(one.log_exit_bound.sel(theory=theory, evidence=kind).values)
            bound = line(ax, f"upper bound {theory}, {kind}")[1]
            np.testing.assert_allclose(bound, np.minimum(stored, 1.0))
    np.testing.assert_allclose(line(ax, "exact law")[1][1:], 1 - one.exact_stay_probability[1:])
    assert ax.get_yscale() == "log"
    assert ax.get_xlabel() == "step"
    assert "60 trajectories" in figure.get_suptitle()


def test_survival_says_what_counting_cannot_see(exits, figures):
    figure = figures["survival"]
    one = exits["exits"].to_dataset().sel(case="eta 0.04")
    ax = panel(figure, "eta 0.04")
    limit = 1 - float(one.stay_probability_low[-1])
    assert any(f"{limit:.1e} cannot be seen" in text.get_text() for text in ax.texts)
    point, bars = errorbar(ax, "importance splitting, 95 % interval")
    np.testing.assert_allclose(point, [[one.look_step[-1], one.rare_exit_probability]])
    ends = [one.rare_exit_probability_low, one.rare_exit_probability_high]
    np.testing.assert_allclose(bars[0, :, 1], ends)
    assert ax.get_ylim()[0] < one.exact_exit_probability < ax.get_ylim()[1]
    (words,) = panel(figure, "outside").texts
    assert words.get_text().startswith("starts outside the set")


def test_overview_has_one_row_per_case(exits, figures):
    figure = figures["exits"]
    (ax,) = figure.axes
    data = exits["exits"].to_dataset()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == data.case.values.tolist()
    last = data.isel(look=-1)
    label = "counted, 95 % Clopper-Pearson interval"
    points, bars = errorbar(ax, label)
    rows = np.flatnonzero(last.stay_probability.values < 1)
    np.testing.assert_array_equal(points[:, 1], rows)
    np.testing.assert_allclose(points[:, 0], 1 - last.stay_probability.values[rows])
    ends = np.stack([last.stay_probability_high, last.stay_probability_low], axis=1)[rows]
    np.testing.assert_allclose(bars[:, :, 0], 1 - ends)
    assert len(rows) < 7, "no case without an exit was tested"
    for kind in ("certificate", "plug-in"):
        stored = np.exp(last.log_exit_bound.sel(theory="S2", evidence=kind).values)
        (found,) = [ln for ln in ax.lines if f"S2, {kind}" in str(ln.get_label())]
        np.testing.assert_allclose(np.asarray(found.get_xdata()), np.minimum(stored, 1.0))
    np.testing.assert_array_equal(line(ax, "exact law")[0], data.exact_exit_probability)
    assert [text.strip() for text in texts(figure)] == ["starts outside the set"]


def test_arrhenius_has_the_slope_that_was_put_in(exits, figures):
    """Made-up rates follow exp(-0.3/eta); splitting was given 2 % too many exits at all eta."""
    figure = figures["arrhenius"]
    (ax,) = figure.axes
    data = exits["exits"].to_dataset()
    series = data.isel(case=np.flatnonzero(data.series.values == "rate"))
    eta = series.learning_rate.values
    points, bars = errorbar(ax, "importance splitting, 95 % interval")
    np.testing.assert_allclose(points[:, 0], 1 / eta)
    np.testing.assert_allclose(points[:, 1], 0.3 / eta - np.log(0.1), atol=0.03)
    assert (bars[:, 0, 1] < points[:, 1]).all()
    assert (points[:, 1] < bars[:, 1, 1]).all()
    (fit,) = [str(ln.get_label()) for ln in ax.lines if str(ln.get_label()).startswith("fit")]
    slope = float(fit.split("V = ")[1].split(" ")[0])
    assert abs(slope - 0.3) < 0.01
    (potential,) = [ln for ln in ax.lines if "quasi-potential, V = 0.3" in str(ln.get_label())]
    x, y = np.asarray(potential.get_xdata()), np.asarray(potential.get_ydata())
    np.testing.assert_allclose((y[-1] - y[0]) / (x[-1] - x[0]), 0.3)
    assert "1 / learning rate" in ax.get_xlabel()


def test_the_fit_is_that_of_the_library():
    """The same line as `arrhenius_fit_log_rates`, which shares nothing with it but polyfit."""
    random = np.random.default_rng(0)
    inverse = np.array([5.0, 10.0, 20.0, 30.0])
    spread = np.array([0.02, 0.1, 0.1, 0.3])
    logs = 2.0 + 0.4 * inverse - 1.5 * np.log(inverse) + spread * random.standard_normal(4)
    times = np.exp([logs, logs - 1.959964 * spread, logs + 1.959964 * spread])
    slope, half, start = fitted_slope(inverse, times, 1.5, 0.95)
    fit = arrhenius_fit_log_rates(inverse, -logs, spread, 1.5)
    np.testing.assert_allclose([slope, slope - half, start], [fit.slope, fit.low, fit.intercept])
    assert abs(fitted_slope(inverse, times, 0.0, 0.95)[0] - slope) > 0.05, "the prefactor matters"


def test_exit_times_of_splitting_go_before_counted_ones(exits):
    data = exits["exits"].to_dataset()
    times = exit_times(data)
    split = data.rare_exit_probability.notnull().values
    np.testing.assert_array_equal(times[0, ~split], data.mean_exit_time.values[~split])
    # Exits at rate r per step: 1 - exp(-r k) of the trajectories leave in k steps.
    rate = data.learning_rate.values[split] / times[0, split]
    leave = -np.expm1(-rate * data.steps.values[split])
    np.testing.assert_allclose(leave, data.rare_exit_probability.values[split])


def test_the_convexity_map_shows_every_ratio(exits, figures):
    figure = figures["convexity"]
    data = exits["exits"].to_dataset()
    ax = panel(figure, "plane")
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    stored = data.convexity_ratio_minimum.sel(case="plane").values
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(stored.shape), stored)
    assert [t.get_text() for t in ax.get_yticklabels()] == data.condition.values.tolist()
    colours = mesh.to_rgba(np.array([-1.0, 0.0, 1.0]))
    assert colours[0, 0] > colours[0, 2]  # red is negative
    assert colours[2, 2] > colours[2, 0]
    np.testing.assert_allclose(colours[1, :3], 1.0, atol=0.05)
    assert line(ax, "radius of the set")[0] == [0.2]
    assert line(ax, "$\\delta^*$, sampled radius up to which RSI is positive")[0] == [0.11]
    assert "outside" not in [ax.get_title() for ax in figure.axes]


def test_the_map_over_directions(tree):
    figure = drawn(plot_convexity_map, tree)
    data = tree["stagnation"].to_dataset()
    ax = panel(figure, "ESC")
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    stored = data.convexity_ratio_by_direction.sel(condition="ESC")
    stored = stored.transpose("direction", "convexity_radius").values
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(stored.shape), stored)
    assert [t.get_text() for t in ax.get_yticklabels()] == data.direction.values.tolist()
    assert (stored < 0).any(), "nothing was tested"


def test_shares_of_a_bound_add_up_to_it(exits, figures):
    left, right = figures["gap"].axes
    data = exits["exits"].to_dataset().sel(case=["width 16", "width 64", "width 256"])
    assert [tick.get_text() for tick in left.get_yticklabels()] == data.case.values.tolist()
    for name in ("G1", "G2", "G3"):
        stored = np.exp(data.log_gap_bound.sel(bound=name).values)
        np.testing.assert_allclose(line(left, f"bound {name}")[0], stored)
    points, bars = errorbar(left, "measured gap, mean ± standard error over trajectories")
    np.testing.assert_allclose(points[:, 0], data.mean_gap)
    np.testing.assert_allclose(np.diff(bars[:, :, 0])[:, 0], 2 * data.mean_gap_stderr)
    containers = [c for c in right.containers if isinstance(c, BarContainer)]
    widths = np.array([[bar.get_width() for bar in container] for container in containers])
    np.testing.assert_allclose(widths.sum(axis=0), 1.0)
    stored = np.exp(data.log_gap_term - data.log_gap_bound).fillna(0.0)
    stored = stored.transpose("term", "case", "bound").values
    np.testing.assert_allclose(widths, stored.reshape(len(stored), -1))


def test_a_gap_that_is_not_positive_is_said(exits, edited):
    gap = exits["exits"].mean_gap.values.copy()
    gap[-1] = -0.01
    figure = drawn(plot_gap, edited(exits, "exits", mean_gap=gap))
    assert any(text.startswith("measured gap -0.01 ±") for text in texts(figure))


def test_bounds_against_the_width(exits, figures):
    figure = figures["gap_width"]
    ax = panel(figure, "width: G2")
    width, entropy = line(ax, "entropy: size of the parameter ball")
    assert width.tolist() == [16, 64, 256]
    np.testing.assert_allclose(entropy, 0.05 * np.sqrt(width))
    np.testing.assert_allclose(line(ax, "bound")[1], 0.03 + 0.05 * np.sqrt(width))
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_basins_of_a_line_a_plane_and_a_network(exits, figures):
    figure = figures["basins"]
    data = exits["exits"].to_dataset()
    plane = data.sel(case="plane")
    ax = panel(figure, "plane")
    for basin in (0, 1):
        x, y = line(ax, f"basin {basin}")
        here = plane.basin.values == basin
        np.testing.assert_array_equal(np.stack([x, y], 1), plane.final_position.values[here])
    assert ax.get_title().endswith(
        "2 basins in 40 quenches\nGood-Turing probability of another: 0.05"
    )
    positions = data.final_position.sel(case="eta 0.1").values[:, 0]
    quenched = line(panel(figure, "eta 0.1"), "basin 1")[0]
    np.testing.assert_array_equal(quenched, positions[data.basin.sel(case="eta 0.1") == 1])
    (bars,) = panel(figure, "width 16").containers
    counts = [int((data.basin.sel(case="width 16") == basin).sum()) for basin in (0, 1)]
    assert [bar.get_height() for bar in bars] == counts


@pytest.mark.parametrize("stem", STEMS)
def test_text_stays_inside_the_figure(figures, stem):
    figure = figures[stem]
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.05
    assert box.x1 < width + 0.05
    assert box.y1 < height + 0.05


def test_what_has_nothing_to_show_is_not_drawn(exits, tmp_path):
    assert list(FIGURES["exits"]) == STEMS
    begun = open_run(synthetic_exits_run(tmp_path / "begun", evaluated=False))
    assert save_figures(begun, tmp_path / "none") == []
    one = exits.copy()
    one["exits"] = exits["exits"].to_dataset().isel(case=[3])
    names = {path.stem for path in save_figures(one, tmp_path / "one")}
    assert names == {"exits", "survival", "convexity", "basins"}
    many = exits.copy()
    data = exits["exits"].to_dataset().isel(case=[0, 3, 4, 5] * 3)
    many["exits"] = data.assign_coords(case=[f"case {n} of $a_{{$" for n in range(12)])
    for name in ("exits", "survival", "convexity", "gap", "basins"):
        drawn(FIGURES["exits"][name], many)
