"""Errors of networks whose weights are drawn from a normal law around the trained ones."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from sgdsim.bounds import GibbsErrors
from sgdsim.networks._outputs import LabelledRows, Outputs, wrong_answers
from sgdsim.networks._perturbation import perturbed
from sgdsim.networks._trajectories import lead_of, map_over_networks
from sgdsim.problems import Rows


def gibbs_errors(
    outputs: Outputs,
    theta: PyTree,
    rows: Rows | LabelledRows,
    held_out: Rows | LabelledRows | None,
    deviations: Sequence[float] | Float[np.ndarray, " scale"],
    draws: int,
    key: Key[Array, ""],
    axes: int = 0,
) -> GibbsErrors:
    r"""Estimate the errors of :math:`N(\theta, s_j^2 I)` for several scales by Monte Carlo.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``; compiled once per function and shape.
    theta
        Parameters of one network, or of an array of networks along the first ``axes`` axes.
    rows
        Training rows.
    held_out
        Rows that estimate the population error; ``None`` if there are none.
    deviations
        Standard deviations :math:`s_j`, fixed before the training rows are seen.
    draws
        Independent draws of the weights for every network. The same normal numbers serve all
        scales, so errors of neighbouring scales are not independent.
    key
        Random key; every network has its own draws.
    axes
        Number of leading axes of every leaf that number networks, such as (trajectory, probe).

    Returns
    -------
    GibbsErrors
        Errors of shape ``(*lead, scale)``, float64; an output that is not finite is an error.

    Raises
    ------
    ValueError
        If there is no scale, a scale is not positive, or there is no draw.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import LabelledRows, call_network, gibbs_errors
    >>> from sgdsim.problems import Network
    >>> rows = LabelledRows(jnp.eye(2), jnp.eye(2))
    >>> network = Network((jnp.eye(2),))
    >>> found = gibbs_errors(
    ...     call_network, network, rows, None, [0.01, 10.0], 500, jax.random.key(0)
    ... )
    >>> found.training.round(1).tolist()
    [0.0, 0.5]
    """
    scales = np.asarray(deviations, np.float64)
    if scales.ndim != 1 or not scales.size or not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(
            f"deviations must be one or more positive finite numbers; got {list(deviations)}."
        )
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}.")
    lead = lead_of(theta, axes)
    sets = (rows,) if held_out is None else (rows, held_out)
    wrong = np.asarray(_wrong_answers(theta, sets, scales, key, outputs, draws, axes), np.float64)
    answers = draws * np.array([part.inputs.shape[0] for part in sets])
    errors = wrong.reshape(*lead, scales.size, len(sets)) / answers
    count = sum(leaf.size for leaf in jax.tree.leaves(theta)) // int(np.prod(lead, dtype=int))
    return GibbsErrors(
        deviations=scales,
        training=errors[..., 0],
        held_out=None if held_out is None else errors[..., 1],
        draws=draws,
        parameters=count,
    )


@functools.partial(jax.jit, static_argnames=("outputs", "draws", "axes"))
def _wrong_answers(
    theta: PyTree,
    sets: tuple[Rows | LabelledRows, ...],
    scales: Array,
    key: Array,
    outputs: Outputs,
    draws: int,
    axes: int,
) -> Array:
    """Wrong answers of all draws together (network, scale, set)."""

    def of_network(theta: PyTree, key: Array) -> Array:
        def of_draw(key: Array) -> Array:
            def of_scale(scale: Array) -> Array:
                every = jax.tree.map(lambda w: jnp.full_like(w, scale), theta)
                drawn = perturbed(theta, every, key)
                return jnp.stack([wrong_answers(outputs, drawn, part) for part in sets])

            return jax.lax.map(of_scale, scales)

        return jnp.sum(jax.lax.map(of_draw, jax.random.split(key, draws)), axis=0)

    return map_over_networks(of_network, theta, key, axes)
