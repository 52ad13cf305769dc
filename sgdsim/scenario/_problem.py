"""What is minimised, and from where: the ``[problem]`` and ``[start]`` tables."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._fields import (
    Count,
    Numbers,
    Positive,
    Seed,
    Siblings,
    Table,
    Widths,
    mistake,
)
from sgdsim.scenario._landscape import AnalyticLandscape

_PROBLEM = "Which problem: classification (data and a network) or landscape (a formula)."
_START = "Where trajectories start: random (weights of a network) or point (on a landscape)."

#: Rows of the handwritten digits that scikit-learn bundles.
DIGITS_ROWS = 1797
#: Held-out rows without which a test risk has no standard error.
FEWEST_HELD_OUT = 2


class Digits(Table):
    """Handwritten digits (1797 images of 8 by 8 pixels) that come with scikit-learn."""

    kind: Literal["digits"] = Field(description="Which data: digits.")
    training: Annotated[Count, Field(ge=2)] = Field(description="Rows that are trained on.")
    reference: Annotated[Count, Field(ge=2)] = Field(
        description="Rows of the reference minimum, independent of the training rows; what then "
        "remains of the 1797 is held out and estimates the population risk."
    )
    split_seed: Seed = Field(description="Seed of the permutation that assigns the rows.")
    random_labels: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Share of all rows, held-out ones included, whose label is drawn anew.",
    )

    @field_validator("reference")
    @classmethod
    def _rows_are_left(cls, reference: int, info: Siblings) -> int:
        training = info.data.get("training")
        if training is not None and training + reference > DIGITS_ROWS - FEWEST_HELD_OUT:
            raise mistake(
                f"training + reference should be at most {DIGITS_ROWS - FEWEST_HELD_OUT} of the "
                f"{DIGITS_ROWS} digits, to hold out at least {FEWEST_HELD_OUT} "
                f"(got {training} + {reference})"
            )
        return reference


class Softmax(Table):
    """Linear classifier with softmax probabilities; its ridge loss is strongly convex."""

    kind: Literal["softmax"] = Field(description="Which model: softmax (linear) or mlp.")


class Mlp(Table):
    """Fully connected network with softmax probabilities."""

    kind: Literal["mlp"] = Field(description="Which model: softmax (linear) or mlp.")
    hidden: Widths = Field(description="Widths of the hidden layers.")
    activation: Literal["tanh", "relu"] = Field(
        description="Function of the hidden units: tanh (smooth) or relu."
    )


Model = Annotated[Softmax | Mlp, Field(discriminator="kind")]


class Classification(Table):
    """Cross-entropy plus ridge: ``mean_i l(theta, z_i) + ridge/2 |theta|^2``."""

    kind: Literal["classification"] = Field(description=_PROBLEM)
    ridge: float = Field(ge=0, description="Coefficient of the squared norm in the training loss.")
    data: Digits = Field(description="What is learnt from.")
    model: Model = Field(description="What is learnt.")


class Landscape(Table):
    """A risk that is given by a formula, without data: noise models have no samples there."""

    kind: Literal["landscape"] = Field(description=_PROBLEM)
    landscape: AnalyticLandscape = Field(description="Which formula.")


Problem = Annotated[Classification | Landscape, Field(discriminator="kind")]


class RandomStart(Table):
    """Random weights of a network; the same for all trajectories and processes."""

    kind: Literal["random"] = Field(description=_START)
    seed: Seed = Field(default=0, description="Seed of the weights.")
    gain: Positive = Field(
        default=1.0, description="Factor of the weights against the usual initialisation."
    )


class PointStart(Table):
    """A point of a landscape, from which all trajectories of all processes start."""

    kind: Literal["point"] = Field(description=_START)
    theta: Numbers = Field(description="Coordinates of the point.")


Start = Annotated[RandomStart | PointStart, Field(discriminator="kind")]
