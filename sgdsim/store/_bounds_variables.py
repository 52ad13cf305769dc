"""The dataset contract: bounds and measures at probes, of the studies stagnation and bounds."""

from sgdsim.store._specs import VariableSpec, flag, only_in, variables

#: What the size of a bound is made of; their logarithms add up to that of the bound.
FACTORS = (
    "constant",
    "spectral_product",
    "frobenius_product",
    "distance",
    "path",
    "divergence",
    "margin",
    "inputs",
    "size",
    "dimension",
    "rest",
)
#: Changes of the final network under which every bound is evaluated once more.
CHANGES = ("constant_predictor", "width_doubling", "node_rescaling")

_THEORY = "stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project)"

_SHARED: tuple[VariableSpec, ...] = (
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
        ("margin", "margin gamma at which the ramp loss reaches zero"),
    ),
)

_ON_A_SET = (
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
        (),
        "float64",
        ("certificate_radius", "radius around the reference minimum that the certificates cover"),
    ),
)

_OF_TRAINING = (
    *variables(
        "bounds",
        ("trajectory", "probe", "bound", "factor"),
        "float64",
        ("log_factor", "logarithm of a factor of the value; they add up to log_value", "nat"),
    ),
    *variables(
        "bounds",
        ("trajectory", "probe", "ingredient"),
        "float64",
        ("measured", "what bounds and measures read of the network and the training rows"),
    ),
    *variables(
        "bounds",
        ("trajectory", "probe", "layer"),
        "float64",
        ("distance_from_start", "Frobenius distance of the layer from the initialisation"),
    ),
    flag(
        "bounds",
        "reached",
        ("trajectory", "probe"),
        "is the training loss at its target, so that runs can be compared",
    ),
    *variables(
        "bounds",
        ("trajectory",),
        "int32",
        ("stopped_step", "step at which the training loss reached its target; -1: never", "step"),
    ),
    *variables(
        "bounds",
        ("trajectory", "bound", "change"),
        "float64",
        (
            "log_ratio_after",
            "logarithm of the value after a change of the final network over that before",
            "nat",
        ),
    ),
    *variables(
        "bounds",
        ("probe", "expectation"),
        "float64",
        ("expected_gap_bound", "bound on the mean gap over training rows and noise"),
        ("expected_gap_bound_stderr", "standard error of that bound over trajectories"),
    ),
    *variables(
        "bounds",
        ("probe",),
        "float64",
        ("mean_gap", "gap of the error rate, mean over trajectories"),
        ("mean_gap_stderr", "standard error of that mean, held-out rows included"),
    ),
)

#: Variables of the group ``bounds``.
BOUNDS: tuple[VariableSpec, ...] = (
    *_SHARED,
    *only_in("stagnation", _ON_A_SET),
    *only_in("bounds", _OF_TRAINING),
)
