"""The ledger: one row a batch, in the batch's own transaction.

Revision ID: 0003
Revises: 0002

Its first row, `baseline`, keeps the highest id of the invoices that were there before us.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from chinook_sim.provisioning.migration_runner import revision_of
from chinook_sim.provisioning.revision_context import current_context, execute

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RUN = "chinook_sim_run"


def upgrade() -> None:
    here = current_context()
    op.create_table(
        RUN,
        sa.Column("run_id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("key", sa.String(200)),
        sa.Column("day", sa.Date),
        sa.Column("timezone", sa.String(64)),
        sa.Column("requested", sa.Integer),
        sa.Column("seed", sa.BigInteger),
        sa.Column("profile", sa.String(200)),
        sa.Column("parameters", sa.Text, nullable=False, server_default="{}"),
        sa.Column("parameters_hash", sa.String(64)),
        sa.Column("sales", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lines", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("revenue", sa.Numeric(14, 2), nullable=False, server_default="0"),
        sa.Column("digest", sa.String(64)),
        sa.Column("first_invoice_id", sa.BigInteger),
        sa.Column("last_invoice_id", sa.BigInteger),
        sa.Column("invoice_ids", sa.Text, nullable=False, server_default="[]"),
        sa.Column("hours", sa.Text, nullable=False, server_default="[]"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.current_timestamp(),
        ),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True)),
        schema=here.ledger_schema,
    )
    standing = sa.text("undone_at IS NULL")
    op.create_index(
        "chinook_sim_run_key",
        RUN,
        ["kind", "key"],
        unique=True,
        schema=here.ledger_schema,
        postgresql_where=standing,
        sqlite_where=standing,
    )
    table = revision_of("0001").chinook(here)["Invoice"]
    highest = f"coalesce(max({here.spell(table.c.InvoiceId.name)}), 0)"
    execute(
        f"INSERT INTO {here.ledgers(RUN)} (run_id, kind, last_invoice_id, version) "
        f"SELECT 'baseline', 'baseline', {highest}, 'revision {revision}' FROM {here.spell(table)}"
    )


def downgrade() -> None:
    # Somebody may have dropped it already, and wants it made again.
    op.drop_table(RUN, schema=current_context().ledger_schema, if_exists=True)
