"""What the command prints, and where it cannot print."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chinook_sim.cli.output import _wrap_line
from support.command import error_of
from support.processes import run

if TYPE_CHECKING:
    from support.command import Command

PROGRAM = f"{shlex.quote(sys.executable)} -m chinook_sim"
BAD = "could not be printed: Bad file descriptor"
ALIKE = pytest.mark.slow(reason="starts a Python; the other commands go the same way")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
@pytest.mark.slow(reason="a process for each encoding")
def test_json_is_valid_in_any_encoding(process: Command, stocked: Path, encoding: str) -> None:
    environment = {"PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    key = f"😀 日本 é {encoding}"
    done = process("generate", "1", "--key", key, "--json", cwd=stocked.parent, **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["key"] == key
    assert done.stdout.isascii()


def test_bytes_that_are_no_text_come_back_in_json(stocked: Path) -> None:
    url = os.fsdecode(b"sqlite:///\xff\xf0.db")
    arguments = [sys.executable, "-m", "chinook_sim", "status", "--json", "--database-url", url]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "1"}
    done = subprocess.run(
        arguments, cwd=stocked.parent, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 3
    assert "no file \udcff\udcf0.db" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("--help", 0),
        ("generate --help", 0),
        ("--version", 0),
        ("status", 0),
        ("status --json", 0),
        ("verify --day 2010-02-01", 1),
        ("verify --day 2010-02-01 --expect 0", 0),
        ("generate x --json", 2),
    ],
)
def test_a_reader_that_has_left_changes_no_exit_status(
    stocked: Path, arguments: str, status: int
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(
        [sys.executable, "-m", "chinook_sim", *arguments.split()],
        cwd=stocked.parent,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") == (status == 2)


@pytest.mark.parametrize(
    ("arguments", "output", "said"),
    [
        *(
            (arguments, "> /dev/full", "could not be printed: No space left on device")
            for arguments in (
                "status",
                "status --json",
                "verify --all",
                "profile show uniform",
                "--help",
                "--version",
                "generate --help",
            )
        ),
        *(
            pytest.param(arguments, ">&-", BAD, marks=() if arguments == "--help" else ALIKE)
            for arguments in ("--help", "status")
        ),
    ],
)
def test_a_command_that_only_reads_fails_if_its_output_is_not_taken(
    stocked: Path, arguments: str, output: str, said: str
) -> None:
    if output == "> /dev/full":
        with Path("/dev/full").open("wb") as full:
            done = run(
                [sys.executable, "-m", "chinook_sim", *arguments.split()],
                cwd=stocked.parent,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
    else:
        # A shell closes it; what is forked would have one.
        shell = f"exec {PROGRAM} {arguments} {output}"
        done = subprocess.run(
            ["sh", "-c", shell], cwd=stocked.parent, capture_output=True, text=True, check=False
        )
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    assert said in line


@pytest.mark.parametrize(
    "arguments",
    [
        "generate 5",
        pytest.param("status", marks=ALIKE),
        "--help",
    ],
)
def test_a_deleted_working_directory_is_one_line(tmp_path: Path, arguments: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = f"rmdir {shlex.quote(str(gone))}; exec {PROGRAM} {arguments}"
    done = subprocess.run(
        ["sh", "-c", shell], cwd=gone, capture_output=True, text=True, check=False
    )
    if arguments == "--help":
        assert done.stdout.startswith("Usage")
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "the working directory cannot be used: No such file or directory" in line


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (b"\xef\xbb\xbf3", 0),
        (b"\xef\xbb\xbf3 0 0\r\n", 0),
        (b"\xef\xbb\xbf", 2),
        ("\ufeff3".encode("utf-16-le"), 2),
        ("\ufeff3".encode("utf-16-be"), 2),
    ],
)
def test_standard_input_may_begin_with_a_byte_order_mark(
    command: Command, stocked: Path, given: bytes, status: int
) -> None:
    done = command("generate", "--json", stdin=given)
    assert done.returncode == status, done.stderr
    if status:
        assert "number of sales" in error_of(done)["message"]
        assert ("UTF-16" in done.stderr) == (len(given) == 4)
    else:
        assert json.loads(done.stdout)["sales"] == 3


@pytest.mark.parametrize("end", ["/", "/.", "//"])
def test_a_file_has_no_slash_at_its_end(
    command: Command, stocked: Path, tmp_path: Path, end: str
) -> None:
    (tmp_path / "good.toml").write_text("growth = 0.1\n")
    source = tmp_path / "source.db"
    source.write_bytes(stocked.read_bytes())
    for arguments in (
        ("profile", "show", f"good.toml{end}"),
        ("generate", "1", "--profile", f"good.toml{end}"),
        ("init", "--database-url", "sqlite:///new.db", "--from", f"source.db{end}"),
        ("status", "--database-url", f"sqlite:///source.db{end}"),
        ("init", "--database-url", f"sqlite:///new.db{end}"),
    ):
        done = command(*arguments)
        assert done.returncode == 2, arguments
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "new.db").exists()


def broken(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_failed_checks_are_printed_with_quiet(command: Command, stocked: Path) -> None:
    assert command("generate", "4", "--quiet", "--day", "1999-05-05").returncode == 0
    wanted = ("verify", "--day", "1999-05-05", "--quiet", "--expect")
    assert command(*wanted, "4") == (0, "", "")
    done = command(*wanted, "5")
    assert done == (1, "", "check failed: sales of the day: 4, 5 expected\n")
    broken(stocked, 'UPDATE "Invoice" SET "Total" = 99 WHERE "InvoiceId" = 413')
    done = command(*wanted, "4")
    assert done.returncode == 1
    made, totals = done.stderr.splitlines()
    assert "1 run compared, 1 differs" in made
    assert "1 sale with another total (invoice 413)" in made
    assert totals == "check failed: totals equal the sum of their lines: 1 invoice differs: 413"
    # JSON has them.
    done = command(*wanted, "4", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["passed"] is False


def test_json_has_numbers_where_text_has_sentences(command: Command, stocked: Path) -> None:
    made = json.loads(command("generate", "120", "--json", "--day", "1999-05-05").stdout)
    broken(
        stocked,
        'UPDATE "chinook_sim_run" SET "lines" = "lines" + 3, revenue = revenue + 1000',
        'DELETE FROM "InvoiceLine" WHERE "InvoiceId" = 413',
        'DELETE FROM "Invoice" WHERE "InvoiceId" = 413',
    )
    done = command("verify", "--day", "1999-05-05", "--expect", "120", "--shape", "--json")
    assert done.returncode == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    sales = checks["sales of the day"]
    assert (sales["count"], sales["expected"], sales["cancelled"]) == (119, 120, 0)
    (run,) = checks["sales match the ledger"]["runs"]
    assert run["differences"] == {"missing": {"count": 1, "ids": [413]}}
    assert run["text"][0] == "1 sale missing (invoice 413)"
    lines = run["figures"]["lines"]
    assert lines["expected"] == made["lines"] + 3
    assert 0 < lines["found"] < made["lines"]
    revenue = run["figures"]["revenue"]
    assert float(revenue["expected"]) == pytest.approx(float(made["revenue"]) + 1000)
    assert f"revenue {revenue['found']} instead of 1,{revenue['expected'][1:]}" in run["text"]
    hours = checks["uniform: hours of the day"]
    assert hours["sales"] == 119
    assert hours["chi_square"] > 0
    assert 0 < hours["p"] <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("generate", "1"), "added 1 sale to"),
        (("generate", "1", "--once"), "already generated: 1 sale in"),
        (("generate", "0", "--new-customers", "1"), "1 new customer\n"),
        (("generate", "0", "--price-changes", "2", "--moves", "1"), "1 move, 2 price changes\n"),
        (("backfill", "2026-01-01", "2026-01-01", "--per-day", "1"), "made 1 of 1 day in"),
    ],
)
def test_one_is_singular(
    command: Command, stocked: Path, arguments: tuple[str, ...], said: str
) -> None:
    if "--once" in arguments:
        command(*arguments)
    assert said in command(*arguments).stdout


def test_long_lines_are_broken_between_words() -> None:
    line = "  ok      a check   one two three four five six"
    assert _wrap_line(line, 44) == ["  ok      a check   one two three four five", " " * 20 + "six"]
    # Where the last column is too narrow, the rest stands below one before it.
    assert _wrap_line(line, 30) == ["  ok      a check   one two", " " * 10 + "three four five six"]
    assert _wrap_line("/a/long/path-with-hyphens", 10) == ["/a/long/path-with-hyphens"]
    for width in range(1, 60):
        assert " ".join(_wrap_line(line, width)).split() == line.split()
