"""Unique indexes, constraints and triggers of the user's own, which refuse or skip rows."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from chinook_sim import (
    BatchFailed,
    SaleFactory,
    align,
    generate_d1,
    recognise,
    simulate_changes,
    undo,
)
from chinook_sim.database.error_messages import describe_driver_error
from chinook_sim.models import InvoiceLine
from chinook_sim.verification import verify_all
from support.cases import alternating_versions, on_both_databases, on_one_postgresql, on_variants

if TYPE_CHECKING:
    from chinook_sim import BatchSummary
    from support.command import Command
    from support.databases import ChinookDatabase

FEW = [
    case
    for case in alternating_versions(migrated=True)
    if case.shape.name != "postgres-snake-serial"
]


class Rule(NamedTuple):
    """What the user has, on PostgreSQL and on SQLite, and what our line says of it."""

    postgresql: tuple[str, ...]
    sqlite: tuple[str, ...]
    says: str
    names: tuple[str, str]


def trigger(table: str, body: str, sqlite: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the statements that make a trigger before each insert."""
    return (
        (
            f"CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$",
            f"CREATE TRIGGER theirs BEFORE INSERT ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION theirs()",
        ),
        (f"CREATE TRIGGER theirs BEFORE INSERT ON {table} BEGIN {sqlite}; END",),
    )


def both(statement: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (statement,), (statement,)


RULES = {
    "unique": Rule(
        *both("CREATE UNIQUE INDEX theirs ON [InvoiceLine] ([TrackId]) WHERE [InvoiceId] > 30"),
        "a unique index",
        ('"theirs"', "InvoiceLine.TrackId"),
    ),
    "unique customer": Rule(
        *both("CREATE UNIQUE INDEX theirs ON [Invoice] ([CustomerId]) WHERE [InvoiceId] > 30"),
        "a unique index",
        ('"theirs"', "Invoice.CustomerId"),
    ),
    "raise": Rule(
        *trigger(
            "[Invoice]", "RAISE 'closed on Sundays';", "SELECT RAISE(ABORT, 'closed on Sundays')"
        ),
        "a trigger",
        ("closed on Sundays", "closed on Sundays"),
    ),
    "skip invoices": Rule(
        *trigger("[Invoice]", "RETURN NULL;", "SELECT RAISE(IGNORE)"),
        "skipped 40 of 40 rows",
        ("trigger", "trigger"),
    ),
    "skip lines": Rule(
        *trigger("[InvoiceLine]", "RETURN NULL;", "SELECT RAISE(IGNORE)"),
        "skipped",
        ("trigger", "trigger"),
    ),
    "check": Rule(
        *both("ALTER TABLE [Invoice] ADD COLUMN theirs INTEGER DEFAULT 1 CHECK ([Total] > 5000)"),
        "the constraint does not allow",
        ("check constraint", "CHECK constraint failed"),
    ),
}


def batch(shop: ChinookDatabase, count: int = 40) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return generate_d1(session, count, seed=5)


@pytest.mark.parametrize("rule", RULES)
@on_variants(FEW)
def test_a_rule_of_the_user_s_is_named(shop: ChinookDatabase, rule: str) -> None:
    theirs = RULES[rule]
    if rule == "check":
        # Of invoices that are there, which all cost less.
        shop.execute("DELETE FROM [InvoiceLine]", "DELETE FROM [Invoice]")
    shop.execute(*(theirs.postgresql if shop.server else theirs.sqlite))
    before = shop.snapshot()

    with pytest.raises(BatchFailed) as caught:
        batch(shop)

    line = str(caught.value)
    assert theirs.says in line
    assert theirs.names[shop.server is None] in line
    assert "another writer" not in line
    assert "catalogue" not in line
    assert not caught.value.retryable
    assert shop.snapshot() == before


@pytest.mark.parametrize("driver", ["postgresql+pg8000"])
@pytest.mark.parametrize("rule", ["unique", "skip invoices", "skip lines", "raise"])
@on_variants(FEW[:1])
def test_a_rule_of_the_user_s_is_named_through_another_driver(
    shop: ChinookDatabase, rule: str, driver: str
) -> None:
    shop.execute(*RULES[rule].postgresql)

    with (
        pytest.raises(BatchFailed, match=RULES[rule].says) as caught,
        Session(shop.engine_for(driver)) as session,
        session.begin(),
    ):
        generate_d1(session, 40, seed=5)

    assert not caught.value.retryable


@on_variants(FEW)
def test_a_trigger_that_skips_customers_or_prices_is_named(shop: ChinookDatabase) -> None:
    skip = trigger("[Customer]", "RETURN NULL;", "SELECT RAISE(IGNORE)")
    shop.execute(*skip[shop.server is None])
    before = shop.snapshot()

    with (
        pytest.raises(BatchFailed, match="skipped 3 of 3 rows"),
        Session(shop.engine) as session,
        session.begin(),
    ):
        simulate_changes(session, new_customers=3)

    assert shop.snapshot() == before


@on_both_databases
def test_a_factory_names_the_index_too(shop: ChinookDatabase) -> None:
    shop.execute(*RULES["unique customer"].sqlite)

    with Session(shop.engine) as session, pytest.raises(BatchFailed, match="a unique index"):
        factory = SaleFactory(session, seed=5)
        for _ in range(40):
            factory.create(date(2024, 5, 1))


@on_variants([case for case in FEW if case.shape.postgresql])
def test_a_trigger_that_gives_other_ids_is_named(shop: ChinookDatabase) -> None:
    shop.execute(
        *trigger("[Invoice]", "NEW.[InvoiceId] := NEW.[InvoiceId] + 1000; RETURN NEW;", "")[0]
    )
    before = shop.snapshot()

    with pytest.raises(BatchFailed, match="gives them other ids"):
        batch(shop)

    assert shop.snapshot() == before


@on_both_databases
def test_the_command_does_not_try_again_against_a_rule(
    shop: ChinookDatabase, command: Command
) -> None:
    shop.execute(*RULES["unique"].sqlite)

    done = command("generate", "40", "--seed", "5", DATABASE_URL=shop.text)

    assert done.returncode == 4
    assert "trying again" not in done.stderr
    assert RULES["unique"].names[shop.server is None] in done.stderr


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+pg8000"])
@on_variants([case for case in FEW if case.shape.ids == ""][:2])
def test_ids_that_another_writer_took_are_worth_another_try(
    shop: ChinookDatabase, driver: str
) -> None:
    line = insert(InvoiceLine).values(
        invoice_line_id=1, invoice_id=1, track_id=1, unit_price=1, quantity=1
    )
    engine = shop.engine_for(driver)
    recognise(engine)

    with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
        connection.execute(line)

    refusal = describe_driver_error(caught.value)
    assert refusal is not None
    assert refusal.retryable
    assert "another writer took the same ids" in refusal.line


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
