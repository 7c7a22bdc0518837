"""`chinook-sim generate`: what it makes, from what, and what it says."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chinook_sim.cli.context import CliContext
from chinook_sim.database.settings import find_database
from support.cases import on_all_unmigrated_but_16
from support.processes import Popen
from support.runs import count_invoices

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase


def test_one_command_makes_a_shop_and_its_sales(command: Command, tmp_path: Path) -> None:
    done = command("generate", "10")
    assert done.returncode == 0
    assert "added 10 sales to chinook.db" in done.stdout
    assert "making chinook.db" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["chinook.db"]
    assert count_invoices(tmp_path / "chinook.db") == 412 + 10
    assert command("verify", "--expect", "10").returncode == 0
    assert command("verify", "--all", "--expect", "422").returncode == 0


def test_first_runs_at_the_same_time_make_one_shop(tmp_path: Path) -> None:
    runs = [
        Popen(
            [sys.executable, "-m", "chinook_sim", "generate", "10"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in runs:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert [path.name for path in tmp_path.iterdir()] == ["chinook.db"]
    assert count_invoices(tmp_path / "chinook.db") == 412 + 30


def test_the_second_run_adds_to_the_first(command: Command, stocked: Path) -> None:
    assert command("generate", "3").stderr == ""
    assert command("generate", "4").returncode == 0
    assert count_invoices(stocked) == 412 + 7


@on_all_unmigrated_but_16
def test_every_shape_takes_a_batch_by_command(command: Command, shop: ChinookDatabase) -> None:
    before = shop.value("SELECT count(*) FROM [Invoice]")
    environment = {"CHINOOK_SIM_DATABASE_URL": shop.text}
    done = command("generate", "25", "--json", "--day", "2026-01-31", "--seed", "7", **environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sales"] == 25
    assert shop.value("SELECT count(*) FROM [Invoice]") == before + 25
    told_lines = shop.value(
        f"SELECT count(*) FROM [InvoiceLine] WHERE [InvoiceId] BETWEEN {told['first_invoice']} "
        f"AND {told['last_invoice']}"
    )
    assert told_lines == told["lines"]
    verified = command("verify", "--day", "2026-01-31", "--expect", "25", **environment)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize(
    ("given", "status"),
    [("10", 0), ("  7\n", 0), ("0", 0), ("5 3", 2), ("", 2), ("\n", 2), ("-1", 2), ("1e3", 2),
     ("٣", 2), ("1_000", 2), ("1.0", 2), ("+5", 2), ("0x10", 2), ("9" * 20, 2), ("2147483648", 2),
     ("ten", 2), (b"\xff\xfe", 2), (b"5\x00", 2), (b"1" * 100_000, 2)],
)  # fmt: skip
def test_the_number_of_sales_may_come_from_standard_input(
    command: Command, stocked: Path, given: str | bytes, status: int
) -> None:
    done = command("generate", stdin=given if isinstance(given, bytes) else given.encode())
    assert done.returncode == status
    if status:
        assert len(done.stderr.splitlines()) == 1
        assert "number of sales" in done.stderr
        assert count_invoices(stocked) == 412
    else:
        assert count_invoices(stocked) == 412 + int(given)


def test_verify_may_have_the_profile_of_generate_in_its_environment(
    command: Command, stocked: Path
) -> None:
    done = command("verify", "--expect", "0", CHINOOK_SIM_PROFILE="realistic")
    assert done.returncode == 0, done.stderr


def test_a_dry_run_reports_what_a_run_would_do(command: Command, stocked: Path) -> None:
    wanted = ["generate", "9", "--seed", "7", "--json"]
    dry = json.loads(command(*wanted, "--dry-run").stdout)
    assert count_invoices(stocked) == 412
    wet = json.loads(command(*wanted).stdout)
    for key in ("day", "sales", "lines", "revenue", "seed", "digest", "hours"):
        assert dry[key] == wet[key]


def test_a_batch_of_changes_alone_adds_no_sales(command: Command, stocked: Path) -> None:
    assert command("generate", "5", "--day", "2026-01-31").returncode == 0
    done = command("generate", "0", "--moves", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("changed chinook.db\n")
    assert "changes  2 moves" in done.stdout
    assert not {"sales", "average", "hours"} & {*done.stdout.split()}


def test_options_may_come_from_the_environment_and_from_dotenv(
    command: Command, stocked: Path
) -> None:
    (stocked.parent / ".env").write_text("CHINOOK_SIM_SEED=11\nCHINOOK_SIM_DAY=2026-01-31\n")
    told = json.loads(command("generate", "2", CHINOOK_SIM_JSON="1", CHINOOK_SIM_SEED="12").stdout)
    assert (told["seed"], told["day"]) == (12, "2026-01-31")


@pytest.mark.parametrize("contents", [b"\xff\xfe\x00", b"DATABASE_URL=sqlite://\x00"])
def test_a_broken_dotenv_is_one_line(command: Command, stocked: Path, contents: bytes) -> None:
    (stocked.parent / ".env").write_bytes(contents)
    done = command("status")
    assert done.returncode in (0, 2)
    assert len(done.stderr.splitlines()) <= 1


def test_quiet_says_nothing_and_verbose_says_where(command: Command, stocked: Path) -> None:
    quiet = command("generate", "2", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert "chinook.db (from the default)" in command("-v", "generate", "2").stderr


def test_verify_fails_where_something_is_wrong(command: Command, stocked: Path) -> None:
    assert command("generate", "20", "--day", "2026-01-31").returncode == 0
    with closing(sqlite3.connect(stocked)) as connection, connection:
        connection.execute('UPDATE "Invoice" SET "Total" = "Total" + 1 WHERE "InvoiceId" = 415')
    done = command("verify", "--day", "2026-01-31")
    assert done.returncode == 1
    assert re.search(r"FAILED +totals equal the sum of their lines +1 ", done.stdout)
    assert re.search(r"\n2 of \d+ checks failed", done.stdout)
    assert "1 sale with another total (invoice 415)" in done.stdout
    told = json.loads(command("verify", "--day", "2026-01-31", "--json").stdout)
    assert told["passed"] is False
    assert command("verify", "--day", "2010-02-01").returncode == 1
    assert command("verify", "--day", "2010-02-01", "--expect", "0").returncode == 0


def test_notices_on_stderr_hide_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    settings = CliContext(
        location=find_database({}, option="postgresql://me:s3cr3t@host/shop", directory=Path())
    )
    settings.say("trying again: the server said s3cr3t\nand more")
    assert capsys.readouterr().err == "trying again: the server said *** and more\n"
