"""The dataset contract: one table of every variable and coordinate that a run stores."""

from sgdsim.store._dynamics_variables import DYNAMICS
from sgdsim.store._specs import CoordinateSpec, VariableSpec, flag, variables

CONVENTIONS = "sgdsim-1"

THEORIES = ("S0", "S1", "S2")
CONDITIONS = ("ESC", "WSC", "RSI", "PL", "QG")
DIRECTIONS = ("random", "noise", "top", "bottom")
EIGEN = ("largest", "smallest")

# Labels that the contract itself fixes; a writer need not give them.
FIXED_LABELS: dict[str, tuple[str, ...]] = {
    "theory": THEORIES,
    "condition": CONDITIONS,
    "direction": DIRECTIONS,
    "eigen": EIGEN,
}

COORDINATES: tuple[CoordinateSpec, ...] = (
    CoordinateSpec("trajectory", "trajectory", "int64", "number of the trajectory"),
    CoordinateSpec("step", "step", "int64", "recorded step of the algorithm", "step"),
    CoordinateSpec(
        "time",
        "step",
        "float64",
        "time of the step: learning rate times step",
        groups=("trajectory", "stagnation"),
    ),
    CoordinateSpec("probe", "probe", "int64", "step at which the iterate was probed", "step"),
    CoordinateSpec("eigen", "eigen", "str", "which end of the Hessian spectrum"),
    CoordinateSpec("theory", "theory", "str", "which lower bound on the stay probability"),
    CoordinateSpec("convexity_radius", "convexity_radius", "float64", "distance from the minimum"),
    CoordinateSpec("condition", "condition", "str", "local convexity condition"),
    CoordinateSpec("direction", "direction", "str", "family of directions"),
    CoordinateSpec("bound", "bound", "str", "name of the bound"),
    CoordinateSpec("kind", "bound", "str", "certificate, expectation or measure"),
    CoordinateSpec("layer", "layer", "int64", "number of the layer, from the input"),
    CoordinateSpec("process", "process", "str", "name of the process"),
    CoordinateSpec("learning_rate", "process", "float64", "learning rate eta of the process"),
    CoordinateSpec("member", "member", "int64", "number of a trajectory whose curvature is probed"),
    CoordinateSpec("rank", "rank", "int64", "rank of a Hessian eigenvalue, the largest is 0"),
    CoordinateSpec("coordinate", "coordinate", "int64", "number of a coordinate of theta"),
    CoordinateSpec("claim", "claim", "int64", "number of the claim in the scenario"),
    CoordinateSpec("quantity", "claim", "str", "quantity that the claim is about"),
    CoordinateSpec("text", "claim", "str", "the claim in words"),
    CoordinateSpec("source", "claim", "str", "where the claim comes from"),
)


_ROOT = (flag("/", "status", (), "state of the point", ("pending", "done", "failed"), 0),)

_TRAJECTORY = (
    *variables(
        "trajectory",
        ("trajectory", "step"),
        "real",
        ("loss", "penalised empirical risk on the training rows", "nat", "L_n(theta)"),
        ("test_risk", "cross-entropy on the held-out rows", "nat", "L(theta)"),
        ("error_rate", "share of training rows classified wrongly"),
        ("test_error_rate", "share of held-out rows classified wrongly"),
        ("gradient_norm", "norm of the empirical gradient", "1", "|grad L_n(theta)|"),
        ("distance", "distance from the minimum on the training rows", "1", "|theta - theta*|"),
    ),
    flag("trajectory", "inside", ("trajectory", "step"), "is the iterate in the stagnation set"),
    flag(
        "trajectory",
        "status",
        ("trajectory",),
        "state of the trajectory",
        ("running", "finished", "diverged"),
        0,
    ),
    *variables(
        "trajectory",
        ("trajectory",),
        "int32",
        ("diverged_step", "first step at which the iterate was not finite; -1: never", "step"),
    ),
)

