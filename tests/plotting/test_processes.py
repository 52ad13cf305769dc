"""Processes side by side: what is drawn equals what is stored, what cannot be drawn is said."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import Rectangle

from sgdsim.plotting import plot_discrepancy, plot_escapes, plot_losses, plot_validity
from sgdsim.store import open_run
from sgdsim.testing import synthetic_dynamics_run

NAMES = ["SGD, small", "SDE, small", "SGD, large", "SDE, large"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four processes of 12 trajectories, two of the last of which have diverged."""
    return open_run(synthetic_dynamics_run(tmp_path_factory.mktemp("run"))).load()


def line(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def labels(ax):
    return ax.get_legend_handles_labels()[1]


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def render(figure):
    FigureCanvasAgg(figure).draw()


def errorbars(ax, label):
    """Points and ends of the bars, ``(point, end)``, along the axis that has errors."""
    (found,) = [c for c in ax.containers if c.get_label() == label]
    assert isinstance(found, ErrorbarContainer)
    marks, _, (bars,) = found.lines
    assert marks is not None
    segments = np.asarray(bars.get_segments())
    axis = 0 if np.ptp(segments[..., 0]) and not np.ptp(segments[:, :, 1], axis=1).any() else 1
    return np.asarray(marks.get_xydata()), segments[:, :, axis]


def colours(ax):
    return {line.get_label(): line.get_color() for line in ax.lines if line.get_label() in NAMES}


def test_losses_draw_the_stored_numbers(tree):
    figure = plot_losses(tree)
    data = tree["dynamics"].to_dataset()
    assert [ax.get_title() for ax in figure.axes] == ["learning rate 0.1", "learning rate 1"]
    assert [labels(ax) for ax in figure.axes] == [NAMES[:2], NAMES[2:]]
    for number, name in enumerate(NAMES):
        ax, one = figure.axes[number // 2], data.sel(process=name)
        step, mean = line(ax, name)
        np.testing.assert_array_equal(step, data.step)
        np.testing.assert_array_equal(mean, one.mean_loss)
        corners = np.asarray(ax.collections[number % 2].get_paths()[0].vertices)[:, 1]
        error = 2 * one.mean_loss_stderr
        np.testing.assert_allclose(
            np.unique(corners), np.unique([one.mean_loss - error, one.mean_loss + error])
        )
        assert ax.get_yscale() == "linear"
        assert ax.get_xlabel() == "step"
    assert figure.axes[0].get_ylabel() == "mean loss [nat]"
    assert figure.get_suptitle() == (
        "synthetic: mean over 12 trajectories, bands of two standard errors"
    )


def test_losses_over_more_than_a_decade_have_a_logarithmic_axis(tree, edited):
    data = tree["dynamics"].mean_loss.values.copy()
    data *= np.geomspace(1.0, 1e-3, data.shape[1])
    data[2, 3] = -0.1
    left, right = plot_losses(edited(tree, "dynamics", mean_loss=data)).axes
    assert left.get_yscale() == "log"
    assert right.get_yscale() == "linear"


def test_losses_of_a_process_that_diverged_altogether(tree, edited):
    data = tree["dynamics"].mean_loss.values.copy()
    data[3, 2:] = np.nan
    figure = plot_losses(edited(tree, "dynamics", mean_loss=data))
    render(figure)
    assert np.isnan(line(figure.axes[1], "SDE, large")[1]).sum() == 19


def test_validity_draws_the_stored_numbers(tree):
    figure = plot_validity(tree)
    (ax,) = figure.axes
    data = tree["dynamics"].to_dataset()
    for name in NAMES:
        probe, gauge = line(ax, name)
        np.testing.assert_array_equal(probe, data.probe)
        np.testing.assert_array_equal(gauge, data.sde_gauge.sel(process=name))
    assert set(line(ax, "edge of stability, sharpness 2/eta")[1]) == {1.0}
    (valid,) = [patch for patch in ax.patches if patch.get_label() == "SDE valid: <= 0.1"]
    assert isinstance(valid, Rectangle)
    assert valid.get_y() + valid.get_height() == pytest.approx(0.1)
    assert ax.get_yscale() == "log"
    assert len(set(colours(ax).values())) == 4


def test_validity_leaves_out_what_was_not_judged(tree, edited):
    gauge = tree["dynamics"].sde_gauge.values.copy()
    gauge[1] = np.nan
    (ax,) = plot_validity(edited(tree, "dynamics", sde_gauge=gauge)).axes
    assert [label for label in labels(ax) if label in NAMES] == [NAMES[0], *NAMES[2:]]
    # A process keeps its colour, whoever else is drawn.
    assert colours(ax).items() <= colours(plot_validity(tree).axes[0]).items()
    nobody = plot_validity(edited(tree, "dynamics", sde_gauge=np.nan))
    assert texts(nobody) == ["no process was judged"]
    render(nobody)


def test_escapes_draw_the_stored_numbers(tree):
    figure = plot_escapes(tree)
    assert figure is not None
    left, right = figure.axes
    data = tree["dynamics"].to_dataset()
    for name in NAMES:
        one = data.sel(process=name)
        time, survival = line(left, name)
        np.testing.assert_array_equal(time, one.time)
        known = one.survival.values > 0
        np.testing.assert_array_equal(survival[known], one.survival.values[known])
        assert np.isnan(survival[~known]).all(), "a logarithm has no zero"
    assert (data.survival == 0).any(), "nothing was tested"
    points, ends = errorbars(right, "measured, 95 %")
    np.testing.assert_allclose(points[:, 0], data.mean_escape_time)
    np.testing.assert_array_equal(points[:, 1], range(4))
    interval = np.stack([data.mean_escape_time_low, data.mean_escape_time_high], axis=1)
    np.testing.assert_allclose(ends, interval)
    for label, name in {
        "Kramers": "kramers_time",
        "exact for the SDE": "exact_escape_time",
        "corrected for the finite step": "corrected_escape_time",
    }.items():
        np.testing.assert_array_equal(line(right, label)[0], data[name])
    assert [tick.get_text() for tick in right.get_yticklabels()] == NAMES
    assert "12 trajectories" in figure.get_suptitle()


def test_a_process_without_an_escape_has_a_lower_limit(tree, edited):
    """The estimate is infinite, and nothing may warn of that."""
    time, high = (
        tree["dynamics"][name].values.copy()
        for name in ("mean_escape_time", "mean_escape_time_high")
    )
    time[1] = high[1] = np.inf
    changed = edited(tree, "dynamics", mean_escape_time=time, mean_escape_time_high=high)
    figure = plot_escapes(changed)
    assert figure is not None
    right = figure.axes[1]
    assert errorbars(right, "measured, 95 %")[0][:, 1].tolist() == [0, 2, 3]
    limit, row = line(right, "no escape: lower end of the interval")
    assert limit.tolist() == [tree["dynamics"].mean_escape_time_low.values[1]]
    assert row.tolist() == [1]
    render(figure)
    nobody = edited(tree, "dynamics", mean_escape_time=np.inf, mean_escape_time_high=np.inf)
    render(plot_escapes(nobody))


def test_discrepancy_draws_ratios_of_the_stored_numbers(tree):
    figure = plot_discrepancy(tree, "sgd")
    (ax,) = figure.axes
    data = tree["dynamics"].to_dataset()
    points, ends = errorbars(ax, "sde")
    for number, (sgd, sde) in enumerate([(0, 1), (2, 3)]):  # ordered by gauge
        a, b = (data.late_loss.values[i] for i in (sgd, sde))
        a, b = a[~np.isnan(a)], b[~np.isnan(b)]
        assert len(b) == (12 if sde == 1 else 10)
        ratio = b.mean() / a.mean()
        relative = [x.std(ddof=1) / len(x) ** 0.5 / x.mean() for x in (a, b)]
        spread = 2 * ratio * (relative[0] ** 2 + relative[1] ** 2) ** 0.5
        gauge = data.sde_gauge.values[sgd].max()
        np.testing.assert_allclose(points[number], [gauge, ratio])
        np.testing.assert_allclose(ends[number], [ratio - spread, ratio + spread])
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "largest eta * lambda_max / 2 met by sgd"
    assert "SDE called valid: <= 0.1" in labels(ax)
    render(figure)


def test_discrepancy_without_the_reference(tree):
    figure = plot_discrepancy(tree, "adam")
    (text,) = texts(figure)
    assert text.startswith("no process to compare with one of kind adam: same learning")
    render(figure)


def test_discrepancy_of_a_process_that_diverged_altogether(tree, edited):
    late = tree["dynamics"].late_loss.values.copy()
    late[3] = np.nan
    figure = plot_discrepancy(edited(tree, "dynamics", late_loss=late), "sgd")
    render(figure)
    (found,) = [c for c in figure.axes[0].containers if c.get_label() == "sde"]
    assert isinstance(found, ErrorbarContainer)
    assert found.lines[0] is not None
    points = np.asarray(found.lines[0].get_xydata())
    assert np.isfinite(points).all(axis=1).tolist() == [True, False]


@pytest.mark.parametrize("name", ["a $b$ c", "$x_{$", "_hidden", "SGD [/large]"])
def test_any_name_is_shown(tree, name):
    renamed = tree.copy()
    names = [name, *NAMES[1:]]
    renamed["dynamics"] = tree["dynamics"].to_dataset().assign_coords(process=names)
    for draw in (plot_losses, plot_validity, plot_escapes):
        figure = draw(renamed)
        assert figure is not None
        render(figure)
        legend = figure.axes[0].get_legend()
        assert legend is not None
        shown = [text.get_text().strip().replace("\\$", "$") for text in legend.get_texts()]
        assert name in shown
