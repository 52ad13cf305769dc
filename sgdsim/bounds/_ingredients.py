"""What measures read besides norms of layers: one table of names, whoever measures them."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

_TOLERANCE = "that costs 0.1 of the training accuracy on average"

#: Meaning of the numbers in ``BoundInputs.measured``, by name, read-only.
INGREDIENTS: Mapping[str, str] = MappingProxyType(
    {
        # margins
        "margin_10": "10th percentile of the training margins, signed: the ceil(n/10)-th smallest",
        "margin_05": "5th percentile of the training margins, signed: the ceil(n/20)-th smallest",
        "margin_10_dziugaite2020": "floor(n/10)-th smallest training margin, absolute value; "
        "nan for n < 10",
        "margin_05_neyshabur2018": "5th percentile of the training margins, linear interpolation",
        # sizes
        "parameters": "number of trained numbers, biases included; the weights alone if left out",
        "input_size": "numbers in one input; the columns of the first layer if left out",
        "parameter_norm": "norm of all parameters; of the weight matrices alone if left out",
        "parameter_distance": "distance of all parameters from the initialisation; of the weight "
        "matrices alone if left out",
        # norms that LayerNorms does not hold
        "log_l3_15_product": "sum over layers of ln ||W||_{3,1.5}: 3-norm of every output row, "
        "1.5-norm over the rows",
        "path_norm_1": "sum over paths of the absolute product of the weights",
        "path_norm_2": "square root of the sum over paths of the squared product of the weights",
        "log_spectral_fft": "sum over layers of ln ||A||_2, norms of convolutions by FFT",
        "frobenius_over_spectral_fft": "sum over layers of ||W||_F^2 / ||A||_2^2, by FFT",
        "distance_over_spectral_fft": "sum over layers of ||W - W0||_F^2 / ||A||_2^2, by FFT",
        "spectral_distance_fft": "sum over layers of ||A - A0||_2^2, by FFT",
        # loss and gradients on the training rows
        "cross_entropy": "mean cross-entropy, nats",
        "output_entropy": "mean entropy of the predicted label, nats",
        "fisher_rao": "theta^T I(theta) theta, I the mean outer product of gradients of the "
        "cross-entropy",
        "gradient_noise_first_epoch": "trace of the covariance of one row's gradient after the "
        "first epoch",
        "gradient_noise_final": "trace of the covariance of one row's gradient at the end",
        "steps_to_loss_01": "steps until the training loss is 0.1",
        "steps_to_loss_001": "steps until the training loss is 0.01",
        # tolerance of perturbations
        "noise_tolerance": f"standard deviation sigma of normal noise {_TOLERANCE}",
        "noise_tolerance_low": "lower end of the 95 % Monte-Carlo interval of noise_tolerance",
        "noise_tolerance_high": "upper end of the 95 % Monte-Carlo interval of noise_tolerance",
        "magnitude_tolerance": "sigma' of normal noise of variance sigma'^2 w_i^2 + 1e-6 "
        f"{_TOLERANCE}",
        "magnitude_tolerance_low": "lower end of the interval of magnitude_tolerance",
        "magnitude_tolerance_high": "upper end of the interval of magnitude_tolerance",
        "magnitude_log_mean": "mean over parameters of ln(1e-6 + sigma'^2 (w_i - w0_i)^2)",
        "noise_tolerance_dziugaite2020": "sigma of the published search, noise of standard "
        "deviation sigma^2",
        "magnitude_tolerance_dziugaite2020": "sigma' of the published search, noise of standard "
        "deviation sigma'^2 w_i^2 + 1e-6",
        "magnitude_log_mean_dziugaite2020": "magnitude_log_mean over weights without biases, with "
        "the published sigma'",
        "ascent_tolerance": "half width alpha of the box |u_i| <= alpha in which gradient ascent "
        "costs 0.1 of the training accuracy",
        "magnitude_ascent_tolerance": "alpha' of the box |u_i| <= alpha' |w_i| + 1e-3, likewise",
        "magnitude_ascent_log_mean": "mean over parameters of ln(1e-6 + alpha'^2 (w_i - w0_i)^2)",
        "average_sharpness": "mean rise of the training loss under normal noise",
        "worst_sharpness": "largest rise of the training loss in a ball, by gradient ascent",
        # compression
        "log_compression": "ln(c^2 d^2 max ||f(x)||^2 sum_i 1/(mu_i mu_i->)^2), cushions of "
        "Arora et al. 2018",
    }
)


def check_ingredients(names: Iterable[str]) -> None:
    """Refuse a name that is not in ``INGREDIENTS``.

    Parameters
    ----------
    names
        Keys of ``BoundInputs.measured``.

    Raises
    ------
    ValueError
        With the nearest known name.

    Examples
    --------
    >>> from sgdsim.bounds import check_ingredients
    >>> check_ingredients(["margin_10", "path_norm_2"])
    """
    for name in names:
        if name not in INGREDIENTS:
            close = get_close_matches(name, INGREDIENTS, 1, cutoff=0.4)
            hint = f"Did you mean {close[0]!r}?" if close else "INGREDIENTS lists all names."
            raise ValueError(f"There is no ingredient {name!r}. {hint}")
