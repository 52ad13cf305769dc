"""What a ``[[claim]]`` may be about, by study."""

from typing import Literal, get_args

StagnationQuantity = Literal[
    "stay_bound_excess",
    "exit_bound",
    "distance_to_lyapunov_ratio",
    "certificate_slack",
    "certified_exit_bound",
    "certified_radius",
    "stagnation_number",
    "participation_share",
    "top_space_share",
    "final_error_rate",
    "final_test_error_rate",
    "zero_one_gap",
    "certified_gap",
]
QuantityOfTwo = Literal["loss_agreement", "loss_difference"]
QuantityOfOne = Literal[
    "sde_gauge",
    "sde_valid",
    "escape_time_over_kramers",
    "escape_time_over_exact",
    "escape_time_over_corrected",
]
DynamicsQuantity = Literal[QuantityOfTwo, QuantityOfOne]
QuantityOfOneCase = Literal[
    "exit_probability",
    "exit_probability_z",
    "exit_bound",
    "stay_bound_excess",
    "exit_time_over_exact",
    "exit_time_over_kramers",
    "exit_rate_over_exact",
    "rare_exit_over_exact",
    "log_rare_exit",
    "mean_gap",
    "mean_gap_z",
    "mean_gap_over_expected",
    "gap_bound",
    "certificate_slack",
    "effective_rank",
    "exponentiality",
]
QuantityOfTwoCases = Literal["exit_rate_ratio", "exit_rate_ratio_over_kramers"]
QuantityOfCases = Literal[
    "arrhenius_over_quasi_potential",
    "G1_width_exponent",
    "G2_width_exponent",
    "G3_width_exponent",
]
ExitsQuantity = Literal[QuantityOfOneCase, QuantityOfTwoCases, QuantityOfCases]

QuantityOfARun = Literal[
    "reached",
    "certificate_slack",
    "certificate_violations",
    "final_error_rate",
    "final_test_error_rate",
    "zero_one_gap",
    "certified_gap",
    "decomposition_error",
]
QuantityOfOneBound = Literal["bound_value"]
QuantityOfASweep = Literal["mean_gap_slack"]
QuantityOfOneBoundInASweep = Literal[
    "kendall_tau",
    "granulated_tau",
    "conditional_information",
    "sign_error_mean",
    "sign_error_max",
    "ranked_right",
    "growth_with_rows",
]
BoundsQuantity = Literal[
    QuantityOfARun, QuantityOfOneBound, QuantityOfASweep, QuantityOfOneBoundInASweep
]
#: Quantities that are about one bound.
QUANTITIES_OF_ONE_BOUND = (*get_args(QuantityOfOneBound), *get_args(QuantityOfOneBoundInASweep))
#: Quantities that only a whole sweep has.
QUANTITIES_OF_A_SWEEP = (*get_args(QuantityOfASweep), *get_args(QuantityOfOneBoundInASweep))

QuantityOfOneEdgeProcess = Literal[
    "late_ratio",
    "late_raw_ratio",
    "late_batch_ratio",
    "maximum_ratio",
    "final_ratio",
    "entry_step",
    "at_the_edge",
    "above_the_edge",
    "below_the_edge",
    "collapsed",
    "not_reached",
    "catapulted",
    "survived",
    "peak_loss_ratio",
    "late_loss",
]
QuantityOfTwoEdgeProcesses = Literal[
    "batch_ratio", "sharpness_ratio", "loss_ratio", "loss_over_predicted", "distance_ratio"
]
EdgeQuantity = Literal[QuantityOfOneEdgeProcess, QuantityOfTwoEdgeProcesses]
#: Quantities of the edge study that compare two processes.
QUANTITIES_OF_TWO_EDGE_PROCESSES = get_args(QuantityOfTwoEdgeProcesses)

#: Names that a ``[[claim]]`` may be about, by study.
KNOWN_QUANTITIES: dict[str, tuple[str, ...]] = {
    "stagnation": get_args(StagnationQuantity),
    "dynamics": get_args(DynamicsQuantity),
    "exits": get_args(ExitsQuantity),
    "bounds": get_args(BoundsQuantity),
    "edge": get_args(EdgeQuantity),
}
