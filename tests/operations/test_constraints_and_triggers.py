"""Rules of the user that do not allow simulated rows are named."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from chinook_sim import (
    BatchFailed,
    SaleFactory,
    generate_d1,
    recognise,
    simulate_changes,
)
from chinook_sim.database.error_messages import describe_driver_error
from chinook_sim.models import InvoiceLine
from support.cases import alternating_versions, on_both_databases, on_variants
from support.triggers import batch, trigger

if TYPE_CHECKING:
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
