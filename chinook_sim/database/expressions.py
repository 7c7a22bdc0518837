"""Any number of numbers in one parameter of a statement."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, BigInteger, bindparam, func, select

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection

__all__ = ["in_values"]


def in_values(connection: Connection, column: Any, numbers: Iterable[int]) -> ColumnElement[bool]:
    """Return the condition that a column is one of any number of numbers."""
    values = list(numbers)
    source: Any
    if connection.dialect.name == "sqlite":
        given: Any = bindparam("numbers", json.dumps(values), unique=True)
        source = select(func.json_each(given).table_valued("value").c.value)
    else:
        given = bindparam("numbers", values, type_=ARRAY(BigInteger), unique=True)
        source = select(func.unnest(given))
    condition: ColumnElement[bool] = column.in_(source)
    return condition
