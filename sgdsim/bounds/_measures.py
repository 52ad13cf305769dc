"""Evaluate the measures that rank networks, by default or as published code computes them."""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from sgdsim.bounds._ingredients import check_ingredients
from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._reading import PUBLISHED_INGREDIENTS, Compat, Number, Product
from sgdsim.bounds._registry import MEASURES, lookup
from sgdsim.bounds._types import Measure, Score

_DIFFERENCES: Mapping[Compat, tuple[str, ...]] = {
    "dziugaite2020": (
        "The margin is the floor(n/10)-th smallest, so there is none for n < 10; by default it is "
        "the ceil(n/10)-th smallest.",
        "The absolute value of the margin is taken, which turns a misclassified 10th percentile "
        "into a good margin; by default measures with a negative margin are nan.",
        "The noise of the search for sigma has the standard deviation sigma^2, and in the "
        "magnitude version sigma'^2 w^2 + e^2, because a variance is passed as a standard "
        "deviation; by default they are sigma and sqrt(sigma'^2 w^2 + e^2).",
        "sigma is bisected on [0, 2] with at most 15 halvings, 10 new draws per step and the "
        "tolerance 0.01 of the drop, and is 2 where no noise suffices; by default the draws are "
        "common to all steps, the search spans ten decades around the size of the weights, has a "
        "Monte-Carlo interval, and is nan where no noise of the range suffices.",
        "Parameters, norms and distances leave biases out, while noise and path norm include "
        "them; by default the measures that perturb biases count them too, as far as "
        "'parameters', 'parameter_norm' and 'parameter_distance' are measured.",
        "Spectral norms are those of kernels reshaped to matrices (give kernel norms), and "
        "the '_fft' norms use one image size for all layers, without stride and padding; by "
        "default the norms are those that the inputs hold, of the true operators.",
    ),
    "neyshabur2018": (
        "The margin is the 5th percentile with linear interpolation; by default it is the "
        "ceil(n/20)-th smallest margin.",
        "With a negative margin the numbers are negative; by default they are nan.",
        "Spectral norms and units are those of kernels reshaped to matrices (give kernel norms), "
        "and 'input_size' is that of the image.",
    ),
}


def evaluate_measures(
    inputs: BoundInputs,
    compat: Compat | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Score]:
    r"""Evaluate every measure whose ingredients are there; a larger one predicts a larger gap.

    Parameters
    ----------
    inputs
        Norms of the iterates and, in ``measured``, what was measured on the training rows.
    compat
        ``"dziugaite2020"`` or ``"neyshabur2018"``: reproduce that published code, with its
        errors, for the measures that it has; ``compat_differences`` lists what differs.
    names
        Which measures; all that the inputs suffice for if left out.

    Returns
    -------
    dict
        Scores of shape ``(...)`` by name, in the order of ``MEASURES``; nan where a measure is not
        defined, see ``why_undefined``.

    Raises
    ------
    ValueError
        If ``measured`` has a name that is no ingredient, or a measure is asked for by name that is
        unknown, lacks an ingredient or is not in the published code.

    Notes
    -----
    Measures of a raw number ``V`` are reported as :math:`\sqrt{V/n}`, and those named ``log.*`` as
    :math:`\frac12(\ln V-\ln n)`, the step of Dziugaite et al. 2020, in both modes. The
    ``log_value`` of ``log.*`` is that value itself, so that ``log_factors`` always add up to
    ``log_value``.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import (
    ...     BoundInputs, GeometricGrid, TrainingSample, evaluate_measures, layer_norms
    ... )
    >>> inputs = BoundInputs(
    ...     iterate=layer_norms([2.0 * np.eye(3), np.ones((2, 3))]),
    ...     sample=TrainingSample(size=100, input_bound=1.0, frobenius=9.0),
    ...     margin=1.0,
    ...     failure_probability=0.05,
    ...     grid=GeometricGrid(low=1e-3, high=1e4, ratio=1.1),
    ...     measured={"margin_10": np.array(0.5)},
    ... )
    >>> for name, score in evaluate_measures(inputs, names=["params", "inverse.margin"]).items():
    ...     print(f"{name} {score.value:.3f}")
    params 0.387
    inverse.margin 0.200
    """
    _check_compat(compat)
    check_ingredients(inputs.measured or {})
    if names is None:
        chosen = [
            measure
            for measure in MEASURES.values()
            if _in_code(measure, compat) and not _missing(measure, inputs, compat)
        ]
    else:
        chosen = [_asked(name, inputs, compat) for name in names]
    return {measure.name: _recipe(measure)(inputs, compat) for measure in chosen}


