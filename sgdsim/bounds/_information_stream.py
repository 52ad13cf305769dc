r"""What a bound on the mean gap reads of the trajectories of noisy gradient descent.

One convention for all of them. A step is

.. math:: \theta_{t+1} = \theta_t - \eta_t\, g_t + \sqrt{v_t}\,\zeta_t, \qquad
    \zeta_t \sim N(0, I_p),\qquad g_t = \sum_i w_{t,i}\,\nabla\ell(\theta_t, Z_i)

with :math:`v_t` the variance per coordinate that is added to the *parameters*: ``eta^2 s`` for
isotropic noise of the gradient with variance ``s``, and ``2 eta / beta`` for Langevin noise at
inverse temperature ``beta`` (papers on Langevin dynamics write :math:`\beta_t = 2\eta_t/v_t`).
The weights :math:`w_t` are drawn afresh in every step, independently of the training rows; they are
exchangeable and sum to one: all ``1/n`` for the full gradient, the shares of the rows in a
minibatch, or the weights of Gaussian minibatch noise. With
:math:`C_n = \frac1n\sum_i (g_i-\bar g)(g_i-\bar g)^\top`, the covariance of the gradients of the
rows, one number ``c`` (``batch_factor``) says all that is needed of them:

.. math:: \mathrm{Cov}(g_t) = c\,C_n, \qquad E\,w_{t,i}^2 = \frac{1 + c(n-1)}{n^2}

The second follows from the first: exchangeable weights that sum to one have
:math:`\mathrm{Cov}(w_i,w_j) = -\mathrm{Var}(w_i)/(n-1)`, hence
:math:`c = \mathrm{Var}(w_i)\,n^2/(n-1)`. Minibatches drawn with replacement have ``c = 1/B``,
without replacement ``(n-B)/(B(n-1))``, the full gradient ``c = 0``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_STATISTICS = ("gradient_square", "covariance_trace", "deviation", "sensitivity", "smoothing")
_PAIRS = ("pair_square", "pair_noise")


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientStream:
    r"""Statistics of the gradients along trajectories, step by step.

    The gradients of step ``t`` are taken at :math:`\theta_t`, where that step starts. All
    trajectories share learning rates and noise variances.

    Parameters
    ----------
    step
        Recorded steps, ``0, every, 2 every, ...``, shape ``(step,)``.
    learning_rate
        :math:`\eta_t`, shape ``(step,)``.
    noise_variance
        :math:`v_t` as above, shape ``(step,)``; zero for noise that the training rows shape.
    samples
        Number n of training rows.
    parameters
        Number p of parameters.
    gradient_square
        :math:`\|\nabla L_n(\theta_t)\|^2`, shape ``(trajectory, step)``.
    covariance_trace
        :math:`\mathrm{tr}\,C_n(\theta_t)`, shape ``(trajectory, step)``.
    deviation
        :math:`\|\nabla L_n(\theta_t)-\nabla L(\theta_t)\|^2`, shape ``(trajectory, step)``. The
        gradient on any rows that are independent of the training rows may stand for
        :math:`\nabla L`: the bound is then one with another prior, and holds as it stands.
    pair_square
        :math:`\|D_i\|^2`, :math:`D_i = \nabla\ell(\theta_t,Z_i)-\nabla\ell(\theta_t,Z_i')` for
        training rows and the ghost rows they were drawn against by fair coins, shape
        ``(trajectory, step, row)``; some of the n rows, chosen beforehand, are enough.
    pair_noise
        :math:`\langle\zeta_t, D_i\rangle`, shape ``(trajectory, step, row)``.
    virtual_variance
        :math:`\sigma_t^2`, variance per coordinate of the noise of ``virtual_noise``, which
        disturbs no step, shape ``(step,)``.
    sensitivity
        :math:`E_u\|\nabla L(\theta_t)-\nabla L(\theta_t+u)\|^2`,
        :math:`u\sim N(0,\sum_{s<t}\sigma_s^2 I)`, shape ``(trajectory, step)``.
    smoothing
        :math:`\Delta(\theta,S')-\Delta(\theta,S)` at the iterate after the step, with
        :math:`\Delta(\theta,s)=E_u[L_s(\theta)-L_s(\theta+u)]` for the loss whose gap is bounded,
        :math:`u\sim N(0,\sum_{s\le t}\sigma_s^2 I)` and fresh rows ``S'``, shape
        ``(trajectory, step)``.
    batch_factor
        ``c`` as above.
    training_set
        Number of the training set of every trajectory, shape ``(trajectory,)``; without it all
        share one.
    every
        Steps from one record to the next.
    plain_steps
        False if the steps also shrink or project the parameters.

    Raises
    ------
    ValueError
        If shapes do not fit, numbers are not finite or negative, or steps are missing.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import GradientStream
    >>> stream = GradientStream(
    ...     step=np.arange(3), learning_rate=np.full(3, 0.1), noise_variance=np.full(3, 0.02),
    ...     samples=50, parameters=5,
    ...     gradient_square=np.ones((4, 3)), covariance_trace=np.full((4, 3), 2.0),
    ... )
    >>> stream.sample_square[0].tolist()  # mean squared norm of the gradients of the rows
    [3.0, 3.0, 3.0]
    """

    step: Int[np.ndarray, "..."]
    learning_rate: Float[np.ndarray, "..."]
    noise_variance: Float[np.ndarray, "..."]
    samples: int
    parameters: int
    gradient_square: Float[np.ndarray, "..."]
    covariance_trace: Float[np.ndarray, "..."]
    deviation: Float[np.ndarray, "..."] | None = None
    pair_square: Float[np.ndarray, "..."] | None = None
    pair_noise: Float[np.ndarray, "..."] | None = None
    virtual_variance: Float[np.ndarray, "..."] | None = None
    sensitivity: Float[np.ndarray, "..."] | None = None
    smoothing: Float[np.ndarray, "..."] | None = None
    batch_factor: float = 0.0
    training_set: Int[np.ndarray, "..."] | None = None
    every: int = 1
    plain_steps: bool = True

    def __post_init__(self) -> None:
        """Check what the formulas rely on."""
        if self.samples < 2 or self.parameters < 1:
            raise ValueError(
                "A stream needs at least two training rows and one parameter, got samples = "
                f"{self.samples} and parameters = {self.parameters}."
            )
        if not 0 <= self.batch_factor < np.inf:
            raise ValueError(
                f"batch_factor must be finite and not negative, got {self.batch_factor}; it is 0 "
                "for the full gradient and 1/B for batches of B rows."
            )
        self._check_shapes()
        self._check_numbers()
        self._check_steps()

    def _check_shapes(self) -> None:
        both = np.shape(self.gradient_square)
        if len(both) != 2 or 0 in both:
            raise ValueError(
                f"gradient_square must have the shape (trajectory, step), got {both}; give a "
                "single trajectory a leading axis of length 1."
            )
        expected = {
            **dict.fromkeys(("step", "learning_rate", "noise_variance"), both[1:]),
            **dict.fromkeys(_STATISTICS, both),
            **dict.fromkeys(_PAIRS, both),
            "virtual_variance": both[1:],
            "training_set": both[:1],
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            found = None if value is None else np.shape(value)
            core = found[:-1] if found and name in _PAIRS else found
            if core is not None and core != shape:
                wanted = f"{shape} with one more axis for the rows" if name in _PAIRS else shape
                raise ValueError(
                    f"{name} has the shape {found}, but gradient_square has {both}; give {name} "
                    f"the shape {wanted}."
                )

    def _check_numbers(self) -> None:
        signed = {"pair_noise", "smoothing"}
        names = ("learning_rate", "noise_variance", "virtual_variance", *_STATISTICS, *_PAIRS)
        for name in names:
            value = getattr(self, name)
            if value is None:
                continue
            bad = ~np.isfinite(value) | ((value < 0) & (name not in signed))
            if bad.any():
                sign = "finite" if name in signed else "finite and not negative"
                raise ValueError(
                    f"{name} must be {sign}, but {int(bad.sum())} of {bad.size} values are not; a "
                    "mean over trajectories cannot leave out those that diverged, so lower the "
                    "learning rate or end all of them earlier."
                )

    def _check_steps(self) -> None:
        if self.every < 1 or not np.array_equal(
            self.step, self.every * np.arange(np.size(self.step))
        ):
            raise ValueError(
                f"The recorded steps {_short(self.step)} are not all the multiples of every = "
                f"{self.every} from 0 on, and these bounds add up every step; record every step, "
                "or say by `every` how far the records are apart, which makes the sum an estimate."
            )

    @property
    def sample_square(self) -> Float[np.ndarray, "trajectory step"]:
        r"""Mean squared norm of the gradients of the rows, :math:`\frac1n\sum_i\|g_i\|^2`."""
        return self.gradient_square + self.covariance_trace

    @property
    def groups(self) -> Int[np.ndarray, " trajectory"]:
        """Which trajectories are not independent: by training set, else each its own."""
        sets = self.training_set
        if sets is None or np.all(sets == sets[0]):
            return np.arange(len(self.gradient_square))
        return np.asarray(np.unique(sets, return_inverse=True)[1].reshape(-1))


def join_streams(streams: Sequence[GradientStream]) -> GradientStream:
    """Put the trajectories on several training sets into one stream.

    Parameters
    ----------
    streams
        One for each independently drawn training set, all of the same process.

    Returns
    -------
    GradientStream
        All trajectories, numbered by training set; a statistic that one stream lacks is left out.

    Raises
    ------
    ValueError
        If there are none, or they differ in anything but their statistics.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import GradientStream, join_streams
    >>> one = GradientStream(
    ...     step=np.arange(3), learning_rate=np.full(3, 0.1), noise_variance=np.full(3, 0.02),
    ...     samples=50, parameters=5,
    ...     gradient_square=np.ones((4, 3)), covariance_trace=np.full((4, 3), 2.0),
    ... )
    >>> join_streams([one, one]).training_set.tolist()
    [0, 0, 0, 0, 1, 1, 1, 1]
    """
    if not streams:
        raise ValueError("There is no stream to join; give at least one.")
    first = streams[0]
    shared = ("step", "learning_rate", "noise_variance", "virtual_variance")
    numbers = ("samples", "parameters", "batch_factor", "every", "plain_steps")
    for other in streams[1:]:
        for name in (*shared, *numbers):
            ours, theirs = getattr(first, name), getattr(other, name)
            if (ours is None) != (theirs is None) or not np.array_equal(ours, theirs):
                raise ValueError(
                    f"The streams differ in {name}, so they are not of one process; join only "
                    "trajectories whose training rows alone differ."
                )
    joined = {}
    for name in (*_STATISTICS, *_PAIRS):
        parts = [getattr(stream, name) for stream in streams]
        joined[name] = None if any(part is None for part in parts) else np.concatenate(parts)
    counts = [len(stream.gradient_square) for stream in streams]
    return GradientStream(
        **{name: getattr(first, name) for name in (*shared, *numbers)},
        **joined,
        training_set=np.repeat(np.arange(len(streams)), counts),
    )


def _short(steps: np.ndarray) -> str:
    """First few of the steps."""
    shown = ", ".join(str(step) for step in np.ravel(steps)[:4])
    return f"{shown}, ..." if np.size(steps) > 4 else shown
