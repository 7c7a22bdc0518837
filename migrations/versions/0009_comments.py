"""Comments on the tables and columns of the ledger, for those who look at it with SQL tools.

Revision ID: 0009
Revises: 0008

A table or column that has a comment keeps it. `chinook_sim_version` gets none: its comment is a
mark, by which a ledger in a schema of its own is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from chinook_sim.provisioning.revision_context import (
    RevisionContext,
    current_context,
    execute,
    leave_out,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = {
    "chinook_sim_created_table": (
        "The tables and sequences that the migrations created, so that a downgrade drops no others."
    ),
    "chinook_sim_run": "One row for each run. A live stream merges its runs, 500 into one.",
    "chinook_sim_run_invoices": (
        "The ids of the invoices of each run, as ranges: those that it made, or those that align "
        "moved. An invoice id is in a range if id BETWEEN first_id AND last_id AND (id - first_id) "
        "% step = 0. A range has at most 2,000 sales."
    ),
    "chinook_sim_change": (
        "What runs changed or deleted: one row for each invoice, customer or track, before and "
        "after."
    ),
}

COLUMNS = {
    "chinook_sim_created_table": {
        "name": "the name, the primary key",
        "revision": "the revision that created it",
    },
    "chinook_sim_run": {
        "run_id": "the primary key, a UUID",
        "kind": (
            "generate; changes, without sales; live, of a stream; simulate_sales, the SQL "
            "function; align; or baseline, a row that the migration writes and that is no run"
        ),
        "key": (
            "identifies a repeated request; unique for each kind among the runs that are not "
            "undone; NULL without a key"
        ),
        "day": "the day of the sales; the last day of the history after align",
        "timezone": "the zone that D-1 was taken from; NULL for that of the database",
        "requested": "the number of sales that was requested",
        "seed": "the seed; NULL if the database's random() was used",
        "profile": "the name of the profile, for a file with a hash",
        "parameters": "what else was requested, as a JSON object",
        "parameters_hash": "SHA-256 of day, number, profile and parameters, in hexadecimal",
        "sales": "the number of sales that were made, or of invoices that align moved",
        "lines": "the number of tracks sold",
        "revenue": "the sum of the totals",
        "digest": "the digest of the sales; NULL for align",
        "first_invoice_id": "the lowest id of the invoices",
        "last_invoice_id": (
            "the highest id; in the row baseline, the highest id from before the ledger"
        ),
        "hours": "the number of sales in each hour of the day, as a JSON array",
        "created_at": "when the transaction began, by the database's clock; in SQLite in UTC",
        "version": "the version of the library or of the SQL function",
        "undone_at": "when the run was undone; NULL if it was not",
        "prices_known": (
            "the change_id of the last change of a price that the run had seen; NULL if no price "
            "had ever changed"
        ),
    },
    "chinook_sim_run_invoices": {
        "run_id": "the run; with first_id, the primary key",
        "first_id": "the first id",
        "last_id": "the last id",
        "step": "the difference between one id and the next",
        "fingerprints": (
            "16 bytes for each sale, a checksum of customer, timestamp, billing address and lines, "
            "by which verify finds the sale that was changed; NULL for runs from before revision "
            "0006"
        ),
    },
    "chinook_sim_change": {
        "change_id": "the primary key; rises",
        "run_id": "the run",
        "kind": (
            "update, a track was added to an invoice; cancellation, an invoice was deleted; "
            "sign-up, a new customer; move, another address of a customer; price, another price of "
            "a track; price undone, its old price again"
        ),
        "subject": "invoice, customer or track",
        "subject_id": "its id",
        "last_line_id": "the highest id of the invoice's lines before; NULL for other subjects",
        "before": (
            'its rows before, with all columns, as JSON: {"Invoice": [row], "InvoiceLine": [row, '
            '...]}, {"Customer": [row]} or {"Track": [row]}; NULL if it is new'
        ),
        "after": "the same after; NULL if it was deleted",
    },
}


def upgrade() -> None:
    here = current_context()
    if not here.postgresql:
        leave_out("comments, which SQLite does not have")
        return
    there = _there(here)
    for thing, comment in _comments(here):
        if thing not in there:
            literal = comment.replace("'", "''")
            execute(f"COMMENT ON {thing} IS '{literal}'")


def downgrade() -> None:
    here = current_context()
    if not here.postgresql:
        return
    there = _there(here)
    for thing, comment in _comments(here):
        # Somebody may have written another since, or dropped the table.
        if there.get(thing) == comment:
            execute(f"COMMENT ON {thing} IS NULL")


def _comments(here: RevisionContext) -> Iterator[tuple[str, str]]:
    """Yield each table and column of the ledger, as SQL for COMMENT ON, with its comment."""
    for table, comment in TABLES.items():
        yield _thing(here, table), comment
        for column, meaning in COLUMNS[table].items():
            yield _thing(here, table, column), meaning


def _there(here: RevisionContext) -> dict[str, str]:
    """Return the comments that the ledger has."""
    rows = here.connection.execute(_THERE, {"schema": here.ledger_schema, "tables": list(TABLES)})
    return {_thing(here, row.table, row.column): row.comment for row in rows}


def _thing(here: RevisionContext, table: str, column: str | None = None) -> str:
    name = here.ledgers(table)
    return f"COLUMN {name}.{here.spell(column)}" if column else f"TABLE {name}"


_THERE = text(
    """
    SELECT c.relname AS table, a.attname AS column, d.description AS comment
      FROM pg_description d
      JOIN pg_class c ON c.oid = d.objoid AND d.classoid = CAST('pg_class' AS regclass)
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
     WHERE n.nspname = :schema AND c.relname = ANY (:tables)
    """
)
