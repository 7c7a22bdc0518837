"""Killed servers, cut connections, and many writers at once: a batch is whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import BatchFailed, SaleFactory, generate_d1
from support.cases import (
    alternating_versions,
    cases,
    on_all_unmigrated_but_16,
    on_each_postgresql_shape,
    on_each_postgresql_shape_unmigrated,
    on_three_shapes_unmigrated,
    on_variants,
)
from support.chinook_variants import SHAPES, build_postgresql
from support.processes import Popen, wait_for_cpu_time
from support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from support.databases import ChinookDatabase
    from support.postgres_server import Server

DAY = date(2026, 1, 31)


@pytest.mark.parametrize("after", [2_000, 6_000, 50_000, 300_000])
@on_variants([case for case in cases() if case.major == 18])
def test_a_cut_connection_leaves_nothing(shop: ChinookDatabase, after: int) -> None:
    assert shop.server is not None
    before = shop.snapshot()
    with TcpProxy(shop.server.port, cut_after=after) as wire:
        engine = create_engine(shop.url.set(port=wire.port), poolclass=NullPool)
        with pytest.raises(Exception) as caught, Session(engine) as session:  # noqa: PT011
            generate_d1(session, 20_000, day=DAY)
            session.commit()
        if after > 5_000:
            assert caught.type is BatchFailed, caught.value
            assert "nothing was written" in str(caught.value)
    assert shop.snapshot() == before


def test_a_killed_server_comes_back_without_incomplete_batches(templates: object) -> None:
    from support.postgres_server import Server

    with Server(18) as server:
        database = server.create_database()
        build_postgresql(SHAPES[0], server, database)
        url = server.url(database)
        engine = create_engine(url, poolclass=NullPool)
        with Session(engine) as session, session.begin():
            generate_d1(session, 1_000, day=DAY)
        threading.Timer(0.7, server.kill).start()
        with pytest.raises(BatchFailed), Session(engine) as session:
            generate_d1(session, 400_000, day=DAY)
            session.commit()
        time.sleep(0.5)
        server.start()
        with server.connect(database) as connection:
            found = connection.execute('SELECT count(*) FROM "Invoice"').fetchone()
            assert found == (30 + 1_000,)
            orphans = connection.execute(
                'SELECT count(*) FROM "InvoiceLine" l LEFT JOIN "Invoice" i '
                'USING ("InvoiceId") WHERE i."InvoiceId" IS NULL'
            ).fetchone()
            assert orphans == (0,)


@on_three_shapes_unmigrated
def test_a_killed_process_leaves_nothing(shop: ChinookDatabase) -> None:
    before = shop.value("SELECT count(*) FROM [Invoice]")
    with Popen(
        [sys.executable, "-m", "chinook_sim", "generate", "400000", "-q"],
        env={**os.environ, "DATABASE_URL": shop.text},
    ) as process:
        # It is making sales by then.
        wait_for_cpu_time(process.pid, 0.8)
        process.kill()
    # The server may notice a moment later; SQLite's next reader takes the journal back.
    assert shop.value("SELECT count(*) FROM [Invoice]") in (before, before + 400_000)
    engine = shop.engine
    with Session(engine) as session, session.begin():
        generate_d1(session, 10, day=DAY)


@on_all_unmigrated_but_16
def test_writers_at_the_same_time_take_different_ids(shop: ChinookDatabase) -> None:
    script = (
        "import sys, datetime\n"
        "from sqlalchemy import create_engine\n"
        "from sqlalchemy.orm import Session\n"
        "from chinook_sim import SaleFactory, generate_d1\n"
        "engine = create_engine(sys.argv[1], connect_args=eval(sys.argv[2]))\n"
        "for turn in range(2):\n"
        "    with Session(engine) as session, session.begin():\n"
        "        generate_d1(session, 40, day=datetime.date(2026, 1, 31))\n"
        "        SaleFactory(session).create(datetime.date(2026, 1, 31))\n"
        "engine.dispose()\n"
    )
    patience = "{}" if shop.server else "{'timeout': 60}"
    processes = [
        Popen(
            [sys.executable, "-c", script, shop.text, patience], stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + 4 * 2 * 41
    assert shop.value("SELECT count(DISTINCT [InvoiceLineId]) FROM [InvoiceLine]") == shop.value(
        "SELECT count(*) FROM [InvoiceLine]"
    )


@on_variants([case for case in cases() if case.major and not case.shape.ids])
def test_a_writer_that_knows_nothing_of_us_is_waited_for(shop: ChinookDatabase) -> None:
    """Where ids are MAX + 1, somebody else's uncommitted row must not be run into."""
    assert shop.server is not None
    with shop.server.connect(shop.url.database or "") as other:
        other.autocommit = False
        other.execute(
            shop.sql(
                "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
                "SELECT max([InvoiceId]) + 1, 5, '2001-01-01', 0 FROM [Invoice]"
            )
        )
        threading.Timer(1, other.commit).start()
        with Session(shop.engine) as session, session.begin():
            batch = generate_d1(session, 5, day=DAY)
        assert list(batch.invoice_ids) == [32, 33, 34, 35, 36]


