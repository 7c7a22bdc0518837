"""A stream's transactions become fewer runs of the ledger, which say the same of the sales."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import InvalidInput, UndoRefused, generate_d1, live, simulate_changes, undo
from chinook_sim.ledger import merging
from chinook_sim.ledger.listing import latest_runs
from chinook_sim.ledger.merging import Group, merge
from chinook_sim.operations.live import merger, schema_cache, stream_time, worker
from chinook_sim.verification import verify_all, verify_day
from chinook_sim.verification.as_made import AS_MADE
from chinook_sim.verification.distribution import verify_shape
from support.cases import on_both_databases, on_one_postgresql
from support.pgbouncer import wired
from support.runs import take_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from chinook_sim.operations.live.worker import LiveBatch
    from support.databases import ChinookDatabase


class Clock(threading.Event):
    """Seconds that only pass while a stream waits; so each transaction has one arrival."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def wait(self, timeout: float | None = None) -> bool:
        self._seconds += max(timeout or 0.0, 0.0)
        return self.is_set()


@pytest.fixture(autouse=True)
def _waits_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_time, "wait", lambda stop, seconds: stop.wait(seconds))


def sell(shop: ChinookDatabase, count: int, **wanted: Any) -> list[LiveBatch]:
    """Make transactions of one arrival each, and end the stream, which merges them."""
    return list(selling(shop, count, **wanted))


def selling(shop: ChinookDatabase, count: int, **wanted: Any) -> Iterator[LiveBatch]:
    clock = Clock()
    given = {"engine": shop.engine, "seed": 7, "mix": (3, 2, 1), "stop": clock, "clock": clock}
    for number, batch in enumerate(live(rate=20, **{**given, **wanted}), 1):
        yield batch
        if number == count:
            clock.set()


def name_of(batches: list[LiveBatch]) -> str:
    return str(batches[0].made.key).split("/")[0]


def runs(shop: ChinookDatabase) -> list[tuple[Any, ...]]:
    """Return the rows of streams, in order."""
    return shop.rows(
        "SELECT run_id, key, sales, lines, revenue, requested, seed, profile, prices_known, hours "
        "FROM chinook_sim_run WHERE kind = 'live' ORDER BY length(key), key"
    )


CREATED = "SELECT created_at FROM chinook_sim_run WHERE kind = 'live' ORDER BY length(key), key"


def fingerprints(shop: ChinookDatabase) -> dict[int, bytes]:
    """Return the fingerprint of each sale in the ledger."""
    found = {}
    for first, last, step, known in shop.rows(
        "SELECT first_id, last_id, step, fingerprints FROM chinook_sim_run_invoices"
    ):
        ids = range(first, last + 1, step)
        assert len(known) == 16 * len(ids)
        found.update({it: bytes(known[16 * n : 16 * n + 16]) for n, it in enumerate(ids)})
    return found


