"""Stagnation: minima, local convexity, exit bounds and survival statistics."""

from sgdsim.stagnation._arrhenius import (
    ArrheniusFit as ArrheniusFit,
    arrhenius_fit as arrhenius_fit,
    arrhenius_fit_log_rates as arrhenius_fit_log_rates,
)
from sgdsim.stagnation._basins import (
    BasinCensus as BasinCensus,
    cluster_basins as cluster_basins,
    good_turing_unseen_mass as good_turing_unseen_mass,
    good_turing_upper_limit as good_turing_upper_limit,
)
from sgdsim.stagnation._contraction import (
    contraction_rsi as contraction_rsi,
    contraction_strongly_convex as contraction_strongly_convex,
)
from sgdsim.stagnation._convexity import sample_convexity as sample_convexity
from sgdsim.stagnation._convexity_radius import (
    ConstantsByRadius as ConstantsByRadius,
    ConvexityRadius as ConvexityRadius,
    LocalConstants as LocalConstants,
    constants_by_radius as constants_by_radius,
    delta_star as delta_star,
)
from sgdsim.stagnation._convexity_ratios import (
    CONDITIONS as CONDITIONS,
    ConvexityRatios as ConvexityRatios,
    essential_ratio as essential_ratio,
    pointwise_ratios as pointwise_ratios,
)
from sgdsim.stagnation._convexity_summary import (
    ConvexitySummary as ConvexitySummary,
    summarise_convexity as summarise_convexity,
)
from sgdsim.stagnation._dimension import (
    EnergyShare as EnergyShare,
    ParticipationRatio as ParticipationRatio,
    SubspaceAngles as SubspaceAngles,
    effective_rank as effective_rank,
    participation_ratio as participation_ratio,
    subspace_angles as subspace_angles,
    top_space_energy as top_space_energy,
)
from sgdsim.stagnation._dimension_report import (
    LowDimension as LowDimension,
    TopSubspace as TopSubspace,
    low_dimension_report as low_dimension_report,
    spectral_outliers as spectral_outliers,
    top_subspace as top_subspace,
)
from sgdsim.stagnation._escape import (
    ExitRate as ExitRate,
    exit_rate as exit_rate,
    eyring_kramers_time as eyring_kramers_time,
    finite_step_diffusion as finite_step_diffusion,
    kramers_rate as kramers_rate,
    kramers_time as kramers_time,
)
from sgdsim.stagnation._exact_kernel import (
    exact_exit_probability as exact_exit_probability,
    exact_exit_rate as exact_exit_rate,
    exact_stay_probability as exact_stay_probability,
    exact_stay_probability_interval as exact_stay_probability_interval,
    quadratic_stay_probability as quadratic_stay_probability,
)
from sgdsim.stagnation._exit_bounds import (
    log_exit_bound_s0 as log_exit_bound_s0,
    log_exit_bound_s1 as log_exit_bound_s1,
    log_exit_bounds as log_exit_bounds,
    stay_lower_bound as stay_lower_bound,
)
from sgdsim.stagnation._exit_statistics import (
    ExitTest as ExitTest,
    SurvivalCurve as SurvivalCurve,
    exponentiality_test as exponentiality_test,
    kaplan_meier as kaplan_meier,
    quasi_stationarity_test as quasi_stationarity_test,
)
from sgdsim.stagnation._fibre_convexity import (
    refine_delta_star as refine_delta_star,
    sample_fibres as sample_fibres,
)
from sgdsim.stagnation._fibres import Fibre as Fibre, normal_directions as normal_directions
from sgdsim.stagnation._membership import (
    Average as Average,
    Interior as Interior,
    Share as Share,
    StayReport as StayReport,
    interior_radius as interior_radius,
    stay_report as stay_report,
)
from sgdsim.stagnation._minima import (
    Minimum as Minimum,
    find_minimum as find_minimum,
    hessian_spectrum as hessian_spectrum,
)
from sgdsim.stagnation._minimum_sets import (
    NearestMinimum as NearestMinimum,
    NormalSpace as NormalSpace,
    hessian_nullity as hessian_nullity,
    nearest_minimum as nearest_minimum,
    normal_space as normal_space,
)
from sgdsim.stagnation._moments import (
    burn_in_steps as burn_in_steps,
    log_tail_from_second_moment as log_tail_from_second_moment,
    mean_exit_time_bound as mean_exit_time_bound,
    multi_basin_stay_bound as multi_basin_stay_bound,
    second_moment_bound as second_moment_bound,
)
from sgdsim.stagnation._ornstein_uhlenbeck import (
    OrnsteinUhlenbeckExit as OrnsteinUhlenbeckExit,
    level_exit_time as level_exit_time,
)
from sgdsim.stagnation._passage import (
    effective_diffusion as effective_diffusion,
    mean_first_passage_time as mean_first_passage_time,
)
from sgdsim.stagnation._power_law import (
    curvature_noise_escape_time as curvature_noise_escape_time,
    power_law_escape_rate as power_law_escape_rate,
    power_law_exponent as power_law_exponent,
    power_law_stationary as power_law_stationary,
)
from sgdsim.stagnation._proved import (
    linear_regression_constants as linear_regression_constants,
    quadratic_constants as quadratic_constants,
    ridge_softmax_constants as ridge_softmax_constants,
)
from sgdsim.stagnation._quasi_potential import (
    QuasiPotential as QuasiPotential,
    gradient_quasi_potential as gradient_quasi_potential,
    quasi_potential as quasi_potential,
)
from sgdsim.stagnation._quench import (
    Quench as Quench,
    quench as quench,
)
from sgdsim.stagnation._radius import (
    auto_radius as auto_radius,
    comfortable_stagnation_number as comfortable_stagnation_number,
    stagnation_number as stagnation_number,
    stationary_radius as stationary_radius,
    stay_exponent as stay_exponent,
)
from sgdsim.stagnation._rare import (
    RareExit as RareExit,
    RareExitRate as RareExitRate,
    splitting_exit_probability as splitting_exit_probability,
    splitting_exit_rate as splitting_exit_rate,
)
from sgdsim.stagnation._sets import (
    AffineTube as AffineTube,
    Ball as Ball,
    Below as Below,
    Tube as Tube,
)
from sgdsim.stagnation._sets_shaped import (
    Ellipsoid as Ellipsoid,
    FunctionBall as FunctionBall,
    Sublevel as Sublevel,
    ellipsoid_of_stationary_covariance as ellipsoid_of_stationary_covariance,
)
from sgdsim.stagnation._sets_union import Union as Union, basins_of as basins_of
from sgdsim.stagnation._splitting import Splitting as Splitting
from sgdsim.stagnation._stationary import (
    SpectralMeasure as SpectralMeasure,
    linearised_mean_squared_distance as linearised_mean_squared_distance,
    noise_spectral_measure as noise_spectral_measure,
)
from sgdsim.stagnation._stay_constants import (
    StayConstants as StayConstants,
    assumption_violation as assumption_violation,
    assumption_violations as assumption_violations,
    hoeffding_proxy as hoeffding_proxy,
)
from sgdsim.stagnation._stay_statement import (
    Proved as Proved,
    Sampled as Sampled,
    StatementRow as StatementRow,
    StayStatement as StayStatement,
    sampled_maximum as sampled_maximum,
    sampled_minimum as sampled_minimum,
)
from sgdsim.stagnation._supermartingale import (
    log_exit_bound_s2 as log_exit_bound_s2,
    log_exit_bound_s2_scheduled as log_exit_bound_s2_scheduled,
)
from sgdsim.stagnation._survival import (
    MonteCarloExit as MonteCarloExit,
    clopper_pearson as clopper_pearson,
    monte_carlo_exit as monte_carlo_exit,
    stay_probability as stay_probability,
)
from sgdsim.stagnation._symmetry import (
    balance as balance,
    canonical as canonical,
    symmetry_distance as symmetry_distance,
)
