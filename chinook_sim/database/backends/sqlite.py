"""SQLite: what its catalogue says of the tables of a Chinook."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, get_args

from sqlalchemy import Connection, bindparam, text

from chinook_sim.database.identifiers import Spelling, spell
from chinook_sim.database.schema import (
    CHINOOK_TABLES,
    LARGEST_ID,
    LEDGER_TABLES,
    ColumnRow,
    IdSource,
    ledger_state,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["sqlite_columns"]


# SQLite compares names without regard to case, so a table is looked for in lower case and reported
# as Chinook spells it.
_SQLITE_COLUMNS = text(
    """
    SELECT t.name AS table_name, c.name AS column_name,
           (SELECT group_concat(l.name) FROM sqlite_master l
             WHERE l.type = 'table' AND l.name IN :ledger) AS ledger_tables,
           CURRENT_DATE AS today
      FROM sqlite_master t, pragma_table_info(t.name) c
     WHERE t.type = 'table' AND lower(t.name) IN :names ORDER BY t.name, c.cid
    """
).bindparams(
    bindparam("names", expanding=True),
    bindparam("ledger", LEDGER_TABLES, expanding=True),
)


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


def sqlite_columns(connection: Connection) -> Iterable[ColumnRow]:
    """Return the columns of all tables that have a name of Chinook's."""
    known = _lowered()
    ids = IdSource("rowid", LARGEST_ID)
    # One name may be right in both spellings (Album, album): it is reported in each.
    for row in connection.execute(_SQLITE_COLUMNS, {"names": list(known)}):
        today = date.fromisoformat(row.today)
        for name in known[row.table_name.lower()]:
            for column in known.get(row.column_name.lower(), [row.column_name]):
                yield ColumnRow(
                    None,
                    name,
                    column,
                    True,
                    True,
                    None,
                    *ledger_state(row.ledger_tables),
                    None,
                    (),
                    today,
                    False,
                    ids,
                )
