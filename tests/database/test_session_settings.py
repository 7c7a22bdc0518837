"""No setting of a session, role or database changes what commands, library and functions do."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import backfill, generate_d1, invoice_history, live, undo
from chinook_sim.errors import BatchFailed, InvalidInput
from chinook_sim.kinds import ChangeCounts
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import plan_batch
from chinook_sim.provisioning.migration_runner import upgrade
from chinook_sim.verification import verify_all, verify_day
from support.cases import VARIANTS, DatabaseVariant, on_variants, parameters
from support.chinook_variants import SHAPES, build_postgresql

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import ChinookDatabase, DatabaseTemplates
    from support.postgres_server import Server

TWO = [VARIANTS["postgres-neon-pg16-migrated"], VARIANTS["postgres-snake-int-pg18-migrated"]]

each_of_two = on_variants(TWO)

one = on_variants(TWO[:1])

DAY = date(2026, 1, 31)

SETTINGS = {
    "DateStyle": ("'SQL, DMY'", "German", "'Postgres, MDY'"),
    "IntervalStyle": ("sql_standard", "iso_8601"),
    "extra_float_digits": ("-15",),
    "bytea_output": ("escape",),
    "TimeZone": ("'America/Sao_Paulo'", "'Asia/Kathmandu'"),
    "standard_conforming_strings": ("off",),
    "quote_all_identifiers": ("on",),
    "default_transaction_isolation": ("'repeatable read'", "serializable"),
    "client_min_messages": ("debug5",),
    "plpgsql.extra_errors": ("'all'",),
    "transform_null_equals": ("on",),
    "array_nulls": ("off",),
}
TOGETHER = [
    [(name, values[place]) for name, values in SETTINGS.items() if place < len(values)]
    for place in range(3)
]
"""Each value once, in settings that a database can have at the same time."""

OWN_COLUMNS = {
    "weight": ("float8", "0.1::float8 + 0.2"),
    "patience": ("interval", "interval '-1 month +2 days -03:04:05.6'"),
    "period": ("daterange", "daterange('2026-02-01', '2026-03-04')"),
    "moments": ("tstzrange", "tstzrange('2026-02-01 03:04:05.678+00', NULL)"),
    "raw": ("bytea", "decode('00ff5c', 'hex')"),
}
"""Columns of the owner's that are written as a setting has it: their types and values."""


def stock(shop: ChinookDatabase) -> None:
    shop.execute(
        *(f"ALTER TABLE [Invoice] ADD {name} {kind}" for name, (kind, _) in OWN_COLUMNS.items()),
        "UPDATE [Invoice] SET [InvoiceDate] = '2026-01-20', "
        + ", ".join(f"{name} = {value}" for name, (_, value) in OWN_COLUMNS.items()),
    )


def configure(shop: ChinookDatabase, settings: list[tuple[str, str]]) -> None:
    for name, value in settings:
        shop.execute(f'ALTER DATABASE "{shop.url.database}" SET {name} = {value}')


def contents(shop: ChinookDatabase) -> list[Any]:
    """Return all sales with the owner's columns, seen without the settings."""
    assert shop.server is not None
    with shop.server.connect(shop.url.database or "") as connection:
        connection.execute("RESET ALL; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'")
        connection.execute("SET extra_float_digits = 1; SET bytea_output = 'hex'; SET TimeZone = 0")
        found: list[Any] = []
        for table in ("Invoice", "InvoiceLine", "Customer", "Track"):
            read = f"SELECT to_jsonb(t.*) FROM [{table}] t ORDER BY 1"
            found.append(connection.execute(shop.sql(read)).fetchall())
        return found


def outcomes(shop: ChinookDatabase) -> dict[str, Any]:
    """Do everything once, and return what came of it."""
    stock(shop)
    said: dict[str, Any] = {"before": contents(shop)}
    changes = ChangeCounts(updates=5, cancellations=5, new_customers=1, moves=2, price_changes=2)
    wishes: dict[str, Any] = {"day": DAY, "seed": 7, "once": True, **asdict(changes)}
    options = BatchOptions(day=DAY, seed=7, once=True, changes=changes)
    with Session(shop.engine) as session, session.begin():
        said["planned"] = plan_batch(
            session, 20, replace(options, changes=ChangeCounts(5, 5, 0, 2))
        ).digest
        made = generate_d1(session, 20, **wishes)
    said["made"] = made.digest, made.revenue, made.hours
    with Session(shop.engine) as session, session.begin():
        again = generate_d1(session, 20, **wishes)
        assert (again.existed, again.run_id) == (True, made.run_id)
        assert plan_batch(session, 20, options).existed
    said["after"] = contents(shop)
    with shop.engine.connect() as connection:
        history = invoice_history(connection, made.invoice_ids[0])
        assert history.made_by is not None
        assert history.made_by.run_id == made.run_id
    with shop.engine.connect() as connection:
        said["verified"] = [(it.name, it.passed, it.figure) for it in verify_day(connection, DAY)]
    with shop.engine.connect() as connection:
        said["verified all"] = [(it.name, it.passed) for it in verify_all(connection)]
    with Session(shop.engine) as session, session.begin():
        undo(session, made.run_id or "")
    assert contents(shop) == said["before"]
    list(backfill(shop.engine, DAY, DAY + timedelta(days=1), per_day=3, seed=1))
    days = list(backfill(shop.engine, DAY, DAY + timedelta(days=1), per_day=3, seed=1))
    said["days"] = [(it.day, it.digest, it.existed) for it in days]
    assert sum(batch.made.count for batch in live(shop.engine, 500, seed=3, duration=0.05)) > 0
    with shop.engine.begin() as connection:
        for call in (
            "simulate_new_sale('2026-02-01 10:00')",
            "simulate_sales('2026-02-01', 5)",
            "simulate_update_sale(DATE '2026-02-01')",
            "simulate_delete_sale('2026-02-01')",
        ):
            assert connection.execute(text(f"SELECT {call}")).scalar() is not None, call
    return said


