"""The options and commands for profiles."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING

import pytest

from support.cases import on_both_databases
from support.profiles import TOML, write

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


@on_both_databases
def test_the_command_gives_sales_a_shape_and_judges_it(
    shop: ChinookDatabase, command: Command, tmp_path: Path
) -> None:
    place = {"DATABASE_URL": shop.text}
    file = str(write(tmp_path / "summer.toml", TOML + "baskets = [9, 1, 1, 1, 0]"))
    day = ("--day", str(DAY))
    made = command("generate", "1000", *day, "--profile", file, **place)
    assert made.returncode == 0, made.stderr
    assert "  profile  summer.toml " in made.stdout
    assert command("verify", *day, "--shape", "--profile", file, **place).returncode == 0
    unnamed = command("verify", *day, "--shape", **place)
    assert unnamed.returncode == 2
    assert "give the profile, or its file" in unnamed.stderr
    other = command("verify", *day, "--shape", "--profile", "uniform", "--json", **place)
    assert other.returncode == 1
    wrong = [it["name"] for it in json.loads(other.stdout)["checks"] if not it["passed"]]
    assert "uniform: tracks per sale" in wrong
    filled = command(
        "backfill",
        "2026-03-01",
        "2026-03-07",
        "--per-day",
        "9",
        "--profile",
        file,
        "--json",
        **place,
    )
    assert json.loads(filled.stdout)["profile"].startswith("summer.toml ")
    for wrong_use in (
        ("generate", "1"),
        ("backfill", "2026-03-01", "2026-03-07", "--per-day", "9"),
    ):
        refused = command(*wrong_use, "--profile", "summer", **place)
        assert refused.returncode == 2
        assert "unknown profile 'summer'" in refused.stderr


def test_the_command_draws_a_profile(command: Command, process: Command, tmp_path: Path) -> None:
    shown = command("profile", "show", "realistic")
    assert shown.returncode == 0, shown.stderr
    assert "hours      ▂▁▁▁▁▁▂▃" in shown.stdout
    assert "11-27 x 2.5" in shown.stdout
    plain = process("profile", "show", "realistic", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert plain.stdout.isascii()
    assert "#####" in plain.stdout
    told = json.loads(command("profile", "show", "realistic", "--json").stdout)
    assert told["peaks"][0] == {"day": "11-26", "factor": 2.0}
    assert sum(told["hours"]) == pytest.approx(1, abs=1e-3)
    file = write(tmp_path / "mine.toml", "tracks = 1")
    assert "the first tenth" in command("profile", "show", str(file)).stdout
    assert command("profile", "show", "unreal").returncode == 2
