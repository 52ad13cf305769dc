"""Figures of a stored run: dataset in, matplotlib figure out."""

from sgdsim.plotting._bounds import plot_bounds as plot_bounds
from sgdsim.plotting._convexity import plot_convexity as plot_convexity
from sgdsim.plotting._convexity_map import (
    plot_case_convexity as plot_case_convexity,
    plot_convexity_map as plot_convexity_map,
)
from sgdsim.plotting._distance import plot_distance as plot_distance
from sgdsim.plotting._edge import plot_sharpness as plot_sharpness
from sgdsim.plotting._edge_blocks import plot_block_sharpness as plot_block_sharpness
from sgdsim.plotting._edge_break_even import plot_break_even as plot_break_even
from sgdsim.plotting._edge_density import plot_spectral_density as plot_spectral_density
from sgdsim.plotting._edge_distance import (
    plot_predicted_loss as plot_predicted_loss,
    plot_process_distances as plot_process_distances,
)
from sgdsim.plotting._edge_look import (
    mean_and_error as mean_and_error,
    number_text as number_text,
)
from sgdsim.plotting._edge_phase import plot_phase_diagram as plot_phase_diagram
from sgdsim.plotting._edge_ratios import (
    plot_sharpness_ratios as plot_sharpness_ratios,
    plot_spectrum as plot_spectrum,
)
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
from sgdsim.plotting._ranking import (
    plot_ranking as plot_ranking,
    plot_tightness as plot_tightness,
)
from sgdsim.plotting._save import save_figures as save_figures, write_figure as write_figure
from sgdsim.plotting._survival import plot_survival as plot_survival
from sgdsim.plotting._sweep import plot_sweep as plot_sweep
from sgdsim.plotting._training import (
    plot_bounds_over_time as plot_bounds_over_time,
    plot_factors as plot_factors,
)
