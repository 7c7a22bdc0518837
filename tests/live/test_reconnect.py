"""Live streams go on after cut connections, killed servers and locks."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from chinook_sim import DatabaseUnavailable, live
from chinook_sim.sampling.arrivals import Arrivals
from support.cases import VARIANTS, on_one_postgresql
from support.live_streams import Clock, assert_all_there_once, start, wait_for
from support.pgbouncer import Way, wired

if TYPE_CHECKING:
    from pathlib import Path

    from chinook_sim.operations.live.worker import LiveBatch
    from support.command import Command
    from support.databases import ChinookDatabase, DatabaseTemplates
    from support.tcp_proxy import Side


@pytest.mark.parametrize(
    ("shop", "way", "side", "turns"),
    [
        (VARIANTS["postgres-snake-identity-pg18-migrated"], "directly", "request", range(1, 30, 2)),
        (VARIANTS["postgres-neon-pg16-migrated"], "directly", "answer", range(1, 30, 2)),
        (VARIANTS["postgres-snake-identity-pg18-migrated"], "to pgbouncer", "answer",
         range(2, 30, 2)),
        (VARIANTS["postgres-neon-pg16-migrated"], "from pgbouncer", "request", range(2, 30, 2)),
    ],
    indirect=["shop"],
    ids=lambda it: it if isinstance(it, str) else getattr(it, "id", f"{it}"),
)  # fmt: skip
@pytest.mark.slow(reason="a cut at every message")
def test_connections_cut_at_every_turn_lose_nothing_and_double_nothing(
    shop: ChinookDatabase, side: Side, way: Way, turns: range
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
        for batch in live(engine, 40, seed=7, mix=(3, 1, 1), say=said.append):
            batches.append(batch)
            if len(batches) > len(turns):
                break
            wire.arm(turn=turns[len(batches) - 1], side=side)
        engine.dispose()
    assert sum(it.lost for it in batches) >= 5
    assert "the connection was lost; connecting again" in said
    assert_all_there_once(shop, batches)
    # What comes is what would have come: nothing is left out, nothing made twice.
    assert sum(it.left_out for it in batches) == 0
    count = sum(it.arrivals for it in batches)
    kinds = Counter(it.kind for it in Arrivals(7, 40.0, (3, 1, 1)).until(math.inf, count))
    assert sum(it.made.count for it in batches) == kinds[0]


@on_one_postgresql
def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    shop: ChinookDatabase, command: Command
) -> None:
    process = start(shop, "--rate", "50", "--json")
    assert shop.server is not None
    committed = 0
    for _ in range(3):
        # Two more than were there: the stream is connected again.
        wait_for(shop, committed + 2)
        with shop.server.connect() as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
                f"WHERE application_name = 'chinook_sim' AND datname = '{shop.url.database}'"
            ).fetchall()
        assert ended == [(True,)]
        committed = shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'live'")
    wait_for(shop, committed + 2)
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    told = json.loads(shown)
    assert told["connections_lost"] == 3
    assert told["left_out"] == 0
    assert shop.value("SELECT sum(sales) FROM chinook_sim_run WHERE kind = 'live'") == told["sales"]
    assert b"connected again" in said
    assert command("verify", "--all", DATABASE_URL=shop.text).returncode == 0


@pytest.mark.parametrize("ending", ["stopped", "over"])
@pytest.mark.slow(reason="waits for a server")
def test_a_server_that_dies_each_time_is_not_asked_again_and_again(
    templates: DatabaseTemplates, tmp_path: Path, ending: str
) -> None:
    shop = templates.copy(VARIANTS["postgres-snake-identity-pg18-migrated"], tmp_path)
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
    process = start(shop, "--rate", "50", "--lock-timeout", "1", "--json")
    wait_for(shop, 3)
    lines: list[str] = []
    assert process.stderr is not None
    heard = iter(process.stderr.readline, b"")
    reader = threading.Thread(target=lambda: lines.extend(it.decode().strip() for it in heard))
    reader.start()

    def hear(words: str) -> None:
        until = time.monotonic() + 60
        while not any(words in line for line in lines):
            assert time.monotonic() < until, lines
            time.sleep(0.02)

    with shop.engine.begin() as connection:
        connection.execute(text(shop.sql("LOCK TABLE [Invoice] IN EXCLUSIVE MODE")))
        hear("waiting for a lock that another transaction holds")
        # Longer than the timeout once more.
        time.sleep(1.5)
    hear("the database has caught up with 50 arrivals per second")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, lines
    reader.join()
    process.stderr.close()
    assert process.stdout is not None
    with process.stdout as output:
        told = json.loads(output.read())
    assert told["left_out"] == 0
    assert lines.count("waiting for a lock that another transaction holds") == 1
    assert any("s behind 50 arrivals per second" in line for line in lines)


@on_one_postgresql
@pytest.mark.slow(reason="waits for processes")
def test_a_shop_that_cannot_be_read_is_not_waited_for(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        connection.execute(text(shop.sql("LOCK TABLE [Track] IN ACCESS EXCLUSIVE MODE")))
        process = start(shop, "--lock-timeout", "1")
        _, said = process.communicate(timeout=30)
        assert process.returncode == 4
        assert b"another transaction holds the lock" in said
        process = start(shop)
        until = time.monotonic() + 60
        while not shop.value(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        ):
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 130
        assert b"interrupted; nothing was written" in said
