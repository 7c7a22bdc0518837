"""SQLite, through Python's sqlite3."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, String, bindparam, func, null, select, text, type_coerce

from chinook_sim.database.expressions import in_range
from chinook_sim.database.identifiers import plain, quoted, sql_text
from chinook_sim.database.names import CHINOOK_TABLES, lowered, stated_names, table_names
from chinook_sim.database.schema import (
    LARGEST_ID,
    LEDGER_TABLES,
    ColumnType,
    IdSource,
    TableRow,
    ledger_state,
)
from chinook_sim.database.skipped_rows import check_written
from chinook_sim.models import Invoice, RunInvoices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import tzinfo

    from sqlalchemy import ColumnElement, Connection, Row, Select, Table


__all__ = ["SQLite"]


_TABLES = text(
    """
    SELECT t.name AS table_name,
           (SELECT json_group_array(json_array(
                       c.name, c.type, NULL,
                       c."notnull" AND c.dflt_value IS NULL AND c.pk = 0 AND c.hidden = 0,
                       c.hidden > 1))
              FROM pragma_table_xinfo(t.name) c) AS columns,
           (SELECT json_group_array(json_array(f."from", f."table"))
              FROM pragma_foreign_key_list(t.name) f) AS foreign_keys,
           (SELECT group_concat(l.name) FROM sqlite_master l
             WHERE l.type = 'table' AND l.name IN :ledger) AS ledger_tables,
           CURRENT_DATE AS today
      FROM sqlite_master t
     WHERE t.type = 'table'
       AND (replace(lower(t.name), '_', '') IN :names OR lower(t.name) IN :stated)
     ORDER BY t.name
    """
).bindparams(
    bindparam("names", expanding=True),
    bindparam("stated", expanding=True),
    bindparam("ledger", LEDGER_TABLES, expanding=True),
)

_NAMES = sorted(name for table in CHINOOK_TABLES for name in table_names(table))


LOOKED_AT = 50
"""How many invoices from either end are looked at for their dates."""

ISO_DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"

_FOREIGN_KEYS = text(
    """
    SELECT '"' || replace(m.name, '"', '""') || '"' AS table_name, f.id AS key,
           '"' || replace(f."from", '"', '""') || '"' AS from_column,
           '"' || replace(f."to", '"', '""') || '"' AS to_column,
           lower(f."table") = :invoice AS to_invoice, lower(m.name) = :line AS own, 0 AS hidden
      FROM sqlite_master m, pragma_foreign_key_list(m.name) f
     WHERE m.type = 'table' AND lower(f."table") IN (:invoice, :line)
    """
)


class SQLite:
    """See `chinook_sim.database.backends.Backend`."""

    name = "sqlite"
    is_file = True
    ignores_case = True
    has_typed_columns = False
    has_schemas = False
    has_roles = False
    locks_rows = False
    server_transaction: tuple[ColumnElement[Any], ...] = ()

    def begin(self, connection: Connection) -> None:
        """Begin one: sqlite3 begins none before SELECT, SAVEPOINT or CREATE TABLE."""
        if not _in_transaction(connection):
            connection.exec_driver_sql("BEGIN")

    @contextmanager
    def begin_write(self, connection: Connection) -> Iterator[None]:
        """Take the write lock, as a transaction that has read may not write once another has.

        Without it, the first SAVEPOINT would be the outermost transaction, and releasing it would
        commit.
        """
        if _in_transaction(connection):
            yield
            return
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        # With the write lock there is nothing to wait for before COMMIT; but while anybody reads,
        # SQLite would wait each time that its cache is full, and could be written out early.
        timeout = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            # Interrupted in a statement, SQLAlchemy has closed it; the interruption is what
            # matters.
            if not connection.invalidated:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {timeout}")

    def begin_migration(self, connection: Connection) -> None:
        """Take the write lock, which keeps other migrations out as well."""
        if not _in_transaction(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def set_timeouts(
        self, connection: Connection, lock_timeout: int, statement_timeout: int | None
    ) -> None:
        """Do nothing: the engine is made with the time that it waits."""

    def lock(self, connection: Connection, key: int) -> None:
        """Do nothing: there is one writer."""

    def try_lock(self, connection: Connection, key: int) -> bool:
        """Return True: there is one writer."""
        return True

    def data_version(self, connection: Connection) -> int | None:
        """Return it, as rows that were read may be gone, and foreign keys are off by default."""
        version = connection.exec_driver_sql("PRAGMA data_version").scalar()
        return None if version is None else int(version)

    def today(self, connection: Connection) -> date:
        """Return it in UTC."""
        return date.fromisoformat(str(connection.exec_driver_sql("SELECT CURRENT_DATE").scalar()))

    def now(self, connection: Connection, zone: tzinfo | None) -> datetime:
        """Return it to the millisecond; in UTC without a zone."""
        query = "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"
        moment = datetime.fromisoformat(str(connection.exec_driver_sql(query).scalar()))
        there = moment if zone is None else moment.replace(tzinfo=UTC).astimezone(zone)
        return there.replace(tzinfo=None)

    def database_name(self, connection: Connection) -> str | None:
        """Return None."""
        return None

    def chinook_tables(self, connection: Connection) -> Iterable[TableRow]:
        """Read the declarations of all tables."""
        return _chinook_tables(connection)

    def unreadable_date(self, connection: Connection) -> Any:
        """Look for what is no text in an ISO form, as dates are compared as text."""
        table, key, moment = (
            quoted(connection, it)
            for it in (
                Invoice.__table__,
                Invoice.__table__.c.InvoiceId.name,
                Invoice.__table__.c.InvoiceDate.name,
            )
        )
        some = [
            f"SELECT * FROM (SELECT i.{moment} AS moment FROM {table} i ORDER BY i.{key} {order} "  # noqa: S608
            f"LIMIT {LOOKED_AT})"
            for order in ("ASC", "DESC")
        ]
        statement = sql_text(
            f"SELECT moment FROM ({' UNION ALL '.join(some)}) "  # noqa: S608
            f"WHERE moment IS NOT NULL AND (typeof(moment) <> 'text' "
            f"OR moment NOT GLOB '{ISO_DATE}*' OR datetime(moment) IS NULL "
            # SQLite reads the 31st of any month, and 24 hours.
            "OR date(substr(moment, 1, 10), '+0 days') <> substr(moment, 1, 10) "
            "OR substr(moment, 12, 2) >= '24') LIMIT 1"
        )
        return connection.scalar(statement)

    def grant_on_closed_schema(self, connection: Connection) -> str | None:
        """Return None."""
        return None

    def foreign_keys_to(
        self, connection: Connection, invoice: Table, line: Table
    ) -> Sequence[Row[Any]]:
        """Read them of all tables; declarations may have names in another case."""
        names = {"invoice": invoice.name, "line": line.name}
        names = {it: lowered(plain(connection, name)) for it, name in names.items()}
        return connection.execute(_FOREIGN_KEYS, names).all()

    def last_given_ids(
        self, connection: Connection, sources: Sequence[tuple[Table, IdSource]]
    ) -> list[ColumnElement[Any]]:
        """Return what AUTOINCREMENT has recorded: SQLite never gives these again."""
        recorded = any(source.kind == "rowid" for _, source in sources) and connection.scalar(
            text("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
        )
        if not recorded:
            return [null() for _ in sources]
        return [_last_rowid(lowered(plain(connection, table.name))) for table, _ in sources]

    def in_values(self, column: Any, values: Iterable[int] | Iterable[str]) -> ColumnElement[bool]:
        """Compare with the elements of a JSON array."""
        given: Any = bindparam("values", json.dumps(list(values)), unique=True)
        elements = func.json_each(given).table_valued("value")
        condition: ColumnElement[bool] = column.in_(select(elements.c.value))
        return condition

    def ids_in_ranges(self) -> Select[Any]:
        """Look for the invoices of each range by index; leaves out ids without an invoice."""
        ranges = RunInvoices.__table__
        return (
            select(Invoice.invoice_id)
            .select_from(ranges)
            .join(Invoice, in_range(Invoice.invoice_id))
        )

    def day_of(self, moment: Any) -> ColumnElement[Any]:
        """Return the first ten characters."""
        return func.substr(type_coerce(moment, String), 1, 10)

    def is_midnight(self, moment: Any) -> ColumnElement[bool]:
        """Look for anything but zeros after the day; some databases have the day alone."""
        written = type_coerce(moment, String)
        condition: ColumnElement[bool] = func.trim(func.substr(written, 11), "T :.0") == ""
        return written.like("____-__-__%") & condition

    def shift_days(self, moment: Any, days: int) -> ColumnElement[Any]:
        """Replace the day, and keep the rest of the text."""
        written = type_coerce(moment, String)
        moved: ColumnElement[Any] = func.date(func.substr(written, 1, 10), f"{days:+d} days")
        return moved.concat(func.substr(written, 11))

    def sum_of_lines(self, price: Any, quantity: Any) -> ColumnElement[Any]:
        """Add up whole cents, as amounts are floating-point numbers."""
        amount: ColumnElement[Any] = func.sum(func.round(price * 100) * quantity) / 100.0
        return amount

    def read_tables(
        self, connection: Connection, value: Select[Any], *tables: Sequence[Any]
    ) -> list[Any]:
        """Read one after another; nobody writes in between."""
        one = connection.scalar(value)
        rows = [sorted(map(tuple, connection.execute(select(*columns)))) for columns in tables]
        return [one, *rows]

    def insert_rows(
        self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Use executemany."""
        if not rows:
            return
        names = [quoted(connection, name) for name in rows[0]]
        into = f"INSERT INTO {quoted(connection, table)} ({', '.join(names)})"
        marks = ", ".join("?" * len(names))
        result = connection.exec_driver_sql(
            f"{into} VALUES ({marks})", [tuple(row.values()) for row in rows]
        )
        check_written(connection, table, result.rowcount, len(rows))

    def update_rows(
        self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Use executemany."""
        if not rows:
            return
        key, *names = (quoted(connection, name) for name in rows[0])
        changed = ", ".join(f"{name} = ?" for name in names)
        update = f"UPDATE {quoted(connection, table)} AS r SET"
        values = [tuple(row.values()) for row in rows]
        result = connection.exec_driver_sql(
            f"{update} {changed} WHERE r.{key} = ?", [(*rest, first) for first, *rest in values]
        )
        check_written(connection, table, result.rowcount, len(rows))

    def load_rows(
        self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Use executemany."""
        names = quoted(connection, *(column.name for column in table.columns))
        marks = ", ".join("?" * len(table.columns))
        connection.exec_driver_sql(
            f"INSERT INTO {quoted(connection, table)} ({names}) VALUES ({marks})",  # noqa: S608
            list(rows),
        )


@cache
def _last_rowid(table: str) -> ColumnElement[Any]:
    kept = text("SELECT max(seq) FROM sqlite_sequence WHERE lower(name) = :name")
    name: Any = bindparam("name", table, unique=True)
    return kept.bindparams(name).columns(seq=Integer()).scalar_subquery()


def _in_transaction(connection: Connection) -> bool:
    driver: Any = connection.connection.driver_connection
    return bool(driver.in_transaction)


def _chinook_tables(connection: Connection) -> Iterable[TableRow]:
    """Return the tables that have a name of Chinook's."""
    ids = IdSource("rowid", LARGEST_ID)
    stated = stated_names(connection)
    names = [lowered(name) for table in CHINOOK_TABLES if (name := stated.get(table.name))]
    for row in connection.execute(_TABLES, {"names": _NAMES, "stated": names}):
        columns = {name: ColumnType(*rest) for name, *rest in json.loads(row.columns)}
        foreign_keys = defaultdict(set)
        for column, table in json.loads(row.foreign_keys):
            foreign_keys[column].add(table)
        yield TableRow(
            None,
            row.table_name,
            columns,
            {column: frozenset(tables) for column, tables in foreign_keys.items()},
            dict.fromkeys(columns, ids),
            True,
            True,
            None,
            *ledger_state(row.ledger_tables),
            None,
            False,
            (),
            date.fromisoformat(row.today),
            False,
        )
