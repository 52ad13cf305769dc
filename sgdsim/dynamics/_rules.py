"""Update rules: what a discrete algorithm makes of its gradients; all of them come from optax."""

import equinox as eqx
import optax


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
