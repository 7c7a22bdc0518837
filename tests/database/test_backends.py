"""What differs between databases is chosen by the name of the dialect, and by nothing else."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from chinook_sim import generate_d1, recognise
from chinook_sim.errors import DatabaseUnavailable
from chinook_sim.verification import verify_day


def test_another_database_is_refused_everywhere() -> None:
    engine = create_engine("sqlite://")
    engine.dialect.name = "mysql"
    refusal = "mysql is not supported; use a PostgreSQL or a SQLite database"
    with engine.connect() as connection:
        with pytest.raises(DatabaseUnavailable, match=refusal):
            recognise(connection)
        with pytest.raises(DatabaseUnavailable, match=refusal):
            verify_day(connection, date(2026, 1, 31))
    with Session(engine) as session, pytest.raises(DatabaseUnavailable, match=refusal):
        generate_d1(session, 1)
