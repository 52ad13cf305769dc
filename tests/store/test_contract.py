"""The table of variables, against the contract as it is written down in the design."""

import re

import numpy as np
import pytest

from sgdsim.store import COORDINATES, GROUPS, VARIABLES, coordinates_of, variables_of

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
            "loss test_risk error_rate test_error_rate gradient_norm distance inside"
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
        TRAJECTORY_PROBE: "zero_one_gap zero_one_gap_stderr",
        LAYER: "spectral_norm_low spectral_norm_high frobenius_norm distance_from_reference",
        (): "certificate_radius margin",
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
}
INTEGERS = {
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
}
REAL = {
    "loss",
    "test_risk",
    "error_rate",
    "test_error_rate",
    "gradient_norm",
    "distance",
    "position",
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
    assert spec.dtype == ("real" if spec.name in REAL else expected)
    assert bool(spec.flag_meanings) == (spec.name in FLAGS)


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
