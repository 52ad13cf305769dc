"""What is minimised: the ``[problem]`` table."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._fields import Count, Seed, Siblings, Table, Widths, mistake

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

    kind: Literal["classification"] = Field(description="Which problem: classification.")
    ridge: float = Field(ge=0, description="Coefficient of the squared norm in the training loss.")
    data: Digits = Field(description="What is learnt from.")
    model: Model = Field(description="What is learnt.")


Problem = Classification
