"""The steps that --verbose and the loggers of the library report."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import generate_d1
from chinook_sim.database.engine import make_engine, open_connection
from chinook_sim.database.settings import find_database
from chinook_sim.errors import DatabaseUnavailable
from support.cases import on_both_databases
from support.postgres_server import free_port

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase

SECONDS = re.compile(r"\d+\.\d{3} s \(\+\d+\.\d{3}\): ")


@on_both_databases
def test_verbose_prints_the_steps_and_their_times(command: Command, shop: ChinookDatabase) -> None:
    wanted = ("generate", "7", "--seed", "9", "--day", "1999-05-05", "--key", "k", "-v", "--json")
    done = command(*wanted, DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    lines = done.stderr.splitlines()
    assert all(SECONDS.match(line) for line in lines), lines
    told = [SECONDS.sub("", line) for line in lines]
    location = find_database({}, option=shop.text, directory=Path()).shown
    kind, way = ("postgresql", "COPY") if shop.server else ("sqlite", "INSERT of rows")
    expected = [
        f"database: {location} \\(from DATABASE_URL\\)",
        "attempt 1 of 4",
        f"connected to {location}: {kind} [0-9.]+",
        "recognised a Chinook: .* names, schema .*, ids of invoices: .*, with a ledger",
        "read the catalogue: customers 12, tracks 40",
        f"plan: day 1999-05-05, sales 7, seed 9, profile uniform, key k, run {run}",
        "sampled: sales 7, lines [0-9]+",
        f"wrote the sales by {way}",
        "wrote the run into the ledger",
        "committed",
    ]
    assert len(told) == len(expected), told
    for line, pattern in zip(told, expected, strict=True):
        assert re.fullmatch(pattern.replace("?", "[?]"), line), line
    again = command(*wanted, DATABASE_URL=shop.text)
    assert f"key k: exists as run {run}" in again.stderr
    # Where nobody asked, nothing is told.
    assert command("generate", "1", DATABASE_URL=shop.text).stderr == ""
    assert command("-v", "generate", "1", "--quiet", DATABASE_URL=shop.text).stderr == ""


def test_the_library_logs(stocked: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "chinook_sim")
    engine = create_engine(f"sqlite:///{stocked}", poolclass=NullPool)
    with Session(engine) as session, session.begin():
        generate_d1(session, 3, new_customers=1)
    named = {record.name for record in caplog.records}
    assert named == {
        "chinook_sim.database.introspection",
        "chinook_sim.sales.catalogue",
        "chinook_sim.operations.run_batch",
    }
    assert "changed: updates 0, cancellations 0, new_customers 1" in caplog.text


def test_attempts_to_connect_are_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chinook_sim")
    url = f"postgresql://shop:hunter2@127.0.0.1:{free_port()}/chinook"
    location = find_database({}, option=url, directory=Path())
    times = iter([0.0, 1.0, 2.0, 99.0])
    with pytest.raises(DatabaseUnavailable):
        open_connection(
            make_engine(location, writing=False),
            location,
            say=lambda _: None,
            sleep=lambda _: None,
            clock=lambda: next(times),
        )
    assert caplog.text.count("no connection: ") == 2
    assert "the next attempt is in 1.0 s" in caplog.text
    assert "hunter2" not in caplog.text
