"""Which sessions and engines are taken, and which are refused before anything is written."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from chinook_sim import (
    InvalidInput,
    Invoice,
    SaleFactory,
    align,
    backfill,
    generate_d1,
    initialise,
    invoice_history,
    live,
    recognise,
    simulate_changes,
    undo,
    upgrade,
    verify,
)
from chinook_sim.verification import take_snapshot, verify_all, verify_day
from chinook_sim.verification.distribution import verify_shape
from support.cases import (
    alternating_versions,
    on_both_databases,
    on_variants,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.databases import ChinookDatabase

DAY = date(2026, 1, 30)


WITH_A_SESSION: dict[str, Callable[[Any], object]] = {
    "generate_d1": lambda session: generate_d1(session, 3, day=DAY),
    "simulate_changes": lambda session: simulate_changes(session, updates=1, day=DAY),
    "undo": lambda session: undo(session, day=DAY),
    "align": align,
    "SaleFactory.build": lambda session: SaleFactory(session).build(DAY),
    "SaleFactory.create": lambda session: SaleFactory(session).create(DAY),
    "SaleFactory.create_batch": lambda session: SaleFactory(session).create_batch(3, DAY),
}

WITH_AN_ENGINE: dict[str, Callable[[Any], object]] = {
    "backfill": lambda engine: list(backfill(engine, DAY, DAY, 3)),
    "live": lambda engine: next(live(engine, 400)),
    "recognise": recognise,
}

WITH_A_CONNECTION: dict[str, Callable[[Any], object]] = {
    "verify_all": verify_all,
    "verify_day": lambda connection: verify_day(connection, DAY),
    "verify_shape": verify_shape,
    "verify": verify,
    "invoice_history": lambda connection: invoice_history(connection, 1),
}

TO_SET_UP: dict[str, Callable[[Any], object]] = {"upgrade": upgrade, "initialise": initialise}


@pytest.mark.parametrize("work", [*WITH_A_CONNECTION.values(), *TO_SET_UP.values(), take_snapshot])
@on_both_databases
def test_what_is_no_connection_is_refused(
    shop: ChinookDatabase, work: Callable[[Any], object]
) -> None:
    for given in (shop.engine, Session(shop.engine), None):
        with pytest.raises(InvalidInput, match="expected a Connection, got"):
            work(given)


@on_both_databases
@pytest.mark.parametrize("call", WITH_A_SESSION)
def test_what_is_no_session_is_refused(shop: ChinookDatabase, call: str) -> None:
    with shop.engine.connect() as connection:
        for given in (connection, shop.engine, AsyncSession(), None):
            with pytest.raises(InvalidInput, match="Session"):
                WITH_A_SESSION[call](given)


@on_both_databases
def test_a_scoped_session_is_a_session(shop: ChinookDatabase) -> None:
    session = scoped_session(sessionmaker(shop.engine))
    recognise(session)
    for name, work in WITH_A_SESSION.items():
        if name != "undo":
            work(session)
    session.commit()
    WITH_A_SESSION["undo"](session)
    session.remove()


@on_both_databases
@pytest.mark.parametrize("place", ["engine", "connection"])
def test_a_translated_schema_is_refused_before_anything_is_written(
    shop: ChinookDatabase, place: str
) -> None:
    before = shop.snapshot()
    options = {"schema_translate_map": {None: "tenant2"}}
    engine = shop.engine.execution_options(**options)
    for work in WITH_A_SESSION.values():
        if place == "engine":
            with Session(engine) as session, pytest.raises(InvalidInput, match="translate"):
                work(session)
        else:
            with (
                shop.engine.connect().execution_options(**options) as connection,
                Session(connection) as session,
                pytest.raises(InvalidInput, match="translate"),
            ):
                work(session)
    for work in WITH_AN_ENGINE.values():
        with pytest.raises(InvalidInput, match="translate"):
            work(engine)
    with engine.connect() as connection:
        for work in WITH_A_CONNECTION.values():
            with pytest.raises(InvalidInput, match="translate"):
                work(connection)
        for work in TO_SET_UP.values():
            with pytest.raises(InvalidInput, match="translate"):
                work(connection)
    assert shop.snapshot() == before
    # What concerns other schemas is none of ours.
    other = shop.engine.execution_options(schema_translate_map={"theirs": "tenant2"})
    with Session(other) as session, session.begin():
        assert generate_d1(session, 3, day=DAY).count == 3


@on_variants([it for it in alternating_versions(migrated=True) if it.shape.postgresql][:2])
@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+pg8000"])
def test_an_engine_that_commits_every_statement_is_refused(
    shop: ChinookDatabase, driver: str
) -> None:
    before = shop.snapshot()
    engine = shop.engine_for(driver).execution_options(isolation_level="AUTOCOMMIT")
    for work in WITH_A_SESSION.values():
        with Session(engine) as session, pytest.raises(InvalidInput, match="AUTOCOMMIT"):
            work(session)
    for name in ("backfill", "live"):
        with pytest.raises(InvalidInput, match="AUTOCOMMIT"):
            WITH_AN_ENGINE[name](engine)
    for work in TO_SET_UP.values():
        with engine.connect() as connection, pytest.raises(InvalidInput, match="AUTOCOMMIT"):
            work(connection)
    assert shop.snapshot() == before
    # To read single statements, it may be one.
    recognise(engine)
    with engine.connect() as connection:
        assert connection.execute(Invoice.__table__.select()).all()
        assert invoice_history(connection, 1).state == "exists"
        for name in ("verify_all", "verify_day", "verify_shape", "verify"):
            with pytest.raises(InvalidInput, match="AUTOCOMMIT"):
                WITH_A_CONNECTION[name](connection)
