"""Wrong usage is refused in one line, and help says what is right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from chinook_sim.cli import cli
from chinook_sim.cli.options import Option
from support.runs import count_invoices

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command

COMMANDS = tuple(name for name in cli.commands if name != "profile")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-1"], "No such option"),
        (["1e3"], "must be an integer between"),
        (["٣"], "must be an integer between"),
        (["1_000"], "must be an integer between"),
        ([""], "is missing"),
        (["5", "2"], "unexpected extra argument"),
        (["9" * 20], "must be an integer between"),
        (["5", "--day", "2026-02-30"], "a day must be YYYY-MM-DD"),
        (["5", "--day", "20260131"], "a day must be YYYY-MM-DD"),
        (["5", "--day", "٢٠٢٦-٠١-٣١"], "a day must be YYYY-MM-DD"),
        (["5", "--day", "9999-12-31"], "too late"),
        (["5", "--seed", "-1"], "seed"),
        (["5", "--seed", "9223372036854775808"], "seed"),
        (["5", "--timezone", "Mars/Phobos"], "time zone"),
        (["5", "--timezone", "../etc/passwd"], "time zone"),
        (["5", "--bogus"], "No such option"),
        (["5", "--database-url", "nonsense"], "look like postgresql://"),
        (["5", "--database-url", "mysql://u:hunter2@h/d"], "use PostgreSQL or SQLite"),
        (["5", "--database-url", "postgresql://u:hunter2@h:x/d"], "percent-encoded"),
        (["5", "--database-url", "postgresql://h:hunter2/d"], "percent-encoded"),
        (["5", "--database-url", "postgresql://u:hun@ter2@h/d"], "%40"),
        (["5", "--database-url", "sqlite://"], "in memory"),
    ],
)
def test_wrong_usage_is_one_line_and_changes_nothing(
    command: Command, stocked: Path, arguments: list[str], said: str
) -> None:
    done = command("generate", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stderr
    assert "ter2" not in done.stderr
    assert count_invoices(stocked) == 412


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("verify --profile realistic", "--profile needs --shape"),
        ("init --from x.sqlite --scale 2", "--from and --scale cannot be combined"),
        ("undo --backfill 2026-01-31", "see `chinook-sim undo --help`"),
        ("undo --bogus", "see `chinook-sim undo --help`"),
    ],
)
def test_options_that_need_or_exclude_others_are_refused(
    command: Command, arguments: str, said: str
) -> None:
    done = command(*arguments.split())
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("group", [(), ("profile",)])
def test_a_group_without_a_command_shows_its_help(command: Command, group: tuple[str, ...]) -> None:
    done = command(*group)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == command(*group, "--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    # The variables are explained once, below the options.
    assert "CHINOOK_SIM_" not in " ".join(lines[:-2])
    for parameter in cli.commands[name].params:
        if isinstance(parameter, Option):
            assert parameter.help
            # What is to be undone is never taken from the environment.
            selecting = name == "undo" and parameter.name in ("key", "day", "backfill")
            variable = f"CHINOOK_SIM_{parameter.opts[0][2:].replace('-', '_').upper()}"
            assert parameter.envvar == (None if selecting else variable)
            if isinstance(parameter.default, str | int) and not parameter.is_flag:
                assert f"[default: {parameter.default}]" in re.sub(r"\s+", " ", done.stdout)
