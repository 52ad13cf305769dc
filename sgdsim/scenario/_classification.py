"""Data sets with labels and networks that tell them apart: the tables of classification."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._fields import Count, Seed, Siblings, Table, Widths, mistake

#: Problems of a run on data or on a formula, as every `kind` of them explains.
PROBLEMS = (
    "Which problem: classification (labels and a network), regression (numbers and a network) or "
    "landscape (a formula)."
)
_DATA = "Which data: digits (real images) or hypercube (a known population)."

#: Rows of the handwritten digits that scikit-learn bundles.
DIGITS_ROWS = 1797
#: Held-out rows without which a test risk has no standard error.
FEWEST_HELD_OUT = 2


class Digits(Table):
    """Handwritten digits (1797 images of 8 by 8 pixels) that come with scikit-learn."""

    kind: Literal["digits"] = Field(description=_DATA)
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


class Hypercube(Table):
    """Corners of a cube, labelled by a random network: few enough that population risks are exact.

    The population is the uniform law on the 2^dimension corners; training and reference rows are
    independent draws from it.
    """

    kind: Literal["hypercube"] = Field(description=_DATA)
    dimension: Annotated[Count, Field(ge=2, le=16)] = Field(
        description="Number of inputs, each +1 or -1 (over the root of dimension + 1)."
    )
    classes: Annotated[Count, Field(ge=2, le=16)] = Field(
        default=2, description="Number of labels: the largest output of the teacher is right."
    )
    teacher_width: Count = Field(
        default=8, description="Hidden units of the teacher, a tanh network with random weights."
    )
    teacher_seed: Seed = Field(default=0, description="Seed of the teacher and of random labels.")
    training: Annotated[Count, Field(ge=2)] = Field(description="Rows that are trained on.")
    reference: Annotated[Count, Field(ge=2)] = Field(
        description="Rows of the reference minimum, independent of the training rows."
    )
    split_seed: Seed = Field(description="Seed of the draws of training and reference rows.")
    random_labels: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Share of the corners whose label is drawn anew, in the population too.",
    )


Data = Annotated[Digits | Hypercube, Field(discriminator="kind")]


class Softmax(Table):
    """Linear classifier with softmax probabilities; its ridge loss is strongly convex."""

    kind: Literal["softmax"] = Field(description="Which model: softmax (linear) or mlp.")


class Mlp(Table):
    """Fully connected network with softmax probabilities."""

    kind: Literal["mlp"] = Field(description="Which model: softmax (linear) or mlp.")
    hidden: Widths | None = Field(
        default=None, description="Widths of the hidden layers; or give width and depth."
    )
    width: Count | None = Field(
        default=None, description="Width of all hidden layers, if they are alike."
    )
    depth: Count | None = Field(default=None, description="Number of hidden layers, then.")
    activation: Literal["tanh", "relu"] = Field(
        description="Function of the hidden units: tanh (smooth) or relu."
    )

    @field_validator("depth")
    @classmethod
    def _widths_are_given_once(cls, depth: int | None, info: Siblings) -> int | None:
        if "hidden" not in info.data or "width" not in info.data:  # wrong, and reported as such
            return depth
        hidden, width = info.data["hidden"], info.data["width"]
        if hidden is None and (width is None or depth is None):
            raise mistake(
                "missing hidden, or width and depth: the widths of the hidden layers, for example "
                "hidden = [32, 32]",
                at=("..",),
            )
        if hidden is not None and (width is not None or depth is not None):
            raise mistake(
                f"give either hidden = {list(hidden)} or width and depth, not both", at=("..",)
            )
        return depth

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        if self.hidden is not None:
            return self.hidden
        assert self.width is not None  # the validator
        assert self.depth is not None
        return (self.width,) * self.depth


Model = Annotated[Softmax | Mlp, Field(discriminator="kind")]


class Classification(Table):
    """Cross-entropy plus ridge: ``mean_i l(theta, z_i) + ridge/2 |theta|^2``."""

    kind: Literal["classification"] = Field(description=PROBLEMS)
    ridge: float = Field(ge=0, description="Coefficient of the squared norm in the training loss.")
    data: Data = Field(description="What is learnt from.")
    model: Model = Field(description="What is learnt.")
