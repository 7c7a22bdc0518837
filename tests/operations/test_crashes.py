"""Processes killed and connections cut, at many moments: a day is whole or absent, and the ledger
agrees; asked for again, it is whole."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import backfill, generate_d1, live
from support.cases import VARIANTS, on_both_databases, on_variants
from support.pgbouncer import Way, wired
from support.processes import Popen
from support.tcp_proxy import Side, TcpProxy

if TYPE_CHECKING:
    from sqlalchemy import URL

    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 1)


# Two ways of making ids, on either server.
SOME = [VARIANTS["postgres-neon-pg16-migrated"], VARIANTS["postgres-snake-identity-pg18-migrated"]]

some = on_variants(SOME)


def check(shop: ChinookDatabase, n: int) -> int:
    """See that every day is whole or absent, and the ledger says the same; return whole ones."""
    day = "CAST([InvoiceDate] AS date)" if shop.server else "date([InvoiceDate])"
    made = shop.rows(
        f"SELECT {day}, count(*) FROM [Invoice] WHERE [InvoiceId] > 30 GROUP BY 1 ORDER BY 1"
    )
    assert {sales for _, sales in made} <= {n}
    noted = shop.rows("SELECT day, sales FROM chinook_sim_run WHERE kind = 'generate' ORDER BY 1")
    assert [(str(day), sales) for day, sales in noted] == [(str(day), sales) for day, sales in made]
    lines = shop.value("SELECT count(*) FROM [InvoiceLine] WHERE [InvoiceId] > 30")
    assert lines == shop.value("SELECT coalesce(sum(lines), 0) FROM chinook_sim_run")
    return len(made)


def settle(shop: ChinookDatabase) -> None:
    """Wait until the server has noticed that a client is gone."""
    if shop.server is None:
        return
    until = time.monotonic() + 30
    while shop.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND state <> 'idle' AND application_name <> 'pgbouncer'"
    ):
        assert time.monotonic() < until
        time.sleep(0.01)


def ask(url: URL, day: date, n: int) -> None:
    engine = create_engine(url, poolclass=NullPool, connect_args={"prepare_threshold": None})
    with Session(engine) as session, session.begin():
        generate_d1(session, n, day=day, once=True)


@on_both_databases
def test_processes_killed_at_many_moments(
    shop: ChinookDatabase, pytestconfig: pytest.Config
) -> None:
    command = ("generate", "2000", "--once", "--quiet")

    def night(day: date) -> subprocess.Popen[bytes]:
        return Popen(
            [sys.executable, "-m", "chinook_sim", *command, "--day", str(day)],
            env={**os.environ, "DATABASE_URL": shop.text},
            stderr=subprocess.PIPE,
        )

    began = time.monotonic()
    first = night(DAY)
    first.communicate()
    assert first.returncode == 0
    took = time.monotonic() - began
    chance = random.Random(1)
    for number in range(1, pytestconfig.getoption("--kills") + 1):
        day = DAY + timedelta(days=number)
        process = night(day)
        # Before it has started to write, a kill tells nothing new.
        time.sleep(took * chance.uniform(0.4, 1.05))
        process.kill()
        process.communicate()
        settle(shop)
        check(shop, 2000)
        again = night(day)
        _, errors = again.communicate()
        assert again.returncode == 0, errors
        assert check(shop, 2000) == number + 1


@pytest.mark.parametrize(
    ("shop", "way", "side"),
    [
        (SOME[0], "directly", "answer"),
        (SOME[1], "from pgbouncer", "request"),
        (SOME[1], "directly", "request"),
        (SOME[0], "to pgbouncer", "answer"),
    ],
    indirect=["shop"],
    ids=lambda it: it if isinstance(it, str) else it.id,
)
@pytest.mark.slow(reason="a cut at every message")
def test_connections_cut_at_every_turn(shop: ChinookDatabase, side: Side, way: Way) -> None:
    assert shop.server is not None
    turn = 0
    with wired(shop.server, way) as (wire, port):
        while turn == 0 or wire.was_cut:
            turn += 1
            day = DAY + timedelta(days=turn)
            wire.arm(turn=turn, side=side)
            with suppress(Exception):
                ask(shop.url.set(port=port), day, 15)
            settle(shop)
            check(shop, 15)
            ask(shop.url, day, 15)
            assert check(shop, 15) == turn
    assert turn > 10, "the turns were not counted"


# --- the answer to COMMIT ----------------------------------------------------------------------

ENDINGS: dict[str, tuple[dict[str, Any], int, int]] = {
    # what happens to COMMIT → exit status, and sales that are there
    "not sent": ({"side": "request"}, 4, 0),
    "not answered": ({"side": "answer"}, 0, 20),
    "not sent, and the server not told": ({"side": "request", "hang": True}, 4, 0),
    "not answered, and the server not told": ({"side": "answer", "hang": True}, 0, 20),
}


@some
@pytest.mark.parametrize("ending", ENDINGS)
def test_generate_reports_whether_a_lost_commit_was_made(
    shop: ChinookDatabase, command: Command, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.server is not None
    monkeypatch.setattr("chinook_sim.ledger.commit_outcome.PROBE_LOCK_TIMEOUT", 1)
    options, status, sales = ENDINGS[ending]
    with TcpProxy(shop.server.port) as wire:
        wire.arm(when=b"COMMIT\0", **options)
        url = shop.url.set(port=wire.port).render_as_string(hide_password=False)
        night = ("generate", "20", "--day", str(DAY), "--once", "--json")
        done = command(*night, DATABASE_URL=url)
        assert wire.was_cut
    assert done.returncode == status, done.stderr
    assert "looking the run up" in done.stderr
    assert ("nothing was written" in done.stderr) == (not sales)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + sales
    assert check(shop, 20) == bool(sales)
    again = command(*night, DATABASE_URL=shop.text)
    assert json.loads(again.stdout)["existed"] == bool(sales)
    assert check(shop, 20) == 1


# What is undone matters here, and the shape does not: each way on one of them.
@pytest.mark.parametrize(
    ("shop", "what"),
    [
        pytest.param(SOME[place % 2], what, id=f"{SOME[place % 2].id}-{what}")
        for place, what in enumerate(("run", "stream", "day", "backfill"))
    ],
    indirect=["shop"],
)
@pytest.mark.parametrize("ending", ["not sent", "not answered"])
def test_undo_reports_whether_a_lost_commit_was_made(
    shop: ChinookDatabase, command: Command, ending: str, what: str
) -> None:
    assert shop.server is not None
    options, status, sales = ENDINGS[ending]
    night = ("generate", "20", "--json", "--once", "--day", str(DAY))
    made = json.loads(command(*night, DATABASE_URL=shop.text).stdout)
    chosen = {"day": ["--day", str(DAY)], "backfill": ["--backfill", str(DAY), str(DAY)]}
    if what == "stream":
        assert command("undo", made["run"], DATABASE_URL=shop.text).returncode == 0
        stream = live(shop.engine, 500, mix=(1, 0, 0))
        sold = sum(batch.made.count for batch in islice(stream, 5))
        stream.close()
        made["run"], sales = stream.name, sold if sales else 0
    before = shop.value("SELECT count(*) FROM [Invoice]")
    with TcpProxy(shop.server.port) as wire:
        wire.arm(when=b"COMMIT\0", **options)
        url = shop.url.set(port=wire.port).render_as_string(hide_password=False)
        done = command("undo", *chosen.get(what, [made["run"]]), DATABASE_URL=url)
        assert wire.was_cut
    assert done.returncode == status, done.stderr
    assert shop.value("SELECT count(*) FROM [Invoice]") == before - sales


@on_variants(SOME[:1])
def test_an_interruption_while_committing_ends_an_undo_of_many_runs(
    shop: ChinookDatabase, command: Command
) -> None:
    """The transaction turns out to be committed; the others are not begun."""
    assert shop.server is not None
    first = DAY - timedelta(days=39)
    list(backfill(shop.engine, first, DAY, 1, seed=3))
    period = ("undo", "--backfill", str(first), str(DAY))
    with TcpProxy(shop.server.port) as wire:
        url = shop.url.set(port=wire.port).render_as_string(hide_password=False)
        processes: list[subprocess.Popen[str]] = []

        def interrupt() -> None:
            processes[0].send_signal(signal.SIGINT)
            # The client handles it while it waits for the answer.
            time.sleep(1)

        wire.arm(when=b"COMMIT\0", side="answer", before=interrupt)
        process = Popen(
            [sys.executable, "-m", "chinook_sim", *period],
            env={**os.environ, "DATABASE_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        output, errors = process.communicate(timeout=60)
    assert "the answer to COMMIT was lost; looking the run up" in errors
    assert (process.returncode, output) == (130, "")
    assert "interrupted; 30 of 40 runs are undone; run the same command to continue" in errors
    assert command(*period, DATABASE_URL=shop.text).returncode == 0
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30
