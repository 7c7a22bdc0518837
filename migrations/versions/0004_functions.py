"""The SQL functions simulate_new_sale, simulate_update_sale, simulate_delete_sale, simulate_sales.

Revision ID: 0004
Revises: 0003

Every name in them is qualified, and their search path holds pg_catalog first, so no temporary table
and no schema of somebody else's is ever found in place of the shop's. The shop's own schema is in
it for triggers on its tables, which run with the same path. They run with the rights of who calls
them. A function of one of these names that is there already is not replaced, and one that was
changed since is not dropped.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import text

from chinook_sim.errors import MigrationRefused
from chinook_sim.provisioning.migration_runner import SqlFunction, read_functions, revision_of
from chinook_sim.provisioning.revision_context import (
    RevisionContext,
    current_context,
    execute,
    leave_out,
    mark,
    marked,
)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LOCK = 0x6368696E6F6F6B  # taken by everything of ours that moves a sequence forward

FUNCTIONS = read_functions(
    revision,
    "chinook_sim_in_step",
    "chinook_sim_any_tracks",
    "chinook_sim_any_sale",
    "simulate_new_sale",
    "simulate_update_sale",
    "simulate_delete_sale",
    "simulate_sales",
)


def upgrade() -> None:
    here = current_context()
    if not here.postgresql:
        leave_out("functions, which SQLite does not have")
        return
    refuse_taken(here, "p.proname = ANY (:names)", names=list(FUNCTIONS))
    install(here, FUNCTIONS, names_in(here))


def refuse_taken(here: RevisionContext, condition: str, **parameters: list[str]) -> None:
    """Refuse to replace functions of somebody else.

    Args:
        here: the database.
        condition: which functions `p` of the shop's schema must not be there, as SQL.
        parameters: of the condition.

    Raises:
        MigrationRefused: some are there; it gives the statements that rename them.
    """
    taken = here.connection.execute(
        text(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' "
            "|| pg_get_function_identity_arguments(p.oid) || ')' AS routine, "
            "quote_ident(p.proname || '_earlier') AS name FROM pg_proc p "
            "JOIN pg_namespace n ON n.oid = p.pronamespace "
            f"WHERE n.nspname = :schema AND {condition} ORDER BY 1"
        ),
        {"schema": here.schema, **parameters},
    ).all()
    if taken:
        renames = " ".join(f"ALTER ROUTINE {one.routine} RENAME TO {one.name};" for one in taken)
        raise MigrationRefused(
            f"not upgraded: {', '.join(one.routine for one in taken)} is there already, and not "
            f"made by chinook_sim. Rename or drop it, and upgrade again. Run: {renames} "
            "(docs/how-to/from-the-earlier-simulator.md says more)"
        )


def install(
    here: RevisionContext, functions: dict[str, SqlFunction], names: dict[str, str]
) -> None:
    """Create functions, or replace them by others of the same parameters and results.

    Args:
        here: the database.
        functions: by name.
        names: what stands in braces in their bodies.
    """
    if other_defaults(here):
        leave_out(f"functions, as {other_defaults(here)}")
        return
    for function in functions.values():
        install_one(here, function.render(names), settings_of(here, function.name))


def other_defaults(here: RevisionContext) -> str:
    """Say which ids the functions cannot take, as a column has a default of the owner's."""
    found = []
    chinook = revision_of("0001").chinook(here)
    for name in ("Invoice", "InvoiceLine"):
        ids = here.place.ids_of(name) if here.place and here.place.has(name) else None
        if ids and ids.expression:
            found.append(f"the ids of {here.spell(chinook[name])} are {ids.expression}")
    return " and ".join(found)


def settings_of(here: RevisionContext, name: str) -> str:
    """Return the settings that a function runs with, as SQL."""
    shops = f"{here.spell(here.schema or 'public')}, " if name.startswith("simulate_") else ""
    # Planning anew at each call takes longer than the look-ups of one sale.
    plans = "" if name == "simulate_sales" else " SET plan_cache_mode = force_generic_plan"
    return f"SET search_path = pg_catalog, {shops}pg_temp{plans}"


def install_one(here: RevisionContext, function: SqlFunction, settings: str) -> None:
    """Create a function, or replace it by another of the same parameters and result."""
    name, parameters, result, body = function
    quote = _dollars(body)
    # Only a name can bring a backslash in; the setting would make it an escape in a string.
    strings = " SET standard_conforming_strings = on" if "\\" in body else ""
    execute(
        f"CREATE OR REPLACE FUNCTION {here.ours(name)}({parameters}) RETURNS {result} "
        f"LANGUAGE plpgsql SECURITY INVOKER {settings}{strings} AS {quote}{body}{quote}"
    )
    # So that a downgrade knows whether it is still the one that was installed.
    digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
    mark("FUNCTION", signature_of(here, function), f", {digest}")


