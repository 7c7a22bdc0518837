"""Live streams: what comes, when it comes, and how a stream ends."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import date, datetime, timedelta
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from chinook_sim import BatchFailed, NoLedger, generate_d1, live, undo
from chinook_sim.changes.invoices import choose_changes, recent_ids
from chinook_sim.database.clock import now
from chinook_sim.database.introspection import recognise
from chinook_sim.kinds import ChangeCounts
from chinook_sim.operations.live import schema_cache, worker
from chinook_sim.sales.catalogue import read_catalogue
from chinook_sim.sampling.arrivals import MIX, SALE, Arrivals
from chinook_sim.verification.distribution import verify_shape
from chinook_sim.verification.statistics import chi2_survival
from support.cases import (
    on_both_databases,
    on_each_shape,
    on_each_shape_unmigrated,
)
from support.live_streams import Clock, assert_all_there_once, sell

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from support.databases import ChinookDatabase


@on_each_shape
def test_a_stream_is_recorded_and_can_be_undone(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    with shop.engine.connect() as connection:
        opened = now(connection)
    batches = sell(shop, 200)
    with shop.engine.connect() as connection:
        closed = now(connection)
    assert_all_there_once(shop, batches)
    assert sum(it.made.updates for it in batches) > 0
    assert sum(it.made.cancellations for it in batches) > 0
    dates = shop.rows("SELECT [InvoiceDate] FROM [Invoice] WHERE [InvoiceId] > 30")
    for (given,) in dates:
        at = datetime.fromisoformat(str(given))
        assert at.microsecond == 0
        assert opened.replace(microsecond=0) <= at <= closed
    assert all(0 < latency < 60 for it in batches for latency in it.latencies)
    assert len({it.made.run_id for it in batches}) == len(batches) > 1
    # All of it can be taken out again, by the stream's name.
    name = str(batches[0].made.key).split("/")[0]
    with Session(shop.engine) as session, session.begin():
        gone = undo(session, name)
    assert gone.sales == sum(it.made.count for it in batches)
    assert not gone.existed
    assert shop.snapshot() == before
    with Session(shop.engine) as session, session.begin():
        assert undo(session, name).existed


@on_each_shape
def test_a_stream_follows_from_its_seed(shop: ChinookDatabase) -> None:
    def content() -> list[Any]:
        return shop.rows(
            "SELECT i.[InvoiceId], [CustomerId], [TrackId] FROM [Invoice] i JOIN [InvoiceLine] l "
            "ON l.[InvoiceId] = i.[InvoiceId] WHERE i.[InvoiceId] > 30 ORDER BY [InvoiceLineId]"
        )

    batches = sell(shop, 40, mix=(1, 0, 0))
    first = min(id_ for it in batches for id_ in it.made.invoice_ids)
    slowly = [tuple(row[1:]) for row in content()]
    with Session(shop.engine) as session, session.begin():
        undo(session, str(batches[0].made.key).split("/")[0])
    sell(shop, 40, mix=(1, 0, 0), rate=10_000)
    quickly = [tuple(row[1:]) for row in content()]
    assert first > 30
    # However many went into one transaction.
    assert quickly[: len(slowly)] == slowly[: len(quickly)]
    # And they are the sales of that day and seed.
    day = batches[0].made.day
    with Session(shop.engine) as session:
        made = generate_d1(session, 10, day=day, seed=7)
        rows = session.execute(
            text(
                shop.sql(
                    "SELECT [CustomerId], [TrackId] FROM [Invoice] i JOIN [InvoiceLine] l ON "
                    "l.[InvoiceId] = i.[InvoiceId] WHERE i.[InvoiceId] >= :first "
                    "ORDER BY [InvoiceLineId]"
                )
            ),
            {"first": made.invoice_ids[0]},
        )
        assert [tuple(row) for row in rows] == slowly[: made.lines]


def test_arrivals_are_a_poisson_process_of_the_mix() -> None:
    arrivals = Arrivals(7, 20.0, MIX)
    some = []
    for _ in range(300):
        some += arrivals.until(math.inf, 100)
        arrivals.pass_over(100)
    assert [it.number for it in some] == list(range(30_000))
    gaps = [later.at - one.at for one, later in pairwise(some)]
    # In tenths of an exponential distribution, each as likely.
    tenths = Counter(int((1 - math.exp(-20 * gap)) * 10) for gap in gaps)
    assert chi2_survival(sum((tenths[it] - 2999.9) ** 2 / 2999.9 for it in range(10)), 9) > 1e-4
    kinds = Counter(it.kind for it in some)
    expected = dict(enumerate((27_000, 2_400, 600)))
    assert chi2_survival(sum((kinds[it] - n) ** 2 / n for it, n in expected.items()), 2) > 1e-4
    sold = accumulate((it.kind == SALE for it in some), initial=0)
    assert all(it.sales == before for it, before in zip(some, sold, strict=False))


def test_what_comes_does_not_depend_on_how_it_is_taken() -> None:
    at_once = Arrivals(3, 5.0, MIX).until(200.0, 2_000)
    singly, one_by_one = Arrivals(3, 5.0, MIX), []
    while singly.next().at <= 200.0:
        one_by_one.append(singly.next())
        singly.pass_over(1)
    assert at_once == one_by_one
    assert len(at_once) == pytest.approx(1_000, abs=150)
    assert Arrivals(3, 5.0, MIX).until(200.0, 10) == at_once[:10]
    # Of another rate, the same at another pace.
    twice = Arrivals(3, 10.0, MIX).until(100.0, 2_000)
    assert [it.at * 2 for it in twice] == pytest.approx([it.at for it in at_once])
    assert [it.kind for it in twice] == [it.kind for it in at_once]


@on_both_databases
@pytest.mark.slow(reason="waits for a slow database")
def test_a_database_that_is_too_slow_is_not_queued_for_ever(shop: ChinookDatabase) -> None:
    clock = Clock()

    def slowly(_: Connection) -> None:
        clock.more += 6

    batches = list(live(shop.engine, 300, duration=30, seed=7, clock=clock, prepare=slowly))
    # A thousand in a transaction of six seconds, where 1,800 come.
    assert 5 <= len(batches) <= 7
    assert all(it.arrivals <= 1_000 for it in batches)
    assert batches[1].behind > 1
    assert sum(it.left_out for it in batches) > 1_000
    assert sum(it.left_out + it.arrivals for it in batches) == pytest.approx(9_000, abs=400)
    assert_all_there_once(shop, batches)


@on_both_databases
def test_a_database_that_is_slow_but_takes_all_that_comes_gets_all(shop: ChinookDatabase) -> None:
    clock = Clock()

    def slowly(_: Connection) -> None:
        clock.more += 6

    batches = list(live(shop.engine, 50, duration=30, seed=7, clock=clock, prepare=slowly))
    assert sum(it.left_out for it in batches) == 0
    assert sum(it.arrivals for it in batches) == len(Arrivals(7, 50.0, MIX).until(30.0, 10_000))
    assert_all_there_once(shop, batches)


@on_both_databases
def test_a_stream_ends_after_its_duration_or_when_stop_is_set(shop: ChinookDatabase) -> None:
    batches = list(live(shop.engine, 200, duration=timedelta(seconds=0.4), seed=7))
    expected = Arrivals(7, 200.0, MIX).until(0.4, 1_000)
    assert sum(it.arrivals for it in batches) == len(expected)
    stop, told = threading.Event(), []
    for batch in live(shop.engine, 200, seed=8, stop=stop):
        told.append(batch)
        if len(told) == 3:
            stop.set()
    assert len(told) == 3
    assert_all_there_once(shop, [*batches, *told])
    # Also while nothing comes.
    stop.clear()
    threading.Timer(0.3, stop.set).start()
    assert list(live(shop.engine, 0.001, stop=stop)) == []


@on_each_shape_unmigrated
def test_it_needs_a_ledger(shop: ChinookDatabase) -> None:
    with pytest.raises(NoLedger, match="alembic upgrade head"):
        next(live(shop.engine, 20))


@on_both_databases
def test_a_shop_that_changes_meanwhile_is_read_again(shop: ChinookDatabase) -> None:
    stream = live(shop.engine, 400, seed=7, mix=(1, 0, 0))
    batches = list(islice(stream, 3))
    shop.execute(
        "DELETE FROM [InvoiceLine] WHERE [TrackId] > 3",
        "DELETE FROM [PlaylistTrack]",
        "DELETE FROM [Track] WHERE [TrackId] > 3",
    )
    batches += islice(stream, 3)
    stream.close()
    assert all(it.made.lines <= 3 * it.made.count for it in batches[3:])
    assert shop.value("SELECT count(*) FROM [InvoiceLine] WHERE [TrackId] > 3") == 0


@on_both_databases
def test_a_transaction_that_cannot_be_made_ends_it(shop: ChinookDatabase) -> None:
    stream = live(shop.engine, 400, seed=7, mix=(1, 0, 0))
    made = next(stream)
    shop.execute(
        "ALTER TABLE [InvoiceLine] ADD CONSTRAINT no_more CHECK ([Quantity] = 0) NOT VALID"
        if shop.server
        else "CREATE TRIGGER no_more BEFORE INSERT ON [InvoiceLine] "
        "BEGIN SELECT RAISE(ABORT, 'no_more'); END"
    )
    with pytest.raises(BatchFailed, match="no_more"):
        next(stream)
    assert shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'live'") == 1
    assert shop.value("SELECT count(*) FROM [Invoice] WHERE [InvoiceId] > 30") == made.made.count


@on_both_databases
def test_each_sale_is_of_the_day_on_which_it_came(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[float] = []

    def around_midnight(*_: object) -> datetime:
        # Midnight is half a second after the first sale, however long it takes to connect.
        began.append(time.monotonic())
        passed = timedelta(seconds=began[-1] - began[0])
        return datetime(2026, 1, 31, 23, 59, 59, 500_000) + passed  # noqa: DTZ001

    monkeypatch.setattr(worker, "now", around_midnight)
    batches = sell(shop, 300, rate=300, mix=(1, 0, 0))
    assert_all_there_once(shop, batches)
    days = [it.made.day for it in batches]
    assert sorted(set(days)) == [date(2026, 1, 31), date(2026, 2, 1)]
    assert days == sorted(days)
    for it in batches:
        ids = it.made.invoice_ids
        dates = shop.rows(
            f"SELECT [InvoiceDate] FROM [Invoice] WHERE [InvoiceId] >= {ids[0]} "
            f"AND [InvoiceId] <= {ids[-1]}"
        )
        assert {datetime.fromisoformat(str(row[0])).date() for row in dates} == {it.made.day}
    with shop.engine.connect() as connection:
        assert all(it.passed for it in verify_shape(connection))


@on_both_databases
def test_a_zone_has_a_clock_of_its_own(shop: ChinookDatabase) -> None:
    with shop.engine.connect() as connection:
        there = now(connection, "Pacific/Kiritimati")
        assert abs((there - now(connection, "UTC")).total_seconds() - 14 * 3600) < 60
    batches = sell(shop, 5, timezone="Pacific/Kiritimati", mix=(1, 0, 0))
    (given,) = shop.rows("SELECT max([InvoiceDate]) FROM [Invoice]")[0]
    assert abs((datetime.fromisoformat(str(given)) - there).total_seconds()) < 60
    assert batches[0].made.day == there.date()


@on_both_databases
@pytest.mark.slow(reason="a large history")
def test_a_few_changes_are_found_without_counting_all(shop: ChinookDatabase) -> None:
    day = date(2026, 1, 31)
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 400, day=day, seed=7)
        # Neither too old nor too new ones.
        generate_d1(session, 300, day=day - timedelta(days=91), seed=7)
        generate_d1(session, 300, day=day + timedelta(days=1), seed=7)
    with shop.engine.connect() as connection:
        recognise(connection)
        catalogue = read_catalogue(connection)
        recent = [
            row[0]
            for row in shop.rows(
                "SELECT [InvoiceId] FROM [Invoice] WHERE [InvoiceDate] >= '2025-11-02' "
                "AND [InvoiceDate] < '2026-02-01' ORDER BY 1"
            )
        ]
        span = recent_ids(connection, day)
        assert span == (recent[0], recent[-1])
        drawn: Counter[int] = Counter()
        # Also where most ids of the span are nobody's, and where it is out of date.
        for low, high in ((span), (1, 10**9), (10**8, 10**9)):
            for seed in range(40):
                chosen = choose_changes(
                    connection, catalogue, ChangeCounts(3, 2), seed, day, span=(low, high)
                )
                assert len(set(chosen.updated)) == 3
                assert len(set(chosen.cancelled)) == 2
                assert not set(chosen.updated) & set(chosen.cancelled)
                drawn.update(chosen.cancelled)
        assert set(drawn) <= set(recent)
        cells = Counter(recent.index(id_) // 50 for id_ in drawn.elements())
        assert chi2_survival(sum((cells[it] - 30) ** 2 / 30 for it in range(8)), 7) > 1e-4
        everything = choose_changes(
            connection, catalogue, ChangeCounts(0, 1_000), 7, day, span=span
        )
        assert everything.cancelled == recent


@on_both_databases
@pytest.mark.slow(reason="fills the database twice while a stream runs")
def test_what_others_sell_is_changed_too(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_cache, "REFRESH_INTERVAL", 0.1)
    monkeypatch.setattr(schema_cache, "REFRESH_RATIO", 0)
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 200)
    theirs: set[int] = set()
    # Without sales of its own, whose ids would be higher.
    for number, _ in enumerate(live(shop.engine, 200, seed=7, mix=(0, 1, 1)), 1):
        if number == 5:
            with Session(shop.engine) as session, session.begin():
                theirs = set(generate_d1(session, 400).invoice_ids)
            time.sleep(0.2)
        if number == 25:
            break
    changed = {row[0] for row in shop.rows("SELECT subject_id FROM chinook_sim_change")}
    # A few might be found where everything is counted, as all others are used up.
    assert len(changed & theirs) > 20


@pytest.mark.slow(reason="waits for processes")
def test_who_has_no_standard_error_may_sell(stocked: Path) -> None:
    line = f'"{sys.executable}" -m chinook_sim live --for 1s --json 2>&-'
    done = subprocess.run(
        ["bash", "-c", line], cwd=stocked.parent, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["sales"] > 0
