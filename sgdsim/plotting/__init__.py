"""Figures of a stored run: dataset in, matplotlib figure out."""

from sgdsim.plotting._bounds import plot_bounds as plot_bounds
from sgdsim.plotting._convexity import plot_convexity as plot_convexity
from sgdsim.plotting._distance import plot_distance as plot_distance
from sgdsim.plotting._processes import (
    plot_discrepancy as plot_discrepancy,
    plot_escapes as plot_escapes,
    plot_losses as plot_losses,
    plot_validity as plot_validity,
)
from sgdsim.plotting._save import save_figures as save_figures, write_figure as write_figure
from sgdsim.plotting._survival import plot_survival as plot_survival
