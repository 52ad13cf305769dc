"""How the parameters move: the ``[dynamics]`` table."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._fields import Count, Positive, Siblings, Table, mistake

_KIND = (
    "Which dynamics: gd (no noise), sgd (minibatches), gaussian_sgd (Gaussian gradient noise) or "
    "sde (its continuous-time Ito equation, finely discretised)."
)
_RATE = "Step size eta; the time is eta times the step."
_BATCH = (
    "Rows of a minibatch; minibatch noise has the covariance of one gradient divided by it. "
    "Isotropic noise does not use it."
)
_NOISE_KIND = "Which gradient noise: minibatch (covariance of a minibatch) or isotropic."


class MinibatchNoise(Table):
    """Gaussian noise with the covariance that a minibatch gradient has at the current point."""

    kind: Literal["minibatch"] = Field(description=_NOISE_KIND)


class IsotropicNoise(Table):
    """Gaussian noise with the same variance in every coordinate, everywhere."""

    kind: Literal["isotropic"] = Field(description=_NOISE_KIND)
    variance: Positive = Field(description="Variance of one coordinate of the gradient noise.")


Noise = Annotated[MinibatchNoise | IsotropicNoise, Field(discriminator="kind")]
_MINIBATCH = MinibatchNoise(kind="minibatch")


class Gd(Table):
    """Gradient descent: ``theta' = theta - eta grad L_n(theta)``."""

    kind: Literal["gd"] = Field(description=_KIND)
    learning_rate: Positive = Field(description=_RATE)


class Sgd(Table):
    """Minibatch SGD: gradient descent with the gradient of ``batch_size`` drawn rows."""

    kind: Literal["sgd"] = Field(description=_KIND)
    learning_rate: Positive = Field(description=_RATE)
    batch_size: Count = Field(description="Rows of a minibatch.")
    replacement: bool = Field(
        default=True, description="Whether a minibatch may hold the same row twice."
    )


class _GaussianNoiseDynamics(Table):
    learning_rate: Positive = Field(description=_RATE)
    noise: Noise = Field(default=_MINIBATCH, description="Law of the Gaussian gradient noise.")
    batch_size: Count | None = Field(default=None, description=_BATCH)

    @field_validator("batch_size")
    @classmethod
    def _minibatch_noise_has_a_size(cls, size: int | None, info: Siblings) -> int | None:
        if size is None and isinstance(info.data.get("noise"), MinibatchNoise):
            raise mistake("missing: minibatch noise needs it, for example batch_size = 16")
        return size


class GaussianSgd(_GaussianNoiseDynamics):
    """Gaussian SGD: ``theta' = theta - eta (grad L_n(theta) + xi)`` with Gaussian ``xi``."""

    kind: Literal["gaussian_sgd"] = Field(description=_KIND)


class Sde(_GaussianNoiseDynamics):
    """Ito equation ``d theta = -grad L_n dt + sqrt(eta) Sigma^(1/2) dW``, in steps eta/substeps."""

    kind: Literal["sde"] = Field(description=_KIND)
    substeps: Count = Field(description="Euler steps in the time eta of one SGD step.")


Dynamics = Annotated[Gd | Sgd | GaussianSgd | Sde, Field(discriminator="kind")]
