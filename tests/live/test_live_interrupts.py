"""Live streams that are interrupted, ended or killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from support.cases import on_both_databases, on_one_postgresql
from support.live_streams import start, wait_for
from support.postgres_server import free_port
from support.processes import Popen

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import ChinookDatabase


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
def test_a_killed_stream_leaves_complete_transactions(
    shop: ChinookDatabase, command: Command
) -> None:
    for _ in range(2):
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


@pytest.mark.parametrize("listening", [False, True])
def test_who_waits_for_a_server_can_be_interrupted(listening: bool, command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        port = silent.getsockname()[1] if listening else free_port()
        process = Popen(
            [sys.executable, "-m", "chinook_sim", "live"],
            env={**os.environ, "DATABASE_URL": f"postgresql://me:x@127.0.0.1:{port}/shop"},
            stderr=subprocess.PIPE,
        )
        if listening:
            client, _ = silent.accept()
        else:
            assert process.stderr is not None
            assert b"waiting for postgresql" in process.stderr.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        if listening:
            client.close()
    assert process.returncode == 130, said
