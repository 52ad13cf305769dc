"""The dataset contract: the curvature that the stagnation study measures at probes."""

from sgdsim.store._specs import variables

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
