r"""Cushions of the layers of a fully connected network: how well it can be compressed.

With :math:`x^i=A_i\phi(x^{i-1})`, :math:`\phi(x^0)` the input and :math:`J^{i,j}` the Jacobian of
:math:`x^j` in :math:`x^i`, all extremes over the rows,

.. math::
    \mu_i=\min_x\frac{\|A_i\phi(x^{i-1})\|}{\|A_i\|_F\|\phi(x^{i-1})\|},\qquad
    \mu_{i\to}=\min\Big(\frac1{\sqrt{h_i}},\;
        \min_{j>i}\min_x\frac{\|J^{i,j}x^i\|}{\|J^{i,j}\|_F\|x^i\|}\Big),\qquad
    c=\max_{i<d,\,x}\frac{\|x^i\|}{\|\phi(x^i)\|} .
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sgdsim.networks._outputs import LabelledRows
from sgdsim.problems import ACTIVATIONS, Network, Rows

# Rows whose Jacobians are in memory at once.
_BLOCK = 50


def log_compression(network: Network, rows: Rows | LabelledRows) -> Float[Array, ""]:
    r"""Logarithm of :math:`c^2d^2\max_x\|f(x)\|^2\sum_i(\mu_i\mu_{i\to})^{-2}`.

    Parameters
    ----------
    network
        Fully connected network of ``d`` layers.
    rows
        Training rows.

    Returns
    -------
    array
        A scalar; infinite where all units of a layer are dead for some row.

    Notes
    -----
    The numerator of the bound of Arora et al. 2018, arXiv:1802.05296, Theorem 4.1. The condition
    of the theorem on the interlayer smoothness is not checked.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import LabelledRows, log_compression
    >>> from sgdsim.problems import Network
    >>> rows = LabelledRows(jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0]]))
    >>> value = log_compression(Network((jnp.eye(2),)), rows)  # c = d = 1, mu^2 = 1/2 each
    >>> print(f"{jnp.exp(value):.1f}")
    100.0
    """
    layers = len(network.weights)
    extremes = jax.lax.map(
        lambda row: _row_extremes(network, row),
        jnp.asarray(rows.inputs),
        batch_size=min(_BLOCK, rows.inputs.shape[0]),
    )
    cushion, interlayer, contraction, output = extremes
    inverse = -2.0 * (jnp.log(jnp.min(cushion, axis=0)) + jnp.log(jnp.min(interlayer, axis=0)))
    total = (
        2.0 * jnp.log(jnp.max(contraction))
        + 2.0 * jnp.log(float(layers))
        + 2.0 * jnp.log(jnp.max(output))
        + jax.nn.logsumexp(inverse)
    )
    return jnp.where(jnp.isposinf(jnp.max(contraction)), jnp.inf, total)


def _row_extremes(
    network: Network, row: Float[Array, " features"]
) -> tuple[Float[Array, " layer"], Float[Array, " layer"], Float[Array, ""], Float[Array, ""]]:
    """Cushions, smallest interlayer cushions, contraction and size of the output of one row."""
    activation = ACTIVATIONS[network.activation]
    active, values = row, []
    cushions, contraction = [], jnp.ones((), row.dtype)
    for layer, matrix in enumerate(network.weights):
        value = matrix @ active
        cushions.append(_ratio(_norm(value), _norm(matrix) * _norm(active)))
        values.append(value)
        if layer + 1 < len(network.weights):
            active = activation(value)
            contraction = jnp.maximum(contraction, _ratio(_norm(value), _norm(active)))
    interlayer = [_interlayer_cushion(network, layer, value) for layer, value in enumerate(values)]
    return jnp.stack(cushions), jnp.stack(interlayer), contraction, _norm(values[-1])


def _interlayer_cushion(
    network: Network, layer: int, value: Float[Array, " units"]
) -> Float[Array, ""]:
    """Smallest cushion of the Jacobians from one layer to those above it."""
    activation = ACTIVATIONS[network.activation]
    smallest = jnp.asarray(value.size**-0.5, value.dtype)
    jacobian, here = jnp.eye(value.size, dtype=value.dtype), value
    for matrix in network.weights[layer + 1 :]:
        active, slope = jax.jvp(activation, (here,), (jnp.ones_like(here),))
        jacobian, here = matrix @ (slope[:, None] * jacobian), matrix @ active
        cushion = _ratio(_norm(jacobian @ value), _norm(jacobian) * _norm(value))
        smallest = jnp.minimum(smallest, cushion)
    return smallest


def _ratio(above: Array, below: Array) -> Float[Array, ""]:
    """Give the quotient, infinite where a row activates nothing: the contraction then is, too."""
    return jnp.where(below == 0, jnp.inf, above / jnp.where(below == 0, 1.0, below))


def _norm(array: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(array**2))
