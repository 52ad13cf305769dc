"""The dataset contract: what the stagnation study measures at probes, curvature and bounds."""

from sgdsim.store._specs import flag, variables

_THEORY = "stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project)"

#: Variables of the group ``curvature``.
CURVATURE = (
    *variables(
        "curvature",
        (),
        "float64",
        ("minimum_gradient_norm", "norm of the empirical gradient at the empirical minimum"),
        (
            "reference_minimum_gradient_norm",
            "norm of the reference gradient at the reference minimum",
        ),
        ("threshold", "sharpness above which gradient descent is unstable", "1", "2 / eta"),
        ("minimum_distance", "distance between the empirical and the reference minimum"),
    ),
    *variables(
        "curvature",
        ("eigen",),
        "float64",
        ("minimum_hessian_eigenvalue", "extreme Hessian eigenvalue at the empirical minimum"),
        ("minimum_hessian_residual", "residual of that eigenpair", "1", "|H v - lambda v|"),
    ),
    *variables(
        "curvature",
        ("trajectory", "probe", "eigen"),
        "float64",
        ("hessian_eigenvalue", "extreme Hessian eigenvalue at the iterate"),
        ("hessian_residual", "residual of that eigenpair", "1", "|H v - lambda v|"),
    ),
    *variables(
        "curvature",
        ("trajectory", "probe"),
        "float64",
        ("hessian_trace", "trace of the Hessian", "1", "tr H"),
        ("hessian_trace_stderr", "standard error of the trace"),
        (
            "batch_sharpness",
            "sharpness along minibatch gradients",
            "1",
            "E[g_B^T H_B g_B / |g_B|^2]",
            "Andreyev and Beneventano 2024",
        ),
        ("batch_sharpness_stderr", "standard error of the batch sharpness"),
        ("noise_operator_norm", "noise variance of one step in one direction", "1", "|Sigma|_op"),
        ("noise_operator_norm_residual", "residual of that eigenpair"),
        ("noise_trace", "total noise variance of one step", "1", "tr Sigma"),
        (
            "noise_alignment",
            "share of the gradient noise along the sharpest direction",
            "1",
            "v_1^T Sigma v_1 / tr Sigma",
        ),
        ("noise_effective_rank", "effective rank of the noise", "1", "tr Sigma / |Sigma|_op"),
    ),
    *variables(
        "curvature",
        ("probe",),
        "float64",
        (
            "participation_ratio",
            "effective dimension of the iterates over trajectories, corrected for their number",
            "1",
            "(tr S)^2 / tr S^2, S = Cov(theta)",
            "Himeno and Yamada 2014 (estimates)",
        ),
        ("participation_ratio_low", "lower confidence limit of the participation ratio"),
        ("participation_ratio_high", "upper confidence limit of the participation ratio"),
        (
            "top_space_energy",
            "share of the squared displacement in the top Hessian eigenspace at the minimum",
            "1",
            "sum_i |P u_i|^2 / sum_i |u_i|^2",
        ),
        ("top_space_energy_stderr", "standard error of that share over trajectories"),
    ),
    *variables(
        "curvature",
        (),
        "float64",
        ("top_space_energy_null", "that share for isotropic displacements", "1", "r / p"),
        (
            "hessian_noise_overlap",
            "mean squared cosine between the top Hessian and noise eigenspaces at the minimum",
            "1",
            "|A B^T|_F^2 / r",
        ),
        ("hessian_noise_overlap_null", "that overlap for a random subspace", "1", "r / p"),
        ("hessian_noise_angle", "largest principal angle between them, in radians"),
    ),
    *variables("curvature", (), "int32", ("parameters", "number of parameters", "1", "p")),
)

#: Variables of the group ``bounds``.
BOUNDS = (
    *variables(
        "bounds",
        ("trajectory", "probe", "bound"),
        "float64",
        ("value", "value of the bound or measure"),
        ("log_value", "logarithm of the value", "nat", "log value"),
        ("generalization_gap", "measured gap in the loss of the bound", "1", "L - L_n"),
        ("generalization_gap_stderr", "standard error of the measured gap"),
        ("tightness", "value over measured gap", "1", "value / gap"),
    ),
    flag(
        "bounds",
        "assumption_violated",
        ("trajectory", "probe", "bound"),
        "is an assumption of the bound violated (then value is NaN)",
    ),
    flag(
        "bounds",
        "vacuous",
        ("trajectory", "probe", "bound"),
        "is the value larger than the range of the loss",
    ),
    *variables(
        "bounds",
        ("bound",),
        "float64",
        ("holds_with_probability", "probability with which the certificate holds"),
    ),
    *variables(
        "bounds",
        ("bound", "term"),
        "float64",
        (
            "log_gap_term",
            "log of a term of G1, G2 or G3 at the certificate radius",
            "nat",
            "",
            _THEORY,
        ),
    ),
    *variables(
        "bounds",
        ("trajectory", "probe"),
        "float64",
        ("zero_one_gap", "measured gap of the error rate"),
        ("zero_one_gap_stderr", "standard error of that gap"),
    ),
    *variables(
        "bounds",
        ("trajectory", "probe", "layer"),
        "float64",
        ("spectral_norm_low", "lower limit of the spectral norm of the layer"),
        ("spectral_norm_high", "upper limit of the spectral norm of the layer"),
        ("frobenius_norm", "Frobenius norm of the layer"),
        ("distance_from_reference", "Frobenius distance of the layer from the reference minimum"),
    ),
    *variables(
        "bounds",
        (),
        "float64",
        ("certificate_radius", "radius around the reference minimum that the certificates cover"),
        ("margin", "margin gamma at which the ramp loss reaches zero"),
    ),
)