def why_undefined(inputs: BoundInputs, name: str, compat: Compat | None = None) -> str:
    """Say why a measure is nan somewhere.

    Parameters
    ----------
    inputs
        Those of ``evaluate_measures``.
    name
        A measure whose ingredients are there.
    compat
        Published code that is reproduced.

    Returns
    -------
    str
        One sentence with the number of networks and what to change; empty where the measure is
        defined everywhere.

    Raises
    ------
    ValueError
        As ``evaluate_measures``.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import (
    ...     BoundInputs, GeometricGrid, TrainingSample, layer_norms, why_undefined
    ... )
    >>> inputs = BoundInputs(
    ...     iterate=layer_norms([np.eye(2)]),
    ...     sample=TrainingSample(size=100, input_bound=1.0, frobenius=9.0),
    ...     margin=1.0,
    ...     failure_probability=0.05,
    ...     grid=GeometricGrid(low=1e-3, high=1e4, ratio=1.1),
    ...     measured={"margin_10": np.array(-0.5)},
    ... )
    >>> print(why_undefined(inputs, "inverse.margin"))
    inverse.margin is nan for 1 of 1 networks: margin_10 is negative there (1 of 1), and a \
measure over the margin needs a positive one; train until 90 % of the training rows are right, or \
leave the measure out.
    """
    (score,) = evaluate_measures(inputs, compat, [name]).values()
    undefined = np.isnan(score.value)
    if not undefined.any():
        return ""
    count, size = int(undefined.sum()), undefined.size
    head = f"{name} is nan for {count} of {size} networks: "
    measured = inputs.measured or {}
    for need in _needs(MEASURES[name], compat):
        array = measured.get(need)
        if array is None:
            continue
        negative = int(np.sum(undefined & (array < 0.0)))
        if need.startswith("margin") and negative:
            share = "90 %" if need.startswith("margin_10") else "95 %"
            return (
                f"{head}{need} is negative there ({negative} of {count}), and a measure over the "
                f"margin needs a positive one; train until {share} of the training rows are right, "
                "or leave the measure out."
            )
        unknown = int(np.sum(undefined & np.isnan(array)))
        if unknown:
            return (
                f"{head}{need} is nan there ({unknown} of {count}); it could not be measured, for "
                "example because no perturbation of the range costs that much accuracy."
            )
    if not inputs.finite.all():
        return f"{head}their weights are not finite; leave diverged networks out."
    return f"{head}its raw number is negative or 0/0 there; leave the measure out."


def compat_differences(compat: Compat) -> list[str]:
    """List in what published code differs from the default, one sentence each.

    Parameters
    ----------
    compat
        ``"dziugaite2020"`` or ``"neyshabur2018"``.

    Raises
    ------
    ValueError
        If the name is another one.

    Examples
    --------
    >>> from sgdsim.bounds import compat_differences
    >>> print(compat_differences("neyshabur2018")[1])
    With a negative margin the numbers are negative; by default they are nan.
    """
    _check_compat(compat)
    return list(_DIFFERENCES[compat])


def _check_compat(compat: str | None) -> None:
    if compat is not None and compat not in get_args(Compat):
        raise ValueError(
            f"compat must be one of {', '.join(get_args(Compat))}, or left out; got {compat!r}."
        )


def _recipe(measure: Measure) -> Product | Number:
    recipe = measure.evaluate
    assert isinstance(recipe, Product | Number)
    return recipe


def _in_code(measure: Measure, compat: Compat | None) -> bool:
    return compat is None or _recipe(measure).published == compat


def _needs(measure: Measure, compat: Compat | None) -> tuple[str, ...]:
    """Ingredients that a measure reads under a convention."""
    if compat is None:
        return measure.needs
    return tuple(PUBLISHED_INGREDIENTS[compat].get(need, need) for need in measure.needs)


def _missing(measure: Measure, inputs: BoundInputs, compat: Compat | None) -> list[str]:
    return inputs.missing(_needs(measure, compat))


def _asked(name: str, inputs: BoundInputs, compat: Compat | None) -> Measure:
    """Measure of a name; it must be available."""
    lookup(name, MEASURES)
    measure = MEASURES[name]
    if not _in_code(measure, compat):
        raise ValueError(
            f"{name} is not in the code of {compat}; leave it out of names, or leave compat out."
        )
    missing = _missing(measure, inputs, compat)
    if missing:
        raise ValueError(
            f"{name} needs {', '.join(missing)}, which the inputs do not have; measure it with "
            "sgdsim.networks.measure_network, or leave the measure out."
        )
    return measure
