"""Many days, each in a transaction of its own: made once, whoever makes them, whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import InvalidInput, NoLedger, Profile, backfill, generate_d1, undo
from chinook_sim.verification import verify_day
from support.cases import (
    alternating_versions,
    on_both_databases,
    on_each_shape_unmigrated,
    on_three_shapes,
    on_variants,
)
from support.processes import Popen
from support.tcp_proxy import Side, TcpProxy

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import ChinookDatabase

START = date(2025, 12, 20)
END = date(2026, 1, 8)
DAYS = [START + timedelta(days=number) for number in range(20)]


on_postgresql = on_variants(
    [case for case in alternating_versions(migrated=True) if case.major][::3]
)


def made(shop: ChinookDatabase) -> dict[str, int]:
    """Sales of each day, as they are in the tables; the ledger must say the same."""
    day = "CAST([InvoiceDate] AS date)" if shop.server else "date([InvoiceDate])"
    found = {
        str(day): sales
        for day, sales in shop.rows(
            f"SELECT {day}, count(*) FROM [Invoice] WHERE [InvoiceId] > 30 GROUP BY 1"
        )
    }
    noted = shop.rows(
        "SELECT day, sales FROM chinook_sim_run WHERE kind = 'generate' AND undone_at IS NULL"
    )
    assert {str(day): sales for day, sales in noted} == found
    assert len(noted) == len(found)
    return found


def start(shop: ChinookDatabase, *arguments: str, end: date = END) -> subprocess.Popen[bytes]:
    command = ("backfill", str(START), str(end), "--per-day", *arguments)
    return Popen(
        [sys.executable, "-m", "chinook_sim", *command],
        env={**os.environ, "DATABASE_URL": shop.text},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


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


@on_both_databases
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow(reason="waits for processes")
def test_whoever_ends_it_the_same_command_goes_on(shop: ChinookDatabase, ending: int) -> None:
    process = start(shop, "1500", end=DAYS[9])
    until = time.monotonic() + 60
    while not shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'generate'"):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(ending)
    _, said = process.communicate(timeout=60)
    if ending != signal.SIGKILL:
        assert process.returncode == 130, said
        assert re.search(b"10 days (is|are) done; run the same command to continue", said)
        assert said.strip().count(b"\n") == 0
    process = start(shop, "1500", "--json", end=DAYS[9])
    shown, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    told = json.loads(shown)
    assert told["made"] + told["existed"] == told["days"] == 10
    assert 0 < told["existed"] < 10
    assert told["different"] == 0
    seeds = shop.rows("SELECT DISTINCT seed FROM chinook_sim_run WHERE kind = 'generate'")
    assert [told["seed"]] == [seed for (seed,) in seeds]
    assert made(shop) == {str(day): 1500 for day in DAYS[:10]}


@on_both_databases
def test_several_processes_share_the_days(shop: ChinookDatabase) -> None:
    processes = [start(shop, "60", "--json") for _ in range(4)]
    told = []
    for process in processes:
        shown, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        told.append(json.loads(shown))
    assert sum(it["made"] for it in told) == 20
    assert all(it["made"] + it["existed"] == 20 for it in told)
    seeds = {
        seed for (seed,) in shop.rows("SELECT seed FROM chinook_sim_run WHERE kind = 'generate'")
    }
    for it in told:
        assert set(it["seeds"]) == seeds
        assert it["seed"] == (it["seeds"][0] if len(seeds) == 1 else None)
    assert made(shop) == {str(day): 60 for day in DAYS}


@on_postgresql
@pytest.mark.parametrize("side", ["request", "answer"])
def test_connections_cut_at_every_turn_lose_no_day_and_double_none(
    shop: ChinookDatabase, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.server is not None
    monkeypatch.setattr("chinook_sim.operations.backfill.backoff", lambda _: 0.01)
    with TcpProxy(shop.server.port) as wire:
        engine = create_engine(shop.url.set(port=wire.port), poolclass=NullPool)
        done, cuts = [], 0
        for number, day in enumerate(backfill(engine, START, END, 20), 1):
            done.append(day)
            cuts += wire.was_cut
            wire.arm(turn=number, side=side)
        engine.dispose()
    assert sorted(day.day for day in done) == DAYS
    assert not any(day.existed for day in done)
    assert cuts >= 13
    assert made(shop) == {str(day): 20 for day in DAYS}


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


@on_both_databases
def test_a_shop_that_changes_meanwhile_is_read_again(shop: ChinookDatabase) -> None:
    days = backfill(shop.engine, START, END, 200)
    next(days)
    # Nobody can buy what is gone: the day is made again, of what is there.
    shop.execute(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceId] <= 30",
        "DELETE FROM [PlaylistTrack]",
        "DELETE FROM [InvoiceLine] WHERE [TrackId] = 3",
        "DELETE FROM [Track] WHERE [TrackId] = 3",
    )
    rest = list(days)
    assert len(rest) == 19
    assert not any(day.existed for day in rest)


@on_both_databases
def test_a_day_that_fails_is_named_and_the_others_stay(
    shop: ChinookDatabase, command: Command
) -> None:
    list(backfill(shop.engine, START, DAYS[4], 5))
    shop.execute("UPDATE [Track] SET [UnitPrice] = 0.995") if not shop.server else shop.execute(
        "ALTER TABLE [InvoiceLine] ADD CONSTRAINT no_more CHECK ([Quantity] = 0) NOT VALID"
    )
    done = command("backfill", str(START), str(END), "--per-day", "5", DATABASE_URL=shop.text)
    assert done.returncode == 4
    assert "5 of 20 days are done; run the same command to continue" in done.stderr
    assert len(made(shop)) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("2026-01-02", "2026-01-01", "--per-day", "5"), "before the first"),
        (("2026-01-02", "2026-01-32", "--per-day", "5"), "not a day"),
        (("2026-01-02", "2026-01-03"), "--per-day"),
        (("2026-01-02", "2026-01-03", "--per-day", "-5"), "sales per day"),
        (("2026-01-02", "--per-day", "5"), "END"),
    ],
)
def test_the_command_refuses_what_cannot_be(
    arguments: tuple[str, ...], said: str, command: Command
) -> None:
    done = command("backfill", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_day_that_the_profile_makes_too_large_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "fast.toml").write_text("growth = 50")
    done = command(
        "backfill", "2032-01-01", "2032-01-02", "--per-day", "1000000", "--profile", "fast.toml"
    )
    assert done.returncode == 2
    assert "'fast.toml " in done.stderr
    assert "sales of 2032-01-01, and a day has at most 2,147,483,647" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: the profile")


def test_a_bare_machine_gets_its_history(command: Command) -> None:
    done = command("backfill", str(START), str(END), "--per-day", "30", "--seed", "7")
    assert done.returncode == 0, done.stderr
    assert "made 20 of 20 days in chinook.db" in done.stdout
    assert re.search("^  sales +600$", done.stdout, re.MULTILINE)
    again = command("backfill", str(START), str(END), "--per-day", "30")
    assert "made 0 of 20 days" in again.stdout
    assert re.search("^  seed +7$", again.stdout, re.MULTILINE)
    assert again.stderr == ""


def test_days_with_other_sales_are_reported_and_not_changed(
    command: Command, tmp_path: Path
) -> None:
    year = ("backfill", str(START), str(END), "--per-day")
    first = json.loads(command(*year, "30", "--seed", "7", "--json").stdout)
    assert (first["made"], first["existed"], first["different"]) == (20, 0, 0)
    path = tmp_path / "chinook.db"
    before = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        (run,) = connection.execute(
            f"SELECT substr(run_id, 1, 8) FROM chinook_sim_run WHERE day = '{START}'"
        ).fetchone()
    for arguments, differs in (
        (("40", "--quiet"), "30 sales, not 40"),
        (("30", "--profile", "realistic"), "profile uniform, not realistic"),
        (("30", "--seed", "8"), "seed 7, not 8"),
        (("40", "--seed", "8"), "30 sales, not 40; seed 7, not 8"),
    ):
        done = command(*year, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["made"], told["existed"], told["different"]) == (0, 0, 20), arguments
        assert (told["seed"], told["seeds"], told["seed_count"]) == (7, [7], 1)
        (line,) = done.stderr.splitlines()
        assert line.startswith("Warning: 20 of 20 days exist with sales that differ"), line
        # The realistic profile makes another number of sales as well.
        assert f"{differs}" in line
        assert f"{START} has " in line
        assert f"`chinook-sim undo {run}`" in line
    assert path.read_bytes() == before


@pytest.mark.slow(reason="several backfills; other tests have their seeds")
def test_backfill_reports_the_seeds_of_its_sales(command: Command) -> None:
    for number in range(12):
        command("generate", "3", "--once", "--day", str(DAYS[number]), "--seed", str(number))
    year = ("backfill", str(START), str(END), "--per-day", "3")
    done = command(*year)
    assert done.returncode == 0, done.stderr
    assert "made 8 of 20 days" in done.stdout
    assert re.search("^  seed +13 different seeds$", done.stdout, re.MULTILINE)
    told = json.loads(command(*year, "--json").stdout)
    assert told["seed"] is None
    assert told["seeds"] == list(range(10))
    assert told["seed_count"] == 13
