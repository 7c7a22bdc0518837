"""SQLite, through Python's sqlite3."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import Integer, String, bindparam, func, null, select, text, type_coerce

from chinook_sim.database.expressions import in_range
from chinook_sim.database.identifiers import Spelling, quoted, spell
from chinook_sim.database.schema import (
    CHINOOK_TABLES,
    LARGEST_ID,
    LEDGER_TABLES,
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


# SQLite compares names without regard to case, so a table is looked for in lower case and reported
# as Chinook spells it.
_TABLES = text(
    """
    SELECT t.name AS table_name,
           (SELECT json_group_array(c.name) FROM pragma_table_info(t.name) c) AS columns,
           (SELECT group_concat(l.name) FROM sqlite_master l
             WHERE l.type = 'table' AND l.name IN :ledger) AS ledger_tables,
           CURRENT_DATE AS today
      FROM sqlite_master t
     WHERE t.type = 'table' AND lower(t.name) IN :names ORDER BY t.name
    """
).bindparams(
    bindparam("names", expanding=True),
    bindparam("ledger", LEDGER_TABLES, expanding=True),
)


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
        """Report a name that is right in both spellings in each."""
        return _chinook_tables(connection)

    def grant_on_closed_schema(self, connection: Connection) -> str | None:
        """Return None."""
        return None

    def foreign_keys_to(
        self, connection: Connection, invoice: str, line: str
    ) -> Sequence[Row[Any]]:
        """Read them of all tables, whose names differ in upper and lower case only."""
        lowered = {"invoice": invoice, "line": line}
        lowered = {key: name.strip('"').lower() for key, name in lowered.items()}
        return connection.execute(_FOREIGN_KEYS, lowered).all()

    def last_given_ids(
        self, connection: Connection, sources: Sequence[tuple[Table, IdSource]]
    ) -> list[ColumnElement[Any]]:
        """Return what AUTOINCREMENT has recorded: SQLite never gives these again."""
        recorded = any(source.kind == "rowid" for _, source in sources) and connection.scalar(
            text("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
        )
        if not recorded:
            return [null() for _ in sources]
        return [_last_rowid(quoted(connection, table).strip('"').lower()) for table, _ in sources]

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
        """Compare the text: dates written in any other way could not be moved back exactly."""
        return type_coerce(moment, String).like("____-__-__ 00:00:00")

    def shift_days(self, moment: Any, days: int) -> ColumnElement[Any]:
        """Write the text anew."""
        return func.strftime("%Y-%m-%d %H:%M:%S", moment, f"{days:+d} days")

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


@cache
def _lowered() -> dict[str, list[str]]:
    """Return the names of Chinook's tables and columns in every spelling, by lower case."""
    known: dict[str, set[str]] = defaultdict(set)
    for table in CHINOOK_TABLES:
        for name in (table.name, *(column.name for column in table.columns)):
            for spelling in get_args(Spelling):
                spelled = spell(name, spelling)
                known[spelled.lower()].add(spelled)
    return {lower: sorted(names) for lower, names in known.items()}


def _chinook_tables(connection: Connection) -> Iterable[TableRow]:
    """Return the tables that have a name of Chinook's."""
    known = _lowered()
    ids = IdSource("rowid", LARGEST_ID)
    # One name may be right in both spellings (Album, album): it is reported in each.
    for row in connection.execute(_TABLES, {"names": list(known)}):
        columns = [known.get(name.lower(), [name]) for name in json.loads(row.columns)]
        for name in known[row.table_name.lower()]:
            yield TableRow(
                None,
                name,
                frozenset(chain.from_iterable(columns)),
                True,
                True,
                None,
                *ledger_state(row.ledger_tables),
                None,
                (),
                date.fromisoformat(row.today),
                False,
                ids,
            )