def told(shop: ChinookDatabase) -> Any:
    """Return what is checked, all of which must pass, and listed."""
    days = shop.rows(
        "SELECT DISTINCT day FROM chinook_sim_run WHERE undone_at IS NULL AND sales > 0"
    )
    with shop.engine.connect() as connection:
        checks = verify_all(connection) + (verify_shape(connection) if days else [])
        for (day,) in days:
            checks += verify_day(connection, date.fromisoformat(str(day)))
        listed = latest_runs(connection, 10)
    assert [it for it in checks if not it.passed] == []
    # How many runs there are is said as well.
    return [(it.name, it.figure) for it in checks if it.name != AS_MADE], listed


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge ten transactions at a time."""
    monkeypatch.setattr(merging, "TRANSACTIONS", 10)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Group]:
    """Keep what a stream would have merged."""
    found: list[Group] = []
    monkeypatch.setattr(merger, "merge", lambda _, group: found.append(group))
    return found


def merge_now(shop: ChinookDatabase, kept: list[Group]) -> list[str | None]:
    merged = []
    for group in kept:
        with shop.engine.begin() as connection:
            merged.append(merge(connection, group))
    return merged


@on_both_databases
def test_merged_runs_say_what_the_transactions_said(
    shop: ChinookDatabase, small: None, kept: list[Group]
) -> None:
    before = shop.snapshot()
    batches = sell(shop, 45)
    single = runs(shop)
    assert len(single) == 45
    assert [row[0] for row in single] == [it.made.run_id for it in batches]
    changes = "SELECT kind, count(*) FROM chinook_sim_change GROUP BY kind ORDER BY kind"
    changed = shop.rows(changes)
    created = shop.rows(CREATED)
    sold, said = fingerprints(shop), told(shop)
    there = shop.snapshot()

    merged = merge_now(shop, kept)

    rows = runs(shop)
    assert [row[0] for row in rows] == merged
    assert [str(row[1]).split("/")[1] for row in rows] == ["10", "20", "30", "40", "45"]
    for place, row in enumerate(rows):
        ones = single[place * 10 : place * 10 + 10]
        # Sales, lines, revenue, and the number asked for.
        for column in range(2, 6):
            assert row[column] == pytest.approx(sum(one[column] for one in ones))
        assert row[6:9] == ones[0][6:9]
        hours = zip(*(json.loads(one[9]) for one in ones), strict=True)
        assert json.loads(row[9]) == [sum(it) for it in hours]
    asked: Counter[str] = Counter()
    for (asked_for,) in shop.rows("SELECT parameters FROM chinook_sim_run WHERE kind = 'live'"):
        asked.update({**json.loads(asked_for), "start": 0})
    assert asked["updates"] == sum(it.made.updates for it in batches)
    assert asked["cancellations"] == sum(it.made.cancellations for it in batches)
    assert shop.rows(CREATED) == [created[it] for it in (9, 19, 29, 39, 44)]
    assert shop.rows(changes) == changed
    assert fingerprints(shop) == sold
    assert told(shop) == said
    assert shop.snapshot() == there
    with pytest.raises(InvalidInput, match="no run, key or stream matches"):
        take_back(shop, str(batches[0].made.run_id))
    take_back(shop, name_of(batches))
    assert shop.snapshot() == before
    assert told(shop)


@on_both_databases
def test_merged_runs_are_undone_one_by_one_the_latest_first(
    shop: ChinookDatabase, small: None
) -> None:
    snapshots = [shop.snapshot()]
    for number, _ in enumerate(selling(shop, 40, mix=(2, 2, 1)), 1):
        if number % 10 == 0:
            snapshots.append(shop.snapshot())
    merged = [str(row[0]) for row in runs(shop)]
    assert len(merged) == 4
    # Some changed a sale more than once, or one of their own.
    again = "SELECT count(*) FROM (SELECT 1 FROM chinook_sim_change GROUP BY run_id, subject_id "
    assert shop.value(again + "HAVING count(*) > 1) x") > 0
    with pytest.raises(UndoRefused, match=r"undo run [0-9a-f]{8}.* first"):
        take_back(shop, merged[0])
    for run in reversed(merged):
        assert shop.snapshot() == snapshots.pop()
        take_back(shop, run)
        told(shop)
    assert shop.snapshot() == snapshots.pop()


@on_both_databases
@pytest.mark.slow(reason="a rare case of merging")
def test_what_was_changed_by_hand_between_two_changes_of_a_merged_run_is_not_lost(
    shop: ChinookDatabase, small: None
) -> None:
    sell(shop, 3, mix=(1, 0, 0))
    for number, _ in enumerate(selling(shop, 10, seed=8, mix=(0, 1, 0)), 1):
        if number == 5:
            shop.execute("UPDATE [Invoice] SET [BillingCity] = 'Elsewhere'")
    first, second = (str(row[0]) for row in runs(shop) if row[2] == 0 or row[2] == 3)
    there = shop.snapshot()
    run = (
        second
        if shop.value(f"SELECT sales FROM chinook_sim_run WHERE run_id = '{first}'")
        else (first)
    )
    with pytest.raises(UndoRefused, match="changed since"):
        take_back(shop, run)
    assert shop.snapshot() == there


@on_both_databases
@pytest.mark.slow(reason="a rare case of merging")
def test_a_transaction_that_was_undone_is_not_merged(
    shop: ChinookDatabase, small: None, kept: list[Group]
) -> None:
    before = shop.snapshot()
    batches = sell(shop, 20, mix=(1, 0, 0))
    take_back(shop, str(batches[13].made.run_id))
    merged = merge_now(shop, kept)
    assert merged[0] is not None
    assert merged[1] is None
    assert len(runs(shop)) == 11
    told(shop)
    take_back(shop, name_of(batches))
    assert shop.snapshot() == before


@on_one_postgresql
def test_what_is_being_undone_is_neither_merged_nor_waited_for(
    shop: ChinookDatabase, small: None, kept: list[Group]
) -> None:
    batches = sell(shop, 10, mix=(1, 0, 0))
    for run in (name_of(batches), str(batches[9].made.run_id)):
        with Session(shop.engine) as session:
            undo(session, run)
            assert merge_now(shop, kept) == [None]
            session.rollback()
    assert merge_now(shop, kept) != [None]


@on_one_postgresql
def test_a_stream_can_be_undone_while_it_merges(
    shop: ChinookDatabase, small: None, kept: list[Group]
) -> None:
    before = shop.snapshot()
    batches = sell(shop, 20, mix=(1, 0, 0))
    undoing = threading.Thread(target=take_back, args=(shop, name_of(batches)))
    with shop.engine.begin() as connection:
        assert merge(connection, kept[1]) is not None
        undoing.start()
        time.sleep(0.5)
        assert undoing.is_alive()
    undoing.join(60)
    assert shop.snapshot() == before
    assert shop.value("SELECT count(*) FROM chinook_sim_run WHERE undone_at IS NULL") == 1


@on_both_databases
@pytest.mark.parametrize("table", ["chinook_sim_run ", "chinook_sim_run_invoices", "COMMIT"])
def test_an_interrupted_merge_leaves_the_transactions_as_they_were(
    shop: ChinookDatabase, small: None, table: str
) -> None:
    def interrupt(*given: Any) -> None:
        if "DELETE FROM" in str(given[2:3]) and table in str(given[2]) + " ":
            raise KeyboardInterrupt

    def interrupt_commit(connection: Connection) -> None:
        if connection.info.pop("merging", False):
            raise KeyboardInterrupt

    def note(connection: Connection, _: object, statement: str, *__: object) -> None:
        if "DELETE FROM" in statement and "chinook_sim_run" in statement:
            connection.info["merging"] = True

    batches: list[LiveBatch] = []
    if table == "COMMIT":
        event.listen(shop.engine, "before_cursor_execute", note)
        event.listen(shop.engine, "commit", interrupt_commit)
    else:
        event.listen(shop.engine, "before_cursor_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        batches.extend(selling(shop, 30, mix=(1, 0, 0)))
    assert [row[0] for row in runs(shop)] == [it.made.run_id for it in batches]
    assert len(batches) == 10
    assert len(told(shop)) == 2


@pytest.mark.parametrize("side", ["request", "answer"])
@on_one_postgresql
@pytest.mark.slow(reason="a cut at every message")
def test_a_connection_cut_during_a_merge_loses_nothing(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch, side: Any
) -> None:
    monkeypatch.setattr(merging, "TRANSACTIONS", 5)
    assert shop.server is not None
    before = shop.snapshot()
    said: list[str] = []
    batches: list[LiveBatch] = []
    with wired(shop.server, "directly") as (wire, port):
        engine = create_engine(shop.url.set(port=port), poolclass=NullPool)
        for batch in selling(shop, 75, engine=engine, say=said.append):
            batches.append(batch)
            if len(batches) % 5 == 0 and len(batches) < 75:
                wire.arm(turn=len(batches) // 5, side=side)
        engine.dispose()
    assert sum(it.lost for it in batches) >= 8
    assert len(runs(shop)) < 75
    assert sum(row[2] for row in runs(shop)) == sum(it.made.count for it in batches)
    told(shop)
    take_back(shop, name_of(batches))
    assert shop.snapshot() == before
    assert not any("not merged" in it for it in said)


@on_both_databases
@pytest.mark.slow(reason="a rare case of merging")
def test_a_refused_merge_is_reported_once(shop: ChinookDatabase, small: None) -> None:
    shop.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''no merging here''; END'"
        if shop.server
        else "CREATE TRIGGER refuse BEFORE DELETE ON chinook_sim_run "
        "BEGIN SELECT RAISE(ABORT, 'no merging here'); END",
        "CREATE TRIGGER refuse BEFORE DELETE ON chinook_sim_run "
        "FOR EACH ROW EXECUTE FUNCTION refuse()"
        if shop.server
        else "SELECT 1",
    )
    said: list[str] = []
    batches = sell(shop, 35, say=said.append)
    assert [row[0] for row in runs(shop)] == [it.made.run_id for it in batches]
    (line,) = said
    assert line.startswith("some transactions were not merged in the ledger: no merging here; ")
    told(shop)


@on_both_databases
@pytest.mark.slow(reason="a rare case of merging")
def test_what_knew_other_prices_is_not_merged_together(shop: ChinookDatabase, small: None) -> None:
    # Every statement of a stream reads the prices anew.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema_cache, "REFRESH_INTERVAL", 0)
        patch.setattr(schema_cache, "REFRESH_RATIO", 0)
        for number, batch in enumerate(selling(shop, 18), 1):
            if number in (4, 7):
                with Session(shop.engine) as session, session.begin():
                    simulate_changes(session, day=batch.made.day, seed=number, price_changes=2)
    rows = runs(shop)
    assert [str(row[1]).split("/")[1] for row in rows] == ["4", "7", "17", "18"]
    assert rows[0][8] is None
    assert len({row[8] for row in rows}) == 3
    told(shop)


@on_both_databases
@pytest.mark.slow(reason="many transactions")
def test_transactions_around_a_sign_up_are_not_merged(
    shop: ChinookDatabase, small: None, kept: list[Group]
) -> None:
    for number, batch in enumerate(selling(shop, 30, mix=(1, 0, 0)), 1):
        if number == 15:
            # Timestamps of SQLite are of whole seconds.
            time.sleep(1.1)
            with Session(shop.engine) as session, session.begin():
                generate_d1(session, 1, day=batch.made.day, new_customers=1)
        if number == 5:
            time.sleep(1.1)
    said = told(shop)
    merged = merge_now(shop, kept)
    assert [it is None for it in merged] == [False, True, False]
    assert told(shop) == said


@on_both_databases
def test_each_day_has_runs_of_its_own(
    shop: ChinookDatabase, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(1, 10**6))

    def around_midnight(*_: object) -> datetime:
        return datetime(2026, 1, 31, 23, 59, 55) + timedelta(seconds=next(numbers))  # noqa: DTZ001

    monkeypatch.setattr(worker, "now", around_midnight)
    batches = sell(shop, 23, mix=(1, 0, 0))
    days = [
        str(day)
        for (day,) in shop.rows(
            "SELECT day FROM chinook_sim_run WHERE kind = 'live' ORDER BY length(key), key"
        )
    ]
    assert days == ["2026-01-31", "2026-02-01", "2026-02-01"]
    assert {it.made.day for it in batches} == {date(2026, 1, 31), date(2026, 2, 1)}
    told(shop)


@on_both_databases
@pytest.mark.slow(reason="several streams at once")
def test_streams_and_batches_at_the_same_time_keep_their_sales_apart(
    shop: ChinookDatabase, small: None
) -> None:
    before = shop.snapshot()
    made: dict[int, list[LiveBatch]] = {}
    # SQLite's writers wait for each other, on a busy machine for long.
    waits = {} if shop.server else {"timeout": 600}
    engine = create_engine(shop.url, connect_args=waits)

    def run(seed: int) -> None:
        made[seed] = sell(shop, 40, engine=engine, seed=seed, mix=(8, 1, 0))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    batches = []
    while any(thread.is_alive() for thread in threads):
        with Session(engine) as session, session.begin():
            batches.append(generate_d1(session, 7, day=date(2026, 1, 31)).run_id)
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    engine.dispose()
    assert set(made) == {1, 2}
    assert len(runs(shop)) == 8
    told(shop)
    # Two ids are a range, whoever took those between them.
    ranges = shop.value(
        "SELECT count(*) FROM chinook_sim_run_invoices p JOIN chinook_sim_run r "
        "ON r.run_id = p.run_id WHERE kind = 'live'"
    )
    assert ranges <= sum(it.made.count for some in made.values() for it in some) / 2 + 8
    # Whoever changed another's sale goes first.
    names = [name_of(made[1]), name_of(made[2]), *map(str, batches)]
    while names:
        left = len(names)
        for name in list(names):
            try:
                take_back(shop, name)
            except UndoRefused:
                continue
            names.remove(name)
        if len(names) == left:
            # Each changed the other's.
            break
    if not names:
        assert shop.snapshot() == before


def test_any_ids_are_ranges_of_equal_steps() -> None:
    for ids in ([], [5], [5, 6], [1, 4, 5, 6, 9, 11, 13], list(range(0, 9_000, 3))):
        parts = list(merging._progressions(ids))
        assert [it for part in parts for it in part] == ids
        assert all(len(part) <= 2_000 for part in parts)
        assert len(parts) <= len(ids) / 2 + 1
