"""`chinook-sim backfill`."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from support.backfills import DAYS, END, START

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("2026-01-02", "2026-01-01", "--per-day", "5"), "before the first"),
        (("2026-01-02", "2026-01-32", "--per-day", "5"), "a day must be YYYY-MM-DD"),
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
