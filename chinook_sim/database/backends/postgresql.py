"""PostgreSQL, with any driver."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Integer,
    Numeric,
    String,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    text,
    true,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import NullType

from chinook_sim.database.backends.postgresql_catalogue import (
    FOREIGN_KEYS,
    chinook_tables,
    closed_schema,
)
from chinook_sim.database.copying import copying
from chinook_sim.database.identifiers import plain, quoted, sql_text
from chinook_sim.database.names import stated_names
from chinook_sim.database.session_settings import PIN
from chinook_sim.database.skipped_rows import check_written
from chinook_sim.dates import EPOCH
from chinook_sim.errors import MigrationRefused
from chinook_sim.models import RunInvoices
from chinook_sim.models.base import Money

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from datetime import tzinfo

    from sqlalchemy import ColumnElement, Connection, Row, Select, Table

    from chinook_sim.database.schema import IdSource, TableRow

__all__ = ["TRANSACTION_SETUP", "PostgreSQL"]

TRANSACTION_SETUP = (
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET LOCAL row_security = off",
)
"""What a migration's transaction begins with: what others committed while it waited for a lock must
be seen, and no policy may hide rows of a table that is to be dropped."""


@lru_cache(maxsize=4)
def _as_arrays(value: Select[Any], *tables: Sequence[Any]) -> Select[Any]:
    """Return a query of one row: a value, and each column of the tables as an array."""
    first, *others = (
        select(
            *(
                type_coerce(func.array_agg(_plain(column)), NullType()).label(f"column{place}")
                for place, column in enumerate(columns)
            )
        ).subquery()
        for columns in tables
    )
    together: Any = first
    for other in others:
        together = together.join(other, true())
    return select(value.scalar_subquery(), first, *others).select_from(together)


def _plain(column: Any) -> Any:
    """Return a column as a type whose arrays every driver reads, and not as a domain or an enum."""
    types = {String: Text, Integer: BigInteger, Money: Numeric}
    return next(
        (cast(column, to) for of, to in types.items() if isinstance(column.type, of)), column
    )


@lru_cache(maxsize=64)
def _last_value(sequence: str) -> ColumnElement[Any]:
    return func.pg_sequence_last_value(func.to_regclass(sequence))


class PostgreSQL:
    """See `chinook_sim.database.backends.Backend`."""

    name = "postgresql"
    is_file = False
    ignores_case = False
    has_typed_columns = True
    has_schemas = True
    has_roles = True
    locks_rows = True
    server_transaction: tuple[ColumnElement[Any], ...] = (
        literal_column("pg_backend_pid()"),
        literal_column("pg_current_xact_id()::xid::text"),
    )

    def begin(self, connection: Connection) -> None:
        """Do nothing: drivers begin a transaction before any statement."""

    def begin_write(self, connection: Connection) -> AbstractContextManager[None]:
        """Do nothing: any transaction may write."""
        return nullcontext()

    def begin_migration(self, connection: Connection) -> None:
        """Make the transaction READ COMMITTED, with row-level security off."""
        level, *others = TRANSACTION_SETUP
        if connection.scalar(text("SHOW transaction_isolation")) != "read committed":
            try:
                connection.execute(text(level))
            except DBAPIError:
                raise MigrationRefused(
                    "a migration needs a transaction that is READ COMMITTED; begin one"
                ) from None
        for statement in others:
            connection.execute(text(statement))

    def set_timeouts(
        self, connection: Connection, lock_timeout: int, statement_timeout: int | None
    ) -> None:
        """Set them for the transaction: behind a pooler the next one is somebody else's."""
        settings = {"lock_timeout": lock_timeout, "statement_timeout": statement_timeout}
        statements = [
            f"SET LOCAL {name} = '{seconds}s'"
            for name, seconds in settings.items()
            if seconds is not None
        ]
        # SET, since a SELECT would take the snapshot; and all at once, which psycopg sends only
        # without parameters.
        connection.exec_driver_sql(
            "; ".join((PIN, *statements)), execution_options={"no_parameters": True}
        )

    def lock(self, connection: Connection, key: int) -> None:
        """Wait for it, no longer than `lock_timeout`."""
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    def try_lock(self, connection: Connection, key: int) -> bool:
        """Return at once."""
        lock = text("SELECT pg_try_advisory_xact_lock(:key)")
        return bool(connection.scalar(lock, {"key": key}))

    def data_version(self, connection: Connection) -> int | None:
        """Return None: foreign keys, which are always checked, notice what is gone."""
        return None

    def today(self, connection: Connection) -> date:
        """Return it by the session's time zone."""
        # As text that no setting changes.
        query = "SELECT to_char(CAST(CURRENT_DATE AS timestamp), 'YYYY-MM-DD')"
        return date.fromisoformat(str(connection.scalar(text(query))))

    def now(self, connection: Connection, zone: tzinfo | None) -> datetime:
        """Return the clock's time, not the transaction's, which may have waited for a lock."""
        clock = "clock_timestamp()" if zone else "CAST(clock_timestamp() AS timestamp)"
        # As a number: no setting changes how that is written.
        seconds = connection.scalar(text(f"SELECT extract(epoch FROM {clock})"))  # noqa: S608
        moment = EPOCH + timedelta(microseconds=int(seconds * 1_000_000))
        return (moment.astimezone(zone) if zone else moment).replace(tzinfo=None)

    def database_name(self, connection: Connection) -> str | None:
        """Return it, as a URL without a database means one with the name of the role."""
        return str(connection.scalar(text("SELECT current_database()")))

    def chinook_tables(self, connection: Connection) -> Iterable[TableRow]:
        """Ask for all in one query, together with the ledger, sequences and settings."""
        return chinook_tables(connection)

    def unreadable_date(self, connection: Connection) -> Any:
        """Return None: columns have types."""
        return None

    def grant_on_closed_schema(self, connection: Connection) -> str | None:
        """Look for tables in schemas without USAGE."""
        schema = connection.scalar(closed_schema(stated_names(connection)))
        role = connection.scalar(text("SELECT quote_ident(current_user)"))
        return None if schema is None else f"GRANT USAGE ON SCHEMA {schema} TO {role} may show it"

    def foreign_keys_to(
        self, connection: Connection, invoice: Table, line: Table
    ) -> Sequence[Row[Any]]:
        """Read them from the catalogue, whatever the role may do with the tables."""
        tables = {"invoice": quoted(connection, invoice), "line": quoted(connection, line)}
        return connection.execute(FOREIGN_KEYS, tables).all()

    def last_given_ids(
        self, connection: Connection, sources: Sequence[tuple[Table, IdSource]]
    ) -> list[ColumnElement[Any]]:
        """Return the last values of sequences."""
        return [
            null() if source.sequence is None else _last_value(source.sequence)
            for _, source in sources
        ]

    def in_values(self, column: Any, values: Iterable[int] | Iterable[str]) -> ColumnElement[bool]:
        """Compare with the elements of an array."""
        element = String if isinstance(column.type, String) else BigInteger
        parameter = bindparam("values", list(values), type_=ARRAY(element), unique=True)
        condition: ColumnElement[bool] = column.in_(select(func.unnest(parameter)))
        return condition

    def ids_in_ranges(self) -> Select[Any]:
        """Return a list of ids, which can be hashed, whatever the planner knows of the ranges.

        Ids of concurrent calls of the SQL function take turns, and so are in thousands of ranges.
        """
        ranges = RunInvoices.__table__.c
        return select(func.generate_series(ranges.first_id, ranges.last_id, ranges.step))

    def day_of(self, moment: Any) -> ColumnElement[Any]:
        """Return the midnight that it begins with."""
        return func.date_trunc("day", moment)

    def is_midnight(self, moment: Any) -> ColumnElement[bool]:
        """Compare with the midnight of its day."""
        condition: ColumnElement[bool] = self.day_of(moment) == moment
        return condition

    def shift_days(self, moment: Any, days: int) -> ColumnElement[Any]:
        """Add an interval."""
        moved: ColumnElement[Any] = moment + timedelta(days=days)
        return moved

    def sum_of_lines(self, price: Any, quantity: Any) -> ColumnElement[Any]:
        """Add up numbers that are exact."""
        return func.sum(price * quantity)

    def read_tables(
        self, connection: Connection, value: Select[Any], *tables: Sequence[Any]
    ) -> list[Any]:
        """Read each column as one array, which drivers read ten times as fast as rows.

        All in one round trip, and so in one snapshot.
        """
        one, *arrays = connection.execute(_as_arrays(value, *tables)).one()
        row = iter(arrays)
        # An array of nothing is NULL.
        return [
            one,
            *(
                sorted(zip(*((next(row) or ()) for _ in columns), strict=True))
                for columns in tables
            ),
        ]

    def insert_rows(
        self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Send all rows as JSON, which the server takes apart."""
        if not rows:
            return
        names = [quoted(connection, name) for name in rows[0]]
        into = f"INSERT INTO {quoted(connection, table)} ({', '.join(names)})"
        chosen = ", ".join(f"k.{name}" for name in names)
        statement = f"{into} OVERRIDING SYSTEM VALUE SELECT {chosen} FROM"
        _execute_with_rows(connection, statement, table, rows)

    def update_rows(
        self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Send all rows as JSON, which the server takes apart."""
        if not rows:
            return
        key, *names = (quoted(connection, name) for name in rows[0])
        changed = ", ".join(f"{name} = k.{name}" for name in names)
        statement = f"UPDATE {quoted(connection, table)} AS r SET {changed} FROM"  # noqa: S608
        _execute_with_rows(connection, statement, table, rows, f"WHERE r.{key} = k.{key}")

    def load_rows(
        self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Use COPY, through psycopg's cursor."""
        names = quoted(connection, *(column.name for column in table.columns))
        statement = f"COPY {quoted(connection, table)} ({names}) FROM STDIN"
        with copying(connection) as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)


def _execute_with_rows(
    connection: Connection,
    statement: str,
    table: Table,
    rows: Sequence[dict[str, Any]],
    rest: str = "",
) -> None:
    """Execute a statement that ends in FROM, with the rows as `k` after it."""
    names = {name: plain(connection, name) for name in rows[0]}
    records = [{names[name]: value for name, value in row.items()} for row in rows]
    of = quoted(connection, table)
    result = connection.execute(
        sql_text(
            f"{statement} jsonb_populate_recordset(CAST(NULL AS {of}), CAST(:rows AS jsonb)) k "
            f"{rest}"
        ),
        {"rows": json.dumps(records, default=str, ensure_ascii=False)},
    )
    check_written(connection, table, result.rowcount, len(rows))
