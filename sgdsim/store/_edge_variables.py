"""The dataset contract: variables of the edge study, sharpness against its threshold."""

from sgdsim.store._specs import VariableSpec, flag, variables

#: States of a run at the edge of stability; the codes are those of ``sgdsim.stability``.
EDGE_STATES = (
    "not_judged",
    "lazy",
    "catapult",
    "progressive_sharpening",
    "at_the_edge",
    "above_the_edge",
    "below_the_edge",
    "collapsed",
    "not_reached",
)
#: Which operator a threshold is compared with.
EDGE_OPERATORS = ("none", "hessian", "preconditioned_hessian", "batch_hessian")
#: Why a run never came to the edge.
EDGE_REASONS = (
    "none",
    "loss_near_zero",
    "still_sharpening",
    "levelled_off",
    "diverged",
    "too_short",
    "no_edge",
    "falling",
    "left_edge",
    "one_phase",
    "not_measured",
)
_PROCESS_STATUS = ("running", "finished", "diverged")
_ALONG = ("process", "trajectory", "step")

#: Variables of the group ``edge``.
EDGE: tuple[VariableSpec, ...] = (
    *variables(
        "edge",
        _ALONG,
        "float64",
        ("loss", "penalised empirical risk, or height of the landscape", "nat", "L_n(theta)"),
        ("gradient_norm", "norm of the empirical gradient", "1", "|grad L_n(theta)|"),
        ("test_loss", "loss on held-out rows", "nat"),
        ("test_error_rate", "share of held-out rows classified wrongly"),
        ("sharpness", "largest Hessian eigenvalue", "1", "lambda_max(H)"),
        ("sharpness_residual", "residual of its eigenpair", "1", "|H v - lambda v|"),
        ("sharpness_error", "estimated error of the sharpness", "1", "min(r, r^2 / gap)"),
        (
            "midpoint_sharpness",
            "largest Hessian eigenvalue between two oscillations",
            "1",
            "lambda_max(H) at (theta_{k-2} + 2 theta_{k-1} + theta_k)/4",
        ),
        (
            "preconditioned_sharpness",
            "largest eigenvalue of the preconditioned Hessian",
            "1",
            "lambda_max(P^-1/2 H P^-1/2)",
        ),
        (
            "batch_sharpness",
            "mean curvature along the gradient of a batch",
            "1",
            "E[g_B' H_B g_B / |g_B|^2]",
        ),
        ("batch_sharpness_stderr", "standard error of the batch sharpness"),
        (
            "gradient_noise_interaction",
            "curvature along the gradients of batches, ratio of means",
            "1",
            "E[g_B' H_B g_B] / E[|g_B|^2]",
        ),
        ("gradient_noise_interaction_stderr", "standard error of the ratio of means"),
        ("hessian_trace", "trace of the Hessian", "1", "tr H"),
        ("hessian_trace_stderr", "standard error of the trace"),
        ("smallest_eigenvalue", "smallest Hessian eigenvalue", "1", "lambda_min(H)"),
        ("smallest_residual", "residual of its eigenpair", "1", "|H v - lambda v|"),
        ("gauss_newton_sharpness", "largest eigenvalue of the Gauss-Newton matrix"),
        ("gauss_newton_residual", "residual of its eigenpair", "1", "|G v - lambda v|"),
        (
            "fisher_sharpness",
            "largest eigenvalue of the Fisher matrix, without the ridge",
            "1",
            "lambda_max(F), F = mean of J_i' E_y[grad l grad l'] J_i over rows",
        ),
        ("fisher_residual", "residual of its eigenpair", "1", "|F v - lambda v|"),
        (
            "noise_eigenvalue",
            "largest eigenvalue of the covariance of the gradients of single rows",
            "1",
            "lambda_max(C)",
        ),
        ("noise_residual", "residual of its eigenpair", "1", "|C v - lambda v|"),
        (
            "noise_trace",
            "trace of the covariance of the gradients of single rows, exact",
            "1",
            "tr C = mean of |g_i - g|^2 over rows",
        ),
        (
            "critical_sharpness",
            "two over the smallest step along the gradient that raises the loss",
            "1",
            "2 / min{eta: L(theta - eta g) > L(theta)}",
        ),
        ("critical_sharpness_low", "lower end of its bracket"),
        ("critical_sharpness_high", "upper end of its bracket"),
        (
            "sharpening",
            "progressive sharpening, alpha of self-stabilisation",
            "1",
            "-grad L . grad S_perp",
        ),
        ("sharpening_slope", "beta of self-stabilisation", "1", "|grad S_perp|^2"),
        (
            "gradient_alignment",
            "share of the squared gradient along the top eigenvectors",
            "1",
            "sum_i (v_i . g)^2 / |g|^2",
        ),
        (
            "noise_alignment",
            "share of the noise variance along the top eigenvectors",
            "1",
            "sum_i v_i' C v_i / tr C",
        ),
        ("noise_cosine", "cosine between Hessian and noise", "1", "tr(HC) / (|H|_F |C|_F)"),
        ("noise_cosine_stderr", "standard error of the cosine"),
        (
            "predicted_loss",
            "loss averaged over the oscillations that a flow predicts",
            "nat",
            "L_n(w) + tr(H Sigma)/2",
        ),
        ("threshold", "edge of stability of the process"),
    ),
    *variables(
        "edge",
        _ALONG,
        "int32",
        ("products", "Hessian products that the sharpnesses of the record took"),
        ("batches", "batches, each with one Hessian product, for the batch sharpness"),
        (
            "further_products",
            "matrix-vector products of the eigenvalues, densities and alignments that the scenario "
            "names in curvature.also; third derivatives, forward passes and gradients of rows are "
            "none",
        ),
    ),
    flag("edge", "state", _ALONG, "what the run is doing", EDGE_STATES, 0),
    *variables(
        "edge",
        (*_ALONG, "rank"),
        "float64",
        ("hessian_eigenvalue", "largest Hessian eigenvalues"),
        ("hessian_residual", "residual of the eigenpair", "1", "|H v - lambda v|"),
    ),
    *variables(
        "edge",
        (*_ALONG, "block"),
        "float64",
        (
            "block_sharpness",
            "largest Hessian eigenvalue of one parameter array, the others held fixed",
            "1",
            "lambda_max(S H S), S selects the array",
        ),
        ("block_residual", "residual of its eigenpair", "1", "|S H S v - lambda v|"),
    ),
    *variables(
        "edge",
        (*_ALONG, "draw", "node"),
        "float64",
        (
            "density_node",
            "node of the quadrature of the density of Hessian eigenvalues; NaN: one too many",
            "1",
            "sum_k w_k f(x_k) ~ tr f(H) / p",
            "Ubaru, Chen and Saad 2017",
        ),
        ("density_weight", "weight of the node, of sum one; 0 where there is no node"),
    ),
    *variables(
        "edge",
        (*_ALONG, "bucket"),
        "float32",
        ("sketch", "random projection of the parameters, by which distances are estimated"),
    ),
    *variables(
        "edge",
        _ALONG,
        "float64",
        ("distance", "distance from the trajectory of the first process", "1", "|theta - theta'|"),
        ("distance_stderr", "standard error of the distance, from the random projection"),
    ),
    *variables(
        "edge",
        ("process", "step"),
        "float64",
        ("time", "time of the step", "1", "sum_{j < k} eta_j"),
        ("step_size", "learning rate of the step", "1", "eta_k"),
    ),
    flag(
        "edge", "status", ("process", "trajectory"), "state of the trajectory", _PROCESS_STATUS, 0
    ),
    flag("edge", "final_state", ("process", "trajectory"), "state at the end", EDGE_STATES, 0),
    flag(
        "edge",
        "reason",
        ("process", "trajectory"),
        "why the edge was not reached or not judged",
        EDGE_REASONS,
        0,
    ),
    flag(
        "edge",
        "operator",
        ("process",),
        "operator whose largest eigenvalue, or whose curvature along gradients, has the threshold",
        EDGE_OPERATORS,
        0,
    ),
    *variables(
        "edge",
        ("process", "trajectory"),
        "int32",
        ("diverged_step", "first step at which the iterate was not finite; -1: never", "step"),
        ("entry_step", "first recorded step at the edge; -1: never", "step"),
        ("entry_low", "last recorded step before the edge for sure; -1: never", "step"),
        ("entry_high", "first recorded step at the edge for sure; -1: never", "step"),
        (
            "break_even_step",
            "first step at which the growth of the sharpness stops; -1: never",
            "step",
            "",
            "Jastrzebski et al. 2020",
        ),
    ),
    *variables(
        "edge",
        ("process", "trajectory"),
        "float64",
        ("break_even_sharpness", "sharpness at the break-even point"),
        (
            "late_ratio",
            "sharpness over threshold, where possible between oscillations, mean over last quarter",
        ),
        ("late_ratio_stderr", "standard error of that mean"),
        ("late_raw_ratio", "sharpness at the iterates over threshold, mean over the last quarter"),
        ("late_batch_ratio", "batch sharpness over 2/eta, mean over the last quarter"),
        ("late_batch_ratio_stderr", "standard error of that mean"),
        ("maximum_ratio", "largest recorded sharpness over threshold"),
        ("late_loss", "loss averaged over the last quarter", "nat"),
    ),
)
