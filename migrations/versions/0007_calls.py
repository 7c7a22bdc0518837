"""SQL functions that take dates and now(), and leave alone sales that other tables refer to.

Revision ID: 0007
Revises: 0006

`simulate_update_sale` and `simulate_delete_sale` take midnight for the whole day. Overloads for
`timestamptz`, `date` and `text` make calls with `now()` work. Literals go to the one for `text`,
and dates to the one for `date`. Without these two PostgreSQL would prefer `timestamptz`, and
convert both through the session's TimeZone, where a moment that daylight saving skips becomes
another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from chinook_sim.provisioning.migration_runner import SqlFunction, read_functions, revision_of
from chinook_sim.provisioning.revision_context import (
    RevisionContext,
    current_context,
    execute,
    marked,
)

if TYPE_CHECKING:
    from collections.abc import Callable

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INTERNAL = read_functions(
    revision, "chinook_sim_referred", "chinook_sim_hold_sale", "chinook_sim_any_free_sale"
)
"""Functions that are new in this revision and that other functions call."""

REPLACED = read_functions(revision, "simulate_update_sale", "simulate_delete_sale")

OVERLOADS = read_functions(
    revision,
    *(
        f"{name}.{kind}"
        for kind in ("date", "timestamptz", "text")
        for name in ("simulate_new_sale", *REPLACED)
    ),
)
"""Functions that only take what others are given in another type."""

PATH = "SET search_path = pg_catalog, pg_temp"
"""Of the overloads, and nothing else: a literal is read as the caller's settings have it, DateStyle
for example."""


def upgrade() -> None:
    here = current_context()
    if not here.postgresql:
        return
    first = revision_of("0004")
    first.refuse_changed(here, first.signatures(here))
    first.refuse_taken(
        here,
        "p.oid = ANY (SELECT to_regprocedure(s) FROM unnest(CAST(:signatures AS text[])) AS s)",
        signatures=added(here),
    )
    if not first.other_defaults(here):
        for function, settings in functions(here):
            first.install_one(here, function, settings)


def downgrade() -> None:
    here = current_context()
    if not here.postgresql:
        return
    first, earlier = revision_of("0004"), revision_of("0006")
    first.refuse_changed(here, first.signatures(here))
    kept = [] if first.other_defaults(here) else first.signatures(here)
    for signature in first.refuse_changed(here, first.signatures(here) + added(here)):
        if signature not in kept:
            execute(f"DROP FUNCTION {signature}")
    first.install(here, earlier.FUNCTIONS, earlier.names_in(here))


def refresh(functions: Callable[[RevisionContext], list[tuple[SqlFunction, str]]]) -> None:
    """Write the functions anew that have names in them which are no longer the database's.

    Where ids come from a default that the functions cannot take, they are dropped; where they no
    longer do, they are created. One that was changed since it was installed is left alone.

    Args:
        functions: of the newest revision, which returns all functions as they are from it on.
    """
    here = current_context()
    if not here.postgresql:
        return
    first = revision_of("0004")
    if not first.other_defaults(here):
        # A column whose default was dropped has nothing that makes its ids.
        revision_of("0002").create(here)
        here = current_context()
    for function, settings in functions(here):
        signature = first.signature_of(here, function)
        row = here.connection.execute(
            text(
                "SELECT prosrc, md5(prosrc) AS digest FROM pg_proc "
                "WHERE oid = to_regprocedure(:signature)"
            ),
            {"signature": signature},
        ).one_or_none()
        ours = row is not None and marked(here, "pg_proc", signature) == f", {row.digest}"
        if first.other_defaults(here):
            if ours:
                execute(f"DROP FUNCTION {signature}")
        elif row is None or (ours and row.prosrc != function.body):
            first.install_one(here, function, settings)


def added(here: RevisionContext) -> list[str]:
    """Return the signatures of the functions that this revision adds, the last made first."""
    first = revision_of("0004")
    made = (*INTERNAL.values(), *OVERLOADS.values())
    return [first.signature_of(here, function) for function in made][::-1]


def functions(
    here: RevisionContext,
    replaced: dict[str, SqlFunction] = REPLACED,
    names: dict[str, str] | None = None,
) -> list[tuple[SqlFunction, str]]:
    """Return all functions, in the order of their making.

    Each is in the names of the database, with the settings that it runs with.

    Args:
        here: the database.
        replaced: those that differ from revision 0006.
        names: what stands in braces; as of this revision if None.
    """
    first, earlier = revision_of("0004"), revision_of("0006")
    names = names or names_in(here)
    made = (INTERNAL | earlier.FUNCTIONS | replaced).values()
    return [
        *((function.render(names), first.settings_of(here, function.name)) for function in made),
        *((function.render(names), PATH) for function in OVERLOADS.values()),
    ]


def names_in(here: RevisionContext) -> dict[str, str]:
    """Return what stands in braces in the functions."""
    names: dict[str, str] = revision_of("0006").names_in(here)
    line = f"'{names['line_text']}'::regclass"
    return names | {
        "revision": revision,
        "line_oid": line,
        "foreign_key": (
            f"f.contype = 'f' AND f.confrelid IN ('{names['invoice_text']}'::regclass, {line}) "
            # Each partition of the lines has a foreign key of its own.
            f"AND f.conrelid <> {line} AND f.conparentid = 0"
        ),
    }
