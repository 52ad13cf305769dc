"""Stagnation: what is drawn equals what is stored, and what cannot be drawn is said."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.container import BarContainer, ErrorbarContainer

from sgdsim.plotting import plot_bounds, plot_convexity, plot_distance, plot_survival
from sgdsim.plotting._save import FIGURES
from sgdsim.store import open_run
from sgdsim.testing import synthetic_dynamics_run, synthetic_run, synthetic_training_run

pytestmark = pytest.mark.slow

FABRICATED = {
    "stagnation": synthetic_run,
    "dynamics": synthetic_dynamics_run,
    "bounds": synthetic_training_run,
}
EVERY = [(study, name) for study in FABRICATED for name in FIGURES[study]]


def line(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def labels(ax):
    return ax.get_legend_handles_labels()[1]


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def band(ax, label):
    (found,) = [c for c in ax.collections if c.get_label() == label]
    assert isinstance(found, PolyCollection)
    return np.asarray(found.get_paths()[0].vertices)


def render(figure):
    FigureCanvasAgg(figure).draw()


def test_survival_draws_the_stored_numbers(tree):
    figure = plot_survival(tree)
    left, right = figure.axes
    data = tree["stagnation"].to_dataset()
    step, measured = line(left, "measured")
    np.testing.assert_array_equal(step, data.step)
    np.testing.assert_array_equal(measured, data.stay_probability)
    # A staircase: the value holds until the next recorded step.
    assert {ln.get_drawstyle() for ln in left.lines if ln.get_label() == "measured"} == {
        "steps-post"
    }
    corners = band(left, "95 % Clopper-Pearson interval")
    assert {*corners[:, 1]} == {
        *data.stay_probability_low.values,
        *data.stay_probability_high.values,
    }
    np.testing.assert_array_equal(
        line(left, "S2 lower bound")[1], data.stay_lower_bound.sel(theory="S2")
    )
    np.testing.assert_allclose(
        line(right, "S2 upper bound")[1], data.log_exit_bound.sel(theory="S2") / np.log(10)
    )
    exits = 1 - data.stay_probability.values
    drawn = line(right, "measured")[1]
    np.testing.assert_allclose(10 ** drawn[exits > 0], exits[exits > 0])
    assert np.isnan(drawn[exits == 0]).all()
    np.testing.assert_allclose(
        10 ** line(right, "measured, upper end of the 95 % interval")[1],
        1 - data.stay_probability_low,
    )


def test_survival_says_what_it_shows(tree):
    figure = plot_survival(tree)
    left, right = figure.axes
    assert figure.get_suptitle() == (
        "synthetic: does it stay within 0.22 of the minimum? (12 trajectories, 1 diverged)"
    )
    assert left.get_xlabel() == right.get_xlabel() == "step"
    assert left.get_ylabel() == "probability of no exit so far"
    assert right.get_ylabel() == "log10 of the probability of an exit so far"
    assert left.get_title() == "Stay probability"
    assert left.get_legend() is not None
    assert right.get_legend() is not None


def test_vacuous_bounds_are_drawn_at_zero_and_said(tree):
    left, right = plot_survival(tree).axes
    s0 = line(left, "S0 lower bound: vacuous (drawn at 0)")[1]
    assert s0[0] == 0
    assert (s0 == 0).all()
    s1 = line(left, "S1 lower bound: vacuous from step 50 (drawn at 0)")[1]
    stored = tree["stagnation"].stay_lower_bound.sel(theory="S1").values
    np.testing.assert_array_equal(s1, np.where(stored > 0, stored, 0))
    assert (stored > 0).sum() == 5
    s0_exit = line(right, "S0 upper bound: vacuous (drawn at probability 1)")[1]
    assert (s0_exit == 0).all()


def test_bounds_that_were_not_clipped_are_drawn_at_zero_too(tree, edited):
    left = plot_survival(edited(tree, "stagnation", stay_lower_bound=-3.0)).axes[0]
    assert (line(left, "S2 lower bound: vacuous (drawn at 0)")[1] == 0).all()


def test_bounds_that_do_not_apply_are_said(tmp_path):
    tree = open_run(synthetic_run(tmp_path / "run", applicable=False))
    left, right = plot_survival(tree).axes
    for theory in ("S0", "S1", "S2"):
        assert np.isnan(line(left, f"{theory} lower bound: not applicable")[1]).all()
        assert np.isnan(line(right, f"{theory} upper bound: not applicable")[1]).all()


def test_no_exit_at_all(tree, edited):
    tree = edited(
        tree,
        "stagnation",
        stay_probability=1.0,
        stay_probability_low=0.7,
        stay_probability_high=1.0,
        log_exit_bound=np.array([3.0, -np.inf, -700.0])[:, None],
    )
    figure = plot_survival(tree)
    right = figure.axes[1]
    assert "measured: no exit" in labels(right)
    # log10(exp(-700)) is in range, and -inf does not break the axis.
    assert right.get_ylim()[0] < -700 / np.log(10)
    assert np.isfinite(right.get_ylim()).all()
    render(figure)


def test_the_first_step_does_not_decide_the_range(tree, edited):
    bound = np.full((3, 21), -5.0)
    bound[:, 0] = -1000.0
    right = plot_survival(edited(tree, "stagnation", log_exit_bound=bound)).axes[1]
    assert -3 < right.get_ylim()[0] < -5 / np.log(10)


def test_the_interval_of_no_exit_is_in_range(tree, edited):
    tree = edited(
        tree,
        "stagnation",
        stay_probability=1.0,
        stay_probability_low=0.99,
        stay_probability_high=1.0,
        log_exit_bound=5.0,
    )
    right = plot_survival(tree).axes[1]
    assert right.get_ylim()[0] < -2


def test_survival_without_a_confidence(tree):
    plain = tree.copy()
    plain.attrs = {}
    figure = plot_survival(plain)
    assert figure.get_suptitle().startswith("run: ")
    assert "Clopper-Pearson interval" in labels(figure.axes[0])


def test_distance_draws_quantiles_of_the_stored_numbers(tree):
    figure = plot_distance(tree)
    (ax,) = figure.axes
    distance = tree["trajectory"].distance.values.astype(float)
    assert np.isnan(distance[-1, -1])
    np.testing.assert_allclose(line(ax, "median")[1], np.nanmedian(distance, axis=0))
    for label, low, high in (
        ("smallest to largest", 0, 1),
        ("5 to 95 %", 0.05, 0.95),
        ("25 to 75 %", 0.25, 0.75),
    ):
        heights = np.unique(band(ax, label)[:, 1])
        expected = np.unique(np.nanquantile(distance, [low, high], axis=0))
        np.testing.assert_allclose(heights, expected)
    data = tree["stagnation"].to_dataset()
    np.testing.assert_allclose(
        line(ax, "root mean square, linearised dynamics")[1] ** 2,
        data.linearised_mean_squared_distance,
    )
    np.testing.assert_allclose(
        line(ax, "root mean square")[1] ** 2, data.mean_squared_distance_ensemble
    )
    assert set(line(ax, "radius of the stagnation set, 0.22")[1]) == {0.22}
    (dashed,) = [ln for ln in ax.lines if "linearised" in str(ln.get_label())]
    assert dashed.get_linestyle() == "--"
    assert ax.get_xlabel() == "step"
    assert ax.get_ylabel() == "distance from the minimum"
    assert "12 trajectories, 1 diverged" in ax.get_title()


def test_a_radius_far_above_does_not_press_the_fan_flat(tree, edited):
    (ax,) = plot_distance(edited(tree, "stagnation", radius=7.0)).axes
    assert set(line(ax, "radius of the stagnation set, 7 (above the axis)")[1]) == {7.0}
    largest = np.nanmax(tree["trajectory"].distance)
    assert largest < ax.get_ylim()[1] < 1.5 * largest
    (near,) = plot_distance(edited(tree, "stagnation", radius=2 * largest)).axes
    assert near.get_ylim()[1] > 2 * largest


def test_distance_when_everything_diverged(tmp_path):
    tree = open_run(synthetic_run(tmp_path / "run", diverged=12))
    (ax,) = plot_distance(tree).axes
    step, median = line(ax, "median")
    np.testing.assert_array_equal(np.isnan(median), step > 100)
    assert "12 diverged" in ax.get_title()


def test_distance_without_any_record(tree, edited):
    empty = edited(tree, "trajectory", distance=np.nan)
    empty = edited(empty, "stagnation", linearised_mean_squared_distance=np.nan)
    figure = plot_distance(empty)
    assert texts(figure) == ["no distance recorded yet"]
    assert "root mean square, linearised dynamics: not applicable" in labels(figure.axes[0])


def bars(ax):
    return [c for c in ax.containers if isinstance(c, BarContainer)]


def test_bounds_draw_means_over_living_trajectories(tree):
    figure = plot_bounds(tree)
    (ax,) = figure.axes
    data = tree["bounds"].to_dataset().isel(probe=-1)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "centre lipschitz",
        "spectral entropy",
        "pac bayes",
    ]
    widths = [container[0].get_width() for container in bars(ax)]
    values = data.value.values[:11, :2]
    assert not np.isnan(values).any()
    np.testing.assert_allclose(widths, values.mean(axis=0))
    (points,) = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    marks, _, (segments,) = points.lines
    gap = data.generalization_gap.values[:11, :3].mean(axis=0)
    error = data.generalization_gap_stderr.values[:11, :3].mean(axis=0)
    assert marks is not None
    np.testing.assert_allclose(np.asarray(marks.get_xdata()), gap)
    np.testing.assert_allclose(
        [segment[:, 0] for segment in segments.get_segments()],
        np.stack([gap - error, gap + error], axis=1),
    )
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "certificate and measured gap (loss range 1)"
    assert ax.get_title() == (
        "synthetic: certificates against the measured gap at step 200, mean of 11 trajectories"
    )
    assert set(labels(ax)) == {"range of the loss", "measured gap with standard error"}


def test_vacuous_certificates_are_hatched_and_labelled(tree):
    figure = plot_bounds(tree)
    first, second = bars(figure.axes[0])
    assert first[0].get_hatch() is None
    assert second[0].get_hatch() == "//"
    notes = texts(figure)
    assert [note for note in notes if note.endswith("vacuous (> 1)")] == [notes[1]]
    assert notes[2] == "not applicable: assumption violated"


def test_certificates_vacuous_on_some_trajectories(tree, edited):
    flags = tree["bounds"].vacuous.values.copy()
    flags[:, -1, 0] = [1] * 3 + [0] * 9
    figure = plot_bounds(edited(tree, "bounds", vacuous=flags))
    assert texts(figure)[0].endswith("vacuous (> 1) in 3 of 11 trajectories")


def test_gaps_that_a_logarithmic_axis_cannot_show(tree, edited):
    figure = plot_bounds(edited(tree, "bounds", generalization_gap=-0.01, value=np.inf))
    notes = texts(figure)
    assert notes.count("measured gap -0.01 (not > 0)") == 3
    assert notes.count("not applicable: no finite value") == 2
    render(figure)


def test_a_run_without_certificates(tree):
    measures = tree.copy()
    measures["bounds"] = tree["bounds"].to_dataset().isel(bound=[3])
    assert texts(plot_bounds(measures)) == ["no certificate evaluated"]


def test_convexity_draws_the_stored_numbers(tree):
    figure = plot_convexity(tree)
    data = tree["stagnation"].to_dataset()
    assert len(figure.axes) == 6
    for ax, condition in zip(figure.axes, ("ESC", "WSC", "RSI", "PL", "QG"), strict=False):
        one = data.sel(condition=condition)
        assert ax.get_title() == f"{condition}, 256 samples per radius"
        assert ax.get_xlabel() == "distance from the minimum"
        assert ax.get_ylabel() == "convexity ratio"
        radius, smallest = line(ax, "minimum")
        np.testing.assert_array_equal(radius, data.convexity_radius)
        np.testing.assert_array_equal(smallest, one.convexity_ratio_minimum)
        np.testing.assert_array_equal(line(ax, "median")[1], one.convexity_ratio_quantile_50)
        np.testing.assert_array_equal(line(ax, "5 % quantile")[1], one.convexity_ratio_quantile_05)
        assert {*band(ax, "1 % quantile to median")[:, 1]} == {
            *one.convexity_ratio_quantile_01.values,
            *one.convexity_ratio_quantile_50.values,
        }
        for direction in data.direction.values.tolist():
            np.testing.assert_array_equal(
                line(ax, f"minimum, {direction} directions")[1],
                one.convexity_ratio_by_direction.sel(direction=direction),
            )
        (x,), (y,) = line(ax, "smallest ratio")
        assert y == smallest.min()
        assert x == radius[smallest.argmin()]
        assert set(line(ax, "zero")[1]) == {0.0}
    legend = figure.axes[5].get_legend()
    assert legend is not None
    assert "minimum, bottom directions" in [text.get_text() for text in legend.get_texts()]


def test_ratios_of_very_different_size_are_all_visible(tree, edited):
    ratios = tree["stagnation"].convexity_ratio_by_direction.values.copy()
    ratios[2] = np.array([0.003, 1.0, 2.0, 0.002])[:, None]
    smallest = tree["stagnation"].convexity_ratio_minimum.values.copy()
    smallest[2] = 0.002
    figure = plot_convexity(
        edited(
            tree,
            "stagnation",
            convexity_ratio_by_direction=ratios,
            convexity_ratio_minimum=smallest,
        )
    )
    assert figure.axes[2].get_yscale() == "symlog"
    assert figure.axes[3].get_yscale() == "linear"
    heights = figure.axes[2].transData.transform([[0.1, 0.0], [0.1, 0.002], [0.1, 2.0]])[:, 1]
    assert heights[1] - heights[0] > 0.05 * (heights[2] - heights[0])
    assert figure.axes[2].get_ylim()[0] < 0
    assert figure.axes[2].get_ylim()[1] > 2.5
    render(figure)


def test_convexity_that_was_not_sampled(tree, edited):
    sizes = tree["stagnation"].convexity_sample_size.values.copy()
    sizes[2] = [10, 10, 10, 20, 20, 20]
    smallest = tree["stagnation"].convexity_ratio_minimum.values.copy()
    smallest[1] = np.nan
    figure = plot_convexity(
        edited(tree, "stagnation", convexity_sample_size=sizes, convexity_ratio_minimum=smallest)
    )
    assert figure.axes[1].get_title() == "WSC"
    assert texts(figure) == ["not sampled"]
    assert figure.axes[2].get_title() == "RSI, 10 to 20 samples per radius"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A fabricated run of every study."""
    return {
        study: open_run(make(tmp_path_factory.mktemp(study))).load()
        for study, make in FABRICATED.items()
    }