_STAGNATION = (
    *variables(
        "stagnation",
        ("trajectory",),
        "int32",
        ("entry_step", "first step inside the stagnation set; -1: never", "step"),
        ("exit_step", "first step outside after entry; -1: never", "step"),
    ),
    flag("stagnation", "exited", ("trajectory",), "did the trajectory leave the stagnation set"),
    *variables(
        "stagnation",
        ("trajectory",),
        "float64",
        ("occupancy", "share of all steps spent inside the stagnation set"),
        (
            "mean_squared_distance",
            "squared distance averaged over every step of the second half",
            "1",
            "mean_k |theta_k - theta*|^2",
        ),
        ("max_distance", "largest distance over every step", "1", "max_k |theta_k - theta*|"),
    ),
    *variables(
        "stagnation",
        ("step",),
        "float64",
        ("stay_probability", "share of trajectories without an exit up to the step"),
        (
            "stay_probability_low",
            "lower Clopper-Pearson limit of the stay probability",
            "1",
            "BetaInv(a/2; x, N - x + 1)",
            "Clopper and Pearson 1934",
        ),
        (
            "stay_probability_high",
            "upper Clopper-Pearson limit of the stay probability",
            "1",
            "BetaInv(1 - a/2; x + 1, N - x)",
            "Clopper and Pearson 1934",
        ),
        (
            "linearised_mean_squared_distance",
            "mean squared distance of the linearised dynamics",
            "1",
            "tr S_k, S_{k+1} = A S_k A^T + eta^2 Sigma, A = I - eta H",
            "discrete Lyapunov equation",
        ),
        (
            "mean_squared_distance_ensemble",
            "squared distance averaged over trajectories",
            "1",
            "mean_i |theta_{i,k} - theta*|^2",
        ),
        (
            "mean_squared_distance_stderr",
            "standard error over trajectories of the mean squared distance",
        ),
    ),
    *variables(
        "stagnation",
        ("theory", "step"),
        "float64",
        (
            "stay_lower_bound",
            "lower bound on the stay probability; 0 where it says nothing",
            "1",
            "max(0, 1 - exp(log_exit_bound))",
            "stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project)",
        ),
        (
            "log_exit_bound",
            "log of the upper bound on the exit probability; vacuous when >= 0",
            "nat",
            "S2: min_{kappa, alpha} log(exp(kappa d_0^2) + k D) - kappa delta^2",
            "stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project)",
        ),
    ),
    *variables(
        "stagnation",
        (),
        "float64",
        ("radius", "radius of the stagnation set", "1", "delta"),
        (
            "contraction",
            "contraction of the distance in one step (sde: one substep), as used in S2",
            "1",
            "q",
        ),
        (
            "rsi",
            "restricted secant constant, smallest ratio over sampled and probed points",
            "1",
            "mu = min <grad L, u> / |u|^2",
            "Karimi, Nutini and Schmidt 2016",
        ),
        (
            "growth",
            "growth of the gradient, largest over sampled and probed points",
            "1",
            "beta = max |grad L| / d",
        ),
        (
            "noise_operator_norm",
            "noise variance of one step in one direction, largest over sampled and probed points",
            "1",
            "s = max |Sigma|_op",
        ),
        (
            "noise_trace",
            "total noise variance of one step, largest over sampled and probed points",
            "1",
            "tau = max tr Sigma",
        ),
        ("effective_rank", "effective rank of the noise", "1", "r = tau / s"),
        (
            "noise_operator_norm_at_minimum",
            "largest noise variance in one direction at the minimum",
            "1",
            "|Sigma(theta*)|_op",
        ),
        (
            "noise_trace_at_minimum",
            "total noise variance at the minimum",
            "1",
            "tr Sigma(theta*)",
        ),
        (
            "gradient_deviation",
            "eps_n used in S2: 0, because the set surrounds the minimum of L_n itself",
            "1",
            "eps_n",
        ),
        (
            "hessian_deviation",
            "omega_n used in S2: 0, because the set surrounds the minimum of L_n itself",
            "1",
            "omega_n",
        ),
        ("start_distance", "distance at the start", "1", "d_0"),
    ),
    *variables(
        "stagnation",
        ("condition", "convexity_radius"),
        "float64",
        ("convexity_ratio_minimum", "smallest convexity ratio sampled"),
        ("convexity_ratio_quantile_01", "1 % quantile of the convexity ratio"),
        ("convexity_ratio_quantile_05", "5 % quantile of the convexity ratio"),
        ("convexity_ratio_quantile_50", "median of the convexity ratio"),
        ("convexity_violation_fraction", "share of samples with a ratio <= 0"),
        (
            "convexity_violation_fraction_high",
            "upper Clopper-Pearson limit of the share of samples with a ratio <= 0",
        ),
    ),
    *variables(
        "stagnation",
        ("condition", "convexity_radius"),
        "int32",
        ("convexity_sample_size", "number of ratios sampled"),
    ),
    *variables(
        "stagnation",
        ("condition", "direction", "convexity_radius"),
        "float64",
        ("convexity_ratio_by_direction", "smallest convexity ratio in a family of directions"),
    ),
)

_CURVATURE = (
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
    ),
)

_BOUNDS = (
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

_CLAIMS = (
    *variables(
        "claims",
        ("claim",),
        "float64",
        ("measured", "measured value of the quantity"),
        ("expected_low", "smallest value that the claim allows; -inf: open"),
        ("expected_high", "largest value that the claim allows; inf: open"),
    ),
    flag("claims", "holds", ("claim",), "does the claim hold"),
)

VARIABLES: tuple[VariableSpec, ...] = (
    *_ROOT,
    *_TRAJECTORY,
    *_STAGNATION,
    *_CURVATURE,
    *_BOUNDS,
    *DYNAMICS,
    *_CLAIMS,
)

#: Groups of a run, by the study that its scenario asks for.
GROUPS: dict[str, tuple[str, ...]] = {
    "stagnation": ("trajectory", "stagnation", "curvature", "bounds", "claims"),
    "dynamics": ("dynamics", "claims"),
}


def variables_in(study: str) -> tuple[VariableSpec, ...]:
    """Specs of every variable of a study, those of the root included."""
    groups = {"/", *GROUPS[study]}
    return tuple(spec for spec in VARIABLES if spec.group in groups)


def coordinates_in(study: str) -> tuple[CoordinateSpec, ...]:
    """Coordinates that the groups of a study use."""
    used = {spec for group in GROUPS[study] for spec in coordinates_of(group)}
    return tuple(spec for spec in COORDINATES if spec in used)


def variables_of(group: str) -> dict[str, VariableSpec]:
    """Specs of one group by name; empty for a group that the contract does not know."""
    return {spec.name: spec for spec in VARIABLES if spec.group == group}


def coordinates_of(group: str) -> tuple[CoordinateSpec, ...]:
    """Coordinates of the dimensions that the variables of one group use."""
    dims = {dim for spec in variables_of(group).values() for dim in spec.dims}
    return tuple(
        spec for spec in COORDINATES if spec.dim in dims and group in (spec.groups or (group,))
    )
