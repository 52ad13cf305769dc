"""Figures of a stored run: dataset in, matplotlib figure out."""

from sgdsim.plotting._bounds import plot_bounds as plot_bounds
from sgdsim.plotting._convexity import plot_convexity as plot_convexity
from sgdsim.plotting._distance import plot_distance as plot_distance
from sgdsim.plotting._save import save_figures as save_figures
from sgdsim.plotting._survival import plot_survival as plot_survival
