"""Errors as JSON."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from chinook_sim import errors
from chinook_sim.cli.context import CliContext
from chinook_sim.cli.failures import failure_of
from chinook_sim.cli.output import OutputFailed
from chinook_sim.database.engine import make_engine, open_connection
from chinook_sim.database.settings import find_database
from chinook_sim.errors import BatchFailed, ChinookSimError, DatabaseUnavailable
from support import ROOT
from support.command import error_of
from support.postgres_server import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.command import Command


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
