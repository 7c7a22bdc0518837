"""The time zone of timestamptz dates; more types of columns in the SQL functions.

Revision ID: 0010
Revises: 0009

Sales are dated by the clock of one time zone, whatever the TimeZone of the session that makes,
checks or undoes them. It is that of the session that migrates, and kept in the row `baseline` of
the ledger, also where dates have no time zone, as their column may be altered later. The SQL
functions run with it where dates have one. Where prices are `real` or `double precision`, the
functions take them for the decimal numbers that they stand for, as the library does. And addresses
may be of an enum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import column, inspect, select, table, text

from chinook_sim.provisioning.migration_runner import read_functions, revision_of
from chinook_sim.provisioning.revision_context import RevisionContext, current_context, execute

if TYPE_CHECKING:
    from collections.abc import Callable

    from chinook_sim.provisioning.migration_runner import SqlFunction

    Functions = Callable[[RevisionContext], list[tuple[SqlFunction, str]]]

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

RUN = "chinook_sim_run"

FUNCTIONS = read_functions(revision, "simulate_sales")


def upgrade() -> None:
    here = current_context()
    if not here.postgresql:
        return
    # Of the session that runs it: a script may run in another than the one that wrote it.
    execute(
        f"UPDATE {here.ledgers(RUN)} SET timezone = current_setting('TimeZone') "
        "WHERE run_id = 'baseline'"
    )
    _replace(here, revision_of("0007").functions, functions)
    if _zoned(here) and not revision_of("0004").other_defaults(here):
        for signature in _for_users(here):
            execute(f"ALTER FUNCTION {signature} SET TimeZone FROM CURRENT")


def downgrade() -> None:
    here = current_context()
    if not here.postgresql:
        return
    _replace(here, functions, revision_of("0007").functions)
    _set_zone(here, None)
    # Somebody may have dropped it already, and wants it made again.
    if inspect(here.connection).has_table(RUN, schema=here.ledger_schema):
        execute(f"UPDATE {here.ledgers(RUN)} SET timezone = NULL WHERE run_id = 'baseline'")


def _replace(here: RevisionContext, old: Functions, new: Functions) -> None:
    """Replace the functions whose text differs between two revisions."""
    first = revision_of("0004")
    changed = [
        (function, settings)
        for (function, settings), (before, _) in zip(new(here), old(here), strict=True)
        if function.body != before.body
    ]
    first.refuse_changed(here, [first.signature_of(here, function) for function, _ in changed])
    if not first.other_defaults(here):
        for function, settings in changed:
            first.install_one(here, function, settings)


def refresh_functions() -> None:
    """Reinstall the functions that no longer match the database."""
    here = current_context()
    if not here.postgresql:
        return
    revision_of("0007").refresh(functions)
    here = current_context()
    zone = None
    if here.place is not None and here.place.ledger and _zoned(here):
        run = table(RUN, column("run_id"), column("timezone"), schema=here.ledger_schema)
        zone = here.connection.scalar(select(run.c.timezone).where(run.c.run_id == "baseline"))
    _set_zone(here, zone)


def functions(here: RevisionContext) -> list[tuple[SqlFunction, str]]:
    """Return all functions as they are from this revision on; see revision 0007."""
    latest = revision_of("0007")
    made: list[tuple[SqlFunction, str]]
    made = latest.functions(here, latest.REPLACED | FUNCTIONS, names_in(here))
    return made


def names_in(here: RevisionContext) -> dict[str, str]:
    """Return what stands in braces in the functions."""
    names: dict[str, str] = revision_of("0007").names_in(here)
    second = "floor(random() * 86400)::integer"
    if _zoned(here):
        # One that the clocks skip becomes another of the day: as in `dates.move_out_of_gaps`.
        # The condition makes it one for each sale.
        second = (
            "(SELECT CASE WHEN kept < 86400 THEN kept ELSE 2 * drawn - kept END FROM "
            "(SELECT drawn, extract(epoch FROM (p_day + drawn * interval '1 second')::timestamptz"
            f"::timestamp - p_day)::integer AS kept FROM (SELECT {second} AS drawn WHERE n > 0 "
            "OFFSET 0) d OFFSET 0) k)"
        )
    # Of an inexact type, the decimal number that it stands for.
    price = f"t.{names['price']}::numeric"
    whole = f"{price} >= 0 AND {price} < 100000000 AND {price} * 100 = floor({price} * 100)"
    return names | {
        "revision": revision,
        "second": second,
        "whole_cents": f"coalesce({whole}, false)",
        "billing_print": _billing_print(here),
    }


def _billing_print(here: RevisionContext) -> str:
    """Return what a fingerprint has of the address of a customer `c`, whatever its types."""
    columns = revision_of("0001").chinook(here)["Customer"].c
    fields = " || ".join(
        f"coalesce(c.{here.spell(columns[name].name)}::text, chr(30)) || chr(31)"
        for name in ("Address", "City", "State", "Country", "PostalCode")
    )
    return f"substring(sha256(convert_to({fields}, 'UTF8')) FROM 1 FOR 4)"


def _zoned(here: RevisionContext) -> bool:
    """Return whether dates are kept with a time zone."""
    found = here.place.types.get("Invoice.InvoiceDate") if here.place else None
    return found is not None and found.name == "timestamp with time zone"


def _set_zone(here: RevisionContext, zone: str | None) -> None:
    """Let the functions that are there run with a time zone; None for the session's."""
    for signature in _for_users(here):
        row = here.connection.execute(_SETTINGS, {"signature": signature}).one_or_none()
        if row is None:
            continue
        now = dict(it.split("=", 1) for it in row.settings or ()).get("TimeZone")
        if zone is not None and now != zone:
            execute(f"ALTER FUNCTION {signature} SET TimeZone = {_literal(zone)}")
        elif zone is None and now is not None:
            execute(f"ALTER FUNCTION {signature} RESET TimeZone")


_SETTINGS = text(
    "SELECT proconfig AS settings FROM pg_proc WHERE oid = to_regprocedure(:signature)"
)


def _for_users(here: RevisionContext) -> list[str]:
    """Return the signatures of the functions that users call."""
    found = [function for function, _ in functions(here) if function.name.startswith("simulate_")]
    return [revision_of("0004").signature_of(here, function) for function in found]


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
