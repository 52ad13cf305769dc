"""Which gradient noise: the ``noise`` table of a dynamics table."""

from typing import Annotated, Literal

from pydantic import Field

from sgdsim.scenario._fields import Count, Covariance, Positive, Table

_KIND = (
    "Which gradient noise: minibatch, hessian_aligned, diagonal, low_rank and label come from the "
    "samples of a batch; isotropic, langevin and constant are the same everywhere; student and "
    "stable give another one heavy tails."
)


class _Noise(Table):
    @property
    def from_rows(self) -> bool:
        """Whether it is made of the gradients of samples, hence needs a batch size and data."""
        return False


class _RowNoise(_Noise):
    @property
    def from_rows(self) -> bool:
        return True


class MinibatchNoise(_RowNoise):
    """Gaussian noise with the covariance that a minibatch gradient has at the current point."""

    kind: Literal["minibatch"] = Field(description=_KIND)
    replacement: bool = Field(
        default=True,
        description="Whether the minibatch may hold the same row twice; without, the covariance "
        "has the factor (n - B)/(n - 1).",
    )


class IsotropicNoise(_Noise):
    """Gaussian noise with the same variance in every coordinate, everywhere."""

    kind: Literal["isotropic"] = Field(description=_KIND)
    variance: Positive = Field(description="Variance of one coordinate of the gradient noise.")


class LangevinNoise(_Noise):
    """Isotropic noise of a temperature, of variance ``2/(inverse_temperature * eta)``."""

    kind: Literal["langevin"] = Field(description=_KIND)
    inverse_temperature: Positive = Field(
        description="beta; the SDE has the stationary density exp(-beta L)."
    )


class HessianAlignedNoise(_RowNoise):
    """Gaussian noise with a covariance in proportion to the Gauss-Newton form of the Hessian."""

    kind: Literal["hessian_aligned"] = Field(description=_KIND)
    form: Literal["mse", "cross_entropy"] = Field(
        description="Loss whose Hessian it is: mse (half the squared error) or cross_entropy."
    )


class DiagonalNoise(_RowNoise):
    """Gaussian noise with the variances of a minibatch gradient and no correlations."""

    kind: Literal["diagonal"] = Field(description=_KIND)


class LowRankNoise(_RowNoise):
    """Top eigenpairs of the minibatch covariance, plus an isotropic rest of the same trace."""

    kind: Literal["low_rank"] = Field(description=_KIND)
    rank: Count = Field(description="Number of eigenpairs that are kept.")


class LabelNoise(_RowNoise):
    """Gaussian noise of gradients whose labels are perturbed afresh in every step."""

    kind: Literal["label"] = Field(description=_KIND)
    std: Positive = Field(description="Standard deviation of one component of a label.")


class ConstantNoise(_Noise):
    """Gaussian noise with one covariance matrix everywhere."""

    kind: Literal["constant"] = Field(description=_KIND)
    covariance: Covariance = Field(
        description="Covariance of the gradient noise, a list of rows; symmetric."
    )


GaussianNoise = Annotated[
    MinibatchNoise
    | IsotropicNoise
    | LangevinNoise
    | HessianAlignedNoise
    | DiagonalNoise
    | LowRankNoise
    | LabelNoise
    | ConstantNoise,
    Field(discriminator="kind"),
]


class _HeavyTailedNoise(_Noise):
    base: GaussianNoise = Field(description="Gaussian noise that is given heavy tails.")

    @property
    def from_rows(self) -> bool:
        return self.base.from_rows


class StudentNoise(_HeavyTailedNoise):
    """Student noise with the covariance of a Gaussian one."""

    kind: Literal["student"] = Field(description=_KIND)
    degrees: float = Field(
        gt=2, description="Degrees of freedom; only above 2 is there a covariance."
    )


class StableNoise(_HeavyTailedNoise):
    """Symmetric alpha-stable noise, scaled by a Gaussian one; its variance is infinite."""

    kind: Literal["stable"] = Field(description=_KIND)
    alpha: float = Field(
        gt=1,
        lt=2,
        description="Index: 2 would be Gaussian, and at 1 and below the noise has no mean.",
    )


Noise = Annotated[
    MinibatchNoise
    | IsotropicNoise
    | LangevinNoise
    | HessianAlignedNoise
    | DiagonalNoise
    | LowRankNoise
    | LabelNoise
    | ConstantNoise
    | StudentNoise
    | StableNoise,
    Field(discriminator="kind"),
]
