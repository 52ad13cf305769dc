"""The dataset contract: variables of the stagnation study."""

from sgdsim.store._bounds_variables import BOUNDS
from sgdsim.store._curvature_variables import CURVATURE
from sgdsim.store._specs import VariableSpec, flag, only_in, variables

_THEORY = "stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project)"
_S2 = "S2: min_{kappa, alpha} log(exp(kappa d_0^2) + k D) - kappa delta^2"

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
    ),
    *only_in(
        "stagnation",
        (
            *variables(
                "trajectory",
                ("trajectory", "step"),
                "real",
                (
                    "distance",
                    "distance from the minimum on the training rows",
                    "1",
                    "|theta - theta*|",
                ),
            ),
            flag(
                "trajectory",
                "inside",
                ("trajectory", "step"),
                "is the iterate in the stagnation set",
            ),
        ),
    ),
    *only_in(
        "bounds",
        variables(
            "trajectory",
            ("trajectory", "step"),
            "real",
            ("distance_from_start", "distance from the initialisation", "1", "|theta - theta_0|"),
            ("gradient_square", "squared norm of the full gradient", "1", "|grad L_n|^2"),
            (
                "covariance_trace",
                "spread of the gradients of the rows",
                "1",
                "tr C_n = (1/n) sum_i |g_i - grad L_n|^2",
            ),
            (
                "deviation",
                "squared distance of the full gradient from that of the population",
                "1",
                "|grad L_n - grad L|^2",
            ),
            (
                "pair_square",
                "squared difference of the gradients of a row and its ghost, mean over rows",
                "1",
                "(1/n) sum_i |g_i - g_i'|^2",
            ),
        ),
    ),
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
        (
            "nearest_minimum_distance",
            "distance of the final iterate from the nearest minimum; NaN: not quenched",
            "1",
            "|theta - p(theta)|",
        ),
        (
            "symmetry_distance",
            "distance of the final iterate from the minimum, symmetries of the network removed",
        ),
    ),
    *variables(
        "stagnation",
        ("trajectory",),
        "int32",
        ("basin", "basin in which the final iterate lies, by its quench; -1: not quenched"),
    ),
    *variables(
        "stagnation",
        (),
        "int32",
        ("basins", "number of basins that the quenches found; -1: none quenched"),
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
            "lower bound on the stay probability if the sampled constants are true; 0: none",
            "1",
            "max(0, 1 - exp(log_exit_bound))",
            _THEORY,
        ),
        (
            "log_exit_bound",
            "log of the plug-in upper bound on the exit probability; vacuous when >= 0",
            "nat",
            _S2,
            _THEORY,
        ),
        (
            "certified_stay_lower_bound",
            "lower bound on the stay probability with proved constants; 0 where it says nothing",
            "1",
            "max(0, 1 - exp(certified_log_exit_bound))",
            _THEORY,
        ),
        (
            "certified_log_exit_bound",
            "log of the certified upper bound on the exit probability; vacuous when >= 0",
            "nat",
            _S2,
            _THEORY,
        ),
    ),
    *variables(
        "stagnation",
        ("evidence", "constant"),
        "float64",
        ("constant_value", "constant of the exit bounds"),
        ("constant_low", "lower end of its interval; the value itself if proved"),
        ("constant_high", "upper end of its interval; the value itself if proved"),
    ),
    *variables(
        "stagnation",
        ("evidence", "constant"),
        "int32",
        ("constant_sample_size", "points behind the constant; 0: proved; -1: not available"),
    ),
    flag(
        "stagnation",
        "assumption_violated",
        ("evidence",),
        "is an assumption of the exit bounds violated (then they are NaN)",
    ),
    *variables(
        "stagnation",
        ("evidence",),
        "float64",
        (
            "mean_exit_time_bound",
            "lower bound on the mean exit time",
            "1",
            "eta max_{kappa, alpha} (1 - A)^2 / (2 A')",
            _THEORY,
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
        (
            "certified_radius",
            "smallest radius at which the certificate S2 promises failure_probability",
            "1",
            "min {delta: S2(delta) <= p}",
            _THEORY,
        ),
        (
            "delta_star",
            "largest sampled radius up to which every restricted secant ratio is positive",
            "1",
            "max {rho: <grad L, u> > 0 for 0 < |u| <= rho}",
            _THEORY,
        ),
        (
            "stationary_radius",
            "root mean squared distance in the stationary state, for small steps",
            "1",
            "sqrt(eta tau / (2 mu))",
            _THEORY,
        ),
        (
            "stagnation_number",
            "delta_star over the stationary radius; a regime of stagnation needs more than 1",
            "1",
            "delta* / sqrt(R)",
            _THEORY,
        ),
        (
            "unseen_basins",
            "probability of a basin that no quench has found",
            "1",
            "basins seen once / quenches",
            "Good 1953",
        ),
    ),
    flag("stagnation", "delta_star_bounded", (), "was a violation found beyond delta_star"),
    *variables(
        "stagnation",
        ("condition", "shell"),
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
        ("condition", "shell"),
        "int32",
        ("convexity_sample_size", "number of ratios sampled"),
    ),
    *variables(
        "stagnation",
        ("condition", "direction", "shell"),
        "float64",
        ("convexity_ratio_by_direction", "smallest convexity ratio in a family of directions"),
    ),
)

#: Variables of the groups ``trajectory``, ``stagnation``, ``curvature`` and ``bounds``.
STAGNATION: tuple[VariableSpec, ...] = (*_TRAJECTORY, *_STAGNATION, *CURVATURE, *BOUNDS)
