"""Triggers that skip or change rows are named, and nothing is kept of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from chinook_sim import (
    BatchFailed,
    align,
    generate_d1,
    simulate_changes,
    undo,
)
from chinook_sim.verification import verify_all
from support.cases import on_both_databases, on_one_postgresql
from support.triggers import batch

if TYPE_CHECKING:
    from support.databases import ChinookDatabase


def skipping(shop: ChinookDatabase, table: str, event: str) -> None:
    """Make a trigger that skips every row, as for soft deletion."""
    if shop.server:
        shop.execute(
            "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            f"CREATE TRIGGER theirs BEFORE {event} ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION theirs()",
        )
        return
    shop.execute(f"CREATE TRIGGER theirs BEFORE {event} ON {table} BEGIN SELECT RAISE(IGNORE); END")


SKIPPED = [
    ("[Invoice]", "DELETE", {"cancellations": 3}),
    ("[InvoiceLine]", "DELETE", {"cancellations": 3}),
    ("[Invoice]", "UPDATE", {"updates": 3}),
    ("[InvoiceLine]", "INSERT", {"updates": 3}),
    ("[Customer]", "UPDATE", {"moves": 3}),
    ("[Track]", "UPDATE", {"price_changes": 3}),
]
NOT_PUT_BACK = [
    *((table, event, {}) for table, event, _ in SKIPPED[:2]),
    ("[Invoice]", "INSERT", {"cancellations": 3}),
    ("[InvoiceLine]", "INSERT", {"cancellations": 3}),
    ("[Invoice]", "UPDATE", {"updates": 3}),
    ("[InvoiceLine]", "DELETE", {"updates": 3}),
    ("[Customer]", "DELETE", {"new_customers": 3}),
    ("[Customer]", "UPDATE", {"moves": 3}),
    ("[Track]", "UPDATE", {"price_changes": 3}),
]


@pytest.mark.parametrize(("table", "event", "changes"), SKIPPED)
@on_both_databases
def test_a_trigger_that_skips_deletes_or_updates_is_named(
    shop: ChinookDatabase, table: str, event: str, changes: dict[str, Any]
) -> None:
    batch(shop)
    skipping(shop, table, event)
    before = shop.snapshot()

    with (
        pytest.raises(BatchFailed, match=r"a trigger or a rule on .* skipped"),
        Session(shop.engine) as session,
        session.begin(),
    ):
        simulate_changes(session, **changes)

    assert shop.snapshot() == before


@pytest.mark.parametrize(("table", "event", "changes"), NOT_PUT_BACK)
@on_both_databases
def test_a_trigger_that_skips_rows_of_undo_is_named(
    shop: ChinookDatabase, table: str, event: str, changes: dict[str, Any]
) -> None:
    made = batch(shop)
    if changes:
        with Session(shop.engine) as session, session.begin():
            made = simulate_changes(session, **changes)
    skipping(shop, table, event)
    before = shop.snapshot()

    with (
        pytest.raises(BatchFailed, match=r"a trigger (or a rule|skips invoices)"),
        Session(shop.engine) as session,
        session.begin(),
    ):
        undo(session, made.run_id)

    assert shop.snapshot() == before


@on_both_databases
def test_a_trigger_that_skips_rows_of_align_is_named(shop: ChinookDatabase) -> None:
    skipping(shop, "[Invoice]", "UPDATE")
    before = shop.snapshot()

    with (
        pytest.raises(BatchFailed, match="a trigger or a rule"),
        Session(shop.engine) as session,
        session.begin(),
    ):
        align(session)

    assert shop.snapshot() == before


@on_both_databases
def test_a_trigger_that_keeps_dates_is_named_by_align(shop: ChinookDatabase) -> None:
    if shop.server:
        shop.execute(
            "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.[InvoiceDate] := OLD.[InvoiceDate]; RETURN NEW; END'",
            "CREATE TRIGGER theirs BEFORE UPDATE ON [Invoice] "
            "FOR EACH ROW EXECUTE FUNCTION theirs()",
        )
    else:
        shop.execute(
            "CREATE TRIGGER theirs AFTER UPDATE ON [Invoice] BEGIN UPDATE [Invoice] "
            "SET [InvoiceDate] = OLD.[InvoiceDate] WHERE [InvoiceId] = OLD.[InvoiceId]; END"
        )
    before = shop.snapshot()

    with (
        pytest.raises(BatchFailed, match="gave them other dates"),
        Session(shop.engine) as session,
        session.begin(),
    ):
        align(session)

    assert shop.snapshot() == before


@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
@on_both_databases
def test_a_total_that_a_trigger_changes_is_reported_by_verify(
    shop: ChinookDatabase, event: str
) -> None:
    batch(shop)
    if shop.server:
        shop.execute(
            "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.[Total] := 77; RETURN NEW; END'",
            f"CREATE TRIGGER theirs BEFORE {event} ON [Invoice] "
            "FOR EACH ROW EXECUTE FUNCTION theirs()",
        )
    else:
        shop.execute(
            f"CREATE TRIGGER theirs AFTER {event} ON [Invoice] WHEN NEW.[Total] <> 77 BEGIN "
            "UPDATE [Invoice] SET [Total] = 77 WHERE [InvoiceId] = NEW.[InvoiceId]; END"
        )
    with Session(shop.engine) as session, session.begin():
        if event == "INSERT":
            generate_d1(session, 1, seed=6)
        else:
            simulate_changes(session, updates=1)
    with shop.engine.connect() as connection:
        failed = {check.name: check.count for check in verify_all(connection) if not check.passed}
    assert failed["totals equal the sum of their lines"] == 1, failed


CALLS = [
    ("simulate_new_sale", "[Invoice]", "INSERT"),
    ("simulate_new_sale", "[InvoiceLine]", "INSERT"),
    ("simulate_sales", "[Invoice]", "INSERT"),
    ("simulate_sales", "[InvoiceLine]", "INSERT"),
    ("simulate_update_sale", "[InvoiceLine]", "INSERT"),
    ("simulate_update_sale", "[Invoice]", "UPDATE"),
    ("simulate_delete_sale", "[InvoiceLine]", "DELETE"),
    ("simulate_delete_sale", "[Invoice]", "DELETE"),
]


@pytest.mark.parametrize(("call", "table", "event"), CALLS)
@on_one_postgresql
def test_a_trigger_that_skips_rows_of_a_sql_function_is_named(
    shop: ChinookDatabase, call: str, table: str, event: str
) -> None:
    batch(shop)
    skipping(shop, table, event)
    before = shop.snapshot()
    rest = ", 3" if "sales" in call else ""

    with pytest.raises(psycopg.Error) as caught:
        shop.rows(f"SELECT * FROM {call}(CURRENT_DATE{rest})")

    said = f"{call}: a trigger or a rule on public.{shop.sql(table)} skipped"
    if (call, table) == ("simulate_sales", "[Invoice]"):
        # Lines of sales that are not there are refused first.
        said = "violates foreign key"
    assert said in str(caught.value)
    assert shop.snapshot() == before
