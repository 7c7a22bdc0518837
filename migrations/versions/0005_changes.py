"""What runs change and take away, kept so that it can be verified and undone.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from chinook_sim.provisioning.revision_context import current_context

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

CHANGE = "chinook_sim_change"


def upgrade() -> None:
    schema = current_context().ledger_schema
    op.create_table(
        CHANGE,
        sa.Column(
            "change_id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.Identity(),
            primary_key=True,
        ),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject", sa.String(10), nullable=False),
        sa.Column("subject_id", sa.BigInteger, nullable=False),
        sa.Column("last_line_id", sa.BigInteger),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        schema=schema,
    )
    for name, columns in (
        ("chinook_sim_change_run", ["run_id"]),
        ("chinook_sim_change_subject", ["subject", "subject_id"]),
        ("chinook_sim_change_line", ["last_line_id"]),
    ):
        op.create_index(name, CHANGE, columns, schema=schema)


def downgrade() -> None:
    # Somebody may have dropped it already, and wants it made again.
    op.drop_table(CHANGE, schema=current_context().ledger_schema, if_exists=True)
