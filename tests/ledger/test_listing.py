"""Runs are listed by day and kind, and an invoice knows its run."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.orm import Session

from chinook_sim import InvalidInput, SaleFactory, align, live
from chinook_sim.database.introspection import recognise
from chinook_sim.ledger.listing import count_listings, latest_runs
from support.cases import on_both_databases, on_three_shapes
from support.runs import make
from support.selections import change, fill, history, take_back

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

pytestmark = pytest.mark.one_database

DAY = date(2026, 1, 31)
START = DAY - timedelta(days=4)


@on_three_shapes
def test_runs_are_listed_by_day_and_kind(shop: ChinookDatabase) -> None:
    days = fill(shop)
    mine = make(shop, 3, key="mine")
    changed = change(shop, updates=2)
    with Session(shop.engine) as session, session.begin():
        align(session)

    def listed(limit: int | None = None, **selected: Any) -> set[str]:
        with shop.engine.connect() as connection:
            recognise(connection)
            found = [run.run for run in latest_runs(connection, limit, **selected)]
            if limit is None:
                assert count_listings(connection, **selected) == len(found)
            return set(found)

    assert len(listed()) == 8
    assert len(listed(3)) == 3
    assert listed(day=DAY) == {days[-1].run_id, mine.run_id, changed.run_id}
    assert listed(day=START) == {days[0].run_id}
    assert listed(kinds=["changes"], day=DAY) == {changed.run_id}
    assert len(listed(kinds=["changes", "align"])) == 2
    assert listed(kinds=["changes"], day=START) == set()
    assert len(listed(2, kinds=["generate"])) == 2
    # The order is that in which they were made: the last one is first in the list of its day.
    take_back(shop, str(changed.run_id))
    assert listed(day=DAY) == {days[-1].run_id, mine.run_id, changed.run_id}


@on_both_databases
def test_a_stream_is_listed_with_the_transactions_of_the_day(shop: ChinookDatabase) -> None:
    batches = []
    for batch in live(shop.engine, 400, seed=7, mix=(1, 0, 0)):
        batches.append(batch.made)
        if len(batches) == 4:
            break
    shop.execute(
        f"UPDATE chinook_sim_run SET day = '{DAY}' WHERE run_id IN "
        f"('{batches[0].run_id}', '{batches[1].run_id}')"
    )
    make(shop, 2)
    with shop.engine.connect() as connection:
        recognise(connection)
        (stream,) = latest_runs(connection, day=DAY, kinds=["live"])
        (all_of_it,) = latest_runs(connection, kinds=["live"])
        assert count_listings(connection) == 2
    assert stream.sales == sum(it.count for it in batches[:2])
    assert all_of_it.sales == sum(it.count for it in batches)
    assert (stream.run, stream.day) == (str(batches[0].key).split("/")[0], DAY)


@on_both_databases
def test_an_invoice_knows_its_run_and_its_changes(shop: ChinookDatabase) -> None:
    made = make(shop, 5, once=True, seed=1)
    first = made.invoice_ids[0]
    found = history(shop, first)
    assert (found.state, found.origin, found.changes) == ("exists", "run", ())
    assert found.made_by is not None
    assert (found.made_by.run_id, found.made_by.kind) == (made.run_id, "generate")
    assert (found.made_by.key, found.made_by.day) == (f"once:{DAY}", DAY)
    assert (found.made_by.undone_at, found.cancelled_by) == (None, None)
    total = found.total
    assert total is not None
    assert found.date is not None
    assert found.date.date() == DAY
    # All that there are, twice; then cancelled.
    updates = [change(shop, updates=100, seed=seed) for seed in (2, 3)]
    undone = change(shop, cancellations=100, seed=4)
    take_back(shop, str(undone.run_id))
    found = history(shop, first)
    assert found.state == "exists"
    assert [it.run.run_id for it in found.changes] == [
        *(it.run_id for it in updates),
        undone.run_id,
    ]
    assert [it.kind for it in found.changes] == ["update", "update", "cancellation"]
    assert [it.run.undone_at is None for it in found.changes] == [True, True, False]
    totals = [(it.total_before, it.total_after) for it in found.changes]
    assert totals[0][0] == total
    assert totals[0][1] == totals[1][0]
    assert totals[1][1] == totals[2][0] == found.total
    assert totals[2][1] is None
    assert all(isinstance(it, Decimal) for pair in totals for it in pair if it is not None)
    cancelled = change(shop, cancellations=100, seed=5)
    found = history(shop, first)
    assert (found.state, found.total) == ("cancelled", None)
    assert found.cancelled_by is not None
    assert found.cancelled_by.run_id == cancelled.run_id
    for run in (cancelled, *reversed(updates), made):
        take_back(shop, str(run.run_id))
    found = history(shop, first)
    assert found.state == "undone"
    assert found.made_by is not None
    assert found.made_by.run_id == made.run_id
    assert found.made_by.undone_at is not None
    assert (found.cancelled_by, len(found.changes)) == (None, 4)


@on_three_shapes
def test_an_invoice_that_no_run_made(shop: ChinookDatabase) -> None:
    assert history(shop, 3).origin == "before the ledger"
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
    found = history(shop, 3)
    assert [(it.run.run_id, it.days) for it in found.alignments] == [(moved.run_id, moved.days)]
    assert (found.state, found.made_by, found.changes) == ("exists", None, ())
    with Session(shop.engine) as session, session.begin():
        mine = SaleFactory(session).create(datetime(2026, 1, 29)).invoice_id  # noqa: DTZ001
    found = history(shop, mine)
    assert (found.state, found.origin, found.made_by) == ("exists", "not recorded", None)
    sold = make(shop, 3).invoice_ids[1]
    for number in (sold, 3):
        for table in ("InvoiceLine", "Invoice"):
            shop.execute(f"DELETE FROM [{table}] WHERE [InvoiceId] = {number}")
        assert history(shop, number).state == "deleted"
    for unknown in (0, 99_999, 2**63 - 1):
        found = history(shop, unknown)
        assert (found.state, found.origin, found.made_by) == ("unknown", "unknown", None)
    for wrong in (-1, 2**63, "7", 1.0, True):
        with pytest.raises(InvalidInput, match="invoice id"):
            history(shop, wrong)  # type: ignore[arg-type]