@pytest.mark.parametrize(("study", "name"), EVERY)
def test_figures_of_a_run_that_has_only_begun(tmp_path, study, name):
    """Everything NaN: no figure may fail or warn, and what is empty says so or is not drawn."""
    tree = open_run(FABRICATED[study](tmp_path / "run", finished=False)).load()
    for node in tree.subtree:
        for variable in node.data_vars.values():
            if variable.dtype.kind == "f":
                variable.values = np.full_like(variable.values, np.nan)
    figure = FIGURES[study][name](tree)
    assert (figure is None) == (name in ("escapes", "convexity_map"))
    if figure is not None:
        render(figure)
        assert len(texts(figure)) > 0


@pytest.mark.parametrize(("study", "name"), EVERY)
def test_text_does_not_leave_the_figure_or_overlap(trees, study, name):
    """Titles and tick labels fit: nothing sticks out of the canvas."""
    figure = FIGURES[study][name](trees[study])
    assert figure is not None
    render(figure)
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 > -0.05
    assert box.y0 > -0.05
    assert box.x1 < width + 0.05
    assert box.y1 < height + 0.05


def test_no_global_state_is_touched(trees):
    before = dict(mpl.rcParams)
    for study, name in EVERY:
        FIGURES[study][name](trees[study])
    assert dict(mpl.rcParams) == before
