"""What a scheduler does: the command run again, run twice, run late, and told when to give up."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from chinook_sim import generate_d1
from support.cases import (
    alternating_versions,
    cases,
    on_both_databases,
    on_two_postgresql_shapes,
    on_variants,
)
from support.processes import Popen

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Answer, Command
    from support.databases import ChinookDatabase

# Processes take long to start.
some = on_variants(alternating_versions(migrated=True)[::2])
WAITS = pytest.mark.slow(reason="waits for a second; one command is enough by default")

on_one = on_variants(
    [case for case in cases(migrated=True) if case.id.startswith("postgres-neon-pg18")]
)


def answer(done: Answer) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


@some
def test_a_night_that_is_run_again_is_there_already(
    shop: ChinookDatabase, command: Command
) -> None:
    night = ("generate", "30", "--day", "2026-01-31", "--once")
    first = answer(command(*night, "--json", DATABASE_URL=shop.text))
    second = answer(command(*night, "--json", DATABASE_URL=shop.text))
    assert second == {**first, "existed": True}
    shown = command(*night, DATABASE_URL=shop.text)
    assert "already generated: 30 sales" in shown.stdout
    dry = command(*night, "--dry-run", DATABASE_URL=shop.text)
    assert "already generated: 30 sales" in dry.stdout
    other = command("generate", "31", *night[2:], DATABASE_URL=shop.text)
    assert other.returncode == 2
    assert "number of sales 30, not 31" in other.stderr
    assert other.stderr.count("\n") == 1
    assert shop.value("SELECT count(*) FROM [Invoice]") == 60


@some
@pytest.mark.slow(reason="many processes")
def test_eight_processes_at_once_make_one_night(shop: ChinookDatabase) -> None:
    night = [sys.executable, "-m", "chinook_sim", "generate", "200", "--once", "--json"]
    processes = [
        Popen(
            night,
            env={**os.environ, "DATABASE_URL": shop.text},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(8)
    ]
    records = []
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        records.append(json.loads(output))
    assert sorted(record["existed"] for record in records) == [False] + [True] * 7
    assert len({record["run"] for record in records}) == 1
    assert shop.value("SELECT count(*) FROM [Invoice]") == 230


def test_once_needs_a_ledger(command: Command, tmp_path: Path) -> None:
    assert command("init").returncode == 0
    with closing(sqlite3.connect(tmp_path / "chinook.db")) as connection:
        connection.execute("DROP TABLE chinook_sim_run")
    refused = command("generate", "5", "--once")
    assert refused.returncode == 3
    assert "chinook-sim init" in refused.stderr
    assert command("generate", "5").returncode == 0


@on_both_databases
def test_status_lists_runs_and_undo_takes_one_out(shop: ChinookDatabase, command: Command) -> None:
    command("generate", "12", "--key", "job-1", DATABASE_URL=shop.text)
    moved = answer(command("align", "--json", DATABASE_URL=shop.text))
    assert (moved["invoices"], moved["existed"]) == (30, False)
    shown = command("align", DATABASE_URL=shop.text)
    assert f"was already moved by run {moved['run']}" in shown.stdout
    status = answer(command("status", "--json", DATABASE_URL=shop.text))
    assert status["runs"] == 2
    by_kind = {run["kind"]: run for run in status["latest_runs"]}
    assert by_kind["generate"]["key"] == "job-1"
    assert by_kind["generate"]["sales"] == 12
    run = by_kind["generate"]["run"]
    assert run[:8] in command("status", DATABASE_URL=shop.text).stdout
    undone = answer(command("undo", run[:8], "--json", DATABASE_URL=shop.text))
    assert (undone["run"], undone["sales"], undone["existed"]) == (run, 12, False)
    again = command("undo", run, DATABASE_URL=shop.text)
    assert again.returncode == 0
    assert "was undone before" in again.stdout
    assert "generate (undone)" in command("status", DATABASE_URL=shop.text).stdout
    assert command("undo", "nonsense", DATABASE_URL=shop.text).returncode == 2
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30


TRIP = (
    "CREATE SEQUENCE trips",
    "CREATE FUNCTION trip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF nextval('trips') <= {times} THEN RAISE SQLSTATE '{state}' USING MESSAGE = 'in the way'; "
    "END IF; RETURN NULL; END $$",
    "CREATE TRIGGER trip AFTER INSERT ON [InvoiceLine] FOR EACH STATEMENT EXECUTE FUNCTION trip()",
)


@on_two_postgresql_shapes
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_batch_is_retried_after_a_serialization_failure_or_deadlock(
    shop: ChinookDatabase, command: Command, state: str
) -> None:
    shop.execute(*(line.replace("{times}", "2").replace("{state}", state) for line in TRIP))
    done = command("generate", "9", "--json", DATABASE_URL=shop.text)
    assert answer(done)["retries"] == 2
    assert done.stderr.count("trying again") == 2
    assert shop.value("SELECT count(*) FROM [Invoice]") == 39
    assert shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'generate'") == 1


@on_one
def test_it_is_not_made_again_for_ever(shop: ChinookDatabase, command: Command) -> None:
    shop.execute(*(line.replace("{times}", "9").replace("{state}", "40001") for line in TRIP))
    done = command("generate", "9", DATABASE_URL=shop.text)
    assert done.returncode == 4
    assert done.stderr.count("trying again") == 3
    assert "nothing was written" in done.stderr.splitlines()[-1]
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30


@on_one
def test_other_failures_are_not_tried_again(shop: ChinookDatabase, command: Command) -> None:
    shop.execute(*(line.replace("{times}", "1").replace("{state}", "P0001") for line in TRIP))
    done = command("generate", "9", DATABASE_URL=shop.text)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)


@on_one
def test_a_real_deadlock_is_survived(shop: ChinookDatabase) -> None:
    """Another session holds the lines off, then wants the invoices that the batch has locked."""
    assert shop.server is not None
    shop.execute(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM pg_sleep(0.5); RETURN NULL; END $$",
        "CREATE TRIGGER tell AFTER INSERT ON [Invoice] FOR EACH STATEMENT EXECUTE FUNCTION tell()",
    )
    with shop.server.connect(shop.url.database or "") as other:
        # So that it is the batch that notices, and is taken back.
        other.execute("SET deadlock_timeout = '1min'")
        other.autocommit = False
        process = Popen(
            [sys.executable, "-m", "chinook_sim", "generate", "9", "--json"],
            env={**os.environ, "DATABASE_URL": shop.text},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        dozing = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event = 'PgSleep'"
        )
        until = time.monotonic() + 30
        while not shop.value(dozing):
            assert time.monotonic() < until
            time.sleep(0.02)
        other.execute(shop.sql("LOCK TABLE [InvoiceLine] IN SHARE MODE"))
        other.execute(shop.sql("LOCK TABLE [Invoice] IN SHARE MODE"))
        other.rollback()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "deadlock" in errors
    assert json.loads(output)["retries"] >= 1
    assert shop.value("SELECT count(*) FROM [Invoice]") == 39


@on_both_databases
@pytest.mark.slow(reason="waits for a timeout")
def test_waiting_for_a_lock_ends(shop: ChinookDatabase, command: Command) -> None:
    writer = shop.engine.connect()
    if shop.server is None:
        writer.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        writer.execute(text(shop.sql("LOCK TABLE [Invoice] IN ACCESS EXCLUSIVE MODE")))
    for arguments in (("generate", "5"), ("align",)):
        done = command(*arguments, "--lock-timeout", "1", DATABASE_URL=shop.text)
        assert done.returncode == 4
        assert "lock" in done.stderr
        assert done.stderr.count("\n") == 1
    writer.rollback()
    writer.close()
    assert command("generate", "5", DATABASE_URL=shop.text).returncode == 0


@on_one
@pytest.mark.parametrize(
    "looking",
    [
        ("generate", "5", "--dry-run"),
        pytest.param(("align", "--dry-run"), marks=WAITS),
        pytest.param(("init",), marks=WAITS),
    ],
)
def test_waiting_for_a_lock_ends_in_commands_that_write_nothing(
    shop: ChinookDatabase, command: Command, looking: tuple[str, ...]
) -> None:
    with shop.engine.connect() as writer:
        writer.execute(text(shop.sql("LOCK TABLE [Invoice], [Track] IN ACCESS EXCLUSIVE MODE")))
        done = command(*looking, "--lock-timeout", "1", DATABASE_URL=shop.text)
    assert done.returncode in (3, 4)
    assert "lock timeout" in done.stderr


@on_one
def test_a_dry_run_does_not_wait_for_a_key(shop: ChinookDatabase, command: Command) -> None:
    night = ("generate", "5", "--day", "2026-01-31", "--once")
    with Session(shop.engine) as session:
        generate_d1(session, 5, day=date(2026, 1, 31), once=True)
        done = command(*night, "--dry-run", DATABASE_URL=shop.text)
    assert answer(command(*night, "--json", DATABASE_URL=shop.text))["existed"] is False
    assert done.returncode == 0


@on_one
def test_a_statement_that_takes_too_long_ends(shop: ChinookDatabase, command: Command) -> None:
    shop.execute(
        "CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM pg_sleep(30); RETURN NULL; END $$",
        "CREATE TRIGGER doze AFTER INSERT ON [Invoice] FOR EACH STATEMENT EXECUTE FUNCTION doze()",
    )
    done = command("generate", "5", "--statement-timeout", "1", DATABASE_URL=shop.text)
    assert done.returncode == 4
    assert "statement timeout" in done.stderr
    assert done.stderr.count("\n") == 1
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30


@pytest.mark.parametrize("given", ["-1", "1.5", "soon", "90000", ""])
def test_a_timeout_is_a_number_of_seconds(command: Command, given: str) -> None:
    for option in ("--lock-timeout", "--statement-timeout"):
        done = command("generate", "5", option, given)
        assert done.returncode == 2
        assert "timeout" in done.stderr