def downgrade() -> None:
    here = current_context()
    if not here.postgresql:
        return
    for signature in refuse_changed(here, signatures(here)):
        execute(f"DROP FUNCTION {signature}")


def signatures(here: RevisionContext) -> list[str]:
    """Return the signatures of the functions, the last made first."""
    return [signature_of(here, function) for function in FUNCTIONS.values()][::-1]


def refuse_changed(here: RevisionContext, signatures: list[str]) -> list[str]:
    """Return the signatures of those functions that are there.

    Raises:
        MigrationRefused: one of them was changed since it was installed.
    """
    there = []
    for signature in signatures:
        found = here.connection.scalar(
            text("SELECT md5(prosrc) FROM pg_proc WHERE oid = to_regprocedure(:signature)"),
            {"signature": signature},
        )
        if found is not None and marked(here, "pg_proc", signature) != f", {found}":
            raise MigrationRefused(
                f"not migrated: {signature} was changed since it was installed. To keep it, rename "
                f"it (ALTER FUNCTION {signature} RENAME TO …); or drop it. Then run it again"
            )
        if found is not None:
            there.append(signature)
    return there


def _dollars(body: str) -> str:
    """Return a quote for a function's text, which holds the schema's name, that is not in it."""
    tag = "function"
    while f"${tag}$" in body:
        tag += "_"
    return f"${tag}$"


def signature_of(here: RevisionContext, function: SqlFunction) -> str:
    """Return a function's name and the types of its parameters as SQL."""
    parameters = function.parameters.split(", ")
    types = ", ".join(parameter.partition(" ")[2] for parameter in parameters)
    return f"{here.ours(function.name)}({types})"


NEW_LINES = "SELECT line, INSERT line, USAGE line_sequence"

NEW_SALES = (
    f"SELECT customer, SELECT track, SELECT invoice, INSERT invoice, {NEW_LINES}, "
    "USAGE invoice_sequence"
)
"""The rights that making lines, and sales, takes, each on one of `objects_of`."""


def objects_of(here: RevisionContext) -> dict[str, str]:
    """Return the tables and sequences that the functions use, as SQL."""
    chinook = revision_of("0001").chinook(here)
    customer, track = chinook["Customer"], chinook["Track"]
    invoice, line = chinook["Invoice"], chinook["InvoiceLine"]
    separate = here.ledger_schema if here.ledger_schema != here.schema else None
    return {
        "ledger_schema": here.spell(separate) if separate else "",
        "customer": here.spell(customer),
        "track": here.spell(track),
        "invoice": here.spell(invoice),
        "line": here.spell(line),
        "run": here.ledgers("chinook_sim_run"),
        "invoice_sequence": here.sequence_of("Invoice") or here.ours("invoice_id_seq"),
        "line_sequence": here.sequence_of("InvoiceLine") or here.ours("invoice_line_id_seq"),
    }


