"""The table of variables, against the contract as it is written down in the design."""

import re

import numpy as np
import pytest

from sgdsim.bounds import FACTORS
from sgdsim.store import (
    COORDINATES,
    FIXED_LABELS,
    GROUPS,
    VARIABLES,
    coordinates_in,
    coordinates_of,
    variables_in,
    variables_of,
)

TRAJECTORY_PROBE = ("trajectory", "probe")
CONVEXITY = ("condition", "shell")
BOUND = ("trajectory", "probe", "bound")
LAYER = ("trajectory", "probe", "layer")

EXITS_BY_CASE = (
    "steps width exit_count basins radius exit_rate exit_rate_low exit_rate_high mean_exit_time "
    "mean_exit_time_low mean_exit_time_high mean_exit_time_bound exact_exit_probability "
    "exact_exit_rate exact_exit_time kramers_time quasi_potential prefactor_power "
    "rare_exit_probability rare_exit_probability_low rare_exit_probability_high "
    "rare_exit_relative_error "
    "quasi_stationarity_p_value exponentiality_p_value stationary_radius delta_star "
    "stagnation_number effective_rank participation_ratio participation_ratio_low "
    "participation_ratio_high gradient_deviation hessian_deviation mean_gap mean_gap_stderr "
    "expected_gap unseen_basins positive interior_radius any_basin_stay any_basin_stay_low "
    "any_basin_stay_high same_basin_stay same_basin_stay_low same_basin_stay_high"
)

