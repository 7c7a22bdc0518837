"""The privileges that a role lacks, as the GRANTs that give them.

They are looked up only if the server has refused something, or is about to: its message names the
table, and not the privilege.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from chinook_sim.database.backends import backend_for
from chinook_sim.database.foreign_keys import referring_tables
from chinook_sim.database.identifiers import quoted
from chinook_sim.database.names import SALE_TABLES
from chinook_sim.models import Change, Customer, Invoice, InvoiceLine, Run, RunInvoices, Track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook

__all__ = [
    "INSUFFICIENT_PRIVILEGE",
    "Privilege",
    "Purpose",
    "lacking",
    "missing_grants",
    "privileges_on_references",
    "required_privileges",
]

INSUFFICIENT_PRIVILEGE = "42501"
"""PostgreSQL's error code."""


Purpose = Literal[
    "batch",
    "changes",
    "customers and prices",
    "align",
    "merge",
    "undo",
    "undo changes",
    "undo customers and prices",
    "verify",
]
"""What the privileges are needed for:

- `batch`: inserting sales
- `changes`: also updating and cancelling earlier invoices
- `customers and prices`: also new customers, moves and price changes
- `align`: moving the dates of the history
- `merge`: merging the runs of a stream in the ledger
- `undo`: undoing runs that only inserted sales
- `undo changes`: undoing runs that changed invoices
- `undo customers and prices`: undoing runs that changed customers or prices
- `verify`: reading everything that the checks read
"""


Privilege = tuple[str, str]
"""A privilege and its object, as SQL: `("INSERT", "public.invoice")`."""


def missing_grants(connection: Connection, needed: Iterable[Privilege]) -> str:
    """Return the GRANTs that the current role lacks, joined by semicolons; empty for none."""
    wanted = list(dict.fromkeys(needed))
    schemas = [item for item in wanted if item[1].startswith("SCHEMA ")]
    missing = _missing(connection, schemas)
    # Privileges on a table cannot be looked up without USAGE on its schema.
    closed = tuple(
        f"{target.removeprefix('SCHEMA ')}."
        for privilege, target in missing
        if privilege == "USAGE"
    )
    others = [
        item
        for item in wanted
        if item not in schemas and not item[1].removeprefix("SEQUENCE ").startswith(closed)
    ]
    missing += _missing(connection, others)
    if not missing:
        return ""
    role = connection.scalar(text("SELECT quote_ident(current_user)"))
    return "; ".join(f"GRANT {privilege} ON {target} TO {role}" for privilege, target in missing)


def lacking(connection: Connection, chinook: Chinook, purpose: Purpose) -> str:
    """Return the GRANTs that the current role lacks for something; empty for none."""
    if not backend_for(connection).has_roles:
        return ""
    return missing_grants(connection, required_privileges(connection, chinook, purpose))


def _missing(connection: Connection, needed: list[Privilege]) -> list[Privilege]:
    """Return the privileges that the current role lacks, in one round trip."""
    tests: list[str] = []
    values: dict[str, str] = {}
    for place, (privilege, target) in enumerate(needed):
        kind, _, name = target.partition(" ")
        if kind not in _PRIVILEGE_TESTS:
            kind, name = "DELETE" if privilege == "DELETE" else "TABLE", target
        tests.append(_PRIVILEGE_TESTS[kind].format(place))
        values |= {f"name{place}": name, f"privilege{place}": privilege}
    if not tests:
        return []
    held = connection.execute(text(f"SELECT {', '.join(tests)}"), values).one()
    return [item for item, yes in zip(needed, held, strict=True) if not yes]


_PRIVILEGE_TESTS = {
    # A privilege on some columns may be enough. DELETE has no column privileges.
    "TABLE": "has_any_column_privilege(CAST(:name{0} AS regclass), :privilege{0})",
    "DELETE": "has_table_privilege(CAST(:name{0} AS regclass), :privilege{0})",
    "SEQUENCE": "has_sequence_privilege(CAST(:name{0} AS regclass), :privilege{0})",
    # Of the one that is connected to.
    "DATABASE": "has_database_privilege(current_database(), :privilege{0})",
    "SCHEMA": "has_schema_privilege(CAST(CAST(:name{0} AS regnamespace) AS oid), :privilege{0})",
}


