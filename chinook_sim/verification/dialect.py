"""The SQL of the checks that differs between PostgreSQL and SQLite.

It is apart from `chinook_sim.database.backends`, which what makes sales uses as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from chinook_sim.database.backends import backend_for
from chinook_sim.database.identifiers import json_value, literal, sql_text
from chinook_sim.verification.sale_columns import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, TextClause

__all__ = ["Dialect", "dialect_of", "executable"]


class Dialect(Protocol):
    """Renders SQL; what it is given is SQL, but for names of parts and keys.

    What the ledger has kept of a row is JSON: by `part`, the class, an array of rows.

    Attributes:
        made: the FROM clause that joins the runs `r` to the invoices `i` that they made, with names
            in braces.
    """

    made: str

    def begin_snapshot(self, connection: Connection) -> None:
        """Let all queries of a transaction see the database as of one moment."""

    def parameters(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return parameters as they are compared with columns of the ledger and of the shop."""

    def hour(self, date: str) -> str:
        """Return the hour of a timestamp."""

    def at_midnight(self, date: str) -> str:
        """Return the condition that a timestamp is the beginning of a day."""

    def in_whole_seconds(self, date: str) -> str:
        """Return the condition that a timestamp has no fraction of a second."""

    def timestamp_text(self, date: str) -> str:
        """Return a timestamp as text, with the fraction of a second if there is one."""

    def seconds(self, date: str) -> str:
        """Return the seconds since 1970 of a timestamp."""

    def integer(self, value: str) -> str:
        """Return a value of an integer column, or `UNKNOWN`."""

    def rounded(self, value: str) -> str:
        """Return a number rounded to an integer; not a number, and absurd ones, are `UNKNOWN`."""

    def billing(self, columns: Sequence[str]) -> Iterable[str]:
        """Return the four bytes of the billing columns as a number, or the columns themselves."""

    def instant(self, date: str) -> str:
        """Return a timestamp to compare with `kept_instant`."""

    def kept_value(self, kept: str, part: str, key: str) -> str:
        """Return a number of the first row of a part."""

    def kept_timestamp(self, kept: str, part: str, key: str) -> str:
        """Return a timestamp of the first row of a part, as it was written."""

    def kept_instant(self, kept: str, part: str, key: str) -> str:
        """Return the same as a moment, whatever the TimeZone was, if the column has a time zone."""

    def kept_lines(self, kept: str) -> str:
        """Return a table `e` of the rows of the part InvoiceLine."""

    def line_value(self, key: str) -> str:
        """Return a number of a row of `kept_lines`."""

    def same(self, row: str, kept: str, part: str, columns: Mapping[str, str]) -> str:
        """Return the condition that a row has the values of the first row of a part.

        Args:
            row: its alias.
            kept: the JSON.
            part: the class.
            columns: columns by key.
        """


def dialect_of(connection: Connection) -> Dialect:
    """Return the dialect of a connection's database.

    Raises:
        DatabaseUnavailable: it is neither PostgreSQL nor SQLite.
    """
    return _DIALECTS[backend_for(connection).name]


