"""Backfills that end early, share their days, or meet what fails."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from chinook_sim import backfill
from support.backfills import DAYS, END, START, made, on_postgresql, start
from support.cases import (
    on_both_databases,
)
from support.tcp_proxy import Side, TcpProxy

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase


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