def required_privileges(
    connection: Connection, chinook: Chinook, purpose: Purpose
) -> Iterator[Privilege]:
    """Yield the privileges that a purpose takes, on a recognised Chinook."""
    # First, so that nothing is asked about tables in a schema that is closed.
    if chinook.ledger and chinook.ledger_schema not in (None, chinook.schema):
        yield "USAGE", f"SCHEMA {quoted(connection, chinook.ledger_schema)}"
    if purpose == "verify":
        ledger = [model.__table__ for model in (Run, RunInvoices, Change)] if chinook.ledger else []
        yield from (("SELECT", quoted(connection, table)) for table in (*SALE_TABLES, *ledger))
        return
    if purpose == "merge":
        run, ranges, change = (
            quoted(connection, model.__table__) for model in (Run, RunInvoices, Change)
        )
        yield from ((privilege, run) for privilege in ("SELECT", "UPDATE", "DELETE"))
        yield from ((privilege, ranges) for privilege in ("SELECT", "INSERT", "DELETE"))
        yield from ((privilege, change) for privilege in ("SELECT", "UPDATE"))
        return
    invoice, line = (quoted(connection, model.__table__) for model in (Invoice, InvoiceLine))
    if purpose in ("batch", "changes", "customers and prices"):
        yield "SELECT", quoted(connection, Customer.__table__)
        yield "SELECT", quoted(connection, Track.__table__)
        for table, ids in ((invoice, chinook.invoice_ids), (line, chinook.line_ids)):
            yield "INSERT", table
            if ids.sequence_schema is not None:
                yield "USAGE", f"SCHEMA {ids.sequence_schema}"
            if ids.sequence is not None and not ids.always:
                yield "USAGE", f"SEQUENCE {ids.sequence}"
            # The highest id, or the id that an identity column gave, is read.
            if ids.counted or (ids.always and not ids.usable):
                yield "SELECT", table
        if purpose != "batch":
            yield from ((privilege, invoice) for privilege in ("SELECT", "UPDATE", "DELETE"))
            yield from ((privilege, line) for privilege in ("SELECT", "DELETE"))
    elif purpose == "align":
        yield from (("SELECT", invoice), ("UPDATE", invoice))
    else:
        # UPDATE, as the sales are locked before they are looked at.
        yield from (("SELECT", invoice), ("UPDATE", invoice), ("DELETE", invoice))
        yield from (("SELECT", line), ("UPDATE", line), ("DELETE", line))
        if purpose != "undo":
            yield from (("INSERT", invoice), ("INSERT", line))
    if chinook.ledger:
        run = quoted(connection, Run.__table__)
        yield "SELECT", run
        yield ("UPDATE" if purpose.startswith("undo") else "INSERT"), run
        ranges = quoted(connection, RunInvoices.__table__)
        yield "SELECT", ranges
        if not purpose.startswith("undo"):
            yield "INSERT", ranges
    if chinook.ledger and purpose != "align":
        change = quoted(connection, Change.__table__)
        # A batch asks for the last change of a price.
        yield "SELECT", change
        if purpose in ("changes", "customers and prices", "undo customers and prices"):
            yield "INSERT", change
        if purpose in ("changes", "customers and prices"):
            yield "UPDATE", change
    if purpose in ("customers and prices", "undo customers and prices"):
        customer, track = (quoted(connection, model.__table__) for model in (Customer, Track))
        yield from (("UPDATE", customer), ("UPDATE", track))
        yield ("INSERT" if purpose == "customers and prices" else "DELETE"), customer
        if chinook.customer_ids.sequence is not None and purpose == "customers and prices":
            yield "USAGE", f"SEQUENCE {chinook.customer_ids.sequence}"


def privileges_on_references(connection: Connection, purpose: Purpose) -> Iterator[Privilege]:
    """Return the privileges to see which sales other tables refer to, if something asks for that.

    Only cancellations do, among changes; so they are no part of `required_privileges`.
    """
    if purpose in ("batch", "align", "merge", "verify"):
        return
    for schema, table in referring_tables(connection):
        yield "USAGE", f"SCHEMA {schema}"
        yield "SELECT", table
