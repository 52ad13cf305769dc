"""Figures of a stored run: dataset in, matplotlib figure out."""

from sgdsim.plotting._bounds import plot_bounds as plot_bounds
from sgdsim.plotting._convexity import plot_convexity as plot_convexity
from sgdsim.plotting._convexity_map import (
    plot_case_convexity as plot_case_convexity,
    plot_convexity_map as plot_convexity_map,
)
from sgdsim.plotting._distance import plot_distance as plot_distance
from sgdsim.plotting._exits import plot_exits as plot_exits
from sgdsim.plotting._exits_basins import plot_basins as plot_basins
from sgdsim.plotting._exits_gap import plot_gap as plot_gap, plot_gap_width as plot_gap_width
from sgdsim.plotting._exits_rates import plot_arrhenius as plot_arrhenius
from sgdsim.plotting._exits_survival import plot_exit_survival as plot_exit_survival
from sgdsim.plotting._processes import (
    plot_discrepancy as plot_discrepancy,
    plot_escapes as plot_escapes,
    plot_losses as plot_losses,
    plot_validity as plot_validity,
)
from sgdsim.plotting._save import save_figures as save_figures, write_figure as write_figure
from sgdsim.plotting._survival import plot_survival as plot_survival
from sgdsim.plotting._sweep import plot_sweep as plot_sweep
