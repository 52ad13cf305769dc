"""Building blocks of the schema: the strict base table and the kinds of numbers it holds."""

import re
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

#: Largest integer that a dataset (int32) and a random key can hold.
LARGEST_INTEGER = 2**31 - 1

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def mistake(text: str, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """Make the error that a check raises; ``at`` points to a key inside the checked table.

    Parameters
    ----------
    text
        What is wrong, what was given and what to do.
    at
        Path from the checked field to the key that is at fault; ``".."`` goes up to its table.
    """
    # The text may hold braces that a user typed, so it is passed as an argument of the template.
    return PydanticCustomError("sgdsim_mistake", "{text}", {"text": text, "at": at})


@runtime_checkable
class Siblings(Protocol):
    """What a check sees of the table: the keys before it that are correct.

    It is pydantic's ``ValidationInfo``, which run-time type checkers refuse.
    """

    @property
    def data(self) -> dict[str, Any]:
        """Values by key."""
        ...


class Table(BaseModel):
    """A table of a scenario file: unknown keys are refused, numbers are not guessed from text.

    Integers are accepted where a float is expected, as ``learning_rate = 1``; ``inf`` and
    ``nan`` are refused everywhere.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )


def _positive_or_auto(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (is_number and 0 < value < float("inf")):
        return value
    raise mistake(f'should be "auto" or a number greater than 0 (got {value!r})')


def _count_or_auto(value: Any) -> Any:
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (is_count and 1 <= value <= LARGEST_INTEGER):
        return value
    raise mistake(f'should be "auto" or an integer of at least 1 (got {value!r})')


def _not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise mistake("should have at least one entry (got [])")
    return values


def _learning_rate(value: float) -> float:
    if not value > 0:
        raise mistake(
            "should be greater than 0, because steps go downhill and time is counted in it "
            f"(got {value:g})"
        )
    return value


def _batch_size(value: int) -> int:
    if value < 1:
        raise mistake(
            f"should be at least 1, because the gradient of no row is not defined (got {value})"
        )
    return value


def _momentum(value: float) -> float:
    if not 0 <= value < 1:
        raise mistake(
            "should be at least 0 and less than 1: the damping 1 - momentum must be positive, "
            "or the velocity grows without end, and below 0 no velocity is kept; 0 is plain SGD "
            f"(got {value:g})"
        )
    return value


def _square(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    size = len(rows)
    if any(len(row) != size for row in rows):
        lengths = [len(row) for row in rows]
        raise mistake(f"should be square, {size} rows of {size} numbers (got rows of {lengths})")
    if any(rows[i][j] != rows[j][i] for i in range(size) for j in range(i)):
        raise mistake("should be symmetric, as every covariance is")
    if any(rows[i][i] < 0 for i in range(size)):
        raise mistake("should have no negative entry on its diagonal, which holds variances")
    return rows


def _file_name(value: str) -> str:
    if re.fullmatch(_NAME, value) is None:
        raise mistake(
            "should be letters, digits, '-', '_' or '.', beginning with a letter or a digit, "
            f"because the folder of a run is named after it (got {value!r})"
        )
    return value


Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
Text = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, AfterValidator(_file_name), Field(json_schema_extra={"pattern": _NAME})]
# Their bounds are checked by functions that say the reason; editors read them from the extras.
LearningRate = Annotated[
    float, Field(json_schema_extra={"exclusiveMinimum": 0}), AfterValidator(_learning_rate)
]
BatchSize = Annotated[
    int,
    Field(le=LARGEST_INTEGER, json_schema_extra={"minimum": 1}),
    AfterValidator(_batch_size),
]
Momentum = Annotated[
    float,
    Field(json_schema_extra={"minimum": 0, "exclusiveMaximum": 1}),
    AfterValidator(_momentum),
]
# The checks run before the unions, so that a wrong value gives one message and not one per member.
PositiveOrAuto = Annotated[Literal["auto"] | Positive, BeforeValidator(_positive_or_auto)]
CountOrAuto = Annotated[Literal["auto"] | Count, BeforeValidator(_count_or_auto)]
# TOML arrays arrive as lists: only the container is converted, its entries stay strict.
_LIST = Field(strict=False, json_schema_extra={"minItems": 1})
Widths = Annotated[tuple[Count, ...], _LIST, AfterValidator(_not_empty)]
Numbers = Annotated[tuple[float, ...], _LIST, AfterValidator(_not_empty)]
Covariance = Annotated[
    tuple[Numbers, ...], _LIST, AfterValidator(_not_empty), AfterValidator(_square)
]
