"""What a batch is asked for is checked when it is said, before a database is looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from chinook_sim import InvalidInput
from chinook_sim.kinds import ChangeCounts
from chinook_sim.operations.options import BatchOptions, backdating_rule

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command

LATE = backdating_rule(0.1, 7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"once": True, "key": "a"}, "once and key cannot be combined"),
        ({"seed": -1}, "the seed must be an integer"),
        ({"seed": True}, "the seed must be an integer"),
        ({"day": "2026-01-31"}, "day"),
        ({"timezone": "Mars/Base"}, "Mars/Base"),
        ({"key": " "}, "a key must not be blank"),
        ({"changes": ChangeCounts(moves=-1)}, "the number of moves must be an integer"),
        ({"changes": ChangeCounts(updates=2**31)}, "the number of updates must be an integer"),
        ({"once": "no"}, "once must be bool, got 'no'"),
        ({"start": -1}, "the index of the first sale must be an integer"),
        ({"per_day": "x"}, "the number of sales a day must be an integer"),
        ({"kind": "bogus"}, "kind must be RunKind, got 'bogus'"),
        ({"profile": "x"}, "profile must be Profile, got 'x'"),
        ({"changes": None}, "changes must be ChangeCounts, got None"),
        ({"backdating": (1, 2)}, "backdating must be BackdatingRule"),
        ({"day": date(1, 1, 7), "backdating": LATE}, "the maximum lateness in days must be less"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        BatchOptions(**options)  # type: ignore[arg-type]


def test_a_copy_with_other_options_is_checked_too() -> None:
    options = BatchOptions(day=date(1, 1, 8), backdating=LATE)
    with pytest.raises(InvalidInput, match="the maximum lateness in days must be less"):
        replace(options, day=date(1, 1, 7))


def test_late_sales_before_the_first_day_make_no_file(command: Command, tmp_path: Path) -> None:
    done = command("generate", "5", "--day", "0001-01-03", "--late", "0.1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the maximum lateness in days must be less than 3" in done.stderr
    assert list(tmp_path.iterdir()) == []
