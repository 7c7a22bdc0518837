"""A few rows of any table, as names and values: inserted or changed, in one statement."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chinook_sim.database.identifiers import quoted, sql_text
from chinook_sim.database.skipped_rows import check_written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

__all__ = ["insert_records", "update_records"]

Record = dict[str, Any]
"""Values by the names of their columns; the same names in all rows of a call."""


def insert_records(connection: Connection, table: Any, rows: Sequence[Record]) -> None:
    """Insert rows, with the ids that they bring."""
    if not rows:
        return
    names = [quoted(connection, name) for name in rows[0]]
    into = f"INSERT INTO {quoted(connection, table)} ({', '.join(names)})"
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(names))
        values = [tuple(row.values()) for row in rows]
        result = connection.exec_driver_sql(f"{into} VALUES ({marks})", values)
        check_written(connection, table, result.rowcount, len(rows))
        return
    chosen = ", ".join(f"k.{name}" for name in names)
    _run(connection, f"{into} OVERRIDING SYSTEM VALUE SELECT {chosen} FROM", table, rows)


def update_records(connection: Connection, table: Any, rows: Sequence[Record]) -> None:
    """Change rows; the first name of each is of the column that says which one."""
    if not rows:
        return
    key, *names = (quoted(connection, name) for name in rows[0])
    update = f"UPDATE {quoted(connection, table)} AS r SET"
    if connection.dialect.name == "sqlite":
        changed = ", ".join(f"{name} = ?" for name in names)
        values = [tuple(row.values()) for row in rows]
        result = connection.exec_driver_sql(
            f"{update} {changed} WHERE r.{key} = ?", [(*rest, first) for first, *rest in values]
        )
        check_written(connection, table, result.rowcount, len(rows))
        return
    changed = ", ".join(f"{name} = k.{name}" for name in names)
    _run(connection, f"{update} {changed} FROM", table, rows, f"WHERE r.{key} = k.{key}")


def _run(
    connection: Connection, statement: str, table: Any, rows: Sequence[Record], rest: str = ""
) -> None:
    spelled = {name: quoted(connection, name).strip('"') for name in rows[0]}
    records = [{spelled[name]: value for name, value in row.items()} for row in rows]
    of = quoted(connection, table)
    result = connection.execute(
        sql_text(
            f"{statement} jsonb_populate_recordset(CAST(NULL AS {of}), CAST(:rows AS jsonb)) k "
            f"{rest}"
        ),
        {"rows": json.dumps(records, default=str, ensure_ascii=False)},
    )
    check_written(connection, table, result.rowcount, len(rows))
