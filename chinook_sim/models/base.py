"""The declarative base, names in both spellings, and the column types."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    REAL,
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Numeric,
    Table,
    TypeDecorator,
    inspect,
    quoted_name,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState
    from sqlalchemy.types import TypeEngine

__all__ = [
    "Base",
    "ChinookName",
    "LedgerMoney",
    "Money",
    "Timestamp",
    "chinook_column",
    "foreign_key",
    "foreign_key_index",
    "primary_key",
]

CENT = Decimal("0.01")

LONGEST_SHOWN = 40
"""Characters of a text that `repr` shows."""


class ChinookName(quoted_name):
    """A name of a table, column, key or index of Chinook, in both its spellings.

    It is the CamelCase name as far as SQLAlchemy knows; `snake` is the other one. Names of any
    other table on the same engine are no `ChinookName` and so are never respelled.
    """

    snake: str

    def __new__(cls, camel: str, snake: str | None = None) -> ChinookName:
        """Pair a CamelCase name with its snake_case form, which is derived unless given."""
        self = super().__new__(cls, camel, None)
        self.snake = snake or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", camel).lower()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return ChinookName, (str(self), self.snake)


class Money(TypeDecorator[Decimal]):
    """An amount exact to the cent: NUMERIC(…, 2), which SQLite keeps as a floating-point number.

    Read from SQLite it is rounded to the cent that was meant; `float` never reaches the user.
    """

    impl: Any = Numeric
    cache_ok = True

    def __init__(self, precision: int = 10) -> None:
        super().__init__(precision, 2)
        self.precision = precision
        self.impl = Numeric(precision, 2).with_variant(self._in_sqlite(), "sqlite")

    def _in_sqlite(self) -> TypeEngine[Any]:
        """Return the type that binds floats, which is what SQLite's Chinooks hold."""
        return Numeric(self.precision, 2, asdecimal=False)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Make a Decimal of two places of what the driver returned."""
        return None if value is None else Decimal(str(value)).quantize(CENT)


class LedgerMoney(Money):
    """An amount of the ledger, REAL in SQLite: a NUMERIC column there keeps 1.00 as an integer.

    Readers that take the type of a column from its first row would fail on the next.
    """

    cache_ok = True

    def _in_sqlite(self) -> TypeEngine[Any]:
        return REAL()


class Id(BigInteger):
    """An id: INTEGER where we make the table, but values of any size, as the user may widen it."""

    cache_ok = True


@compiles(Id)
def _declared(*_: Any, **__: Any) -> str:
    return "INTEGER"


# SQLAlchemy's default for SQLite appends microseconds, which no Chinook has and which break
# comparisons with the text that is there.
Timestamp = DateTime().with_variant(
    sqlite.DATETIME(  # type: ignore[no-untyped-call]
        storage_format="%(year)04d-%(month)02d-%(day)02d %(hour)02d:%(minute)02d:%(second)02d"
    ),
    "sqlite",
)


class Base(DeclarativeBase):
    """Declarative base; `Base.metadata` holds all tables that this library knows."""

    __table__: ClassVar[Table]

    _shown: ClassVar[tuple[str, ...]] = ()
    """Attributes that `repr` shows after the id; several in one string are joined by spaces."""

    def __repr__(self) -> str:
        """Show what is loaded, and load nothing: no query, and no error where it is detached."""
        state: InstanceState[Any] | None = inspect(self, raiseerr=False)
        loaded = self.__dict__
        key: Sequence[Any] = ()
        if state is not None:
            keys = [state.mapper.get_property_by_column(it).key for it in state.mapper.primary_key]
            # An expired object still knows the id of its row.
            key = state.identity or [loaded[name] for name in keys if loaded.get(name) is not None]
        called = "/".join(map(str, key)) or "without id"
        groups = ([_part(name, loaded.get(name)) for name in it.split()] for it in self._shown)
        parts = [" ".join(filter(None, group)) for group in groups]
        fields = ", ".join(filter(None, parts))
        return f"<{type(self).__name__} {called}{': ' if fields else ''}{fields}>"


def _part(name: str, value: Any) -> str:
    """Return a loaded value in a few characters: "customer 7", "3 lines"; nothing for None."""
    if value is None:
        return ""
    if name.endswith("_id"):
        return f"{name.removesuffix('_id')} {value}"
    if isinstance(value, list):
        return f"{len(value)} {name if len(value) != 1 else name.removesuffix('s')}"
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def chinook_column(name: str, *args: Any, **kwargs: Any) -> MappedColumn[Any]:
    """Declare a column of Chinook."""
    return mapped_column(ChinookName(name), *args, **kwargs)


def primary_key(name: str) -> MappedColumn[Any]:
    """Declare the id of a table of Chinook."""
    # Identity is for tables that we make ourselves: a plain insert there needs no id.
    return chinook_column(name, Id, Identity(), primary_key=True)


def foreign_key(name: str, target: str, *, of: str, nullable: bool = False) -> MappedColumn[Any]:
    """Declare a column that refers to another table of Chinook."""
    constraint = ChinookName(f"FK_{of}{name}", f"{_snake(of)}_{_snake(name)}_fkey")
    return chinook_column(name, ForeignKey(target, name=constraint), nullable=nullable)


def foreign_key_index(table: str, column: str) -> Index:
    """Declare the index of such a column."""
    return Index(
        ChinookName(f"IFK_{table}{column}", f"{_snake(table)}_{_snake(column)}_idx"), column
    )


def _snake(name: str) -> str:
    return ChinookName(name).snake
