"""What the command prints: valid JSON, errors for programs, and output that cannot be delivered."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import errors, generate_d1
from chinook_sim.cli.context import CliContext
from chinook_sim.cli.failures import failure_of
from chinook_sim.cli.output import OutputFailed, _wrap_line
from chinook_sim.database.engine import make_engine, open_connection
from chinook_sim.database.settings import find_database
from chinook_sim.errors import BatchFailed, ChinookSimError, DatabaseUnavailable
from support import ROOT
from support.cases import on_both_databases
from support.postgres_server import Server, free_port
from support.processes import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.command import Answer, Command
    from support.databases import ChinookDatabase

PROGRAM = f"{shlex.quote(sys.executable)} -m chinook_sim"

BAD = "could not be printed: Bad file descriptor"

ALIKE = pytest.mark.slow(reason="starts a Python; the other commands go the same way")


def error_of(done: Answer) -> dict[str, Any]:
    """Return the error that a command printed as its only line."""
    (line,) = done.stdout.splitlines()
    error = json.loads(line)["error"]
    assert set(error) == {"kind", "message", "exit_status", "sqlstate", "retryable"}
    assert error["exit_status"] == done.returncode
    assert f"Error: {error['message']}" in done.stderr.splitlines()
    return dict(error)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
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
    ("arguments", "kind", "status"),
    [
        (("generate", "5", "--bogus", "--json"), "usage_error", 2),
        (("bogus", "--json"), "usage_error", 2),
        (("--json",), "usage_error", 2),
        (("backfill", "--json"), "usage_error", 2),
        (("status", "--kind", "bogus", "--json"), "usage_error", 2),
        (("generate", "x", "--json"), "invalid_input", 2),
        (("--json", "generate", "5", "--day", "today"), "invalid_input", 2),
        (("status", "--json", "--database-url", "sqlite:///no.db"), "database_unavailable", 3),
        (("undo", "bogus", "--json"), "invalid_input", 2),
    ],
)
def test_an_error_is_one_json_object(
    command: Command, stocked: Path, arguments: tuple[str, ...], kind: str, status: int
) -> None:
    done = command(*arguments)
    assert (done.returncode, error_of(done)["kind"]) == (status, kind)
    assert not error_of(done)["retryable"]


def test_json_of_errors_may_come_from_the_environment(
    command: Command, stocked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHINOOK_SIM_JSON", "true")
    assert error_of(command("generate", "--bogus"))["kind"] == "usage_error"
    assert json.loads(command("profile").stdout)["error"]["kind"] == "usage_error"
    monkeypatch.setenv("CHINOOK_SIM_JSON", "0")
    assert command("generate", "--bogus").stdout == ""
    # What comes after -- is no option.
    assert command("generate", "--bogus", "--", "--json").stdout == ""


def test_an_error_names_the_class_of_the_library(command: Command, stocked: Path) -> None:
    assert command("generate", "5", "--once", "--quiet").returncode == 0
    assert error_of(command("generate", "6", "--once", "--json"))["kind"] == "key_taken"
    with closing(sqlite3.connect(stocked)) as connection, connection:
        connection.execute('DROP TABLE "Track"')
    assert error_of(command("generate", "5", "--json"))["kind"] == "not_a_chinook"


def test_what_may_pass_is_retryable(command: Command, stocked: Path) -> None:
    with closing(sqlite3.connect(stocked, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        error = error_of(command("generate", "5", "--lock-timeout", "0.0", "--json"))
        assert (error["kind"], error["retryable"]) == ("invalid_input", False)
        error = error_of(command("generate", "5", "--lock-timeout", "1", "--json"))
    assert (error["kind"], error["retryable"]) == ("batch_failed", True)


def test_a_server_that_is_not_there_may_come(server: Server) -> None:
    for port, retryable in ((free_port(), True), (server.port, False)):
        url = f"postgresql://shop:hunter2@127.0.0.1:{port}/chinook"
        location = find_database({}, option=url, directory=Path())
        engine = make_engine(location, writing=False)
        with pytest.raises(DatabaseUnavailable) as raised:
            open_connection(engine, location, say=lambda _: None, timeout=0)
        failure = failure_of(raised.value, CliContext(location=location))
        assert (failure.kind, failure.retryable) == ("database_unavailable", retryable)
        assert "hunter2" not in failure.message


def test_a_failure_keeps_what_the_error_says() -> None:
    settings = CliContext()
    conflict = BatchFailed("no\nluck", sqlstate="40001")
    conflict.add_note("3 of 9 days are done")
    expected = ("batch_failed", "no luck; 3 of 9 days are done", 4, "40001", True)
    assert failure_of(conflict, settings) == expected
    denied = DatabaseUnavailable("denied", sqlstate="42501")
    assert failure_of(denied, settings) == ("database_unavailable", "denied", 3, "42501", False)
    assert failure_of(KeyError("x"), settings)[0:3:2] == ("unexpected", 4)
    for stopped in (KeyboardInterrupt(), click.Abort()):
        assert failure_of(stopped, settings)[0:3:2] == ("interrupted", 130)


def tree(root: type[ChinookSimError]) -> Iterator[type[ChinookSimError]]:
    for error in root.__subclasses__():
        yield error
        yield from tree(error)


def test_every_kind_of_error_is_documented() -> None:
    table = re.findall(
        r"^\| `(\w+)` \| (\d+) \|", (ROOT / "docs/reference/errors.md").read_text(), re.MULTILINE
    )
    ours = [
        error
        for error in tree(ChinookSimError)
        if error.__module__ in (errors.__name__, OutputFailed.__module__)
    ]
    assert len(ours) >= 11
    made = [failure_of(error.__new__(error), CliContext()) for error in ours]
    rows = {(failure.kind, str(failure.exit_status)) for failure in made}
    others = {("usage_error", "2"), ("unexpected", "4"), ("interrupted", "130")}
    assert set(table) == rows | others


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
            for arguments in ("--help", "status", "status --json", "verify --all", "--version")
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
        pytest.param("profile show x", marks=ALIKE),
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
