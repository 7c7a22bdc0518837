"""The reference is complete: each option, column of the ledger and field of the JSON output."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click
import pytest

import chinook_sim
from chinook_sim.cli import cli
from chinook_sim.models import Base
from support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.command import Command

REFERENCE = ROOT / "docs" / "reference"

KEYED = {"differences", "figures"}
"""Objects whose keys are values: the kinds of difference that there are, and figures."""


def first_cells(page: str, heading: str) -> list[str]:
    """Return the first column of the tables of fields, or of columns, below a heading."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    tables = re.findall(r"^\| (?:field|column) \|.*\n((?:\|.*\n)*)", section, re.MULTILINE)
    return re.findall(r"^\| `([^`]+)` \|", "".join(tables), re.MULTILINE)


@pytest.mark.parametrize(
    "name", sorted(name for name in Base.metadata.tables if name.startswith("chinook_sim_"))
)
def test_every_column_of_the_ledger_is_documented(name: str) -> None:
    table = Base.metadata.tables[name]
    assert first_cells("ledger-tables.md", name) == [column.name for column in table.columns]


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the path of each field, as the reference has it: `checks[].runs[].day`."""
    if isinstance(value, list):
        for element in value:
            yield from paths(element, f"{prefix}[]")
    elif isinstance(value, dict):
        for key, part in value.items():
            path = f"{prefix}.{key}" if prefix else key
            yield path
            if key not in KEYED:
                yield from paths(part, path)


GENERATE = "generate 1000 --seed 3 --once --profile realistic"

OUTPUTS = {
    "generate": [GENERATE, "generate 1 --dry-run"],
    "init": ["init"],
    "status": [GENERATE, "status"],
    # Of a sale that a run changed, and of one that `align` moved.
    "status --invoice": [
        "generate 300 --seed 1",
        "generate 1 --seed 2 --updates 300",
        "!UPDATE Invoice SET InvoiceDate = datetime(InvoiceDate, '-9 days') WHERE InvoiceId < 413",
        "align",
        "status --invoice 413",
        "status --invoice 1",
    ],
    # Passed, and failed by a sale that was deleted.
    "verify": [
        "backfill {d1} {d1} --per-day 600 --profile realistic",
        "verify --shape --expect 600",
        "verify --all --shape",
        "generate 300 --day 2026-01-31",
        "!DELETE FROM Invoice WHERE InvoiceId = (SELECT max(InvoiceId) FROM Invoice)",
        "verify --day 2026-01-31",
    ],
    "backfill": ["backfill 2026-01-01 2026-01-03 --per-day 2"],
    "live": ["live --for 1s"],
    "align": ["align --dry-run", "align"],
    "undo": ["generate 5 --key job", "undo --key job"],
    "undo --backfill": [
        "backfill 2026-01-01 2026-01-03 --per-day 2",
        "undo --backfill 2026-01-01 2026-01-03",
    ],
    "profile show": ["profile show realistic"],
}


@pytest.mark.parametrize("section", OUTPUTS)
def test_every_field_of_the_json_is_documented(
    section: str, command: Command, stocked: Path
) -> None:
    found: set[str] = set()
    for line in OUTPUTS[section]:
        if line.startswith("!"):
            execute(stocked, line[1:])
            continue
        arguments = line.format(d1=d1(command)).split() if "{d1}" in line else line.split()
        done = command(*arguments, "--json", cwd=stocked.parent)
        assert done.returncode in (0, 1), done.stderr
        if line.startswith(section.split(" ")[0]) and section.split(" ")[-1] in line:
            found |= {*paths(json.loads(done.stdout))}
    documented = first_cells("json-output.md", section)
    assert sorted(documented) == sorted(found)


def execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def d1(command: Command) -> str:
    return str(json.loads(command("status", "--json").stdout)["d1"])


def test_every_public_name_is_documented() -> None:
    text = (REFERENCE / "python-api.md").read_text(encoding="utf-8")
    errors = {it for it in chinook_sim.__all__ if hasattr(chinook_sim.errors, it)}
    for name in {*chinook_sim.__all__} - errors:
        assert f"chinook_sim.{name}\n" in text or f"`{name}`" in text, name


commands_page = runpy.run_path(str(ROOT / "docs" / "command_reference.py"))
"""What makes the reference of the commands. It needs no Sphinx."""

REFERENCES: dict[str, str] = dict(
    re.findall(
        r"^```\{command\} ?(.*)\n((?:.*\n)*?)```$",
        (REFERENCE / "cli.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
"""The examples of each command."""

DEFAULTS = {
    "generate": {
        "--day": "D-1",
        "--seed": "drawn at random",
        "--late": "0",
        "--late-days": "7",
        "--profile": "uniform",
        "--updates": "0",
        "--cancellations": "0",
        "--new-customers": "0",
        "--moves": "0",
        "--price-changes": "0",
        "--lock-timeout": "30",
    },
    "verify": {"--day": "D-1"},
}


def names_of_commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, member in group.commands.items():
        if isinstance(member, click.Group):
            yield from names_of_commands(member, f"{prefix}{name} ")
        else:
            yield prefix + name


def test_every_command_is_in_the_reference() -> None:
    assert sorted(REFERENCES) == sorted(["", *names_of_commands(cli)])


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference_has_each_option_in_its_group_with_an_example(name: str) -> None:
    text = "\n".join(commands_page["describe"](name, REFERENCES[name]))
    assert "Sentinel" not in text
    groups = re.split(r"^```\{rubric\} (?!Examples)(.*)$", text, flags=re.MULTILINE)[1:]
    described = dict(zip(groups[::2], groups[1::2], strict=True))
    headings: dict[str, list[click.Parameter]] = {}
    for parameter in commands_page["find_command"](name).params:
        if isinstance(parameter, click.Option):
            headings.setdefault(getattr(parameter, "heading", "Options"), []).append(parameter)
    assert {*headings} | {"Options"} == {*described}  # where --help is
    for heading, parameters in headings.items():
        options, _, examples = described[heading].partition("```{rubric} Examples")
        for parameter in parameters:
            long = max(parameter.opts, key=len)
            assert re.search(rf"^```{{option}} .*{long}(?![\w-])", options, re.MULTILINE), long
            assert re.search(rf"{long}(?![\w-])", examples), f"no example of {long}"


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_reference_has_a_default_only_where_there_is_one(name: str) -> None:
    text = "\n".join(commands_page["describe"](name, REFERENCES[name]))
    assert "[default" not in text
    found = re.findall(
        r"^```\{option\} (?:-\w, )?(--[\w-]+)(?:(?!^```$)[\s\S])*?^Default: (.*)$",
        text,
        re.MULTILINE,
    )
    assert dict(found) == DEFAULTS[name]


def test_a_group_without_an_example_fails_the_build() -> None:
    with pytest.raises(ValueError, match="chinook-sim align has the groups"):
        [*commands_page["describe"]("align", "# Options\nchinook-sim align")]


@pytest.mark.parametrize("name", REFERENCES)
def test_the_examples_of_the_reference_are_valid(name: str) -> None:
    for lines in commands_page["split_examples"](REFERENCES[name]).values():
        for line in lines:
            words = shlex.split(line.rpartition("| ")[2], comments=True)
            assert words[: 1 + len(name.split())] == ["chinook-sim", *name.split()]
            parse(cli, words[1:])


def parse(command: click.Command, words: list[str]) -> None:
    """Parse a command line without running the command."""
    try:
        context = command.make_context("chinook-sim", words)
    except click.exceptions.Exit:  # --help and --version
        return
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        parse(command.commands[rest[0]], rest[1:])
