"""Profiles in TOML files: what they may say, and what is refused."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from chinook_sim import InvalidInput, Peak, Profile, load_profile
from chinook_sim.sampling.profile import REALISTIC, UNIFORM
from support.profiles import TOML, write

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command


def test_a_file_gives_what_differs_from_uniform(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path / "summer.toml", TOML))
    assert profile.weekdays == (1, 1, 1, 1, 1.5, 2, 1.5)
    assert profile.since == date(2025, 1, 1)
    assert profile.peaks == (Peak("11-27", 3), Peak("2026-06-05", 1.5))
    assert profile.months == UNIFORM.months
    assert (profile.customers, profile.tracks) == (0, 0.9)
    assert profile.factor(date(2026, 6, 5)) == pytest.approx(
        1.5 * 1.5 / (9 / 7) * 1.15 ** (520 / 365.2425)
    )


def test_a_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    one = load_profile(write(tmp_path / "summer.toml", TOML))
    (tmp_path / "elsewhere").mkdir()
    moved = write(tmp_path / "elsewhere" / "summer.toml", "# The same in other words.\n" + TOML)
    assert load_profile(moved) == one
    assert load_profile(str(moved)) == one
    marked = write(tmp_path / "elsewhere" / "summer.toml", b"\xef\xbb\xbf" + TOML.encode())
    assert load_profile(marked) == one
    edited = load_profile(write(tmp_path / "summer.toml", TOML.replace("0.15", "0.16")))
    assert edited.name != one.name
    assert one.name.startswith("summer.toml ")
    long = load_profile(write(tmp_path / ("x" * 240 + ".toml"), TOML))
    assert len(long.name) <= 200
    assert load_profile(one) is one
    assert load_profile("realistic") is REALISTIC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hours = [1, 2]", "hours must be a list of 24 numbers"),
        (f"hours = {[0] * 24}", "all 0"),
        (f"hours = {[-1] + [1] * 23}", "-1"),
        ("hours = 5", "hours must be a list"),
        (f"hours = {['x'] * 24}", "'x'"),
        ("weekdays = [1, 1, 1, 1, 1, 1, nan]", "nan"),
        ("weekdays = [1, 1, 1, 1, 1, 1, inf]", "inf"),
        ("months = [1, 1, 1, 1, 1, 1, true, 1, 1, 1, 1, 1]", "True"),
        ("baskets = [1, 1, 1, 1]", "5 numbers"),
        ('baskets = "11111"', "baskets must be a list"),
        ("growth = -1", "growth must be a number above -1"),
        ("growth = 101", "to 100"),
        ('since = "2026-02-30"', "since must be a day"),
        ("since = 2026-01-01T00:00:00", "since must be a day"),
        ("customers = -0.1", "customers must be a number from 0"),
        ("tracks = 11", "to 10"),
        ('tracks = "0.9"', "'0.9'"),
        ("peaks = 3", "peaks must be a list"),
        ("peaks = [3]", "a day and a factor"),
        ('peaks = [{day = "11-27"}]', "a day and a factor"),
        ('peaks = [{day = "11-31", factor = 2}]', "'11-31'"),
        ("peaks = [{day = 7, factor = 2}]", "MM-DD"),
        ('peaks = [{day = "11-27", factor = -2}]', "0 or more"),
        ('name = "mine"', "'name'"),
        ("hour = 3", "the keys are hours"),
        ("hours = [", "TOML"),
        (b"hours = \xff", "UTF-8"),
        (b"#" * 100_001, "100,000 bytes"),
        ("a = " + "[" * 20_000, "TOML"),
    ],
)
def test_what_cannot_be_a_profile_is_named(text: str | bytes, said: str, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", text)
    with pytest.raises(InvalidInput) as error:
        load_profile(file)
    assert said in str(error.value)
    assert "mine.toml" in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["realistc", "", "no/such.toml", ".", "x\0y"])
def test_an_unknown_profile_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="use uniform, realistic or a TOML file"):
        load_profile(name)


@pytest.mark.parametrize("given", [None, 3, b"mine.toml"], ids=str)
def test_a_profile_of_another_type_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="a profile must be uniform, realistic or a TOML"):
        load_profile(given)


def test_a_blank_profile_is_refused_as_missing() -> None:
    for name in ("", " "):
        with pytest.raises(InvalidInput, match="name or file is missing: use uniform"):
            load_profile(name)


@pytest.mark.parametrize(
    ("growth", "drawn"),
    [("0.004", "+0.4%"), ("0.15", "+15%"), ("-0.07", "-7%"), ("0.123456", "+12.3456%"),
     ("100", "+10000%"), ("0", "+0%")],
)  # fmt: skip
def test_growth_is_drawn_with_all_its_digits(
    command: Command, tmp_path: Path, growth: str, drawn: str
) -> None:
    file = write(tmp_path / "mine.toml", f"growth = {growth}")
    assert f"growth     {drawn} a year" in command("profile", "show", str(file)).stdout


def test_growth_has_an_end() -> None:
    fast = Profile("fast", growth=100)
    with pytest.raises(InvalidInput, match="less growth"):
        fast.factor(date(9999, 1, 1))
    assert fast.factor(date(1, 1, 1)) == 0
