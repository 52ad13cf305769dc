"""Update rules: what a discrete algorithm makes of its gradients; all of them come from optax."""

import equinox as eqx
import optax

from sgdsim._checks import check_momentum, check_positive, check_weight_of_the_past
from sgdsim._typing import Number


class AbstractRule(eqx.Module):
    """A rule with unit learning rate; concrete classes are final."""

    def transformation(self) -> optax.GradientTransformation:
        """Make the transformation whose result, times ``eta``, is subtracted from ``theta``.

        It is made anew while a step is traced, from fields that are traced, so that other numbers
        need no other compilation.
        """
        raise NotImplementedError


class Plain(AbstractRule):
    """The gradient as it is."""

    def transformation(self):
        """Change nothing."""
        return optax.identity()


class HeavyBall(AbstractRule):
    r"""Polyak's momentum.

    .. math:: m' = g + b\,m, \qquad \theta' = \theta - \eta m'

    At constant ``eta`` this is :math:`\theta_{k+1} = \theta_k - \eta g_k + b(\theta_k -
    \theta_{k-1})`; the gradient is not averaged, so momentum lengthens the steps by
    :math:`1/(1-b)`.

    Parameters
    ----------
    momentum
        ``b`` in ``[0, 1)``.

    Notes
    -----
    Stable on a quadratic up to the curvature :math:`2(1+b)/\eta`. Source: ``optax.trace``.

    Examples
    --------
    >>> from sgdsim.dynamics import HeavyBall
    >>> HeavyBall(0.9).momentum
    0.9
    """

    momentum: Number

    def __check_init__(self):
        check_momentum(self.momentum)

    def transformation(self):
        """Accumulate gradients."""
        return optax.trace(self.momentum)


class Nesterov(AbstractRule):
    r"""Nesterov's momentum at a constant coefficient.

    .. math:: m' = g + b\,m, \qquad \theta' = \theta - \eta\,(g + b\,m')

    Here :math:`\theta` is the point at which gradients are taken, the look-ahead point ``y`` of
    :math:`x' = y - \eta\nabla L(y)`, :math:`y' = x' + b(x' - x)`.

    Parameters
    ----------
    momentum
        ``b`` in ``[0, 1)``.

    Notes
    -----
    Stable on a quadratic up to the curvature :math:`(2+2b)/((1+2b)\eta)`. Source: ``optax.trace``.

    Examples
    --------
    >>> from sgdsim.dynamics import Nesterov
    >>> Nesterov(0.9).momentum
    0.9
    """

    momentum: Number

    def __check_init__(self):
        check_momentum(self.momentum)

    def transformation(self):
        """Accumulate gradients and look ahead."""
        return optax.trace(self.momentum, nesterov=True)


class RMSProp(AbstractRule):
    r"""Gradient over the root of its averaged square.

    .. math:: v' = d\,v + (1-d)\,g^2, \qquad \theta' = \theta - \eta\,\frac{g}{\sqrt{v'}+\epsilon}

    The small number stands *outside* the square root, and ``v`` starts at zero without a
    correction of its bias.

    Parameters
    ----------
    decay
        ``d`` in ``[0, 1)``.
    epsilon
        Positive.

    Notes
    -----
    Stable up to :math:`2/\eta` for the largest eigenvalue of the preconditioned Hessian. Source:
    ``optax.scale_by_rms``.

    Examples
    --------
    >>> from sgdsim.dynamics import RMSProp
    >>> RMSProp().decay
    0.9
    """

    decay: Number = 0.9
    epsilon: Number = 1e-8

    def __check_init__(self):
        check_weight_of_the_past("decay", self.decay)
        check_positive("epsilon", self.epsilon)

    def transformation(self):
        """Divide by the root of the averaged square."""
        return optax.scale_by_rms(self.decay, self.epsilon, eps_in_sqrt=False)


class Adam(AbstractRule):
    r"""Averaged gradient over the root of the averaged square, both without their initial bias.

    .. math:: m' = \beta_1m + (1-\beta_1)g, \quad v' = \beta_2v + (1-\beta_2)g^2, \quad
        \theta' = \theta - \eta\,\frac{m'/(1-\beta_1^{k})}{\sqrt{v'/(1-\beta_2^{k})}+\epsilon}

    with ``k = 1, 2, ...`` the number of the step; the small number stands outside the square
    root. Wrapped in :class:`WeightDecay` it is AdamW.

    Parameters
    ----------
    b1, b2
        In ``[0, 1)``.
    epsilon
        Positive.

    Notes
    -----
    Stable up to :math:`(2+2\beta_1)/((1-\beta_1)\eta)` for the largest eigenvalue of the
    preconditioned Hessian. Source: ``optax.scale_by_adam``.

    Examples
    --------
    >>> from sgdsim.dynamics import Adam
    >>> Adam(b1=0.5).b1
    0.5
    """

    b1: Number = 0.9
    b2: Number = 0.999
    epsilon: Number = 1e-8

    def __check_init__(self):
        check_weight_of_the_past("b1", self.b1)
        check_weight_of_the_past("b2", self.b2)
        check_positive("epsilon", self.epsilon)

    def transformation(self):
        """Divide the averaged gradient by the root of the averaged square."""
        return optax.scale_by_adam(self.b1, self.b2, self.epsilon)


class OptaxRule(AbstractRule):
    """Any other transformation of optax, with its numbers fixed.

    Parameters
    ----------
    given
        A transformation *without* a learning rate, such as ``optax.scale_by_lion()`` or
        ``optax.chain(optax.clip_by_global_norm(1.0), optax.trace(0.9))``. A complete optimizer
        such as ``optax.adam(1e-3)`` already contains minus its learning rate and would climb;
        ``optax.chain(optimizer, optax.scale(-1.0))`` with ``learning_rate = 1`` descends.

    Notes
    -----
    The transformation is static: its numbers are compiled in, and another one compiles anew.
    Transformations that need the value of the loss (line searches) are not served.

    Examples
    --------
    >>> import optax
    >>> from sgdsim.dynamics import Descent, FullGradient, OptaxRule
    >>> stepper = Descent(1e-3, FullGradient(), OptaxRule(optax.scale_by_lion()))
    """

    given: optax.GradientTransformation = eqx.field(static=True)

    def transformation(self):
        """Give what was given."""
        return self.given
