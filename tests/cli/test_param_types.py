"""The types of the options: what they refuse, when they refuse it, and what they leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import click
import pytest

from chinook_sim.cli import cli
from chinook_sim.cli.param_types import (
    PROFILES,
    SPELLINGS,
    Count,
    Day,
    Duration,
    Integer,
    Key,
    Mix,
    ProfileFile,
    ProfileName,
    Rate,
    SaleCounts,
    Seed,
    Share,
    SpellingName,
    TextType,
    TimeZone,
)
from chinook_sim.database.names import SPELLING_NAMES
from chinook_sim.errors import InvalidInput
from chinook_sim.sampling.profile import REALISTIC
from chinook_sim.sampling.profile_file import KNOWN_PROFILES

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command

ARGUMENTS = {
    "generate": ["5"],
    "backfill": ["2026-01-01", "2026-01-02"],
    "live": ["--for", "1s"],
    "undo": ["2026-01-01"],
}
"""What the commands need besides the option that is tested."""

WRONG = [
    pytest.param(name, option, form, id=f"{name} {option.opts[0]} {form}")
    for name, command in cli.commands.items()
    for option in command.params
    for form in ("option", "variable")
    if isinstance(option.type, TextType)
    and isinstance(option, click.Option)
    and type(option.type) is not ProfileName
    and (form == "option" or option.envvar is not None)
]


@pytest.mark.parametrize(("name", "option", "form"), WRONG)
def test_a_wrong_value_is_refused_before_a_file_is_made(
    command: Command, tmp_path: Path, name: str, option: click.Option, form: str
) -> None:
    value = "a\nb" if isinstance(option.type, Key) else "?"
    given, environment = [option.opts[0], *[value] * option.nargs], {}
    if form == "variable":
        given, environment = [], {str(option.envvar): value}
    needed = [] if "--for" in option.opts else ARGUMENTS.get(name, [])
    done = command(name, *needed, *given, "--json", **environment)
    assert done.returncode == 2, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "invalid_input"
    assert done.stderr == f"Error: {error['message']}\n"
    assert repr(value) in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_table_has_every_command_that_makes_a_file() -> None:
    assert {"generate", "init", "backfill", "live"} <= {str(row.values[0]) for row in WRONG}


VALUES: list[tuple[TextType, str, object]] = [
    (Integer("the limit", 9), "09", 9),
    (Seed(), str(2**63 - 1), 2**63 - 1),
    (Count("sales"), "0", 0),
    (SaleCounts(), " 7\n", (7,)),
    (SaleCounts(), "7 0 2", (7, 0, 2)),
    (Day(), "2026-01-31", date(2026, 1, 31)),
    (TimeZone(), "Europe/Paris", "Europe/Paris"),
    (Key(), "job 7", "job 7"),
    (Share(), "0.0500", Decimal("0.05")),
    (ProfileFile(), "realistic", REALISTIC),
    (ProfileName(), "nothing.toml", "nothing.toml"),
    (SpellingName(), "SNAKE_case", "snake"),
    (Rate(), "0.5", 0.5),
    (Duration(), "1h30m", 5_400.0),
    (Duration(), "90", 90.0),
    (Mix(), "80:15:5", (80, 15, 5)),
]


@pytest.mark.parametrize(("kind", "text", "value"), VALUES)
def test_text_becomes_a_value_and_a_value_stays(kind: TextType, text: str, value: object) -> None:
    assert kind(text) == value
    if not isinstance(value, str):
        assert kind(value) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the limit is missing; give an integer between 1 and 9"),
        ("0", "the limit must be an integer between 1 and 9, got '0'"),
        ("10", "the limit must be an integer between 1 and 9, got '10'"),
        ("٣", "the limit must be an integer between 1 and 9, got '٣'"),
        ("1" * 99, f"the limit must be an integer between 1 and 9, got '{'1' * 40}'"),
    ],
)
def test_an_integer_outside_its_range_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Integer("the limit", 9, least=1)(text)
    assert str(raised.value) == said


def test_an_empty_variable_is_not_set(command: Command) -> None:
    options = cli.commands["generate"].params
    empty = {str(it.envvar): "" for it in options if it.envvar is not None}
    done = command("generate", "5", **empty)
    assert done.returncode == 0, done.stderr


def test_verify_loads_a_profile_only_to_check_the_shape(command: Command, stocked: Path) -> None:
    variable = {"CHINOOK_SIM_PROFILE": "nowhere.toml"}
    assert command("verify", "--all", cwd=stocked.parent, **variable).returncode == 0
    done = command("verify", "--all", "--shape", cwd=stocked.parent, **variable)
    assert done.returncode == 2
    assert "unknown profile 'nowhere.toml'" in done.stderr


def test_completion_offers_every_name_that_there_is() -> None:
    assert tuple(KNOWN_PROFILES) == PROFILES
    assert tuple(SPELLING_NAMES.values()) == SPELLINGS


def test_completion_converts_no_value() -> None:
    code = (
        "import sys\nfrom click.shell_completion import ShellComplete\n"
        "from chinook_sim.cli import cli\n"
        "complete = ShellComplete(cli, {}, 'chinook-sim', '').get_completions\n"
        "(found,) = complete(['generate', '5', '--seed', 'x', '--profile'], 'real')\n"
        "assert found.value == 'realistic'\n"
        "slow = {'sqlalchemy', 'numpy', 'faker', 'alembic', 'psycopg'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
