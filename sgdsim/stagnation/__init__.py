"""Stagnation: minima, local convexity, exit bounds and survival statistics."""

from sgdsim.stagnation._contraction import (
    contraction_rsi as contraction_rsi,
    contraction_strongly_convex as contraction_strongly_convex,
)
from sgdsim.stagnation._convexity import (
    CONDITIONS as CONDITIONS,
    ConvexityRatios as ConvexityRatios,
    essential_ratio as essential_ratio,
    pointwise_ratios as pointwise_ratios,
    sample_convexity as sample_convexity,
)
from sgdsim.stagnation._convexity_summary import (
    ConvexitySummary as ConvexitySummary,
    summarise_convexity as summarise_convexity,
)
from sgdsim.stagnation._escape import (
    ExitRate as ExitRate,
    exit_rate as exit_rate,
    eyring_kramers_time as eyring_kramers_time,
    finite_step_diffusion as finite_step_diffusion,
    kramers_rate as kramers_rate,
    kramers_time as kramers_time,
)
from sgdsim.stagnation._exit_bounds import (
    log_exit_bound_s0 as log_exit_bound_s0,
    log_exit_bound_s1 as log_exit_bound_s1,
    log_exit_bounds as log_exit_bounds,
    stay_lower_bound as stay_lower_bound,
)
from sgdsim.stagnation._minima import (
    Minimum as Minimum,
    find_minimum as find_minimum,
    hessian_spectrum as hessian_spectrum,
)
from sgdsim.stagnation._passage import (
    effective_diffusion as effective_diffusion,
    mean_first_passage_time as mean_first_passage_time,
)
from sgdsim.stagnation._radius import (
    auto_radius as auto_radius,
    stationary_radius as stationary_radius,
)
from sgdsim.stagnation._sets import Ball as Ball, Below as Below
from sgdsim.stagnation._stationary import (
    SpectralMeasure as SpectralMeasure,
    linearised_mean_squared_distance as linearised_mean_squared_distance,
    noise_spectral_measure as noise_spectral_measure,
)
from sgdsim.stagnation._stay_constants import (
    StayConstants as StayConstants,
    assumption_violation as assumption_violation,
)
from sgdsim.stagnation._supermartingale import log_exit_bound_s2 as log_exit_bound_s2
from sgdsim.stagnation._survival import (
    clopper_pearson as clopper_pearson,
    stay_probability as stay_probability,
)