def names_in(here: RevisionContext) -> dict[str, str]:
    """Return what stands in braces in the functions."""
    chinook = revision_of("0001").chinook(here)
    customer, track = chinook["Customer"], chinook["Track"]
    invoice, line = chinook["Invoice"], chinook["InvoiceLine"]
    columns = {
        "customer_id": customer.c.CustomerId,
        "address": customer.c.Address,
        "track_id": track.c.TrackId,
        "price": track.c.UnitPrice,
        "invoice_id": invoice.c.InvoiceId,
        "invoice_date": invoice.c.InvoiceDate,
        "total": invoice.c.Total,
        "line_id": line.c.InvoiceLineId,
        "line_invoice": line.c.InvoiceId,
        "line_track": line.c.TrackId,
        "line_price": line.c.UnitPrice,
        "quantity": line.c.Quantity,
    }
    names = {key: here.spell(column.name) for key, column in columns.items()}
    address = [
        f"c.{here.spell(customer.c[column].name)}"
        for column in ("Address", "City", "State", "Country", "PostalCode")
    ]
    price = f"t.{here.spell(track.c.UnitPrice.name)}"
    objects = objects_of(here)
    change = "SELECT invoice, UPDATE invoice"
    return {
        **names,
        **objects,
        "schema": here.spell(here.schema or "public"),
        "lock": str(LOCK),
        "revision": revision,
        "customer_text": quote(objects["customer"]),
        "track_text": quote(objects["track"]),
        "invoice_sequence": f"'{quote(objects['invoice_sequence'])}'::regclass",
        "line_sequence": f"'{quote(objects['line_sequence'])}'::regclass",
        "invoice_columns": here.spell(*(column.name for column in invoice.columns)),
        "line_columns": here.spell(*(column.name for column in line.columns)),
        "billing": ", ".join(address),
        "invoice_text": quote(objects["invoice"]),
        "line_text": quote(objects["line"]),
        # For strings that hold SQL.
        "invoice_id_text": quote(names["invoice_id"]),
        "invoice_date_text": quote(names["invoice_date"]),
        "line_invoice_text": quote(names["line_invoice"]),
        "invoices_left": _left(
            objects["invoice_sequence"], objects["invoice"], names["invoice_id"]
        ),
        "lines_left": _left(objects["line_sequence"], objects["line"], names["line_id"]),
        "whole_cents": f"coalesce({price} >= 0 AND {price} < 100000000"
        f" AND {price} * 100 = floor({price} * 100), false)",
        "id_code": _code("it.id"),
        "price_code": _code("it.price"),
        "second_code": _code("second", 3),
        "size_code": _code("size", 1),
        "track_bytes": _basket("track_codes"),
        "price_bytes": _basket("cents_codes"),
        "missing_for_new_sale": missing(objects, NEW_SALES),
        "missing_for_update_sale": missing(objects, f"{change}, SELECT track, {NEW_LINES}"),
        "missing_for_delete_sale": missing(
            objects, f"{change}, DELETE invoice, SELECT line, DELETE line"
        ),
        "missing_for_sales": missing(
            objects, f"{NEW_SALES}, USAGE ledger_schema, SELECT run, INSERT run"
        ),
    }


def _left(sequence: str, table: str, column: str) -> str:
    """Return an expression for the ids that a sequence, and the column it is for, have left."""
    return (
        "(SELECT greatest(0, (least(q.seqmax, "
        "CASE a.atttypid WHEN 'int4'::regtype THEN 2147483647 ELSE q.seqmax END) "
        "- coalesce(pg_sequence_last_value(q.seqrelid), q.seqstart - 1)) "
        "/ q.seqincrement) FROM pg_sequence q, pg_attribute a "
        f"WHERE q.seqrelid = '{quote(sequence)}'::regclass "
        f"AND a.attrelid = '{quote(table)}'::regclass "
        # Not quote_ident, which depends on a setting.
        f"AND a.attname = (parse_ident('{quote(column)}'))[1])"
    )


def missing(objects: dict[str, str], rights: str) -> str:
    """Return an expression for the GRANT statements that the caller lacks, or NULL."""
    grants = []
    for right in rights.split(", "):
        verb, name = right.split()
        thing = quote(objects[name])
        if name == "ledger_schema" and not thing:
            continue
        kind, of, it = "table", "", f"'{thing}'::regclass"
        if name == "ledger_schema":
            kind, of, it = "schema", "SCHEMA ", f"'{thing}'::regnamespace::oid"
        elif verb == "USAGE":
            kind, of = "sequence", "SEQUENCE "
        elif verb in ("SELECT", "INSERT", "UPDATE"):
            kind = "any_column"
        if objects["ledger_schema"] and name.startswith("run"):
            # In a schema that is closed to the caller, a regclass is an error.
            schema, table = quote(objects["ledger_schema"]), thing.rpartition(".")[2]
            it = (
                f"(SELECT c.oid FROM pg_class c WHERE c.relname = '{table}' "
                f"AND c.relnamespace = '{schema}'::regnamespace)"
            )
        grants.append(
            f"CASE WHEN NOT has_{kind}_privilege({it}, '{verb}') "
            f"THEN 'GRANT {verb} ON {of}{thing} TO ' || quote_ident(current_user) END"
        )
    return "nullif(concat_ws('; ', " + ",\n        ".join(grants) + "), '')"


def _code(number: str, width: int = 8) -> str:
    """Return an expression for the number whose bytes are those of another, turned round.

    Args:
        number: an expression for an integer.
        width: bytes of it that can be other than 0.
    """
    # Every pair in brackets of its own: these operators all bind equally.
    parts = [f"(({number}::bigint >> {8 * k} & 255) << {56 - 8 * k})" for k in range(width)]
    return f"({' | '.join(parts)})"


def _basket(codes: str) -> str:
    """Return an expression for the bytes of the tracks of a sale, of which later ones may lack."""
    return " || ".join(
        f"int8send({codes}[t{k}])" if k == 1 else f"coalesce(int8send({codes}[t{k}]), '')"
        for k in range(1, 6)
    )


def quote(name: str) -> str:
    return name.replace("'", "''")
