"""The declarative base, the names of Chinook, and the column types."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    REAL,
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Interval,
    Numeric,
    Table,
    TypeDecorator,
    inspect,
    quoted_name,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState
    from sqlalchemy.types import TypeEngine

__all__ = [
    "CENT",
    "Base",
    "ChinookName",
    "LedgerMoney",
    "Money",
    "Timestamp",
    "amount_text",
    "chinook_column",
    "foreign_key",
    "foreign_key_index",
    "primary_key",
]

CENT = Decimal("0.01")


@lru_cache(maxsize=4096)
def amount_text(cents: int) -> str:
    """Return an amount of at least 0 as a decimal number with two places."""
    return f"{cents // 100}.{cents % 100:02d}"


LONGEST_SHOWN = 40
"""Characters of a text that `repr` shows."""


class ChinookName(quoted_name):
    """The name of a table or column of Chinook.

    It is the CamelCase name as far as SQLAlchemy knows. An engine that has been recognised renders
    it as the database has it; see `chinook_sim.database.identifiers`. Names of any other table on
    the same engine are no `ChinookName`, and are rendered as they are.

    Attributes:
        table: of a column, the name of its table; of a table, None.
        key: the name, of a column with that of its table: `Invoice.InvoiceId`.
    """

    table: str | None
    key: str

    def __new__(cls, name: str, table: str | None = None) -> ChinookName:
        """Make a name; a column that is declared in a class gets its table there."""
        # Of another ChinookName it would return the same object.
        self = super().__new__(cls, str(name), None)
        self.table, self.key = None, str(name)
        if table is not None:
            self.belong_to(table)
        return self

    def belong_to(self, table: str) -> None:
        """Make it the name of a column of a table."""
        self.table = table
        # Made once, for every batch compares it some hundred times.
        self.key = f"{table}.{self}"

    def __reduce__(self) -> tuple[Any, ...]:
        return ChinookName, (str(self), self.table)


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


class _LocalTime(FunctionElement[datetime]):
    """A timestamp without its time zone."""

    inherit_cache = True
    name = "local_time"

    def __init__(self, column: ColumnElement[datetime]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(_LocalTime)
def _in_session_zone(element: _LocalTime, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    zoned = getattr(compiler.preparer, "zoned", False)
    return f"CAST({column} AS TIMESTAMP)" if zoned else str(column)


class Timestamp(TypeDecorator[datetime]):
    """A date and time without a time zone.

    If the column has one (timestamptz), it is the time in the time zone of the session, on an
    engine that has been recognised.
    """

    # SQLAlchemy's default for SQLite appends microseconds, which no Chinook has and which break
    # comparisons with the text that is there.
    impl: Any = DateTime().with_variant(
        sqlite.DATETIME(  # type: ignore[no-untyped-call]
            storage_format="%(year)04d-%(month)02d-%(day)02d %(hour)02d:%(minute)02d:%(second)02d"
        ),
        "sqlite",
    )
    cache_ok = True

    def column_expression(self, column: ColumnElement[datetime]) -> ColumnElement[datetime]:
        """Let the server convert it: not all drivers return the time zone of the session."""
        return _LocalTime(column)

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Let an interval be one, and compare with anything else as a timestamp."""
        return Interval() if isinstance(value, timedelta) else self


class Base(DeclarativeBase):
    """Declarative base; `Base.metadata` holds all tables that this library knows."""

    __table__: ClassVar[Table]

    _shown: ClassVar[tuple[str, ...]] = ()
    """Attributes that `repr` shows after the id; several in one string are joined by spaces."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Map the class, and tell the names of its columns which table they are of."""
        super().__init_subclass__(**kwargs)
        table: Table | None = getattr(cls, "__table__", None)
        # A class without a table is a base of others.
        if table is not None:
            for column in table.columns:
                if isinstance(column.name, ChinookName):
                    column.name.belong_to(table.name)

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
    return chinook_column(name, ForeignKey(target, name=f"FK_{of}{name}"), nullable=nullable)


def foreign_key_index(table: str, column: str) -> Index:
    """Declare the index of such a column."""
    return Index(f"IFK_{table}{column}", column)
