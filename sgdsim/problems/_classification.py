"""Classification tasks: rows split three ways, cross-entropy to train, margins to judge."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.problems._networks import Network
from sgdsim.problems._problem import OutputLoss, Problem


class Rows(eqx.Module):
    """Labelled rows.

    Parameters
    ----------
    inputs
        Features, shape ``(n, features)``, bias column included.
    targets
        One-hot labels, shape ``(n, classes)``.
    """

    inputs: Float[Array, "n features"] | Float[np.ndarray, "n features"]
    targets: Float[Array, "n classes"] | Float[np.ndarray, "n classes"]


class ClassificationTask(eqx.Module):
    r"""Three disjoint sets of rows and the penalised cross-entropy on each.

    Parameters
    ----------
    training
        Rows that SGD sees.
    reference
        Rows, independent of the training rows, that fix what a certificate fixes in advance.
    held_out
        Rows that estimate the population risk.
    ridge
        Penalty coefficient of the training loss.
    input_bound
        A number :math:`B_x` with :math:`\|x\| \le B_x` for every possible row, known from the
        way inputs are made and not from the rows.
    exact
        Whether ``held_out`` is the population itself, each row equally probable, so that means
        over it have no error.
    """

    training: Rows
    reference: Rows
    held_out: Rows
    ridge: float
    input_bound: float
    exact: bool = eqx.field(static=True, default=False)

    def problem(self, rows: Rows) -> Problem:
        """Penalised cross-entropy on ``rows``."""
        return Problem(cross_entropies, rows, self.ridge)

    def known_curvature(self, network: Network) -> tuple[float, float] | None:
        r"""Proved bounds :math:`\mu \le \nabla^2 L_n \le \beta` on the whole space, if there are.

        For a single layer the Hessian of the cross-entropy is
        :math:`\frac1n\sum_i (\mathrm{diag}(p_i)-p_ip_i^\top)\otimes x_ix_i^\top` with
        :math:`0 \preceq \mathrm{diag}(p)-pp^\top \preceq \frac12 I`, hence
        :math:`\mu = r` and :math:`\beta = r + \frac12\lambda_{\max}(X^\top X/n)`. With hidden
        layers nothing is known and the answer is ``None``.
        """
        if len(network.weights) > 1:
            return None
        inputs = np.asarray(self.training.inputs, dtype=np.float64)
        top = np.linalg.norm(inputs, ord=2) ** 2 / len(inputs)
        return self.ridge, self.ridge + 0.5 * float(top)


def _logits(network: Network, rows: Rows) -> Float[Array, "n classes"]:
    return network(jnp.asarray(rows.inputs))


def _cross_entropies_of(logits: Float[Array, "n classes"], rows: Rows) -> Float[Array, " n"]:
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits * rows.targets, axis=-1)


#: Cross-entropy ``-log softmax(f_theta(x))_y`` of every row, in nats.
cross_entropies = OutputLoss(_logits, _cross_entropies_of)


def margins(network: Network, rows: Rows) -> Float[Array, " n"]:
    r"""Margin :math:`f_\theta(x)_y - \max_{j\ne y} f_\theta(x)_j` of every row."""
    logits = network(jnp.asarray(rows.inputs))
    right = jnp.sum(logits * rows.targets, axis=-1)
    wrong = jnp.max(jnp.where(rows.targets > 0, -jnp.inf, logits), axis=-1)
    return right - wrong


def error_rate(network: Network, rows: Rows) -> Float[Array, ""]:
    """Share of rows with a non-positive margin (0-1 risk; ties count as errors)."""
    margin = margins(network, rows)
    return jnp.mean((margin <= 0).astype(margin.dtype))
