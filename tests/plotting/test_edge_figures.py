"""The edge study: what is drawn equals what is stored, what has nothing to show is not drawn."""

import json
from collections import Counter

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgba
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import Rectangle

from sgdsim.plotting import (
    plot_block_sharpness,
    plot_break_even,
    plot_phase_diagram,
    plot_predicted_loss,
    plot_process_distances,
    plot_sharpness,
    plot_sharpness_ratios,
    plot_spectral_density,
    plot_spectrum,
    save_figures,
)
from sgdsim.plotting._edge_look import (
    STATE_COLOURS,
    common_state,
    mean_and_error,
    process_look,
)
from sgdsim.plotting._save import FIGURES
from sgdsim.store import EDGE_STATES, open_run
from sgdsim.testing import synthetic_edge_run

OF_A_RUN = FIGURES["edge"]
BETWEEN = "sharpness between oscillations"
BATCH = "batch sharpness, two standard errors"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Eight processes of three trajectories; the last one of the SDE has diverged."""
    return open_run(synthetic_edge_run(tmp_path_factory.mktemp("run"))).load()


@pytest.fixture(scope="module")
def data(tree):
    return tree["edge"].to_dataset()


def drawn(figure):
    """The figure, rendered; everything that is said must be inside."""
    assert figure is not None
    FigureCanvasAgg(figure).draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.05
    assert box.x1 < width + 0.05
    assert box.y1 < height + 0.05
    return figure


def changed(tree, **variables):
    """The run with other values of some variables; ``None`` drops one."""
    other, old = tree.copy(), tree["edge"].to_dataset()
    new = {
        name: old[name].copy(data=np.broadcast_to(value, old[name].shape))
        for name, value in variables.items()
        if value is not None
    }
    dropped = [name for name, value in variables.items() if value is None]
    other["edge"] = xr.DataTree(old.assign(new).drop_vars(dropped))
    return other


def lines(ax, label):
    """Lines of one colour and width: those of all trajectories, the first of which has a label."""
    (first,) = [line for line in ax.lines if line.get_label() == label]
    same = [
        line
        for line in ax.lines
        if line.get_color() == first.get_color() and line.get_lw() == first.get_lw()
    ]
    return [np.asarray(line.get_xydata(), float) for line in same if len(line.get_xydata())]


def line(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return np.asarray(found.get_xydata(), float).T


def bars(ax, label):
    """Points of error bars, and the ends of their intervals."""
    (found,) = [c for c in ax.containers if c.get_label() == label]
    assert isinstance(found, ErrorbarContainer)
    marks, _, (ends,) = found.lines
    assert marks is not None
    return np.asarray(marks.get_xydata(), float), np.asarray(ends.get_segments())


def band(ax):
    """Largest upper and smallest lower edge of a band, by place."""
    (found,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    corners = np.asarray(found.get_paths()[0].vertices)
    places = np.unique(corners[:, 0])
    heights = [corners[corners[:, 0] == x, 1] for x in places]
    return places, np.array([h.min() for h in heights]), np.array([h.max() for h in heights])


def shades(ax):
    """Stretches of the background, ``(from, to, colour)``."""
    return [
        (p.get_x(), p.get_x() + p.get_width(), to_hex(p.get_facecolor()))
        for p in ax.patches
        if isinstance(p, Rectangle)
    ]


def legend(figure):
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


def plain_mean(values, errors):
    """Mean and the larger of two standard errors of one column, by the definition."""
    pairs = [(v, e) for v, e in zip(values, errors, strict=True) if np.isfinite(v)]
    count = len(pairs)
    mean = sum(v for v, _ in pairs) / count
    within = sum(e**2 for _, e in pairs) ** 0.5 / count
    if count == 1:
        return mean, within
    between = (sum((v - mean) ** 2 for v, _ in pairs) / (count - 1) / count) ** 0.5
    return mean, max(within, between)


def test_means_and_errors_equal_plain_loops():
    random = np.random.default_rng(0)
    values, errors = random.normal(size=(4, 6)), random.uniform(0.1, 2.0, size=(4, 6))
    values[1, 2] = values[:3, 4] = np.nan
    errors[0, 0] = 0.0
    mean, error = mean_and_error(values, errors)
    expected = [plain_mean(values[:, i], errors[:, i]) for i in range(6)]
    np.testing.assert_allclose(np.stack([mean, error], axis=1), expected)
    nothing = mean_and_error(np.full((3, 1), np.nan), np.full((3, 1), np.nan))
    assert np.isnan(nothing).all()


def test_the_common_state_is_that_of_most_trajectories():
    states = np.array([[4, 0, 0, 1], [4, 0, 0, 2], [3, 5, 0, 2], [0, 0, 0, 1]])
    code, share = common_state(states)
    assert code.tolist() == [4, 5, 0, 1], "one that is judged goes before any that is not"
    assert share.tolist() == [0.5, 0.25, 1.0, 0.5]


def test_sharpness_draws_the_stored_numbers(tree, data):
    figure = drawn(plot_sharpness(tree, "GD"))
    upper, lower = figure.axes
    one = data.sel(process="GD")
    for label, name in (("sharpness", "sharpness"), (BETWEEN, "midpoint_sharpness")):
        found = lines(upper, label)
        assert len(found) == 3
        for i, points in enumerate(found):
            np.testing.assert_array_equal(points[:, 0], one.step)
            np.testing.assert_array_equal(points[:, 1], one[name].isel(trajectory=i))
    assert set(line(upper, "threshold 2/eta = 4")[1]) == {4.0}
    points, ends = bars(upper, "entry to the edge, with its interval")
    np.testing.assert_array_equal(points[:, 0], one.entry_step)
    np.testing.assert_array_equal(ends[:, 0, 0], one.entry_low)
    np.testing.assert_array_equal(ends[:, 1, 0], one.entry_high)
    marks = line(upper, "break-even point")
    np.testing.assert_array_equal(marks, [one.break_even_step, one.break_even_sharpness])
    losses = lines(lower, "loss")
    np.testing.assert_array_equal([p[:, 1] for p in losses], one.loss)
    assert lower.get_yscale() == "log"
    assert lower.get_ylabel() == "loss [nat]"
    assert upper.get_yscale() == "linear"
    assert upper.get_title().split("\n")[0] == "GD"
    mean, error = plain_mean(one.late_ratio.values, one.late_ratio_stderr.values)
    assert f"late ratio {mean:.3f} ± {error:.1g}; at the edge" in upper.get_title()


def test_the_background_is_the_state_of_most_trajectories(tree, data):
    figure = drawn(plot_sharpness(tree, "catapult", "GD"))
    for ax, name in zip(figure.axes, ["catapult", "GD", "catapult", "GD"], strict=True):
        one = data.sel(process=name)
        found = shades(ax)
        for step, states in zip(one.step.values, one.state.values.T, strict=True):
            ((code, _),) = Counter(states.tolist()).most_common(1)
            colour = to_hex(to_rgba(STATE_COLOURS[EDGE_STATES[code]]))
            assert [c for low, high, c in found if low < step + 1 < high or high == step] == [
                colour
            ]
        assert len(found) == 2
    names = ["catapult", "progressive sharpening", "at the edge", "not reached"]
    assert legend(figure)[-4:] == names
    assert len(set(map(to_hex, map(to_rgba, STATE_COLOURS.values())))) == len(STATE_COLOURS)


def test_adaptive_optimizers_show_the_preconditioned_sharpness(tree, data):
    figure = drawn(plot_sharpness(tree, "Adam"))
    upper = figure.axes[0]
    found = lines(upper, "preconditioned sharpness")
    stored = data.preconditioned_sharpness.sel(process="Adam")
    np.testing.assert_array_equal([points[:, 1] for points in found], stored)
    assert "threshold 38/eta = 38,000" in legend(figure)
    assert BETWEEN not in legend(figure)
    assert "sharpness" not in legend(figure)


def test_batch_sharpness_has_a_band_of_two_standard_errors(tree, data):
    figure = drawn(plot_sharpness(tree, "SGD"))
    upper = figure.axes[0]
    one = data.sel(process="SGD")
    values, errors = one.batch_sharpness.values, one.batch_sharpness_stderr.values
    expected = np.array([plain_mean(values[:, i], errors[:, i]) for i in range(one.step.size)])
    np.testing.assert_allclose(line(upper, BATCH), [one.step, expected[:, 0]])
    places, low, high = band(upper)
    np.testing.assert_array_equal(places, one.step)
    np.testing.assert_allclose(low, expected[:, 0] - 2 * expected[:, 1])
    np.testing.assert_allclose(high, expected[:, 0] + 2 * expected[:, 1])


def test_the_edge_of_the_batch_sharpness_is_drawn_where_it_is_another(tree, data):
    own = "2/eta, edge of the batch sharpness"
    assert own not in legend(plot_sharpness(tree, "SGD"))
    threshold = data.threshold.values.copy()
    threshold[3] = 20.0
    figure = drawn(plot_sharpness(changed(tree, threshold=threshold), "SGD"))
    assert set(line(figure.axes[0], own)[1]) == {4.0}


def test_a_single_trajectory(tree, data):
    single = tree.copy()
    single["edge"] = xr.DataTree(data.isel(trajectory=[1]))
    figure = drawn(plot_sharpness(single, "SGD"))
    upper = figure.axes[0]
    one = data.sel(process="SGD").isel(trajectory=[1])
    (points,) = lines(upper, BETWEEN)
    np.testing.assert_array_equal(points[:, 1], one.midpoint_sharpness[0])
    assert "below the edge" in upper.get_title()
    _, low, high = band(upper)
    np.testing.assert_allclose(high - low, 4 * one.batch_sharpness_stderr[0])
    ends = [np.asarray(ln.get_xydata(), float).tolist() for ln in upper.lines]
    step = float(one.entry_step[0])
    assert [[step, 0.0], [step, 1.0]] in ends


def test_a_process_that_diverges_ends_where_it_ends(tree):
    upper = drawn(plot_sharpness(tree, "SDE")).axes[0]
    ends = [points[-1, 0] for points in lines(upper, "sharpness")]
    assert ends == [3000, 3000, 1500]
    assert "1 of 3 diverged" in upper.get_title()
    assert upper.get_xlim()[1] < 3200, "nothing was recorded beyond"


def test_a_threshold_that_moves_and_one_that_is_far_away(tree, data):
    threshold = data.threshold.values * np.linspace(1.0, 0.5, data.step.size)
    figure = drawn(plot_sharpness(changed(tree, threshold=threshold), "GD"))
    text = "threshold 2/eta from 2 to 4"
    assert text in legend(figure)
    np.testing.assert_allclose(line(figure.axes[0], text)[1], threshold[0, 0])
    far = drawn(plot_sharpness(changed(tree, threshold=data.threshold.values / 20), "GD"))
    assert far.axes[0].get_yscale() == "log"


def test_the_first_four_processes_if_none_is_named(tree, data):
    figure = drawn(plot_sharpness(tree))
    titles = [ax.get_title().split("\n")[0] for ax in figure.axes[:4]]
    assert titles == data.process.values.tolist()[:4]
    assert figure.get_suptitle() == "synthetic: 4 of 8 processes"
    assert "threshold" in legend(figure)
    assert "threshold 2/eta = 8" in figure.axes[1].get_title()
    with pytest.raises(ValueError, match="no process is called 'gd'; choose from"):
        plot_sharpness(tree, "gd")


def test_ratios_draw_the_stored_numbers(tree, data):
    figure = drawn(plot_sharpness_ratios(tree))
    shown = [ax for ax in figure.axes if ax.lines]
    names = [ax.get_title().split("\n")[0] for ax in shown]
    assert names == data.process.values.tolist()[:7], "the gradient flow has no threshold"
    for ax, name in zip(shown, names, strict=True):
        one = data.sel(process=name)
        above = one.preconditioned_sharpness if name == "Adam" else one.midpoint_sharpness
        ratio = (above / one.threshold).values
        found = [np.asarray(ln.get_ydata(), float) for ln in ax.lines if ln.get_linewidth() == 0.8]
        assert len(found) == 3
        for drawn_row, row in zip(found, ratio, strict=True):
            np.testing.assert_allclose(drawn_row, row[np.isfinite(row)])
        assert ax.get_ylim() == figure.axes[0].get_ylim()
    batch = line(shown[3], "batch sharpness over 2/eta, two standard errors")
    np.testing.assert_allclose(
        batch[1], data.batch_sharpness.sel(process="SGD").mean("trajectory") * 0.5 / 2
    )
    assert {"at the edge", "below the edge", "above the edge"} <= set(legend(figure))


def test_batch_ratios_follow_the_learning_rate_of_the_step(tree, data):
    sizes = np.where(data.step.values < 2000, 0.5, 0.25)
    figure = plot_sharpness_ratios(changed(tree, step_size=sizes))
    assert figure is not None
    _, batch = line(figure.axes[3], "batch sharpness over 2/eta, two standard errors")
    mean = data.batch_sharpness.sel(process="SGD").mean("trajectory")
    np.testing.assert_allclose(batch, mean * sizes / 2)


def test_ratios_far_above_do_not_hide_the_others(tree, data):
    sharpness = data.midpoint_sharpness.values.copy()
    sharpness[4, :, 50:] *= 100
    figure = drawn(plot_sharpness_ratios(changed(tree, midpoint_sharpness=sharpness)))
    assert figure.axes[0].get_ylim() == (0.0, 2.5)
    assert figure.get_suptitle().endswith("(above 2.5 not shown)")


def test_the_spectrum_draws_the_stored_numbers(tree, data):
    figure = drawn(plot_spectrum(tree))
    ax, one = figure.axes[0], data.sel(process="GD").isel(trajectory=0)
    for rank, label in enumerate(["largest", "2nd", "3rd"]):
        step, value = line(ax, label)
        np.testing.assert_array_equal(step, one.step)
        np.testing.assert_array_equal(value, one.hessian_eigenvalue.isel(rank=rank))
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    corners = np.asarray(bands[1].get_paths()[0].vertices)[:, 1]
    top = (one.hessian_eigenvalue + one.hessian_residual).isel(rank=1).max()
    np.testing.assert_allclose(corners.max(), top)
    assert "threshold" in legend(figure)
    adam = next(ax for ax in figure.axes if ax.get_title() == "Adam")
    assert not [ln for ln in adam.lines if ln.get_label() == "threshold"]
    narrow = tree.copy()
    narrow["edge"] = xr.DataTree(data.isel(rank=[0]))
    assert plot_spectrum(narrow) is None


def mesh(ax):
    """Numbers of a heat map, and the edges of its columns and rows."""
    (found,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    corners, numbers = np.asarray(found.get_coordinates()), found.get_array()
    assert numbers is not None
    return np.ma.filled(numbers, np.nan), corners[0, :, 0], corners[:, 0, 1]


def plain_density(one, place, width):
    """Mean over start vectors of Gaussians, by the definition."""
    draws = []
    for nodes, weights in zip(one.density_node.values, one.density_weight.values, strict=True):
        pairs = [(x, w) for x, w in zip(nodes, weights, strict=True) if np.isfinite(x)]
        heights = [w * np.exp(-(((place - x) / width) ** 2) / 2) for x, w in pairs]
        draws.append(sum(heights) / width / np.sqrt(2 * np.pi))
    return np.mean(draws, axis=0)


def test_the_density_is_that_of_the_stored_quadratures(tree, data):
    figure = drawn(plot_spectral_density(tree))
    panels = figure.axes[:8]
    names = [ax.get_title().split("\n")[0] for ax in panels]
    assert names == data.process.values.tolist()
    for ax, name in zip(panels, names, strict=True):
        one = data.sel(process=name).isel(trajectory=0)
        heights, steps, places = mesh(ax)
        nodes = one.density_node.values[np.isfinite(one.density_node.values)]
        edge = float(one.threshold.max())
        top = max(nodes.max(), edge) if edge <= 2 * nodes.max() and name != "Adam" else nodes.max()
        width = 0.012 * (top - nodes.min())
        for step in (0, 77, 150):  # the SDE ends after the last of these
            column = np.flatnonzero(steps[:-1] <= one.step.values[step])[-1]
            middles = (places[1:] + places[:-1]) / 2
            expected = plain_density(one.isel(step=step), middles, width)
            seen = expected > 1e-6
            assert seen.sum() > 10
            np.testing.assert_allclose(10 ** heights[seen, column], expected[seen], rtol=1e-6)
    assert "threshold 2/eta = 4" in panels[0].get_title()
    assert set(line(panels[0], "threshold")[1]) == {4.0}
    adam = panels[names.index("Adam")]
    assert not adam.lines, "its threshold is one of the preconditioned Hessian"
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert "log10 of the density [1/eigenvalue]" in labels


def test_a_density_is_shown_where_it_was_recorded(tree, data):
    weights = data.density_weight.values.copy()
    weights[:, 0, 10:20] = np.nan
    figure = drawn(plot_spectral_density(changed(tree, density_weight=weights)))
    heights, steps, _ = mesh(figure.axes[0])
    missing = np.flatnonzero(np.isnan(heights).all(axis=0))
    assert missing.tolist() == list(range(10, 20))
    sde = mesh(figure.axes[4])[1]
    assert sde[-1] == 3010, "half a record after its last step"
    assert figure.axes[4].get_xlim() == (sde[0], sde[-1])
    assert np.isfinite(steps).all()


def test_a_long_run_has_a_density_of_fewer_columns(tree, data):
    long = tree.copy()
    many = data.isel(step=np.repeat(np.arange(data.step.size), 5))
    long["edge"] = xr.DataTree(many.assign_coords(step=np.arange(many.step.size)))
    heights, steps, _ = mesh(drawn(plot_spectral_density(long)).axes[0])
    assert heights.shape[1] == steps.size - 1 == 400


def test_blocks_draw_the_stored_numbers(tree, data):
    figure = drawn(plot_block_sharpness(tree))
    for number, name in enumerate(["GD", "GD, half", "catapult", "SGD"]):
        one = data.sel(process=name).isel(trajectory=0)
        for block in range(3):
            step, value = line(figure.axes[number], f"array {block}")
            np.testing.assert_array_equal(step, one.step)
            np.testing.assert_array_equal(value, one.block_sharpness.isel(block=block))
        np.testing.assert_array_equal(line(figure.axes[number], "whole Hessian")[1], one.sharpness)
    assert set(line(figure.axes[0], "threshold")[1]) == {4.0}
    sde = [ln.get_label() for ln in figure.axes[4].lines]
    assert "array 1" in sde
    assert "array 2" not in sde, "its network has fewer arrays"
    assert "threshold" not in [ln.get_label() for ln in figure.axes[5].lines]


def test_the_sharpest_of_many_blocks(tree, data):
    scale = np.linspace(1.0, 0.1, 14)
    many = data.isel(block=[1] * 14).assign_coords(block=np.arange(14))
    wide = tree.copy()
    wide["edge"] = xr.DataTree(many.assign(block_sharpness=many.block_sharpness * scale))
    figure = drawn(plot_block_sharpness(wide))
    assert "the 10 sharpest" in figure.get_suptitle()
    shown = [ln.get_label() for ln in figure.axes[0].lines]
    assert shown == ["whole Hessian", *(f"array {i}" for i in range(10)), "threshold"]
    narrow = tree.copy()
    narrow["edge"] = xr.DataTree(data.isel(block=[], node=[], draw=[]))
    assert plot_block_sharpness(narrow) is plot_spectral_density(narrow) is None


def test_distances_draw_the_stored_numbers(tree, data):
    figure = drawn(plot_process_distances(tree))
    (ax,) = figure.axes
    assert legend(figure) == data.process.values.tolist()[1:]
    assert ax.get_yscale() == "linear"
    one = data.sel(process="SDE")
    rows = np.isfinite(one.distance.values).any(axis=0)
    step, mean = line(ax, "SDE")
    np.testing.assert_array_equal(step, one.step[rows])
    expected = [
        plain_mean(one.distance.values[:, i], one.distance_stderr.values[:, i])
        for i in np.flatnonzero(rows)
    ]
    np.testing.assert_allclose(mean, [m for m, _ in expected])
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    top = np.asarray(bands[3].get_paths()[0].vertices)[:, 1].max()
    np.testing.assert_allclose(top, max(m + 2 * e for m, e in expected))
    far = data.distance.values.copy()
    far[2] *= 100
    assert drawn(plot_process_distances(changed(tree, distance=far))).axes[0].get_yscale() == "log"


def test_predicted_losses_stand_beside_the_process_of_the_same_rate(tree, data):
    figure = drawn(plot_predicted_loss(tree))
    ax = next(ax for ax in figure.axes if ax.lines)
    assert ax.get_title() == "central flow and GD"
    predicted = data.predicted_loss.sel(process="central flow").mean("trajectory")
    np.testing.assert_allclose(line(ax, "loss that the flow predicts")[1], predicted)
    loss = data.loss.sel(process="GD").mean("trajectory").values
    np.testing.assert_allclose(line(ax, "loss of the process")[1], loss)
    smooth = line(ax, "its running mean")[1]
    np.testing.assert_allclose(smooth[2:-2], np.convolve(loss, np.full(4, 0.25), "valid")[:-1])


def test_break_even_compares_processes_of_one_kind(tree, data):
    figure = drawn(plot_break_even(tree))
    (ax,) = figure.axes
    assert ax.get_xlabel() == "learning rate"
    points, ends = bars(ax, "gd, all rows")
    names = ["GD, half", "GD", "catapult"]
    for i, name in enumerate(names):
        largest = data.sharpness.sel(process=name).max("step").values
        mean, error = plain_mean(largest, np.zeros(3))
        np.testing.assert_allclose(points[i], [float(data.learning_rate.sel(process=name)), mean])
        np.testing.assert_allclose(ends[i, :, 1], [mean - 2 * error, mean + 2 * error])
    dashed = [np.asarray(ln.get_ydata(), float) for ln in ax.lines if ln.get_linestyle() == "--"]
    (broken,) = [heights for heights in dashed if heights.size]
    heights = data.break_even_sharpness.mean("trajectory")
    np.testing.assert_allclose(broken, [float(heights.sel(process=name)) for name in names])
    np.testing.assert_allclose(line(ax, "2/eta"), [[0.25, 0.5, 1.0], [8.0, 4.0, 2.0]])


def with_scenario(tree, edit):
    scenario = json.loads(tree.attrs["scenario"])
    edit(scenario["process"])
    other = tree.copy()
    other.attrs = {**tree.attrs, "scenario": json.dumps(scenario)}
    return other


def test_break_even_leaves_out_forks_and_compares_adaptive_ones_by_their_own_sharpness(tree, data):
    def forked(tables):
        tables[1]["fork"] = tables[2]["fork"] = {"process": "GD", "step": 1000}

    assert plot_break_even(with_scenario(tree, forked)) is None

    def adaptive(tables):
        tables[0]["dynamics"]["kind"] = "adam"

    operator, scaled = data.operator.values.copy(), data.preconditioned_sharpness.values.copy()
    operator[0], scaled[0] = 2, scaled[5] / 2
    other = changed(tree, operator=operator, preconditioned_sharpness=scaled)
    (ax,) = drawn(plot_break_even(with_scenario(other, adaptive))).axes
    points, _ = bars(ax, "adam, all rows")
    largest = float(data.preconditioned_sharpness.sel(process="Adam").max("step").mean())
    np.testing.assert_allclose(points, [[1e-3, largest], [0.5, largest / 2]])


def test_break_even_over_the_batch_size_of_processes(tree, data):
    def batches(tables):
        tables[3]["dynamics"] = {"kind": "sgd", "learning_rate": 0.5, "batch_size": 8}
        tables[4]["dynamics"] = {"kind": "sgd", "learning_rate": 0.5, "batch_size": 32}

    figure = drawn(plot_break_even(with_scenario(tree, batches)))
    ax = next(ax for ax in figure.axes if ax.get_xlabel() == "batch size")
    points, _ = bars(ax, "sgd, eta 0.5")
    means = [float(data.sharpness.sel(process=name).max("step").mean()) for name in ("SGD", "SDE")]
    np.testing.assert_allclose(points, [[8, means[0]], [32, means[1]]])


def test_a_run_that_has_only_begun_has_no_figures(tree):
    real = [name for name, variable in tree["edge"].data_vars.items() if variable.dtype.kind == "f"]
    begun = changed(tree, **dict.fromkeys(real, np.nan), state=0, final_state=0, entry_step=-1)
    assert [name for name, draw in OF_A_RUN.items() if draw(begun) is not None] == []
    assert len(OF_A_RUN) == 8


def test_every_figure_is_saved(tree, data, tmp_path):
    few = tree.copy()
    few["edge"] = xr.DataTree(data.sel(process=["GD", "GD, half", "central flow"]))
    names = [path.name for path in save_figures(few, tmp_path)]
    assert names == [f"{name}.{kind}" for name in OF_A_RUN for kind in ("png", "svg")]
    assert plot_phase_diagram(tree) is None


def test_a_dataset_from_elsewhere_may_have_little(tree):
    """Only loss, sharpness, threshold and what was judged, as readers find it."""
    kept = {"loss", "sharpness", "threshold", "state"}
    every = tree["edge"].to_dataset().data_vars
    bare = changed(tree, **{str(name): None for name in every if name not in kept})
    bare.attrs = {"study": "edge", "title": "theirs"}
    drawn(plot_sharpness(bare))
    drawn(plot_sharpness_ratios(bare))
    for name in set(OF_A_RUN) - {"sharpness", "ratios"}:
        assert OF_A_RUN[name](bare) is None


def test_records_without_a_sharpness_leave_no_gap(tree, data):
    sharpness = data.sharpness.values.copy()
    sharpness[..., 1::2] = np.nan
    sparse = changed(tree, sharpness=sharpness, midpoint_sharpness=np.nan)
    points = lines(drawn(plot_sharpness(sparse, "GD")).axes[0], "sharpness")
    np.testing.assert_array_equal(points[0][:, 1], data.sharpness.values[0, 0, ::2])
    assert np.isfinite(points[0]).all()


@pytest.mark.parametrize("name", OF_A_RUN)
def test_many_processes_with_any_names_fit(tree, data, name):
    order = [0, 1, 2, 3, 4, 5, 6, 7, 0, 3, 4, 5, 6, 1]
    many = data.isel(process=order)
    names = [f"process {i}, Gaussian SGD with $a_{{$ and weights" for i in range(13)] + ["_hidden"]
    other = with_scenario(tree, lambda tables: None)
    other["edge"] = xr.DataTree(many.assign_coords(process=names))
    if name == "break_even":  # the scenario does not know these names
        assert OF_A_RUN[name](other) is None
    else:
        figure = drawn(OF_A_RUN[name](other))
        assert len(figure.axes) <= 16 + (name == "density")  # which has a colour bar


def test_sixteen_processes_look_different():
    looks = {tuple(process_look(number).values()) for number in range(32)}
    assert len(looks) == 32
