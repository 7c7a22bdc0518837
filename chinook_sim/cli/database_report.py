"""What `init` and `status` print about a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, Connection, Select

__all__ = ["describe_database", "without_names"]

T = TypeVar("T")


def describe_database(connection: Connection, timezone: str | None = None) -> dict[str, Any]:
    """Describe a database: its Chinook, its D-1, and the installed revision.

    A value that the role may not read is replaced by a text with the missing privilege.
    """
    from sqlalchemy import String, func, select, type_coerce

    from chinook_sim.database.backends import backend_for
    from chinook_sim.database.clock import d1
    from chinook_sim.database.introspection import recognise
    from chinook_sim.database.session_settings import pinned
    from chinook_sim.dates import bounds
    from chinook_sim.ledger.listing import count_runs
    from chinook_sim.models import Customer, Invoice, Track
    from chinook_sim.provisioning.ledger_location import installed

    chinook = recognise(connection)
    day = d1(connection, timezone)
    start, end = bounds(day)
    sold = select(func.count()).where(Invoice.invoice_date >= start, Invoice.invoice_date < end)

    def scalar(query: Select[Any]) -> Any:
        return read_if_allowed(connection, lambda: connection.scalar(query))

    with pinned(connection, chinook):
        latest: ColumnElement[Any] = func.max(Invoice.invoice_date)
        if not backend_for(connection).has_typed_columns:
            # As it is written: there may be something else than dates in SQLite.
            latest = type_coerce(latest, String)
        last = scalar(select(latest))
        sales = scalar(sold)
    return {
        "spelling": chinook.names.description,
        "names": chinook.names.unusual or None,
        "schema": chinook.schema,
        "ids": chinook.invoice_ids.shown,
        "customers": scalar(select(func.count()).select_from(Customer)),
        "tracks": scalar(select(func.count()).select_from(Track)),
        "invoices": scalar(select(func.count()).select_from(Invoice)),
        "last_invoice": None if last is None else str(last),
        "d1": str(day),
        "sales_of_d1": sales,
        "revision": read_if_allowed(connection, lambda: installed(connection)),
        "runs": read_if_allowed(connection, lambda: count_runs(connection))
        if chinook.ledger
        else None,
    }


def without_names(record: dict[str, Any]) -> dict[str, Any]:
    """Return what fits into a table of two columns."""
    return {name: value for name, value in record.items() if name != "names"}


def read_if_allowed(connection: Connection, query: Callable[[], T]) -> T | str:
    """Return the result of a query, or which privilege is missing for it."""
    from sqlalchemy.exc import DBAPIError

    from chinook_sim.database.backends import backend_for
    from chinook_sim.database.error_messages import describe_driver_error
    from chinook_sim.database.privileges import INSUFFICIENT_PRIVILEGE

    if not backend_for(connection).has_roles:
        return query()
    try:
        with connection.begin_nested():
            return query()
    except DBAPIError as error:
        refusal = describe_driver_error(error)
        if refusal is None or refusal.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        return f"not readable: {refusal.line.partition(';')[0]}"
