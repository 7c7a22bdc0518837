"""What `undo` is given is checked before a database is looked at."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from chinook_sim import InvalidInput, undo

DAY = date(2026, 1, 30)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "exactly one of run, key, day and backfill, got none"),
        ({"run": "abcd", "day": DAY}, "got run and day"),
        ({"run": 5}, "run must be a string, got 5"),
        ({"key": 5}, "key must be a string, got 5"),
        ({"day": "2026-01-30"}, "a day must be a datetime.date, got '2026-01-30'"),
        ({"backfill": (DAY,)}, "backfill must be the first and the last day"),
        ({"backfill": 5}, "backfill must be the first and the last day, got 5"),
        ({"backfill": DAY}, "backfill must be the first and the last day"),
        ({"backfill": (DAY, date(2026, 1, 1))}, "is before the first"),
        ({"day": DAY, "limit": 0}, "limit must be an integer, at least 1, got 0"),
        ({"day": DAY, "limit": "x"}, "limit must be an integer, at least 1, got 'x'"),
        ({"day": DAY, "limit": True}, "limit must be an integer, at least 1, got True"),
    ],
)
def test_wrong_arguments_are_refused(given: dict[str, Any], said: str) -> None:
    with Session(create_engine("sqlite://")) as session, pytest.raises(InvalidInput, match=said):
        undo(session, **given)
