"""Ids that were given once are not given again, whatever became of their rows."""

from __future__ import annotations

import threading
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.orm import Session

from chinook_sim import SaleFactory, generate_d1, live, simulate_changes
from support.cases import (
    DatabaseVariant,
    on_both_databases,
    on_each_shape,
    on_variants,
    one_of_each,
)
from support.chinook_variants import SHAPES
from support.runs import take_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.databases import ChinookDatabase

DAY = date(2026, 1, 20)

TABLES = ("Invoice", "InvoiceLine", "Customer")

PLAIN = DatabaseVariant(SHAPES[0], 16, migrated=True)
"""A PostgreSQL shop in which the tests drop the sequences, so that ids come from nowhere."""

plain = on_variants([PLAIN, *one_of_each()[1:]])


class Given:
    """All ids that a shop has ever given."""

    def __init__(self, shop: ChinookDatabase) -> None:
        self._shop = shop
        self._known = self._ids()

    def _ids(self) -> dict[str, set[int]]:
        return {
            table: {number for (number,) in self._shop.rows(f"SELECT [{table}Id] FROM [{table}]")}
            for table in TABLES
        }

    def by(self, action: Callable[..., Any], *arguments: Any, **wanted: Any) -> Any:
        """Do something in a transaction; what it adds must be above all that was ever there."""
        before = self._ids()
        with Session(self._shop.engine) as session, session.begin():
            result = action(session, *arguments, **wanted)
        for table, now in self._ids().items():
            new = now - before[table]
            assert not new or min(new) > max(self._known[table]), table
            self._known[table] |= new
        return result


def without_sequences(shop: ChinookDatabase) -> None:
    """Leave a migrated PostgreSQL shop without the sequences that a migration made."""
    if shop.shape.postgresql:
        shop.execute("DROP SEQUENCE invoice_id_seq", "DROP SEQUENCE invoice_line_id_seq")


@on_each_shape
def test_ids_of_undone_runs_are_not_given_again(shop: ChinookDatabase) -> None:
    given = Given(shop)
    for _ in range(2):
        runs = [
            given.by(generate_d1, 10, day=DAY, seed=3, new_customers=2).run_id,
            given.by(simulate_changes, day=DAY, updates=5).run_id,
        ]
        for run in reversed(runs):
            take_back(shop, run)
    # What was undone twice is not forgotten, nor what was undone before something lower.
    given.by(generate_d1, 3, day=DAY)


@on_each_shape
def test_ids_of_cancelled_sales_and_of_deleted_ones_are_not_given_again(
    shop: ChinookDatabase,
) -> None:
    given = Given(shop)
    first = given.by(generate_d1, 5, day=DAY)
    assert given.by(simulate_changes, day=DAY, cancellations=5).cancellations == 5
    second = given.by(generate_d1, 5, day=DAY)
    # The ids of invoices that somebody deletes by hand are known from the ledger.
    kept, gone = second.invoice_ids[:3], second.invoice_ids[3:]
    lines = shop.value("SELECT max([InvoiceLineId]) FROM [InvoiceLine]")
    for number in gone:
        shop.execute(
            f"UPDATE [InvoiceLine] SET [InvoiceId] = {kept[0]} WHERE [InvoiceId] = {number}",
            f"DELETE FROM [Invoice] WHERE [InvoiceId] = {number}",
        )
    third = given.by(generate_d1, 2, day=DAY)
    assert third.invoice_ids[0] > gone[-1] > first.invoice_ids[-1]
    assert lines == shop.value(
        f"SELECT min([InvoiceLineId]) - 1 FROM [InvoiceLine] "
        f"WHERE [InvoiceId] >= {third.invoice_ids[0]}"
    )


@on_both_databases
@pytest.mark.slow(reason="two streams; other tests have runs")
def test_ids_of_an_undone_stream_are_not_given_again(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chinook_sim.ledger.merging.TRANSACTIONS", 3)
    given = Given(shop)

    def sell(_session: Session) -> str:
        stop = threading.Event()
        stream = live(shop.engine, 400, seed=7, mix=(5, 3, 2), stop=stop)
        for number, _ in enumerate(stream, 1):
            if number == 8:
                stop.set()
        return stream.name

    for _ in range(2):
        take_back(shop, given.by(sell))


@on_each_shape
def test_a_factory_gives_no_id_again(shop: ChinookDatabase) -> None:
    given = Given(shop)
    for _ in range(2):
        take_back(shop, given.by(generate_d1, 5, day=DAY).run_id)
    given.by(lambda session: [SaleFactory(session).create(DAY) for _ in range(3)])


@plain
def test_without_sequences_no_id_is_given_again(shop: ChinookDatabase) -> None:
    without_sequences(shop)
    given = Given(shop)
    for _ in range(2):
        made = given.by(generate_d1, 10, day=DAY, seed=3)
        changed = given.by(simulate_changes, day=DAY, updates=5, cancellations=2)
        take_back(shop, changed.run_id)
        take_back(shop, made.run_id)
        given.by(lambda session: SaleFactory(session).create(DAY))
