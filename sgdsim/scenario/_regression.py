"""Numbers that a network fits by least squares: the tables of regression."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._classification import DIGITS_ROWS, PROBLEMS, Mlp
from sgdsim.scenario._fields import Count, Positive, Seed, Table, mistake

_DATA = (
    "Which data: chebyshev (a polynomial on a grid), noisy_signs (labels +1 and -1) or digits "
    "(real images)."
)
_TRAINING = "Rows that are trained on."


class Chebyshev(Table):
    """Chebyshev polynomial on an even grid of [-1, 1]: ``y = T_degree(x)``, one input."""

    kind: Literal["chebyshev"] = Field(description=_DATA)
    degree: Annotated[Count, Field(le=100)] = Field(description="Degree of the polynomial.")
    training: Annotated[Count, Field(ge=2)] = Field(
        description="Points of the grid, its two ends among them; all are trained on."
    )


class NoisySigns(Table):
    """Sides of a plane, some of them wrong: ``y = sign(x . direction)``, turned, with noise.

    Inputs are standard normal.
    """

    kind: Literal["noisy_signs"] = Field(description=_DATA)
    dimension: Count = Field(description="Number of inputs.")
    training: Annotated[Count, Field(ge=2)] = Field(description=_TRAINING)
    held_out: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Further rows of the same law that estimate the test error; 0: none."
    )
    flips: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.0,
        description="Probability that a label has the wrong sign, in held-out rows too.",
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        description="Standard deviation of what is added to the labels of training rows.",
    )
    seed: Seed = Field(default=0, description="Seed of the direction and of all rows.")


class DigitTargets(Table):
    """Handwritten digits of scikit-learn (pixels between 0 and 1), the labels as unit vectors."""

    kind: Literal["digits"] = Field(description=_DATA)
    training: Annotated[Count, Field(ge=2)] = Field(
        description=f"{_TRAINING} What remains of the {DIGITS_ROWS} is held out and estimates the "
        "test error."
    )
    split_seed: Seed = Field(description="Seed of the permutation that assigns the rows.")
    random_labels: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Share of all rows, held-out ones included, whose label is drawn anew.",
    )

    @field_validator("training")
    @classmethod
    def _rows_are_there(cls, training: int) -> int:
        if training > DIGITS_ROWS:
            raise mistake(f"should be at most {DIGITS_ROWS}, as many as there are (got {training})")
        return training


RegressionData = Annotated[Chebyshev | NoisySigns | DigitTargets, Field(discriminator="kind")]


class BiasedMlp(Mlp):
    """Fully connected network with biases."""

    kind: Literal["mlp"] = Field(description="Which model: mlp.")
    initial: Literal["uniform", "xavier"] = Field(
        default="uniform",
        description="Law of the weights at the start: uniform (they and the biases within "
        "1/sqrt(inputs), as in PyTorch) or xavier (normal of variance 2/(inputs + outputs), biases "
        "zero).",
    )
    hidden_gain: Positive = Field(
        default=1.0, description="Factor of the weights of the hidden layers at the start."
    )
    output_bias: bool = Field(default=True, description="Whether the outputs have biases too.")


class Regression(Table):
    """Half squared errors plus ridge: ``mean_i |f(x_i) - y_i|^2/2 + ridge/2 |theta|^2``."""

    kind: Literal["regression"] = Field(description=PROBLEMS)
    ridge: float = Field(
        default=0.0, ge=0, description="Coefficient of the squared norm in the training loss."
    )
    data: RegressionData = Field(description="What is learnt from.")
    model: BiasedMlp = Field(description="What is learnt.")
