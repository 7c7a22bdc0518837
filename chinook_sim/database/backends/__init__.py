"""What differs between databases, behind one protocol; `backend_for` chooses once a connection.

Another database is another module that implements `Backend`, an entry in `_BACKENDS`, and one in
each table that is keyed by `Backend.name`: of writers, of snapshots, and of what a lost COMMIT
became. The checks have a small dialect of their own. It also has to be added where the database is
chosen (`urls.DRIVERS`, `Location.path`, `engine.make_engine`), where columns, their types and
indexes differ (`column_types`, `models.base`, `models.ledger`), to what gives ids
(`sales.id_allocation`), to the revisions (`RevisionContext.postgresql`), and to what `init --from`
reads (`source_file.kind`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from chinook_sim.database.backends.postgresql import PostgreSQL
from chinook_sim.database.backends.sqlite import SQLite
from chinook_sim.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from datetime import date, datetime, tzinfo

    from sqlalchemy import ColumnElement, Connection, Row, Select, Table

    from chinook_sim.database.schema import IdSource, TableRow

__all__ = ["Backend", "backend_for"]


class Backend(Protocol):
    """One database, whatever the driver. Has no state, and serves all connections.

    Attributes:
        name: SQLAlchemy's name of its dialect, by which other tables of implementations are keyed.
        is_file: whether a database is a file.
        ignores_case: whether names that differ only in the case of letters are the same.
        has_typed_columns: whether a column holds values of its type only, which ALTER TABLE can
            change.
        has_schemas: whether a database has schemas, so that Chinook and ledger may be in several.
        has_roles: whether roles may lack privileges.
        locks_rows: whether rows are locked by SELECT … FOR UPDATE; otherwise there is one writer.
        server_transaction: the expressions that identify the server's process and its transaction;
            empty where a transaction ends together with its client.
    """

    name: str
    is_file: bool
    ignores_case: bool
    has_typed_columns: bool
    has_schemas: bool
    has_roles: bool
    locks_rows: bool
    server_transaction: tuple[ColumnElement[Any], ...]

    # Transactions and locks

    def begin(self, connection: Connection) -> None:
        """Begin a transaction where the driver has begun none, for reading."""

    def begin_write(self, connection: Connection) -> AbstractContextManager[None]:
        """Begin a transaction that writes where the driver has begun none; run a block in it."""

    def begin_migration(self, connection: Connection) -> None:
        """Make a transaction fit for a migration, which sees all rows and what others committed.

        Raises:
            MigrationRefused: it sees only what was there when it began.
        """

    def set_timeouts(
        self, connection: Connection, lock_timeout: int, statement_timeout: int | None
    ) -> None:
        """Bound what a transaction may wait for, and pin its settings, in one round trip.

        Args:
            connection: in the transaction.
            lock_timeout: seconds, 0 for no bound.
            statement_timeout: seconds, 0 for no bound; None leaves it as it is.
        """

    def lock(self, connection: Connection, key: int) -> None:
        """Wait for an advisory lock, and hold it until the transaction ends."""

    def try_lock(self, connection: Connection, key: int) -> bool:
        """Take an advisory lock until the transaction ends, unless another session holds it."""

    def data_version(self, connection: Connection) -> int | None:
        """Return a number that changes when others commit anything; None where there is none."""

    # The clock

    def today(self, connection: Connection) -> date:
        """Return CURRENT_DATE."""

    def now(self, connection: Connection, zone: tzinfo | None) -> datetime:
        """Return the present moment as naive time of a zone, or of CURRENT_DATE if None."""

    # The catalogue

    def database_name(self, connection: Connection) -> str | None:
        """Return the name of the database, for messages; None where it is a file."""

    def chinook_tables(self, connection: Connection) -> Iterable[TableRow]:
        """Return all tables with a name that one of Chinook's may have, in all schemas."""

    def unreadable_date(self, connection: Connection) -> Any:
        """Return a date of an invoice that cannot be compared with ours; None if none is found.

        Only the invoices with the lowest and the highest ids are looked at.
        """

    def grant_on_closed_schema(self, connection: Connection) -> str | None:
        """Return the GRANT that shows a schema with tables of Chinook, if one is closed to us."""

    def foreign_keys_to(
        self, connection: Connection, invoice: Table, line: Table
    ) -> Sequence[Row[Any]]:
        """Return the columns of all foreign keys that point at sales.

        Args:
            connection: to the database.
            invoice: the table of invoices.
            line: the table of invoice lines.

        Returns:
            Rows of `table_name` and its `schema`, a `key` that is the same for all columns of a
            foreign key, `from_column`, `to_column` (None for the primary key), all names as SQL;
            whether it points `to_invoice`, whether it is Chinook's `own`, and whether rows that
            would be deleted or changed with a sale may be `hidden`.
        """

    def last_given_ids(
        self, connection: Connection, sources: Sequence[tuple[Table, IdSource]]
    ) -> list[ColumnElement[Any]]:
        """Return expressions of the last ids that the database gave, which outlive their rows.

        Args:
            connection: to the database.
            sources: tables, and where their ids come from.

        Returns:
            One for each table, NULL where it is not known. An expression is the same object each
            time, so that statements made of it can be cached.
        """

    # Expressions

    def in_values(self, column: Any, values: Iterable[int] | Iterable[str]) -> ColumnElement[bool]:
        """Return the condition that a column is one of any number of values, in one parameter."""

    def ids_in_ranges(self) -> Select[Any]:
        """Return the ids in rows of `RunInvoices`, as a SELECT; some may have no invoice."""

    def day_of(self, moment: Any) -> ColumnElement[Any]:
        """Return the day of a timestamp, in a form that can be compared with other days."""

    def is_midnight(self, moment: Any) -> ColumnElement[bool]:
        """Return the condition that a timestamp is a midnight."""

    def shift_days(self, moment: Any, days: int) -> ColumnElement[Any]:
        """Return a timestamp moved by whole days."""

    def sum_of_lines(self, price: Any, quantity: Any) -> ColumnElement[Any]:
        """Return the exact sum of prices times quantities."""

    # Rows

    def read_tables(
        self, connection: Connection, value: Select[Any], *tables: Sequence[Any]
    ) -> list[Any]:
        """Return one value, and the rows of tables, all as of one moment.

        Args:
            connection: to the database.
            value: a SELECT of one value.
            tables: the columns to read of each table; the first is its key.

        Returns:
            The value, then for each table its rows as tuples, in the order of their keys.
        """

    def insert_rows(
        self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Insert rows, with the ids that they bring.

        Args:
            connection: in a transaction.
            table: of Chinook.
            rows: values by the names of their columns; the same names in all rows.

        Raises:
            BatchFailed: a trigger or a rule skipped some.
        """

    def update_rows(
        self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Change rows; the first name of each is of the column that says which one.

        Args and errors are those of `insert_rows`.
        """

    def load_rows(
        self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Write rows into a table that nobody else writes to, the fastest way; with psycopg."""


_BACKENDS: dict[str, Backend] = {it.name: it for it in (PostgreSQL(), SQLite())}


def backend_for(connection: Connection) -> Backend:
    """Return what is particular to the database of a connection.

    Raises:
        DatabaseUnavailable: it is neither PostgreSQL nor SQLite.
    """
    name = connection.dialect.name
    try:
        return _BACKENDS[name]
    except KeyError:
        raise DatabaseUnavailable(
            f"{name} is not supported; use a PostgreSQL or a SQLite database"
        ) from None
