"""One storage class for the revenue of runs in SQLite.

Revision ID: 0008
Revises: 0007

SQLite keeps 1 in a NUMERIC column as an integer, and 1.98 as a floating-point number. Readers that
take the type of a column from its first row fail where it changes. A REAL column has no integers.
"""

from __future__ import annotations

import sqlalchemy as sa

from chinook_sim.provisioning.revision_context import current_context, execute

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

RUN = "chinook_sim_run"


def upgrade() -> None:
    here = current_context()
    if not here.postgresql:
        _declare("REAL")


def downgrade() -> None:
    here = current_context()
    # Somebody may have dropped it already, and wants it made again.
    if not here.postgresql and sa.inspect(here.connection).has_table(RUN):
        _declare("NUMERIC(14, 2)")


def _declare(kind: str) -> None:
    """Give the column another type, for which SQLite has no statement."""
    execute(f"ALTER TABLE {RUN} RENAME COLUMN revenue TO revenue_before")
    execute(f"ALTER TABLE {RUN} ADD COLUMN revenue {kind} DEFAULT '0' NOT NULL")
    execute(f"UPDATE {RUN} SET revenue = revenue_before")
    execute(f"ALTER TABLE {RUN} DROP COLUMN revenue_before")