# Written by hand from the design, not derived from the table.
CONTRACT = {
    "/": {(): "status details"},
    "trajectory": {
        ("trajectory", "step"): (
            "loss test_risk error_rate test_error_rate gradient_norm distance inside "
            "distance_from_start gradient_square covariance_trace deviation pair_square"
        ),
        ("trajectory",): "status diverged_step",
    },
    "stagnation": {
        ("trajectory",): (
            "entry_step exit_step exited occupancy mean_squared_distance max_distance "
            "nearest_minimum_distance symmetry_distance basin"
        ),
        ("step",): (
            "stay_probability stay_probability_low stay_probability_high "
            "linearised_mean_squared_distance mean_squared_distance_ensemble "
            "mean_squared_distance_stderr"
        ),
        ("theory", "step"): (
            "stay_lower_bound log_exit_bound certified_stay_lower_bound certified_log_exit_bound"
        ),
        ("evidence", "constant"): (
            "constant_value constant_low constant_high constant_sample_size"
        ),
        ("evidence",): "assumption_violated mean_exit_time_bound",
        (): (
            "radius contraction rsi growth noise_operator_norm noise_trace effective_rank "
            "noise_operator_norm_at_minimum noise_trace_at_minimum gradient_deviation "
            "hessian_deviation start_distance certified_radius delta_star delta_star_bounded "
            "stationary_radius stagnation_number basins unseen_basins"
        ),
        CONVEXITY: (
            "convexity_ratio_minimum convexity_ratio_quantile_01 convexity_ratio_quantile_05 "
            "convexity_ratio_quantile_50 convexity_violation_fraction "
            "convexity_violation_fraction_high convexity_sample_size"
        ),
        ("condition", "direction", "shell"): "convexity_ratio_by_direction",
    },
    "curvature": {
        (): (
            "minimum_gradient_norm reference_minimum_gradient_norm threshold minimum_distance "
            "top_space_energy_null hessian_noise_overlap hessian_noise_overlap_null "
            "hessian_noise_angle parameters"
        ),
        ("probe",): (
            "participation_ratio participation_ratio_low participation_ratio_high "
            "top_space_energy top_space_energy_stderr"
        ),
        ("eigen",): "minimum_hessian_eigenvalue minimum_hessian_residual",
        (*TRAJECTORY_PROBE, "eigen"): "hessian_eigenvalue hessian_residual",
        TRAJECTORY_PROBE: (
            "hessian_trace hessian_trace_stderr batch_sharpness batch_sharpness_stderr "
            "noise_operator_norm noise_operator_norm_residual noise_trace noise_alignment "
            "noise_effective_rank"
        ),
    },
    "bounds": {
        BOUND: (
            "value log_value assumption_violated vacuous generalization_gap "
            "generalization_gap_stderr tightness"
        ),
        ("bound",): "holds_with_probability",
        ("bound", "term"): "log_gap_term",
        TRAJECTORY_PROBE: "zero_one_gap zero_one_gap_stderr reached",
        LAYER: (
            "spectral_norm_low spectral_norm_high frobenius_norm distance_from_reference "
            "distance_from_start"
        ),
        (): "certificate_radius margin",
        (*BOUND, "factor"): "log_factor",
        (*TRAJECTORY_PROBE, "ingredient"): "measured",
        ("trajectory",): "stopped_step",
        ("trajectory", "bound", "change"): "log_ratio_after",
        ("probe", "expectation"): "expected_gap_bound expected_gap_bound_stderr",
        ("probe",): "mean_gap mean_gap_stderr",
    },
    "dynamics": {
        ("process", "trajectory", "step"): "loss gradient_norm test_error_rate",
        ("process", "trajectory", "step", "coordinate"): "position",
        ("process", "step"): "time mean_loss mean_loss_stderr survival",
        ("process", "trajectory"): "status diverged_step escape_step late_loss",
        ("process", "member", "probe", "rank"): "hessian_eigenvalue hessian_residual",
        ("process", "member", "probe"): "hessian_trace hessian_trace_stderr noise_kurtosis",
        ("process", "probe"): (
            "sde_gauge variance_ratio mean_square_gauge mean_square_gauge_sde sde_valid"
        ),
        ("process",): (
            "mean_escape_time mean_escape_time_low mean_escape_time_high kramers_time "
            "exact_escape_time corrected_escape_time"
        ),
    },
    "exits": {
        ("case", "trajectory"): (
            "status entry_step exit_step switch_step hops diverged_step basin occupancy "
            "max_distance gap gap_stderr"
        ),
        ("case", "trajectory", "coordinate"): "final_position quenched_position",
        ("case", "look"): (
            "look_step stay_probability stay_probability_low stay_probability_high "
            "exact_stay_probability second_moment_stay_bound"
        ),
        ("case", "evidence", "theory", "look"): "log_exit_bound",
        ("case", "evidence"): "assumption_violated",
        ("case", "evidence", "constant"): (
            "constant_value constant_low constant_high constant_sample_size"
        ),
        ("case",): EXITS_BY_CASE,
        ("case", "bound"): "log_gap_bound holds_with_probability",
        ("case", "bound", "term"): "log_gap_term",
        ("case", "shell"): "shell_radius",
        ("case", "condition", "shell"): "convexity_ratio_minimum convexity_violation_fraction_high",
    },
    "edge": {
        ("process", "trajectory", "step"): (
            "loss gradient_norm test_error_rate test_loss sharpness sharpness_residual "
            "sharpness_error midpoint_sharpness preconditioned_sharpness batch_sharpness "
            "batch_sharpness_stderr gradient_noise_interaction "
            "gradient_noise_interaction_stderr hessian_trace hessian_trace_stderr "
            "smallest_eigenvalue smallest_residual gauss_newton_sharpness gauss_newton_residual "
            "fisher_sharpness fisher_residual noise_eigenvalue noise_residual noise_trace "
            "further_products "
            "critical_sharpness critical_sharpness_low critical_sharpness_high "
            "sharpening sharpening_slope gradient_alignment noise_alignment noise_cosine "
            "noise_cosine_stderr predicted_loss threshold products batches state "
            "distance distance_stderr"
        ),
        ("process", "trajectory", "step", "rank"): "hessian_eigenvalue hessian_residual",
        ("process", "trajectory", "step", "block"): "block_sharpness block_residual",
        ("process", "trajectory", "step", "draw", "node"): "density_node density_weight",
        ("process", "trajectory", "step", "bucket"): "sketch",
        ("process", "step"): "time step_size",
        ("process", "trajectory"): (
            "status final_state reason diverged_step entry_step entry_low entry_high "
            "break_even_step break_even_sharpness late_ratio late_ratio_stderr "
            "late_raw_ratio late_batch_ratio late_batch_ratio_stderr maximum_ratio "
            "late_loss"
        ),
        ("process",): "operator",
    },
    "claims": {("claim",): "measured expected_low expected_high holds"},
}
FLAGS = {
    "status",
    "inside",
    "exited",
    "assumption_violated",
    "vacuous",
    "holds",
    "sde_valid",
    "delta_star_bounded",
    "positive",
    "reached",
    "state",
    "final_state",
    "reason",
    "operator",
}
INTEGERS = {
    "entry_low",
    "entry_high",
    "break_even_step",
    "products",
    "further_products",
    "batches",
    "entry_step",
    "exit_step",
    "switch_step",
    "diverged_step",
    "escape_step",
    "look_step",
    "convexity_sample_size",
    "constant_sample_size",
    "hops",
    "steps",
    "width",
    "exit_count",
    "basin",
    "basins",
    "parameters",
    "stopped_step",
}
REAL = {
    "loss",
    "test_risk",
    "error_rate",
    "test_error_rate",
    "gradient_norm",
    "distance",
    "position",
    "gradient_square",
    "covariance_trace",
    "deviation",
    "pair_square",
}


