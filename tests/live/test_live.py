"""Sales that never stop: as many as come, each once, whatever happens on the way."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import date, datetime, timedelta
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import (
    BatchFailed,
    DatabaseUnavailable,
    InvalidInput,
    NoLedger,
    UndoRefused,
    backfill,
    generate_d1,
    live,
    simulate_changes,
    undo,
)
from chinook_sim.changes.invoices import choose_changes, recent_ids
from chinook_sim.database.clock import now
from chinook_sim.database.introspection import recognise
from chinook_sim.kinds import ChangeCounts
from chinook_sim.operations import undo as undoing
from chinook_sim.operations.live import schema_cache, worker
from chinook_sim.sales.catalogue import read_catalogue
from chinook_sim.sampling.arrivals import MIX, SALE, Arrivals
from chinook_sim.verification import verify_all, verify_day
from chinook_sim.verification.distribution import verify_shape
from chinook_sim.verification.statistics import chance_of
from support.cases import (
    alternating_versions,
    on_all_migrated,
    on_both_databases,
    on_each_shape,
    on_each_shape_unmigrated,
    on_one_postgresql,
)
from support.pgbouncer import Way, wired
from support.postgres_server import free_port
from support.processes import Popen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from chinook_sim.operations.live.worker import LiveBatch
    from support.command import Command
    from support.databases import ChinookDatabase, DatabaseTemplates
    from support.tcp_proxy import Side

CASES = {case.id: case for case in alternating_versions(migrated=True)}


def sell(shop: ChinookDatabase, count: int, rate: float = 400, **wanted: Any) -> list[LiveBatch]:
    """Make transactions until so many arrivals are made, of each kind, and in several of them."""
    batches: list[LiveBatch] = []
    _, updates, cancellations = wanted.get("mix", MIX)
    for batch in live(shop.engine, rate, **{"seed": 7, **wanted}):
        batches.append(batch)
        made = sum(it.arrivals for it in batches)
        # A machine with other work makes all in the first, which has no earlier sales to change.
        changed = (not updates or any(it.made.updates for it in batches)) and (
            not cancellations or any(it.made.cancellations for it in batches)
        )
        if made >= count and len(batches) > 3 and (changed or made > 20 * count):
            break
    return batches


def assert_all_there_once(shop: ChinookDatabase, batches: Sequence[LiveBatch]) -> None:
    """What was told, what the ledger has, and what is in the tables are the same."""
    runs = shop.rows(
        "SELECT key, day, sales, lines, revenue FROM chinook_sim_run WHERE kind = 'live' "
        "ORDER BY length(key), key"
    )
    # A row has the key of the last transaction that was merged into it.
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for key, *row in runs:
        stream, number = key.split("/")
        rows.setdefault(stream, []).append((int(number), *row))
    merged: dict[tuple[str, int], list[LiveBatch]] = {}
    for it in batches:
        stream, number = str(it.made.key).split("/")
        last = next(row[0] for row in rows[stream] if row[0] >= int(number))
        merged.setdefault((stream, last), []).append(it)
    assert len(runs) == len(merged)
    for stream, of_it in rows.items():
        for last, day, *made in of_it:
            some = [it.made for it in merged[stream, last]]
            assert {str(it.day) for it in some} == {str(day)}
            assert made[:2] == [sum(it.count for it in some), sum(it.lines for it in some)]
            assert float(made[2]) == pytest.approx(float(sum(it.revenue for it in some)))
    ids = [id_ for it in batches for id_ in it.made.invoice_ids]
    assert len(ids) == len(set(ids)) == sum(it.made.count for it in batches)
    cancelled = sum(it.made.cancellations for it in batches)
    there = shop.value(f"SELECT count(*) FROM [Invoice] WHERE [InvoiceId] >= {min(ids)}")
    assert there == len(ids) - cancelled
    changes = dict(
        shop.rows("SELECT kind, count(*) FROM chinook_sim_change GROUP BY kind ORDER BY kind")
    )
    assert changes.get("cancellation", 0) == cancelled
    assert changes.get("update", 0) == sum(it.made.updates for it in batches)
    with shop.engine.connect() as connection:
        assert [it for it in verify_all(connection) if not it.passed] == []
        for day in {it.made.day for it in batches}:
            assert [it for it in verify_day(connection, day) if not it.passed] == []


@on_all_migrated
def test_a_shop_lives(shop: ChinookDatabase) -> None:
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


def stream_name(batches: Sequence[LiveBatch]) -> str:
    return str(batches[0].made.key).split("/")[0]


def take_back(shop: ChinookDatabase, run: str) -> None:
    with Session(shop.engine) as session, session.begin():
        undo(session, run)


@on_both_databases
def test_a_long_stream_is_undone_a_slice_at_a_time(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.snapshot()
    batches: list[LiveBatch] = []
    # So many changes that sales are changed again, in the same slice and in others.
    for batch in live(shop.engine, 400, seed=7, mix=(2, 2, 1)):
        batches.append(batch)
        if len(batches) == 10:
            break
    name = stream_name(batches)
    statements = []

    def count(*_: object) -> None:
        statements.append(1)

    event.listen(shop.engine, "before_cursor_execute", count)
    needed = {}
    for runs in (1_000, 3):
        monkeypatch.setattr(undoing, "RUNS", runs)
        statements.clear()
        with Session(shop.engine) as session:
            assert undo(session, name).sales == sum(it.made.count for it in batches)
            session.flush()
            needed[runs] = len(statements)
            session.rollback()
    assert needed[1_000] < 60
    assert needed[3] < 4 * needed[1_000]
    # One in the middle, which its own run id names, if nothing later came to its sales.
    for it in reversed(batches[5:]):
        take_back(shop, str(it.made.run_id))
    take_back(shop, name.upper())
    assert shop.snapshot() == before
    with shop.engine.connect() as connection:
        assert all(it.passed for it in verify_all(connection))


@on_each_shape
def test_a_stream_is_undone_after_prices_changed_and_other_days_were_made(
    shop: ChinookDatabase,
) -> None:
    """All of these had seen the changes of prices, and changed none of them."""
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 50, price_changes=3)
    before = shop.snapshot()
    batches = sell(shop, 60, mix=(4, 2, 1))
    first = date(2024, 1, 1)
    days = list(backfill(shop.engine, first, first + timedelta(days=1), 3))
    with Session(shop.engine) as session, session.begin():
        gone = undo(session, stream_name(batches))
    assert gone.sales == sum(it.made.count for it in batches)
    for day in days:
        take_back(shop, str(day.run_id))
    assert shop.snapshot() == before
    with shop.engine.connect() as connection:
        assert all(it.passed for it in verify_all(connection))


@on_both_databases
def test_what_was_changed_between_two_transactions_of_a_stream_is_not_lost(
    shop: ChinookDatabase,
) -> None:
    first = stream_name(sell(shop, 20, mix=(1, 0, 0)))
    changing = live(shop.engine, 400, seed=8, mix=(0, 1, 0))
    some = list(islice(changing, 4))
    # By hand, on every invoice there is.
    shop.execute("UPDATE [Invoice] SET [BillingCity] = 'Elsewhere'")
    again = (
        "SELECT count(*) FROM (SELECT subject_id FROM chinook_sim_change GROUP BY 1 "
        "HAVING count(DISTINCT run_id) > 1) x"
    )
    while shop.value(again) < 5:
        some.append(next(changing))
    changing.close()
    there = shop.snapshot()
    with pytest.raises(UndoRefused, match="not as it left them"):
        take_back(shop, stream_name(some))
    with pytest.raises(UndoRefused, match=stream_name(some)):
        take_back(shop, first)
    assert shop.snapshot() == there


@on_both_databases
def test_streams_that_changed_each_others_sales_are_undone_the_later_first(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undoing, "RUNS", 3)
    before = shop.snapshot()
    first = sell(shop, 60)
    between = shop.snapshot()
    second = sell(shop, 60, seed=8, mix=(1, 2, 1))
    there = shop.snapshot()
    with pytest.raises(UndoRefused, match=f"undo {stream_name(second)} first"):
        take_back(shop, stream_name(first))
    assert shop.snapshot() == there
    take_back(shop, stream_name(second))
    assert shop.snapshot() == between
    # A run that is no stream's is named as ever.
    with Session(shop.engine) as session, session.begin():
        other = simulate_changes(session, day=first[0].made.day, seed=9, updates=5)
    with pytest.raises(UndoRefused, match=f"undo run {str(other.run_id)[:8]} first"):
        take_back(shop, stream_name(first))
    take_back(shop, str(other.run_id))
    take_back(shop, stream_name(first))
    assert shop.snapshot() == before


@on_both_databases
def test_a_stream_with_a_sale_that_was_tampered_with_is_not_undone(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undoing, "RUNS", 3)
    batches = sell(shop, 60)
    name = stream_name(batches)
    changed = "SELECT subject_id FROM chinook_sim_change WHERE subject = 'invoice'"
    sold = shop.value(
        f"SELECT min([InvoiceId]) FROM [Invoice] WHERE [InvoiceId] > 30 "
        f"AND [InvoiceId] NOT IN ({changed})"
    )
    of_it = f"WHERE [InvoiceId] = {sold}"
    before = shop.snapshot()
    for statement, said in (
        (f"UPDATE [Invoice] SET [Total] = [Total] + 1 {of_it}", "sales were changed"),
        (f"UPDATE [InvoiceLine] SET [Quantity] = 2 {of_it}", "sales were changed"),
        (f"UPDATE [InvoiceLine] SET [TrackId] = 3 {of_it}", "sales were changed"),
        (f"DELETE FROM [InvoiceLine] {of_it}", "sales were changed"),
        (
            "UPDATE [Invoice] SET [CustomerId] = (SELECT min([CustomerId]) FROM [Customer] c "
            f"WHERE c.[CustomerId] <> [Invoice].[CustomerId]) {of_it}",
            "sales were changed",
        ),
    ):
        with shop.engine.connect() as connection:
            connection.execute(text(shop.sql(statement)))
            with Session(connection) as session, pytest.raises(UndoRefused, match=said):
                undo(session, name)
            connection.rollback()
    assert shop.snapshot() == before
    take_back(shop, name)
    assert shop.value("SELECT count(*) FROM [Invoice] WHERE [InvoiceId] > 30") == 0


@on_both_databases
def test_a_stream_must_be_named_whole(shop: ChinookDatabase) -> None:
    name = stream_name(sell(shop, 5))
    for part in (name[:8], name[:8].upper(), "live-", f"{name}/1", "live-%"):
        with pytest.raises(InvalidInput, match=r"give the complete name, .* lists them"):
            take_back(shop, part)
    other = "live-00000000"
    with pytest.raises(InvalidInput, match=f"there is no stream '{other}'"):
        take_back(shop, other)
    take_back(shop, name.upper())


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


# When what comes.


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
    assert chance_of(sum((tenths[it] - 2999.9) ** 2 / 2999.9 for it in range(10)), 9) > 1e-4
    kinds = Counter(it.kind for it in some)
    expected = dict(enumerate((27_000, 2_400, 600)))
    assert chance_of(sum((kinds[it] - n) ** 2 / n for it, n in expected.items()), 2) > 1e-4
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


class Clock:
    """Seconds that also pass when they are told to."""

    def __init__(self) -> None:
        self.more = 0.0

    def pass_by(self, seconds: float) -> None:
        self.more += seconds

    def __call__(self) -> float:
        return time.monotonic() + self.more


@on_both_databases
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
def test_it_ends_after_its_time_or_when_it_is_told(shop: ChinookDatabase) -> None:
    batches = list(live(shop.engine, 200, duration=timedelta(seconds=1), seed=7))
    expected = Arrivals(7, 200.0, MIX).until(1.0, 1_000)
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


def test_a_signal_handler_sets_the_event_at_any_moment_of_a_pause(tmp_path: Path) -> None:
    """`Event.wait` would hold the event's lock, which `Event.set` needs, in the same thread."""
    script = tmp_path / "script.py"
    script.write_text(
        "import random, signal, threading\n"
        "from chinook_sim.operations.live.stream_time import wait\n"
        "for _ in range(3_000):\n"
        "    stop = threading.Event()\n"
        "    signal.signal(signal.SIGALRM, lambda *_: stop.set())\n"
        "    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 4e-4))\n"
        "    wait(stop, 3e-4)\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)


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
    began = time.monotonic()

    def around_midnight(*_: object) -> datetime:
        passed = timedelta(seconds=time.monotonic() - began)
        return datetime(2026, 1, 31, 23, 59, 59) + passed  # noqa: DTZ001

    monkeypatch.setattr(worker, "now", around_midnight)
    batches = sell(shop, 1_000, rate=300, mix=(1, 0, 0))
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


@on_each_shape
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
            for seed in range(100):
                chosen = choose_changes(
                    connection, catalogue, ChangeCounts(3, 2), seed, day, span=(low, high)
                )
                assert len(set(chosen.updated)) == 3
                assert len(set(chosen.cancelled)) == 2
                assert not set(chosen.updated) & set(chosen.cancelled)
                drawn.update(chosen.cancelled)
        assert set(drawn) <= set(recent)
        cells = Counter(recent.index(id_) // 50 for id_ in drawn.elements())
        assert chance_of(sum((cells[it] - 75) ** 2 / 75 for it in range(8)), 7) > 1e-4
        everything = choose_changes(
            connection, catalogue, ChangeCounts(0, 1_000), 7, day, span=span
        )
        assert everything.cancelled == recent


# Whatever comes in its way.


@pytest.mark.parametrize(
    ("shop", "way", "side"),
    [
        (CASES["postgres-snake-identity-pg18-migrated"], "directly", "request"),
        (CASES["postgres-neon-pg16-migrated"], "directly", "answer"),
        (CASES["postgres-snake-identity-pg18-migrated"], "to pgbouncer", "answer"),
        (CASES["postgres-neon-pg16-migrated"], "from pgbouncer", "request"),
    ],
    indirect=["shop"],
    ids=lambda it: it if isinstance(it, str) else it.id,
)
def test_connections_cut_at_every_turn_lose_nothing_and_double_nothing(
    shop: ChinookDatabase, side: Side, way: Way
) -> None:
    assert shop.server is not None
    said: list[str] = []
    with wired(shop.server, way) as (wire, port):
        engine = create_engine(
            shop.url.set(port=port),
            poolclass=NullPool,
            connect_args={"prepare_threshold": None},
        )
        batches: list[LiveBatch] = []
        for batch in live(engine, 100, seed=7, mix=(3, 1, 1), say=said.append):
            batches.append(batch)
            if len(batches) == 45:
                break
            wire.arm(turn=len(batches), side=side)
        engine.dispose()
    assert sum(it.lost for it in batches) >= 10
    assert "the connection was lost; connecting again" in said
    assert_all_there_once(shop, batches)
    # What comes is what would have come: nothing is left out, nothing made twice.
    assert sum(it.left_out for it in batches) == 0
    count = sum(it.arrivals for it in batches)
    kinds = Counter(it.kind for it in Arrivals(7, 100.0, (3, 1, 1)).until(math.inf, count))
    assert sum(it.made.count for it in batches) == kinds[0]


@on_one_postgresql
def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    shop: ChinookDatabase, command: Command
) -> None:
    process = start(shop, "--rate", "50", "--for", "6s", "--json")
    wait_for(shop, 3)
    assert shop.server is not None
    for _ in range(5):
        with shop.server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'chinook_sim'"
            )
        time.sleep(0.5)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    told = json.loads(shown)
    assert told["connections_lost"] >= 3
    assert told["left_out"] == 0
    assert told["sales"] + told["updates"] + told["cancellations"] == pytest.approx(300, abs=90)
    assert shop.value("SELECT sum(sales) FROM chinook_sim_run WHERE kind = 'live'") == told["sales"]
    assert b"connected again" in said
    assert command("verify", "--all", DATABASE_URL=shop.text).returncode == 0


