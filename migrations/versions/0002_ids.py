"""Sequences for ids, where the columns of Invoice and InvoiceLine have nothing that makes them.

Revision ID: 0002
Revises: 0001

The columns stay as they are. A sequence of the same name that is there already is used, and is
not ours to drop.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from chinook_sim.provisioning.migration_runner import revision_of
from chinook_sim.provisioning.revision_context import (
    RevisionContext,
    current_context,
    execute,
    leave_out,
    mark,
    marked,
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SEQUENCES = {"invoice_id_seq": "Invoice", "invoice_line_id_seq": "InvoiceLine"}


def upgrade() -> None:
    here = current_context()
    if not here.postgresql:
        leave_out("sequences, which SQLite does not have")
        return
    create(here)


def create(here: RevisionContext) -> None:
    """Create the sequences of the columns that have nothing that makes their ids."""
    first = revision_of("0001")
    chinook, created = first.chinook(here), first.created(here)
    for name, owner in SEQUENCES.items():
        table = chinook[owner]
        if here.place is None or here.place.ids_of(owner).kind != "none":
            continue
        size = "integer" if here.place.ids_of(owner).limit < 2**31 else "bigint"
        (key,) = table.primary_key.columns
        sequence = here.ours(name)
        literal = sequence.replace("'", "''")
        execute(f"CREATE SEQUENCE {sequence} AS {size}")
        mark("SEQUENCE", sequence)
        # An empty table, or one whose ids are all below 1, leaves the sequence at its start.
        highest = f"max({here.spell(key.name)})"
        execute(
            f"SELECT setval('{literal}', {highest}) FROM {here.spell(table)} HAVING {highest} > 0"
        )
        # Somebody may have dropped one that we made before.
        op.execute(sa.delete(created).where(created.c.name == name))
        op.execute(sa.insert(created).values(name=name, revision=revision))


def downgrade() -> None:
    here = current_context()
    created = revision_of("0001").created(here)
    ours = created.c.revision == revision
    for name in here.connection.scalars(sa.select(created.c.name).where(ours)).all():
        # Somebody may have dropped it, and made one of the same name.
        if marked(here, "pg_class", here.ours(name)) is not None:
            execute(f"DROP SEQUENCE {here.ours(name)}")
    op.execute(sa.delete(created).where(ours))