RIGHTS = {
    "postgres-neon": ("SELECT", False),
    "postgres-snake-int": ("SELECT", False),
    "postgres-snake-serial": ("", True),
    "postgres-snake-identity": ("", True),
}


@on_each_postgresql_shape_unmigrated
def test_a_role_with_few_rights_can_write(shop: ChinookDatabase) -> None:
    """INSERT on two tables; besides, what the ids need: to see the highest, or their sequences."""
    select, sequences = RIGHTS[shop.shape.name]
    role = f"writer_{shop.url.database}"
    grants = [
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON [Customer], [Track] TO {role}",
        f"GRANT INSERT{', SELECT' if select else ''} ON [Invoice], [InvoiceLine] TO {role}",
    ]
    if sequences:
        grants.append(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    shop.execute(*grants)
    _write_as(shop, role)


@on_variants([case for case in cases() if "identity" in case.shape.name])
@pytest.mark.slow(reason="other tests have roles with few rights")
def test_identity_columns_need_no_right_to_their_sequences(shop: ChinookDatabase) -> None:
    role = f"writer_{shop.url.database}"
    shop.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON [Customer], [Track] TO {role}",
        f"GRANT INSERT, SELECT ON [Invoice], [InvoiceLine] TO {role}",
    )
    _write_as(shop, role)


def _write_as(shop: ChinookDatabase, role: str) -> None:
    url = shop.url.set(username=role, password="x")
    engine = create_engine(url, poolclass=NullPool)
    # More than are written at once.
    with Session(engine) as session, session.begin():
        batch = generate_d1(session, 5_000, day=DAY, seed=7)
    shop.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + 5_000
    found = shop.rows(
        "SELECT i.[InvoiceId], i.[Total] - sum(l.[UnitPrice]) FROM [Invoice] i JOIN "
        "[InvoiceLine] l ON l.[InvoiceId] = i.[InvoiceId] WHERE i.[InvoiceId] > 30 "
        "GROUP BY i.[InvoiceId], i.[Total] ORDER BY 1"
    )
    assert [row[0] for row in found] == list(batch.invoice_ids)
    assert {row[1] for row in found} == {0}


@on_variants([*alternating_versions(), *alternating_versions(migrated=True)])
def test_asyncio_sessions_write_through_run_sync(shop: ChinookDatabase) -> None:
    import asyncio

    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    async def write(driver: str) -> None:
        engine = create_async_engine(shop.url.set(drivername=driver), poolclass=NullPool)
        async with AsyncSession(engine) as session:
            async with session.begin():
                batch = await session.run_sync(generate_d1, 20, day=DAY)
                await session.run_sync(lambda plain: SaleFactory(plain).create(DAY))
            assert batch.count == 20
            async with session.begin():
                await session.run_sync(generate_d1, 20, day=DAY)
                await session.rollback()
        await engine.dispose()

    drivers = ["postgresql+psycopg", "postgresql+asyncpg"] if shop.server else ["sqlite+aiosqlite"]
    for driver in drivers:
        asyncio.run(write(driver))
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + 21 * len(drivers)


def test_a_chinook_off_the_search_path_takes_a_batch(server: Server) -> None:
    for shape in SHAPES[:4]:
        database = server.create_database()
        build_postgresql(shape, server, database, schema="Music Shop")
        engine = create_engine(server.url(database), poolclass=NullPool)
        with Session(engine) as session, session.begin():
            generate_d1(session, 20, day=DAY)
            created = SaleFactory(session).create(DAY)
            assert created.customer.first_name
        with server.connect(database) as connection:
            invoice = f'"Music Shop".{shape.spell("Invoice")}'
            found = connection.execute(f"SELECT count(*) FROM {invoice}").fetchone()
        assert found == (30 + 21,)
        server.drop_database(database)


def test_a_temporary_table_of_the_same_name_is_not_written_to(server: Server) -> None:
    database = server.create_database()
    build_postgresql(SHAPES[1], server, database)
    engine = create_engine(server.url(database), poolclass=NullPool)
    with Session(engine) as session, session.begin():
        session.execute(text("CREATE TEMPORARY TABLE invoice (LIKE public.invoice)"))
        generate_d1(session, 20, day=DAY)
        assert session.scalar(text("SELECT count(*) FROM public.invoice")) == 50
    server.drop_database(database)


@on_each_postgresql_shape
def test_round_trips_do_not_grow_with_the_batch(shop: ChinookDatabase) -> None:
    assert shop.server is not None
    turns = []
    with TcpProxy(shop.server.port) as wire:
        engine = create_engine(shop.url.set(port=wire.port))
        for sales in (1, 20, 5_000):
            with Session(engine) as session:
                session.connection()
                wire.turns = 0
                generate_d1(session, sales)
                session.commit()
                turns.append(wire.turns)
        engine.dispose()
    assert len(set(turns)) == 1
    # BEGIN, what is there, SAVEPOINT, catalogue, ids, twice two for COPY, ledger, RELEASE, COMMIT.
    assert turns[0] == 14