def start(shop: ChinookDatabase, *arguments: str) -> subprocess.Popen[bytes]:
    return Popen(
        [sys.executable, "-m", "chinook_sim", "live", *arguments],
        env={**os.environ, "DATABASE_URL": shop.text},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(shop: ChinookDatabase, runs: int) -> None:
    until = time.monotonic() + 60
    while shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'live'") < runs:
        assert time.monotonic() < until
        time.sleep(0.02)


@on_both_databases
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_stream_ends_well(
    shop: ChinookDatabase, ending: int, command: Command
) -> None:
    process = start(shop, "--rate", "200", "--json", "--quiet")
    wait_for(shop, 5)
    process.send_signal(ending)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said == b""
    told = json.loads(shown)
    # They are one run now.
    assert shop.rows("SELECT key FROM chinook_sim_run WHERE kind = 'live'") == [
        (f"{told['stream']}/{told['transactions']}",)
    ]
    assert told["sales"] == shop.value("SELECT sum(sales) FROM chinook_sim_run")
    assert command("verify", "--all", DATABASE_URL=shop.text).returncode == 0
    # A stream is listed as one, however many transactions it has.
    (listed,) = json.loads(command("status", "--json", DATABASE_URL=shop.text).stdout)[
        "latest_runs"
    ]
    assert (listed["run"], listed["kind"]) == (told["stream"], "live")
    assert (listed["sales"], listed["revenue"]) == (told["sales"], told["revenue"])
    assert listed["undone"] is None
    gone = command("undo", told["stream"], DATABASE_URL=shop.text)
    assert gone.returncode == 0, gone.stderr
    listing = command("status", DATABASE_URL=shop.text).stdout
    assert f"  {told['stream']}  " in listing
    assert "live (undone)" in listing
    assert shop.value("SELECT count(*) FROM [Invoice] WHERE [InvoiceId] > 30") == 0


@on_both_databases
def test_a_killed_stream_leaves_whole_transactions(shop: ChinookDatabase, command: Command) -> None:
    for _ in range(3):
        process = start(shop, "--rate", "300", "--mix", "1:1:1")
        wait_for(shop, shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'live'") + 5)
        process.kill()
        process.communicate(timeout=60)
    sold, cancelled = (
        shop.value(f"SELECT {what}")
        for what in (
            "sum(sales) FROM chinook_sim_run",
            "count(*) FROM chinook_sim_change WHERE kind = 'cancellation'",
        )
    )
    assert shop.value("SELECT count(*) FROM [Invoice] WHERE [InvoiceId] > 30") == sold - cancelled
    assert command("verify", "--all", DATABASE_URL=shop.text).returncode == 0


@on_one_postgresql
def test_a_second_interruption_does_not_wait(shop: ChinookDatabase) -> None:
    process = start(shop, "--rate", "200", "--quiet")
    wait_for(shop, 3)
    with shop.engine.begin() as connection:
        connection.execute(text(shop.sql("LOCK TABLE [Invoice] IN EXCLUSIVE MODE")))
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"what was committed remains" in said
    assert len(said.splitlines()) == 2  # the first is where ^C stands


@pytest.mark.parametrize("ending", ["stopped", "over"])
def test_a_server_that_dies_each_time_is_not_asked_again_and_again(
    templates: DatabaseTemplates, tmp_path: Path, ending: str
) -> None:
    shop = templates.copy(CASES["postgres-snake-identity-pg18-migrated"], tmp_path)
    shop.execute(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'",
        "CREATE TRIGGER die AFTER INSERT ON [Invoice] FOR EACH STATEMENT EXECUTE FUNCTION die()",
    )
    clock, stop = Clock(), threading.Event()
    said: list[str] = []
    wanted: dict[str, Any] = {"seed": 7, "duration": 2, "mix": (1, 0, 0)}
    stream = live(shop.engine, 50, **wanted, stop=stop, say=said.append, clock=clock)
    timer = threading.Timer(3, lambda: stop.set() if ending == "stopped" else clock.pass_by(99))
    timer.start()
    if ending == "stopped":
        assert list(stream) == []
    else:
        with pytest.raises(DatabaseUnavailable, match=r": \d+ arrivals were not made"):
            list(stream)
    # At once, then after a quarter of a second, half a second, one, two.
    assert 1 < stream.lost <= 6
    assert said == ["the connection was lost; connecting again"]
    assert stream.waiting == len(Arrivals(7, 50.0, (1, 0, 0)).until(2.0, 1_000))
    shop.close()


@on_one_postgresql
def test_it_waits_for_a_lock_as_long_as_it_takes(shop: ChinookDatabase) -> None:
    process = start(shop, "--rate", "50", "--lock-timeout", "1", "--for", "5s", "--json")
    wait_for(shop, 3)
    with shop.engine.begin() as connection:
        connection.execute(text(shop.sql("LOCK TABLE [Invoice] IN EXCLUSIVE MODE")))
        time.sleep(3)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    told = json.loads(shown)
    assert told["left_out"] == told["waiting"] == 0
    lines = said.decode().splitlines()
    assert lines.count("waiting for a lock that another transaction holds") == 1
    assert any("s behind 50 arrivals per second" in line for line in lines)
    assert "the database has caught up with 50 arrivals per second" in lines


@on_one_postgresql
def test_a_shop_that_cannot_be_read_is_not_waited_for(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        connection.execute(text(shop.sql("LOCK TABLE [Track] IN ACCESS EXCLUSIVE MODE")))
        process = start(shop, "--lock-timeout", "1")
        _, said = process.communicate(timeout=30)
        assert process.returncode == 4
        assert b"another transaction holds what is needed" in said
        process = start(shop)
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 130
        assert b"interrupted; nothing was written" in said


@pytest.mark.parametrize("listening", [False, True])
def test_who_waits_for_a_server_can_be_interrupted(listening: bool, command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if listening else free_port()
        process = Popen(
            [sys.executable, "-m", "chinook_sim", "live"],
            env={**os.environ, "DATABASE_URL": f"postgresql://me:x@127.0.0.1:{port}/shop"},
            stderr=subprocess.PIPE,
        )
        # Until it has started, also on a machine that has other work.
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 130, said


@on_both_databases
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


def test_who_has_no_standard_error_may_sell(tmp_path: Path) -> None:
    line = f'"{sys.executable}" -m chinook_sim live --for 1s --json 2>&-'
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["sales"] > 0


# By command.


def test_a_bare_machine_gets_a_live_shop(command: Command) -> None:
    done = command("live", "--for", "2s", "--rate", "30", "--seed", "7", "--profile", "realistic")
    assert done.returncode == 0, done.stderr
    assert "times in chinook.db" in done.stdout
    assert "p99 ms" in done.stdout
    assert "profile           realistic" in done.stdout
    told = json.loads(command("live", "--for", "1", "--rate", "30", "--json").stdout)
    assert told["left_out"] == told["connections_lost"] == 0
    assert told["p50_ms"] <= told["p99_ms"]
    assert told["stream"].startswith("live-")
    assert command("verify", "--all").returncode == 0
    assert command("undo", "live-00000000").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "0"), "the rate must be"),
        (("--rate", "-1"), "the rate must be"),
        (("--rate", "nan"), "the rate must be"),
        (("--rate", "inf"), "the rate must be"),
        (("--rate", "10001"), "the rate must be"),
        (("--rate", "x"), "the rate must be"),
        (("--rate", "٣"), "the rate must be"),
        (("--rate", "1_0"), "the rate must be"),
        (("--rate", " 10"), "the rate must be"),
        (("--for", "0s"), "duration must be such as 90s"),
        (("--for", "10" + "m10"), "duration must be such as 90s"),
        (("--for", "-5s"), "duration must be such as 90s"),
        (("--for", "5 s"), "duration must be such as 90s"),
        (("--mix", "90:8"), "mix must be sales:updates:cancellations"),
        (("--mix", "90:8:-2"), "mix must be sales:updates:cancellations"),
        (("--mix", "0:0:0"), "mix must be sales:updates:cancellations"),
        (("--mix", "a:b:c"), "mix must be sales:updates:cancellations"),
        (("--seed", "x"), "the seed"),
        (("--timezone", "Mars"), "time zone"),
        (("--profile", "unreal"), "unknown profile"),
    ],
)
def test_the_command_refuses_what_cannot_be(
    arguments: tuple[str, ...], said: str, command: Command
) -> None:
    done = command("live", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": True},
        {"rate": "x"},
        {"rate": "20"},
        {"rate": 10**400},
        {"duration": 0},
        {"duration": -1},
        {"duration": math.inf},
        {"duration": "10"},
        {"duration": True},
        {"mix": (True, 0, 0)},
        {"mix": "90:8:2"},
        {"mix": (1, 2)},
        {"mix": (1, 2, -1)},
        {"mix": (0, 0, 0)},
        {"mix": (1.5, 1, 1)},
        {"seed": -1},
        {"timezone": "Mars"},
        {"profile": "unreal"},
        {"engine": create_async_engine("sqlite+aiosqlite://")},
        {"engine": "sqlite://"},
    ],
)
def test_what_cannot_be_is_refused_at_once(wrong: dict[str, Any]) -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(InvalidInput):
        live(**{"engine": engine, "rate": 20, **wrong})
