"""Signals, pipes and outputs that take nothing: what was committed is never denied."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.postgres_server import PASSWORD
from support.processes import Popen, run, wait_for_cpu_time
from support.runs import count_invoices

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import DatabaseTemplates


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
@pytest.mark.slow(reason="waits for processes")
def test_an_interrupted_batch_leaves_nothing(
    stocked: Path, templates: DatabaseTemplates, number: signal.Signals, place: str
) -> None:
    url = f"sqlite:///{stocked}"
    if place == "postgresql":
        server = templates.server(18)
        database = server.create_database()
        url = server.url(database).render_as_string(hide_password=False)
    base = [sys.executable, "-m", "chinook_sim"]
    environment = {**os.environ, "DATABASE_URL": url}
    if place == "postgresql":
        run([*base, "init", "-q"], env=environment, check=True)
    # Millions of sales take long enough for a signal to come in the middle.
    with Popen(
        [*base, "generate", "3000000"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # It is making sales by then.
        wait_for_cpu_time(process.pid, 1)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert "interrupted; nothing was written" in errors
    assert "Traceback" not in errors
    assert PASSWORD not in errors
    if place == "postgresql":
        with server.connect(database) as connection:
            assert connection.execute('SELECT count(*) FROM "Invoice"').fetchone() == (412,)
        server.drop_database(database)
    else:
        assert count_invoices(stocked) == 412


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    ("output", "said"),
    [("/dev/full", "done, but the result could not be printed"), (None, "done, but")],
    ids=["full", "closed"],
)
def test_what_is_done_is_done_where_it_cannot_be_printed(
    stocked: Path, output: str | None, said: str, form: tuple[str, ...]
) -> None:
    before = count_invoices(stocked)
    command = [sys.executable, "-m", "chinook_sim", "generate", "5", *form]
    if output is None:
        # Python itself must be started without it.
        shell = ["sh", "-c", f"exec {shlex.join(command)} >&-"]
        done = subprocess.run(shell, cwd=stocked.parent, capture_output=True, check=False)
    else:
        with Path(output).open("wb") as full:
            done = run(command, cwd=stocked.parent, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert count_invoices(stocked) == before + 5


def test_a_character_that_the_output_has_not_is_escaped(process: Command, stocked: Path) -> None:
    environment = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    done = process("generate", "5", "--key", "日本", "--json", cwd=stocked.parent, **environment)
    assert done.returncode == 0, done.stderr
    assert "\\u65e5" in done.stdout


def test_an_error_that_nobody_can_read_keeps_its_exit_status(stocked: Path) -> None:
    command = [sys.executable, "-m", "chinook_sim", "generate", "x"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=stocked.parent, stderr=full, check=False)
    assert done.returncode == 2


def test_a_signal_after_the_commit_takes_nothing_back(stocked: Path) -> None:
    before = count_invoices(stocked)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            pass
    os.set_blocking(writing, True)
    # Python's own standard output, which no fork has.
    process = subprocess.Popen(
        [sys.executable, "-m", "chinook_sim", "generate", "5", "--json"],
        cwd=stocked.parent,
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    until = time.monotonic() + 60
    while count_invoices(stocked) == before:
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.2)  # it stands before the full pipe now, or will be told before it does
    process.terminate()
    _, errors = process.communicate(timeout=60)
    os.close(reading)
    assert process.returncode == 0, errors
    assert b"nothing was written" not in errors
    assert count_invoices(stocked) == before + 5


def test_waiting_for_a_file_can_be_interrupted(stocked: Path) -> None:
    with closing(sqlite3.connect(stocked, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        process = Popen(
            [
                *(sys.executable, "-m", "chinook_sim", "generate", "5"),
                *("--lock-timeout", "0", "-v", "--json"),
            ],
            cwd=stocked.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        while b"connected to" not in process.stderr.readline():
            pass
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().count(b"\n") == 0
    error = json.loads(output)["error"]
    assert (error["kind"], error["exit_status"]) == ("interrupted", 130)


def test_a_reader_that_goes_away_is_no_failure(stocked: Path) -> None:
    line = f'"{sys.executable}" -m chinook_sim generate 5; echo "status $?" >&2'
    done = subprocess.run(
        ["bash", "-c", f"({line}) | true"],
        cwd=stocked.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "status 0\n"
    assert count_invoices(stocked) == 417
