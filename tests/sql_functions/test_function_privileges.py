"""The privileges that the SQL functions need, and the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cases import on_all_postgresql_migrated, on_each_postgresql_shape
from support.sql_functions import (
    CALLS,
    POOR_ROLE,
    RIGHTS,
    connect,
    fall_behind,
    refusal,
    rights,
    sell,
    sequence,
    state,
)

if TYPE_CHECKING:
    from support.databases import ChinookDatabase


@on_each_postgresql_shape
@pytest.mark.parametrize("name", RIGHTS)
def test_a_missing_right_is_named_with_its_grant(shop: ChinookDatabase, name: str) -> None:
    sell(shop, 30)
    wanted = rights(shop, name)
    with connect(shop) as connection, connection.transaction(force_rollback=True):
        connection.execute(f"CREATE ROLE {POOR_ROLE}")
        for right in wanted:
            connection.execute(f"GRANT {right} TO {POOR_ROLE}")
        for right in wanted:
            connection.execute(f"REVOKE {right} FROM {POOR_ROLE}")
            said = refusal(connection, CALLS[name])
            assert said == f"GRANT {right} TO {POOR_ROLE}"
            connection.execute(said)
        connection.execute(f"SET LOCAL ROLE {POOR_ROLE}")
        assert connection.execute(CALLS[name]).fetchall() != [(None,)]


@on_each_postgresql_shape
def test_a_sequence_far_behind_needs_a_right_that_is_named(shop: ChinookDatabase) -> None:
    fall_behind(shop, 2_000_000)
    with connect(shop) as connection, connection.transaction(force_rollback=True):
        connection.execute(f"CREATE ROLE {POOR_ROLE}")
        for right in rights(shop, "simulate_new_sale"):
            connection.execute(f"GRANT {right} TO {POOR_ROLE}")
        for key in ("invoice_id", "invoice_line_id"):
            said = refusal(connection, CALLS["simulate_new_sale"])
            assert said == f"GRANT UPDATE ON SEQUENCE {sequence(shop, key)} TO {POOR_ROLE}"
            connection.execute(said)
        connection.execute(f"SET LOCAL ROLE {POOR_ROLE}")
        connection.execute(CALLS["simulate_new_sale"])


@on_all_postgresql_migrated
def test_all_is_taken_back_with_the_callers_transaction(shop: ChinookDatabase) -> None:
    sell(shop, 30)
    before = state(shop)
    with connect(shop) as connection, connection.transaction(force_rollback=True):
        for call in CALLS.values():
            connection.execute(call)
    after = state(shop)
    for table in ("Invoice", "InvoiceLine", "run"):
        assert after[table] == before[table]
