"""The ids of a run's invoices as rows, and the prices that it knew as a column of the run.

Revision ID: 0006
Revises: 0005

Before, the ids were a JSON text in the row of the run, and the prices known a row of
chinook_sim_change that changed nothing. The SQL functions are replaced: `simulate_sales` writes the
new rows, and in all of them variables win over columns of the same name.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from chinook_sim.provisioning.migration_runner import read_functions, revision_of
from chinook_sim.provisioning.revision_context import RevisionContext, current_context, execute

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

RUN, CHANGE, RANGES = "chinook_sim_run", "chinook_sim_change", "chinook_sim_run_invoices"

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
"""Columns are always qualified in them; a bare name means the variable."""


def upgrade() -> None:
    here = current_context()
    run, change, ranges = (here.ledgers(name) for name in (RUN, CHANGE, RANGES))
    op.create_table(
        RANGES,
        sa.Column("run_id", sa.String(36), primary_key=True),
        sa.Column("first_id", sa.BigInteger, primary_key=True),
        sa.Column("last_id", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("fingerprints", sa.LargeBinary),
        schema=here.ledger_schema,
    )
    op.create_index(f"{RANGES}_id", RANGES, ["first_id", "last_id"], schema=here.ledger_schema)
    first, last, step = (_bound(here, place) for place in range(3))
    parts = (
        "CROSS JOIN LATERAL jsonb_array_elements(CAST(r.invoice_ids AS jsonb)) AS p (value)"
        if here.postgresql
        else "CROSS JOIN json_each(r.invoice_ids) AS p"
    )
    execute(
        f"INSERT INTO {ranges} (run_id, first_id, last_id, step) "
        f"SELECT r.run_id, {first}, {last}, {step} FROM {run} r {parts}"
    )
    # Alembic's own ADD and DROP COLUMN take a dot in the schema's name for a separator.
    execute(f"ALTER TABLE {run} ADD COLUMN prices_known BIGINT")
    execute(
        f"UPDATE {run} SET prices_known = (SELECT max(c.subject_id) FROM {change} c "
        f"WHERE c.run_id = {run}.run_id AND c.kind = 'prices known')"
    )
    execute(f"DELETE FROM {change} WHERE kind = 'prices known'")
    execute(f"ALTER TABLE {run} DROP COLUMN invoice_ids")
    if here.postgresql:
        earlier = revision_of("0004")
        earlier.refuse_changed(here, earlier.signatures(here))
        earlier.install(here, FUNCTIONS, names_in(here))


def downgrade() -> None:
    here = current_context()
    run, change, ranges = (here.ledgers(name) for name in (RUN, CHANGE, RANGES))
    if here.postgresql:
        earlier = revision_of("0004")
        earlier.refuse_changed(here, earlier.signatures(here))
        earlier.install(here, earlier.FUNCTIONS, earlier.names_in(here))
    there = set(sa.inspect(here.connection).get_table_names(schema=here.ledger_schema))
    if not {RUN, CHANGE, RANGES} <= there:
        # Somebody may have dropped some of it already, and wants it made again.
        op.drop_table(RANGES, schema=here.ledger_schema, if_exists=True)
        return
    execute(f"ALTER TABLE {run} ADD COLUMN invoice_ids TEXT DEFAULT '[]' NOT NULL")
    of_the_run = f"FROM {ranges} p WHERE p.run_id = {run}.run_id"
    ids = (
        "SELECT CAST(json_agg(json_build_array(p.first_id, p.last_id, p.step) "
        f"ORDER BY p.first_id) AS text) {of_the_run}"
        if here.postgresql
        else "SELECT replace(json_group_array(json_array(o.first_id, o.last_id, o.step)), ',', "
        f"', ') FROM (SELECT p.* {of_the_run} ORDER BY p.first_id) o"
    )
    execute(f"UPDATE {run} SET invoice_ids = ({ids}) WHERE EXISTS (SELECT 1 {of_the_run})")
    execute(
        f"INSERT INTO {change} (run_id, kind, subject, subject_id) "
        f"SELECT r.run_id, 'prices known', 'price', r.prices_known FROM {run} r "
        "WHERE r.prices_known IS NOT NULL"
    )
    execute(f"ALTER TABLE {run} DROP COLUMN prices_known")
    op.drop_table(RANGES, schema=here.ledger_schema)


def names_in(here: RevisionContext) -> dict[str, str]:
    """Return what stands in braces in the functions."""
    earlier = revision_of("0004")
    ranges = here.ledgers(RANGES)
    objects = earlier.objects_of(here) | {"run_invoices": ranges}
    rights = (
        f"{earlier.NEW_SALES}, USAGE ledger_schema, SELECT run, INSERT run, INSERT run_invoices"
    )
    names: dict[str, str] = earlier.names_in(here)
    return names | {
        "revision": revision,
        "run_invoices": ranges,
        "missing_for_sales": earlier.missing(objects, rights),
        "billing_print": _billing_print(here),
        "lines_print": _lines_print(),
    }


def _bound(here: RevisionContext, place: int) -> str:
    """Return the expression for a number of a range of ids that is kept as JSON."""
    if here.postgresql:
        return f"CAST(p.value ->> {place} AS bigint)"
    return f"json_extract(p.value, '$[{place}]')"


def _billing_print(here: RevisionContext) -> str:
    """Return what a fingerprint has of the address of a customer `c`, as four bytes."""
    columns = revision_of("0001").chinook(here)["Customer"].c
    fields = " || ".join(
        f"coalesce(c.{here.spell(columns[name].name)}, chr(30)) || chr(31)"
        for name in ("Address", "City", "State", "Country", "PostalCode")
    )
    return f"substring(sha256(convert_to({fields}, 'UTF8')) FROM 1 FOR 4)"


def _lines_print() -> str:
    """Return what a fingerprint has of the lines of a sale, as a number of 32 bits."""
    prime, power, terms = 2**31 - 1, 1, []
    for place in range(1, 6):
        track, cents = f"tracks[t{place}]::bigint", f"mod(cents[t{place}], {prime})"
        parts = []
        for number in (track, cents):
            power = power * 16_807 % prime
            parts.append(f"mod({number} * {power}, {prime})")
        term = " + ".join(parts)
        terms.append(f"({term})" if place == 1 else f"coalesce({term}, 0)")
    return f"mod(mod({' + '.join(terms)}, {prime}), {2**29}) * 8 + size"
