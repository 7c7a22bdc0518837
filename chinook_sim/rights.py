"""Which rights a role lacks, as the GRANT that gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from chinook_sim.models import Customer, Invoice, InvoiceLine, Run, Track
from chinook_sim.naming import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from chinook_sim.naming import Chinook

__all__ = ["missing_grants"]


def missing_grants(connection: Connection, chinook: Chinook) -> str:
    """Return the GRANT statements without which no batch can be written, or an empty text.

    Asked only when the server has refused something: what it then says names the table, and not
    the right.
    """
    held = text("SELECT has_any_column_privilege(CAST(:thing AS regclass), :right)")
    usage = text("SELECT has_sequence_privilege(CAST(:thing AS regclass), :right)")
    role = connection.scalar(text("SELECT quote_ident(current_user)"))
    return "; ".join(
        f"GRANT {right} ON {'SEQUENCE ' if right == 'USAGE' else ''}{thing} TO {role}"
        for right, thing in _needed(connection, chinook)
        if not connection.scalar(
            usage if right == "USAGE" else held, {"thing": thing, "right": right}
        )
    )


def _needed(connection: Connection, chinook: Chinook) -> Iterable[tuple[str, str]]:
    for table in (Customer.__table__, Track.__table__):
        yield "SELECT", quoted(connection, table)
    for table, ids in (
        (Invoice.__table__, chinook.invoice_ids),
        (InvoiceLine.__table__, chinook.line_ids),
    ):
        yield "INSERT", quoted(connection, table)
        if ids.sequence is not None and not ids.always:
            yield "USAGE", ids.sequence
        # The highest id, or the id that an identity column gave, is read.
        if ids.sequence is None or not ids.usable:
            yield "SELECT", quoted(connection, table)
    if chinook.ledger:
        for right in ("SELECT", "INSERT"):
            yield right, quoted(connection, Run.__table__)