def test_variables_and_dims_are_those_of_the_contract():
    table = {(spec.group, spec.name): spec.dims for spec in VARIABLES}
    written = {
        (group, name): dims
        for group, by_dims in CONTRACT.items()
        for dims, names in by_dims.items()
        for name in names.split()
    }
    assert table == written
    assert len(table) == len(VARIABLES)
    assert {"/", *(group for groups in GROUPS.values() for group in groups)} == set(CONTRACT)


@pytest.mark.parametrize("spec", VARIABLES, ids=lambda spec: spec.path)
def test_every_variable_is_described(spec):
    assert len(spec.long_name) > 5
    assert spec.units in {"1", "nat", "step"}
    if spec.name == "details":
        assert spec.dtype == "str"
        return
    expected = "int8" if spec.name in FLAGS else "int32" if spec.name in INTEGERS else "float64"
    real = spec.name in REAL or spec.path == "trajectory/distance_from_start"
    if spec.group == "edge":  # which also holds runs made elsewhere, of any precision
        real, expected = False, "float32" if spec.name == "sketch" else expected
    assert spec.dtype == ("real" if real else expected)
    assert bool(spec.flag_meanings) == (spec.name in FLAGS)


def test_some_variables_belong_to_one_study_alone():
    """Both studies have the groups ``trajectory`` and ``bounds``, not all variables of them."""
    of_stagnation, of_bounds = (
        {spec.path for spec in variables_in(study)} for study in ("stagnation", "bounds")
    )
    assert {"trajectory/distance", "bounds/log_gap_term"} <= of_stagnation - of_bounds
    assert {"trajectory/distance_from_start", "bounds/log_factor"} <= of_bounds - of_stagnation
    assert {"trajectory/loss", "bounds/value"} <= of_bounds & of_stagnation
    dims = {study: {spec.dim for spec in coordinates_in(study)} for study in GROUPS}
    assert "factor" in dims["bounds"] - dims["stagnation"]
    assert "term" in dims["stagnation"] - dims["bounds"]


def test_factors_are_those_of_the_bounds():
    assert FIXED_LABELS["factor"] == FACTORS


def test_coordinates_cover_every_dimension_of_every_group():
    for group in CONTRACT:
        used = {dim for spec in variables_of(group).values() for dim in spec.dims}
        assert {spec.name for spec in coordinates_of(group)} >= used
    assert all(len(spec.long_name) > 5 for spec in COORDINATES)


def test_flags_follow_cf():
    for spec in VARIABLES:
        if spec.flag_meanings:
            attrs = spec.attributes()
            meanings = str(attrs["flag_meanings"]).split()
            values = np.asarray(attrs["flag_values"])
            assert len(meanings) == len(values)
            assert all(re.fullmatch(r"\w+", word) for word in meanings)
            # The fill value has a meaning too, and "no" is 0, "yes" is 1.
            assert spec.fill in values
            assert dict(zip(meanings, values, strict=True)).get("yes", 1) == 1
