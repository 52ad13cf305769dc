"""Types that several layers share."""

from jaxtyping import Array, Float

#: A number that a user gives as a Python number and the library traces as a scalar array.
Number = Float[Array, ""] | float | int
