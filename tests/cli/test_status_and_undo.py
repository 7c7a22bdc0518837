"""`chinook-sim status` and `undo` select runs by day, kind, key and range."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chinook_sim import backfill
from support.cases import on_both_databases
from support.processes import Popen
from support.runs import make
from support.selections import change, count_active_runs, fill

if TYPE_CHECKING:
    from support.command import Answer, Command
    from support.databases import ChinookDatabase

pytestmark = pytest.mark.one_database

DAY = date(2026, 1, 31)
START = DAY - timedelta(days=4)


def answer(done: Answer) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@on_both_databases
def test_status_selects_runs(shop: ChinookDatabase, command: Command) -> None:
    fill(shop)
    list(backfill(shop.engine, START - timedelta(days=20), START, 1))
    make(shop, 2)
    change(shop, updates=2)
    url = shop.text

    def status(*options: str) -> tuple[int, int]:
        found = answer(command("status", "--json", *options, DATABASE_URL=url))
        return found["matching_runs"], len(found["latest_runs"])

    assert status() == (27, 10)
    assert status("--limit", "0") == (27, 27)
    assert status("--limit", "27") == (27, 27)
    assert status("--day", str(DAY)) == (3, 3)
    assert status("--day", str(DAY), "--kind", "changes", "--kind", "align") == (1, 1)
    assert status("--kind", "generate", "--limit", "2") == (26, 2)
    assert status("--kind", "live") == (0, 0)
    shown = command("status", "--day", str(DAY), "--limit", "2", DATABASE_URL=url).stdout
    assert f"the latest 2 of 3 runs of {DAY}; --limit N lists more, --limit 0 all" in shown
    assert "no runs of kind live or align of 2020-01-01" in (
        command(
            *("status", "--kind", "live", "--kind", "align", "--day", "2020-01-01"),
            DATABASE_URL=url,
        ).stdout
    )
    for wrong in (
        ("--day", "yesterday"),
        ("--kind", "sales"),
        ("--limit", "-1"),
        ("--limit", "ten"),
        ("--invoice", "x"),
        ("--invoice", "-1"),
        ("--invoice", "5", "--limit", "3"),
        ("--invoice", "5", "--kind", "live"),
    ):
        done = command("status", *wrong, DATABASE_URL=url)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), wrong


@on_both_databases
def test_status_shows_an_invoice(shop: ChinookDatabase, command: Command) -> None:
    made = make(shop, 5, once=True)
    changed = change(shop, updates=100)
    first = made.invoice_ids[0]
    # What is set for other commands is not in the way.
    environment = {"DATABASE_URL": shop.text, "CHINOOK_SIM_DAY": str(DAY)}
    found = answer(command("status", "--invoice", str(first), "--json", **environment))
    assert (found["invoice"], found["state"], found["origin"]) == (first, "exists", "run")
    assert found["made_by"]["run"] == made.run_id
    assert found["made_by"]["undone"] is None
    (update,) = found["changes"]
    assert (update["kind"], update["run"], update["day"]) == (
        "update",
        changed.run_id,
        str(DAY),
    )
    assert update["total_after"] == found["total"] != update["total_before"]
    shown = command("status", "--invoice", str(first), **environment).stdout
    assert f"run {made.run_id}" in shown
    assert str(changed.run_id)[:8] in shown
    for number, said in ((2, "older than the ledger"), (777, "not found, neither in the shop")):
        done = command("status", "--invoice", str(number), **environment)
        assert done.returncode == 0
        assert said in done.stdout
    assert answer(command("status", "--invoice", "777", "--json", **environment))["state"] == (
        "unknown"
    )


@on_both_databases
def test_undo_takes_a_day_a_key_and_a_backfill(shop: ChinookDatabase, command: Command) -> None:
    before = shop.snapshot()
    fill(shop)
    make(shop, 3, key="job 1")
    url = shop.text
    # What is set for other commands selects nothing to be deleted.
    done = command("undo", DATABASE_URL=url, CHINOOK_SIM_DAY=str(DAY))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert answer(command("undo", "job 1", "--json", DATABASE_URL=url))["sales"] == 3
    assert answer(command("undo", "--key", "job 1", "--json", DATABASE_URL=url))["existed"]
    make(shop, 3)
    gone = answer(command("undo", "--day", str(DAY), "--json", DATABASE_URL=url))
    assert (gone["runs"], gone["sales"], gone["run"], gone["existed"]) == (2, 8, None, False)
    shown = command("undo", "--day", str(DAY), DATABASE_URL=url)
    assert (shown.returncode, "were undone before" in shown.stdout) == (0, True)
    period = ("--backfill", str(START), str(DAY))
    gone = answer(command("undo", *period, "--json", DATABASE_URL=url))
    assert (gone["runs"], gone["sales"], gone["existed"]) == (4, 20, False)
    assert shop.snapshot() == before
    shown = command("undo", *period, DATABASE_URL=url)
    assert (shown.returncode, "was undone before" in shown.stdout) == (0, True)
    for wrong in (
        (),
        ("abcd", "--day", str(DAY)),
        ("--day", str(DAY), *period),
        ("--key", "x", *period),
        ("--key", "x"),
        ("--day", "2020-01-01"),
        ("--day", "yesterday"),
        ("--backfill", str(DAY), str(START)),
        ("--backfill", str(DAY)),
        ("--backfill", "2020-01-01", "2020-12-31"),
    ):
        done = command("undo", *wrong, DATABASE_URL=url)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), wrong


@on_both_databases
def test_undoing_a_backfill_goes_on_where_it_ended(shop: ChinookDatabase, command: Command) -> None:
    before = shop.snapshot()
    first = DAY - timedelta(days=39)
    days = list(backfill(shop.engine, first, DAY, 2, seed=3))
    # Of the second transaction.
    of_it = f"WHERE [InvoiceId] = {days[3].invoice_ids[0]}"
    shop.execute(f"UPDATE [Invoice] SET [Total] = [Total] + 1 {of_it}")
    period = ("undo", "--backfill", str(first), str(DAY))
    done = command(*period, DATABASE_URL=shop.text)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "30 of 40 runs are undone; run the same command to continue" in done.stderr
    assert count_active_runs(shop) == 10
    shop.execute(f"UPDATE [Invoice] SET [Total] = [Total] - 1 {of_it}")
    gone = answer(command(*period, "--json", DATABASE_URL=shop.text))
    assert (gone["runs"], gone["sales"]) == (10, 20)
    assert shop.snapshot() == before


@on_both_databases
@pytest.mark.slow(reason="waits for processes")
def test_an_interrupted_undo_reports_its_progress(shop: ChinookDatabase, command: Command) -> None:
    before = shop.snapshot()
    # A transaction undoes thirty runs: three are still to come after the first.
    first = DAY - timedelta(days=119)
    list(backfill(shop.engine, first, DAY, 5, seed=3))
    # Slow enough to be interrupted before the end on any machine: PostgreSQL in the second
    # transaction, which undoes earlier days, and SQLite at each invoice.
    shop.execute(
        *(
            (
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'",
                "CREATE TRIGGER slow AFTER DELETE ON [Invoice] FOR EACH ROW "
                f"WHEN (OLD.[InvoiceDate] < '{DAY - timedelta(days=40)}') EXECUTE FUNCTION slow()",
            )
            if shop.server
            else (
                "CREATE TRIGGER slow AFTER DELETE ON [Invoice] BEGIN SELECT (WITH RECURSIVE n (i) "
                "AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) "
                "SELECT max(i) FROM n); END",
            )
        )
    )
    period = ("undo", "--backfill", str(first), str(DAY))
    process = Popen(
        [sys.executable, "-m", "chinook_sim", *period],
        env={**os.environ, "DATABASE_URL": shop.text},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while count_active_runs(shop) == 120:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert (process.returncode, output) == (130, "")
    assert f"{120 - count_active_runs(shop)} of 120 runs are undone; run the same command" in errors
    shop.execute("DROP TRIGGER slow" + (" ON [Invoice]" if shop.server else ""))
    gone = answer(command(*period, "--json", DATABASE_URL=shop.text))
    assert gone["runs"] < 120
    assert shop.snapshot() == before
