"""The dataset contract: variables of the dynamics study, processes side by side."""

from sgdsim.store._specs import VariableSpec, flag, variables

_PROCESS_STATUS = ("running", "finished", "diverged")

#: Variables of the group ``dynamics``.
DYNAMICS: tuple[VariableSpec, ...] = (
    *variables(
        "dynamics",
        ("process", "trajectory", "step"),
        "real",
        ("loss", "penalised empirical risk, or height of the landscape", "nat", "L_n(theta)"),
        ("gradient_norm", "norm of the empirical gradient", "1", "|grad L_n(theta)|"),
        ("test_error_rate", "share of held-out rows classified wrongly"),
    ),
    *variables(
        "dynamics",
        ("process", "trajectory", "step", "coordinate"),
        "real",
        ("position", "parameters on a landscape", "1", "theta"),
    ),
    *variables(
        "dynamics",
        ("process", "step"),
        "float64",
        ("time", "time of the step", "1", "sum_{j < k} eta_j"),
        ("mean_loss", "loss averaged over trajectories that have not diverged", "nat"),
        ("mean_loss_stderr", "standard error of the mean loss", "nat"),
        ("survival", "share of trajectories that have not escaped"),
    ),
    flag(
        "dynamics",
        "status",
        ("process", "trajectory"),
        "state of the trajectory",
        _PROCESS_STATUS,
        0,
    ),
    *variables(
        "dynamics",
        ("process", "trajectory"),
        "int32",
        ("diverged_step", "first step at which the iterate was not finite; -1: never", "step"),
        ("escape_step", "first step beyond the level of escape; -1: never", "step"),
    ),
    *variables(
        "dynamics",
        ("process", "trajectory"),
        "float64",
        ("late_loss", "loss averaged over the recorded steps of the second half", "nat"),
    ),
    *variables(
        "dynamics",
        ("process", "member", "probe", "rank"),
        "float64",
        ("hessian_eigenvalue", "largest Hessian eigenvalues at the iterate"),
        ("hessian_residual", "residual of the eigenpair", "1", "|H v - lambda v|"),
    ),
    *variables(
        "dynamics",
        ("process", "member", "probe"),
        "float64",
        ("hessian_trace", "trace of the Hessian", "1", "tr H"),
        ("hessian_trace_stderr", "standard error of the trace"),
        (
            "noise_kurtosis",
            "excess kurtosis of the minibatch noise, largest size along the top eigenvectors",
        ),
    ),
    *variables(
        "dynamics",
        ("process", "probe"),
        "float64",
        ("sde_gauge", "gauge of the SDE, largest over members", "1", "eta lambda_max / 2"),
        (
            "variance_ratio",
            "stationary variance of the discrete process over that of the SDE",
            "1",
            "2 / (2 - eta lambda_max)",
        ),
        (
            "mean_square_gauge",
            "mean-square gauge of the discrete process; unstable from 1 on",
            "1",
            "(eta/B) sum_i lambda_i / (2 - eta lambda_i (1 + 1/B))",
        ),
        (
            "mean_square_gauge_sde",
            "mean-square gauge of the SDE; unstable from 1 on",
            "1",
            "eta tr H / (2 B)",
        ),
    ),
    flag("dynamics", "sde_valid", ("process", "probe"), "does the SDE describe the process"),
    *variables(
        "dynamics",
        ("process",),
        "float64",
        ("mean_escape_time", "exposure over number of escapes", "1", "sum_i t_i / escapes"),
        (
            "mean_escape_time_low",
            "lower limit of the mean escape time",
            "1",
            "2 E / chi2(1 - a/2; 2 D + 2)",
        ),
        (
            "mean_escape_time_high",
            "upper limit of the mean escape time",
            "1",
            "2 E / chi2(a/2; 2 D)",
        ),
        ("kramers_time", "escape time of Kramers", "1", "2 pi / sqrt(V''_m |V''_s|) e^(dV/D)"),
        (
            "exact_escape_time",
            "mean first passage time of the SDE",
            "1",
            "(1/D) int_a^b e^(V(y)/D) int_-inf^y e^(-V(z)/D) dz dy",
        ),
        (
            "corrected_escape_time",
            "mean first passage time corrected for the finite step to first order",
            "1",
            "weights e^(-V/D) of the chain to first order in h, level + 0.5826 sqrt(2 D h)",
        ),
    ),
)
