"""How well measures rank networks and how tight bounds are, from the runs of a sweep."""

from sgdsim.evaluation._falsifiers import growth as growth, random_label_ratio as random_label_ratio
from sgdsim.evaluation._final import FinalBounds as FinalBounds, final_bounds as final_bounds
from sgdsim.evaluation._fragility import slope_reversals as slope_reversals
from sgdsim.evaluation._information import conditional_information as conditional_information
from sgdsim.evaluation._ranking import granulated_tau as granulated_tau, kendall_tau as kendall_tau
from sgdsim.evaluation._regression import single_network_error as single_network_error
from sgdsim.evaluation._resampling import (
    BootstrapInterval as BootstrapInterval,
    PermutationTest as PermutationTest,
    bootstrap_interval as bootstrap_interval,
    minimum_detectable_tau as minimum_detectable_tau,
    permutation_test as permutation_test,
)
from sgdsim.evaluation._sign_error import robust_sign_error as robust_sign_error
from sgdsim.evaluation._table import bound_table as bound_table
from sgdsim.evaluation._tightness import (
    count_violations as count_violations,
    tightness_ratio as tightness_ratio,
    vacuity as vacuity,
)