@pytest.mark.parametrize("case", parameters(TWO))
@pytest.mark.slow(reason="everything once under each group of settings")
def test_no_setting_changes_what_comes_of_it(
    templates: DatabaseTemplates, case: DatabaseVariant, tmp_path: Path
) -> None:
    found = []
    # First under the settings that a server has by itself.
    for settings in ([], *TOGETHER):
        shop = templates.copy(case, tmp_path)
        configure(shop, settings)
        found.append((settings, outcomes(shop)))
        shop.close()
    for settings, outcome in found:
        assert outcome == found[0][1], settings


@each_of_two
def test_the_settings_of_the_callers_transaction_stay(shop: ChinookDatabase) -> None:
    settings = [
        ("DateStyle", "SQL, DMY"),
        ("IntervalStyle", "iso_8601"),
        ("bytea_output", "escape"),
    ]
    with Session(shop.engine) as session, session.begin():
        for name, value in settings:
            session.execute(text(f"SET LOCAL {name} = '{value}'"))
        session.execute(text("SET extra_float_digits = -3"))

        def kept() -> None:
            for name, value in [*settings, ("extra_float_digits", "-3")]:
                assert session.scalar(text(f"SHOW {name}")) == value

        made = generate_d1(session, 3, day=DAY, once=True)
        kept()
        verify_all(session.connection())
        kept()
        invoice_history(session.connection(), made.invoice_ids[0])
        kept()
        session.execute(
            text(shop.sql("ALTER TABLE [InvoiceLine] ADD CHECK ([Quantity] > 5) NOT VALID"))
        )
        with pytest.raises(BatchFailed):
            generate_d1(session, 3, day=DAY)
        kept()
        undo(session, made.run_id or "")
        kept()


@one
def test_without_a_transaction_nothing_can_be_pinned(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        number = generate_d1(session, 3, day=DAY).invoice_ids[0]
    single = shop.engine.execution_options(isolation_level="AUTOCOMMIT")
    with single.connect() as connection:
        assert invoice_history(connection, number).state == "exists"
        connection.execute(text("SET DateStyle = German"))
        with pytest.raises(InvalidInput, match="AUTOCOMMIT"):
            invoice_history(connection, number)


@one
def test_commands_work_under_all_settings_at_once(shop: ChinookDatabase, command: Command) -> None:
    configure(shop, [(name, values[0]) for name, values in SETTINGS.items()])
    key = ("--once", "--day", str(DAY), "--seed", "7", "--cancellations", "2")
    for _ in range(2):
        done = command("generate", "20", *key, DATABASE_URL=shop.text)
        assert done.returncode == 0, done.stderr
    for arguments in (
        ("status",),
        ("status", "--invoice", "35"),
        ("verify", "--all"),
        ("undo", "--day", str(DAY)),
        ("init",),
    ):
        done = command(*arguments, DATABASE_URL=shop.text)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


@one
def test_a_database_that_takes_no_writes_is_refused_in_one_line(
    shop: ChinookDatabase, command: Command
) -> None:
    configure(shop, [("default_transaction_read_only", "on")])
    done = command("generate", "5", DATABASE_URL=shop.text)
    assert done.returncode == 4
    assert "read-only transaction; the database is read-only" in done.stderr
    assert done.stderr.count("\n") == 1
    assert command("status", DATABASE_URL=shop.text).returncode == 0
    with shop.engine.connect() as connection, pytest.raises(DBAPIError, match="read-only"):
        connection.execute(text("SELECT simulate_new_sale(now())"))


def test_names_with_backslashes_do_not_depend_on_a_setting(server: Server) -> None:
    database = server.create_database()
    schema = r"a\tb\\'c"
    build_postgresql(SHAPES[1], server, database, schema=schema)
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
    with server.connect(database) as connection:
        connection.execute("SET standard_conforming_strings = off")
        connection.execute("SET escape_string_warning = off")
        for call in ("new_sale(now())", "sales('2026-01-31', 5)", "update_sale(now())"):
            connection.execute(f'SELECT "{schema}".simulate_{call}')
        connection.execute(
            f'CREATE TABLE review (invoice integer REFERENCES "{schema}".invoice ON DELETE CASCADE)'
        )
        connection.execute(f'INSERT INTO review SELECT invoice_id FROM "{schema}".invoice')
        call = f'SELECT "{schema}".simulate_delete_sale(now())'
        assert connection.execute(call).fetchall() == [(None,)]
    server.drop_database(database)
