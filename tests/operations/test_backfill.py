"""Backfill: each day once, in a transaction and a run of its own."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import InvalidInput, NoLedger, Profile, backfill, generate_d1, undo
from chinook_sim.verification import verify_day
from support.backfills import DAYS, END, START, made, on_postgresql
from support.cases import (
    on_both_databases,
    on_each_shape_unmigrated,
    on_three_shapes,
)
from support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from support.databases import ChinookDatabase


@on_three_shapes
def test_each_day_is_made_once_in_a_run_of_its_own(shop: ChinookDatabase) -> None:
    done = list(backfill(shop.engine, START, END, 7, seed=3))
    assert [day.day for day in done] == DAYS
    assert not any(day.existed for day in done)
    assert made(shop) == {str(day): 7 for day in DAYS}
    assert shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'generate'") == 20
    before = shop.snapshot()
    again = list(backfill(shop.engine, START, END, 7, seed=3))
    assert all(day.existed for day in again)
    assert [day.digest for day in again] == [day.digest for day in done]
    assert not any(day.differences for day in again)
    # Also where other sales are asked for: what is there stays, and says what differs.
    other = list(backfill(shop.engine, START, END, 8, seed=4, profile=Profile("hits", tracks=1)))
    assert all(day.existed for day in other)
    assert [dict(day.differences) for day in other] == 20 * [
        {"number of sales": (7, 8), "profile": ("uniform", "hits"), "seed": (3, 4)}
    ]
    assert shop.snapshot() == before
    with shop.engine.connect() as connection:
        for day in DAYS[::7]:
            assert all(check.passed for check in verify_day(connection, day, expect=7))


@on_both_databases
def test_a_day_is_the_one_that_its_seed_makes(shop: ChinookDatabase) -> None:
    done = {day.day: day for day in backfill(shop.engine, START, START + timedelta(days=2), 9)}
    (seed,) = {day.seed for day in done.values()}
    with Session(shop.engine) as session:
        for day, filled in done.items():
            assert generate_d1(session, 9, day=day, seed=seed).digest == filled.digest
        session.rollback()


@on_three_shapes
def test_days_that_exist_and_days_that_were_undone(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        mine = generate_d1(session, 3, day=DAYS[4], once=True)
        other = generate_d1(session, 4, day=DAYS[5], once=True)
        # Without a key these are other sales of that day.
        generate_d1(session, 2, day=DAYS[6])
    with Session(shop.engine) as session, session.begin():
        undo(session, other.run_id or "")
    done = {day.day: day for day in backfill(shop.engine, START, END, 5)}
    assert done[DAYS[4]].existed
    assert done[DAYS[4]].run_id == mine.run_id
    assert sum(day.existed for day in done.values()) == 1
    counts = shop.rows(
        "SELECT sales, count(*) FROM chinook_sim_run WHERE kind = 'generate' "
        "AND undone_at IS NULL GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in counts] == [(2, 1), (3, 1), (5, 19)]


@on_both_databases
def test_only_days_that_exist_with_other_sales_differ(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 5, day=DAYS[2], once=True, updates=1)
        generate_d1(session, 3, day=DAYS[4], once=True)
        generate_d1(session, 5, day=DAYS[5], once=True, profile=Profile("hits", tracks=1))
    done = {day.day: day for day in backfill(shop.engine, START, END, 5)}
    # Without a seed in the request, any seed is as requested.
    assert {day: dict(it.differences) for day, it in done.items() if it.differences} == {
        DAYS[4]: {"number of sales": (3, 5)},
        DAYS[5]: {"profile": ("hits", "uniform")},
    }
    assert [day for day, it in done.items() if it.existed] == [DAYS[2], DAYS[4], DAYS[5]]


@on_both_databases
def test_a_day_of_a_calendar_is_compared_by_its_own_seed(shop: ChinookDatabase) -> None:
    weekly = Profile("weekly", weekdays=(1, 1, 1, 1, 1.3, 1.7, 1.1))
    done = list(backfill(shop.engine, START, END, 5, seed=3, profile=weekly))
    # Numbers are rounded up or down by the seed, which is not what was requested otherwise.
    rounded = {weekly.count(5, day, 3) - weekly.count(5, day, 4) for day in DAYS}
    assert rounded >= {1, -1}
    again = list(backfill(shop.engine, START, END, 5, profile=weekly))
    assert not any(day.differences for day in again)
    assert [day.seed for day in again] == [day.seed for day in done]
    other = list(backfill(shop.engine, START, END, 5, seed=4, profile=weekly))
    assert [dict(day.differences) for day in other] == 20 * [{"seed": (3, 4)}]


@on_three_shapes
def test_a_day_that_another_made_meanwhile_is_compared_too(shop: ChinookDatabase) -> None:
    days = backfill(shop.engine, START, DAYS[2], 5)
    next(days)
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 4, day=DAYS[1], once=True)
        generate_d1(session, 5, day=DAYS[2], once=True)
    found = [(day.existed, dict(day.differences)) for day in days]
    assert found == [(True, {"number of sales": (4, 5)}), (True, {})]


@on_both_databases
def test_without_a_seed_it_continues_with_the_one_of_the_days_that_exist(
    shop: ChinookDatabase,
) -> None:
    first = list(backfill(shop.engine, START, DAYS[4], 5))
    (seed,) = {day.seed for day in first}
    # A day with another number of sales is not one of this backfill.
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 4, day=DAYS[9], once=True, seed=1)
    rest = list(backfill(shop.engine, START, DAYS[11], 5))
    assert {day.seed for day in rest if not day.differences} == {seed}
    assert sum(day.existed for day in rest) == 6
    # A day that is undone is the same again.
    with Session(shop.engine) as session, session.begin():
        undo(session, first[2].run_id or "")
    made_again = [day for day in backfill(shop.engine, START, DAYS[11], 5) if not day.existed]
    assert [day.digest for day in made_again] == [first[2].digest]
    # A seed that is given is the one that is used.
    assert {day.seed for day in backfill(shop.engine, DAYS[11], DAYS[13], 5, seed=2)} == {seed, 2}
    # Of two seeds, neither is the backfill's.
    last = list(backfill(shop.engine, START, END, 5))
    assert len({day.seed for day in last} - {1, 2, seed}) == 1


@on_both_databases
def test_it_can_stop_after_any_day(shop: ChinookDatabase) -> None:
    days = backfill(shop.engine, START, END, 5)
    for _ in range(3):
        next(days)
    days.close()  # type: ignore[attr-defined]
    assert made(shop) == {str(day): 5 for day in DAYS[:3]}
    assert sum(day.existed for day in backfill(shop.engine, START, END, 5)) == 3
    assert made(shop) == {str(day): 5 for day in DAYS}


@on_each_shape_unmigrated
def test_without_a_ledger_there_is_no_once(shop: ChinookDatabase) -> None:
    with pytest.raises(NoLedger, match="init"):
        next(backfill(shop.engine, START, END, 5))


@pytest.mark.parametrize(
    ("start", "end", "count", "seed"),
    [(END, START, 5, None), (START, END, -1, None), (START, END, 5, -1), (START, "x", 5, None)],
)
def test_what_cannot_be_is_refused_at_once(start: date, end: Any, count: int, seed: int) -> None:
    with pytest.raises(InvalidInput):
        backfill(create_engine("sqlite://"), start, end, count, seed=seed)


@on_postgresql
@pytest.mark.slow(reason="test_faults.py counts those of a batch")
def test_round_trips_of_a_day_do_not_grow_with_it(shop: ChinookDatabase) -> None:
    assert shop.server is not None
    turns = []
    with TcpProxy(shop.server.port) as wire:
        for count in (2, 3000):
            engine = create_engine(shop.url.set(port=wire.port), poolclass=NullPool)
            first = START if count == 2 else END
            days = backfill(engine, first, first + timedelta(days=3), count)
            next(days)
            wire.turns = 0
            next(days)
            turns.append(wire.turns)
            list(days)
            engine.dispose()
    assert turns[0] == turns[1] <= 15