class _PostgreSQL:
    # Joined by ids, which can be hashed.
    made = (
        "{run} r JOIN {run_invoices} p ON p.run_id = r.run_id CROSS JOIN LATERAL "
        "generate_series(p.first_id, p.last_id, p.step) AS n (id) "
        "JOIN {invoice} i ON i.{invoice_id} = n.id"
    )

    def begin_snapshot(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def parameters(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return values

    def hour(self, date: str) -> str:
        return f"extract(hour FROM {date})"

    def at_midnight(self, date: str) -> str:
        return f"{date} = date_trunc('day', {date})"

    def in_whole_seconds(self, date: str) -> str:
        return f"date_trunc('second', {date}) = {date}"

    def timestamp_text(self, date: str) -> str:
        return (
            f"to_char({date}, 'YYYY-MM-DD HH24:MI:SS') || CASE WHEN {self.in_whole_seconds(date)} "
            f"THEN '' ELSE to_char({date}, '.US') END"
        )

    def seconds(self, date: str) -> str:
        return (
            f"CASE WHEN isfinite({date}) THEN CAST(floor(extract(epoch FROM "
            f"CAST({date} AS timestamp))) AS bigint) ELSE {UNKNOWN} END"
        )

    def integer(self, value: str) -> str:
        return f"coalesce({value}, {UNKNOWN})"

    def rounded(self, value: str) -> str:
        return (
            f"CASE WHEN {value} BETWEEN -1e12 AND 1e12 "
            f"THEN CAST(round({value}) AS bigint) ELSE {UNKNOWN} END"
        )

    def billing(self, columns: Sequence[str]) -> Iterable[str]:
        fields = " || ".join(
            f"coalesce(CAST({column} AS text), chr(30)) || chr(31)" for column in columns
        )
        digest = f"encode(substring(sha256(convert_to({fields}, 'UTF8')) FROM 1 FOR 4), 'hex')"
        return [f"CAST(CAST('x' || {digest} AS bit(32)) AS bigint)"]

    def instant(self, date: str) -> str:
        return f"CAST({date} AS timestamptz)"

    def kept_value(self, kept: str, part: str, key: str) -> str:
        return f"CAST({self._row(kept, part)} ->> {literal(key)} AS numeric)"

    def kept_timestamp(self, kept: str, part: str, key: str) -> str:
        return f"CAST({self._row(kept, part)} ->> {literal(key)} AS timestamp)"

    def kept_instant(self, kept: str, part: str, key: str) -> str:
        return f"CAST({self._row(kept, part)} ->> {literal(key)} AS timestamptz)"

    def kept_lines(self, kept: str) -> str:
        return f"jsonb_array_elements(CAST({kept} AS jsonb) -> 'InvoiceLine') e"

    def line_value(self, key: str) -> str:
        return f"CAST(e.value ->> {literal(key)} AS numeric)"

    def same(self, row: str, kept: str, part: str, columns: Mapping[str, str]) -> str:
        # Both as JSON, in which NULL equals NULL; taken apart once, not once a column.
        pairs = ", ".join(f"{literal(key)}, {row}.{column}" for key, column in columns.items())
        return f"{self._row(kept, part)} @> jsonb_build_object({pairs})"

    def _row(self, kept: str, part: str) -> str:
        return f"CAST({kept} AS jsonb) -> '{part}' -> 0"


class _SQLite:
    # The ids of a range are found by index.
    made = (
        "{run} r CROSS JOIN {run_invoices} p ON p.run_id = r.run_id "
        "CROSS JOIN {invoice} i ON i.{invoice_id} BETWEEN p.first_id AND p.last_id "
        "AND (i.{invoice_id} - p.first_id) % p.step = 0"
    )

    def begin_snapshot(self, connection: Connection) -> None:
        backend_for(connection).begin(connection)

    def parameters(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        # Dates are kept as text.
        return {name: str(value) for name, value in values.items()}

    def hour(self, date: str) -> str:
        return f"substr({date}, 12, 2)"

    def at_midnight(self, date: str) -> str:
        # Some databases have the day alone, or fractions of a second.
        return f"trim(substr({date}, 11), 'T :.0') = ''"

    def in_whole_seconds(self, date: str) -> str:
        return f"{date} GLOB '????-??-?? [0-2][0-9]:[0-5][0-9]:[0-5][0-9]'"

    def timestamp_text(self, date: str) -> str:
        midnight = f"substr({date}, 1, 10) || ' 00:00:00'"
        return f"CASE WHEN {self.at_midnight(date)} THEN {midnight} ELSE {date} END"

    def seconds(self, date: str) -> str:
        return f"coalesce(CAST(strftime('%s', {date}) AS INTEGER), {UNKNOWN})"

    def integer(self, value: str) -> str:
        # There may be something else in a column of integers.
        integer = f"CAST({value} AS INTEGER)"
        return f"CASE WHEN {value} = {integer} THEN {integer} ELSE {UNKNOWN} END"

    def rounded(self, value: str) -> str:
        return f"coalesce(CAST(round({value}) AS INTEGER), {UNKNOWN})"

    def billing(self, columns: Sequence[str]) -> Iterable[str]:
        return columns

    def instant(self, date: str) -> str:
        return date

    def kept_value(self, kept: str, part: str, key: str) -> str:
        return json_value(kept, part, 0, key)

    kept_timestamp = kept_instant = kept_value

    def kept_lines(self, kept: str) -> str:
        return f"json_each({kept}, '$.InvoiceLine') e"

    def line_value(self, key: str) -> str:
        return json_value("e.value", key)

    def same(self, row: str, kept: str, part: str, columns: Mapping[str, str]) -> str:
        return " AND ".join(
            f"{row}.{column} IS {self.kept_value(kept, part, key)}"
            for key, column in columns.items()
        )


_DIALECTS: dict[str, Dialect] = {"postgresql": _PostgreSQL(), "sqlite": _SQLite()}


def executable(connection: Connection, statement: str) -> TextClause:
    """Return a statement as `sql_text` does, for a driver that takes % for a parameter, too."""
    found = sql_text(statement)
    # pg8000 reads percent signs only if there are parameters.
    if connection.dialect.driver == "pg8000" and found.compile().params:
        return sql_text(statement.replace("%", "%%"))
    return found
