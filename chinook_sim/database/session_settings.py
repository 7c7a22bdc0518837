"""PostgreSQL's session settings that statements of this library depend on.

Rows are stored in the ledger as JSON, in which intervals, date ranges and numbers are written as
these settings say. psycopg reads no timestamp with time zone in another DateStyle than ISO. A role
or a database may have any of them. They are set for a transaction only, since behind a pooler the
next transaction belongs to another client. Where dates have a time zone, TimeZone is set as well,
to the one that the shop keeps: see `Chinook.timezone`. If the transaction is the caller's, they are
restored.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook

__all__ = ["PIN", "UNUSUAL", "pin", "pinned"]

_SETTINGS = {
    # Only the style of output: whether 1/2 is in January or in February stays the caller's.
    "DateStyle": ("ISO", "^ISO,"),
    "IntervalStyle": ("postgres", "^postgres$"),
    "extra_float_digits": ("1", "^[123]$"),
    "bytea_output": ("hex", "^hex$"),
    # With it, quote_ident returns other spellings of the names that are compared with ours.
    "quote_all_identifiers": ("off", "^off$"),
}
"""Each setting with the value that is needed, and the values that do as well."""


PIN = "; ".join(f"SET LOCAL {name} = {value}" for name, (value, _) in _SETTINGS.items())
"""Statements that pin them until the transaction ends, for a transaction of our own."""

_ROWS = ", ".join(f"('{name}', '{value}', '{usual}')" for name, (value, usual) in _SETTINGS.items())

_DIFFERENT = (
    f"FROM (VALUES {_ROWS}) AS s (name, value, usual) WHERE current_setting(s.name) !~ s.usual"
)


UNUSUAL = f"EXISTS (SELECT 1 {_DIFFERENT})"
"""The condition, as SQL, that they have to be pinned."""

_PIN_AND_RETURN_OLD = text(
    "SELECT s.name, current_setting(s.name) AS before, set_config(s.name, s.value, true) "
    f"{_DIFFERENT} UNION ALL SELECT 'TimeZone', current_setting('TimeZone'), "
    "set_config('TimeZone', CAST(:timezone AS text), true) "
    "WHERE current_setting('TimeZone') <> CAST(:timezone AS text)"
)


def pin(connection: Connection, chinook: Chinook) -> dict[str, str]:
    """Pin the settings until the transaction ends, if need be.

    Args:
        connection: with a transaction open.
        chinook: what was recognised on it.

    Returns:
        The values before, of those that were changed.
    """
    if not chinook.unusual_settings and chinook.timezone is None:
        return {}
    rows = connection.execute(_PIN_AND_RETURN_OLD, {"timezone": chinook.timezone})
    return {row.name: row.before for row in rows}


@contextmanager
def pinned(connection: Connection, chinook: Chinook) -> Iterator[None]:
    """Run a block with the settings pinned, and restore them unless it fails.

    A block that fails leaves the transaction to be rolled back, or is under a savepoint; either
    restores them.
    """
    before = pin(connection, chinook)
    yield
    if before:
        connection.execute(select(*(func.set_config(*pair, True) for pair in before.items())))
