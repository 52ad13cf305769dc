"""What is minimised: the ``[problem]`` table."""

from typing import Annotated, Literal

from pydantic import Field

from sgdsim.scenario._classification import PROBLEMS, Classification
from sgdsim.scenario._fields import Table
from sgdsim.scenario._landscape import AnalyticLandscape
from sgdsim.scenario._regression import Regression


class Landscape(Table):
    """A risk that is given by a formula, without data: noise models have no samples there."""

    kind: Literal["landscape"] = Field(description=PROBLEMS)
    landscape: AnalyticLandscape = Field(description="Which formula.")


Problem = Annotated[Classification | Regression | Landscape, Field(discriminator="kind")]
