r"""Many equal wells of which the sample makes one look best: what a union over K minima costs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim._typing import Number
from sgdsim.problems._known import Deviations, Estimate, KnownProblem
from sgdsim.problems._landscapes import like
from sgdsim.problems._landscapes_wells import PeriodicWells, ripple
from sgdsim.problems._problem import Problem


class ManyMinima(KnownProblem):
    r"""Equal wells in the population, shifted by random constants in the sample.

    .. math:: L(x) = A(1 - \cos(2\pi x/\ell)), \qquad
        L_n(x) = L(x) - \sum_k g_k \varphi(x - k\ell), \qquad g_k \sim N(0, \sigma_g^2/n)

    with :math:`\varphi = 1` up to the distance ``plateau`` and 0 from half a period on, twice
    continuously differentiable between. Within the plateaus both risks have the same derivatives
    and the gap is :math:`g_k`. Wells come in groups of K, one independent sample a group:
    trajectory m lives in the wells :math:`mK, \dots, (m+1)K - 1`.

    Parameters
    ----------
    landscape
        The population risk.
    plateau
        Positive and less than half the period.
    shifts
        :math:`g_k`, shape (replica, K); zero outside.
    spread
        Standard deviation :math:`\sigma_g/\sqrt n` of the shifts.
    best
        Whether trajectories start in the well of their group that is deepest in the sample, or
        in its first one.

    Notes
    -----
    The best of K wells is a choice that depends on the sample; its mean gap is that of the
    maximum of K normals, about :math:`\sigma_g\sqrt{2\log K/n}`, whereas the mean gap of the
    first well is zero. The gap of every well is sub-Gaussian with variance proxy
    :math:`\sigma_g^2/n`; the loss of single rows is not modelled, so that no ``loss`` is known.
    Positions reach :math:`mK\ell`: single precision blurs them where that exceeds some thousand
    periods.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 12 (log-K test).

    Examples
    --------
    >>> from sgdsim.problems import PeriodicWells, many_minima
    >>> line = PeriodicWells(amplitude=1.0, period=1.0)
    >>> known = many_minima(line, 0.25, (3, 100), spread=0.1, best=True, seed=0)
    >>> starts = known.starts(3)
    >>> starts.shape, bool(abs(known.gap(starts[1]).value - known.shifts[1].max()) < 1e-6)
    ((3, 1), True)
    """

    landscape: PeriodicWells
    plateau: Number
    shifts: Float[Array, "replica K"]
    spread: Number
    best: bool = eqx.field(static=True)

    @property
    def training(self) -> Problem:
        """The shifted wells as a problem with one row."""
        row = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], self)
        return Problem(_shifted_losses, row)

    @property
    def population(self) -> Problem:
        """The equal wells."""
        return self.landscape.problem()

    @property
    def centre(self) -> Float[Array, " 1"]:
        """The minimum at 0; every well has one like it."""
        return self.landscape.minima[0]

    @property
    def minimum_set(self) -> PeriodicWells:
        """All multiples of the period."""
        return self.landscape

    def starts(self, trajectories: int) -> Float[Array, "trajectory 1"]:
        """Minimum of the chosen well of every trajectory's own group, shape (trajectory, 1).

        Raises
        ------
        ValueError
            There are more trajectories than groups.
        """
        replicas, wells = self.shifts.shape
        if trajectories > replicas:
            raise ValueError(
                f"there are {trajectories} trajectories but only {replicas} independent samples: "
                "trajectories that share one would not be independent; raise replicas."
            )
        chosen = jnp.argmax(self.shifts, axis=1) if self.best else jnp.zeros(replicas, int)
        index = (jnp.arange(replicas) * wells + chosen)[:trajectories]
        return (index * like(self.landscape.period, self.shifts))[:, None]

    def gap(self, theta: Float[Array, " 1"]) -> Estimate:
        r""":math:`g_k \varphi(x - k\ell)`, exact."""
        _, gap = self._risk_and_gap(theta)
        return Estimate(gap, jnp.zeros_like(gap))

    def deviations(self) -> Deviations:
        """Zero within the plateaus, exactly."""
        return Deviations(0.0, 0.0)

    def _risk_and_gap(self, theta: Float[Array, " 1"]) -> tuple[Array, Array]:
        """Give population risk and gap, from the one well that is near."""
        period, plateau = like(self.landscape.period, theta), like(self.plateau, theta)
        well = jnp.round(theta[0] / period)
        # From the nearest minimum, so that far wells are as sharp as the first one.
        offset = theta[0] - well * period
        outside = (jnp.abs(offset) - plateau) / (period / 2 - plateau)
        s = jnp.clip(outside, 0, 1)
        bump = 1 - s**3 * (10 - 15 * s + 6 * s**2)
        shifts = like(self.shifts, theta).ravel()
        shift = shifts.at[well.astype(int)].get(mode="fill", fill_value=0.0)
        shift = jnp.where(well < 0, 0, shift)  # negative indices count from the end
        return ripple(offset, like(self.landscape.amplitude, theta), period), shift * bump


def _shifted_losses(theta: Float[Array, " 1"], rows: ManyMinima) -> Float[Array, " n"]:
    def of_row(known: ManyMinima) -> Array:
        risk, gap = known._risk_and_gap(theta)
        return risk - gap

    return jax.vmap(of_row)(rows)


def many_minima(
    landscape: PeriodicWells,
    plateau: float,
    shape: tuple[int, int],
    spread: float,
    best: bool,
    seed: int,
) -> ManyMinima:
    r"""Draw the shifts of groups of wells.

    Parameters
    ----------
    landscape, plateau, best
        As in `ManyMinima`.
    shape
        Numbers of groups and of wells K in each.
    spread
        Standard deviation :math:`\sigma_g/\sqrt n` of a shift.
    seed
        Seed of the shifts.
    """
    shifts = spread * np.random.default_rng(seed).normal(size=shape)
    return ManyMinima(landscape, plateau, jnp.asarray(shifts), spread, best)
