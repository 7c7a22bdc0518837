"""Integers as callers pass them, NumPy's included; without a database."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from typing import SupportsIndex

__all__ = ["check_integer"]


def check_integer(name: str, value: SupportsIndex, least: int, most: int | None = None) -> int:
    """Return an integer as an int.

    Args:
        name: what it is, for messages: "the seed".
        value: an int or an integer of NumPy.
        least: the smallest value.
        most: the largest value; None for no limit.

    Raises:
        InvalidInput: it is no integer, or out of range. A bool is no integer.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        allowed = f", at least {least}" if most is None else f" between {least} and {most}"
        raise InvalidInput(f"{name} must be an integer{allowed}, got {value!r:.60}")
    return number
