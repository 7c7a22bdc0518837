"""Schemas may have any name, on PostgreSQL."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command as alembic
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import SaleFactory, align, backfill, generate_d1, recognise
from chinook_sim.database.identifiers import printing, sql_text
from chinook_sim.database.privileges import missing_grants, required_privileges
from chinook_sim.errors import MigrationRefused
from chinook_sim.provisioning.initialise import initialise
from chinook_sim.provisioning.ledger_location import installed
from chinook_sim.provisioning.migration_runner import head, upgrade
from support.alembic_commands import alembic_process, config, downgrade, timeless
from support.cases import DRIVERS
from support.chinook_variants import SHAPES, TABLES, build_postgresql
from support.databases import ChinookDatabase
from support.postgres_server import MAJORS
from support.runs import take_back
from support.user_names import DAY, call_functions, execute, failed, make, quote, sell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.databases import DatabaseTemplates

SCHEMAS = (
    "50% :x.y \"q\" 's' {b} %s ? \\ $1 [;] -- /* \\:y",
    ":runs %(ids)s {customer} $function$ a:b ::text\n.",
    "%x:" * 21,
    "select",
)
OTHERS = pytest.mark.slow(reason="the first name has a character of every kind")


@pytest.fixture
def home(
    templates: DatabaseTemplates, request: pytest.FixtureRequest
) -> Iterator[tuple[ChinookDatabase, str]]:
    """A shop in a schema of an awkward name; every second one is on the search path."""
    shape, schema = SHAPES[request.param], SCHEMAS[request.param]
    server = templates.server(MAJORS[request.param % 2])
    database = server.create_database()
    build_postgresql(shape, server, database, schema=schema.replace('"', '""'))
    if request.param % 2:
        with server.connect(database) as other:
            path = f"SET search_path = {quote(schema)}"
            other.execute(f'ALTER DATABASE "{database}" {path}'.encode())
    shop = ChinookDatabase(shape, server.url(database), server)
    yield shop, schema
    shop.close()


def at_home(home: tuple[ChinookDatabase, str]) -> dict[str, list[tuple[Any, ...]]]:
    shop, schema = home
    return {
        table: execute(
            shop, f"SELECT * FROM {quote(schema)}.{shop.shape.spell(table)} ORDER BY 1, 2"
        )
        for table in TABLES
    }


@pytest.mark.parametrize(
    "home",
    [0, *(pytest.param(place, marks=OTHERS) for place in range(1, len(SCHEMAS)))],
    indirect=True,
)
def test_migrations_and_functions_work_in_a_schema_of_any_name(
    home: tuple[ChinookDatabase, str],
) -> None:
    shop, schema = home
    before = shop.dump()
    script = io.StringIO()
    with shop.engine.connect() as connection:
        offline = config(connection)
        offline.output_buffer = script
        alembic.upgrade(offline, "head", sql=True)
    assert shop.dump() == before
    with shop.engine.begin() as connection:
        assert installed(connection) is None
        upgrade(connection)
        assert installed(connection) == head()
        assert recognise(connection).schema == schema
    after = shop.dump()
    if schema == SCHEMAS[0]:
        checked = alembic_process("check", DATABASE_URL=shop.text)
        assert checked.returncode == 0, checked.stderr
    with shop.engine.begin() as connection:
        downgrade(connection)
    assert shop.dump() == before
    shop.run_script(script.getvalue())
    assert timeless(shop.dump()) == timeless(after)
    call_functions(shop, f"{quote(schema)}.")


@pytest.mark.parametrize(
    ("home", "driver"),
    [*((place, DRIVERS[True][0]) for place in (0, 2, 3)), (0, DRIVERS[True][1])],
    indirect=["home"],
)
@pytest.mark.slow(reason="many names")
def test_sales_are_made_and_undone_in_a_schema_of_any_name(
    home: tuple[ChinookDatabase, str], driver: str
) -> None:
    shop, schema = home
    with shop.engine.begin() as connection:
        upgrade(connection)
    execute(
        shop,
        f"CREATE TABLE {quote(schema)}.{quote('%:r')} (r integer REFERENCES "
        f"{quote(schema)}.{shop.shape.spell('Invoice')})",
    )
    shop = ChinookDatabase(shop.shape, shop.url.set(drivername=driver), shop.server)
    before = at_home(home)
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
    sell(shop)
    factory_run = ""
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=7)
        single = factory.create(DAY).invoice_id
        factory_run = factory.create_batch(9, DAY).run_id or ""
    runs = [made.run_id or "" for made in backfill(shop.engine, DAY, DAY + timedelta(days=1), 5)]
    between = at_home(home)
    run = make(shop)
    take_back(shop, run)
    assert at_home(home) == between
    ours = f"{quote(schema)}.chinook_sim_run"
    ((first,),) = execute(shop, f"SELECT run_id FROM {ours} WHERE seed = 7 AND sales = 30")
    for run in (*runs, factory_run, first, moved.run_id or ""):
        take_back(shop, run)
    invoice, line = (shop.shape.spell(name) for name in ("Invoice", "InvoiceLine"))
    key = shop.shape.spell("InvoiceId")
    execute(
        shop,
        *(
            f"DELETE FROM {quote(schema)}.{table} WHERE {key} = {single}"
            for table in (line, invoice)
        ),
    )
    assert at_home(home) == before
    shop.engine.dispose()


@pytest.mark.parametrize("home", [0, pytest.param(2, marks=OTHERS)], indirect=True)
def test_verify_works_in_a_schema_of_any_name(home: tuple[ChinookDatabase, str]) -> None:
    shop, _ = home
    with shop.engine.begin() as connection:
        upgrade(connection)
    sell(shop)
    make(shop)
    assert failed(shop) == []


@pytest.mark.parametrize("home", [0, 1], indirect=True)
def test_sales_are_made_without_a_migration_in_a_schema_of_any_name(
    home: tuple[ChinookDatabase, str],
) -> None:
    # Nothing gives ids: they are read under a lock on the tables.
    shop, _ = home
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 30, day=DAY, seed=7)
        SaleFactory(session, seed=7).create(DAY)
    assert [len(rows) for table, rows in at_home(home).items() if table == "Invoice"] == [61]


@pytest.mark.slow(reason="two databases, one with a stand-in; test_ledger_schema.py has init")
def test_an_empty_schema_of_any_name_gets_a_chinook(templates: DatabaseTemplates) -> None:
    server, schema = templates.server(MAJORS[1]), SCHEMAS[0]
    database = server.create_database()
    with server.connect(database) as other:
        other.execute(f"CREATE SCHEMA {quote(schema)}".encode())
        path = f"SET search_path = {quote(schema)}"
        other.execute(f'ALTER DATABASE "{database}" {path}'.encode())
    before = server.dump(database)
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
    with engine.begin() as connection:
        downgrade(connection)
    assert server.dump(database) == before
    with engine.begin() as connection:
        assert initialise(connection).made == "stand-in"
    with Session(engine) as session, session.begin():
        # After the ids of the stand-in, as its sequences were set.
        assert SaleFactory(session).create(DAY).invoice_id == 413
    server.drop_database(database)


@pytest.mark.parametrize("home", [0], indirect=True)
def test_grants_are_right_in_a_schema_of_any_name(home: tuple[ChinookDatabase, str]) -> None:
    shop, schema = home
    with shop.engine.begin() as connection:
        upgrade(connection)
    role = "clerk :x 50% " + str(shop.url.database)
    execute(
        shop,
        f"CREATE ROLE {quote(role)} LOGIN PASSWORD 'x'",
        f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(role)}",
    )
    url = shop.url.set(username=role, password="x")
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        lacking = missing_grants(
            connection,
            required_privileges(connection, recognise(connection), "customers and prices"),
        )
    execute(shop, *re.split("; (?=GRANT)", lacking))
    with Session(engine) as session, session.begin():
        generate_d1(session, 5, day=DAY, updates=2, new_customers=1, price_changes=1)
    execute(shop, f"DROP OWNED BY {quote(role)}", f"DROP ROLE {quote(role)}")


def test_a_script_is_refused_where_it_would_name_another_schema(
    templates: DatabaseTemplates,
) -> None:
    server = templates.server(MAJORS[0])
    database = server.create_database()
    build_postgresql(SHAPES[1], server, database, schema="a\tb")
    with create_engine(server.url(database), poolclass=NullPool).begin() as connection:
        with pytest.raises(MigrationRefused, match="without --sql"):
            alembic.upgrade(config(connection), "head", sql=True)
        upgrade(connection)
    server.drop_database(database)


def test_a_schema_that_no_search_path_can_name_is_refused(templates: DatabaseTemplates) -> None:
    server = templates.server(MAJORS[0])
    database = server.create_database()
    build_postgresql(SHAPES[1], server, database, schema="shop")
    with server.connect(database) as other:
        other.execute('ALTER SCHEMA shop RENAME TO "$user"')
    before = server.dump(database)
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection, pytest.raises(MigrationRefused, match="ALTER SCHEMA"):
        upgrade(connection)
    assert server.dump(database) == before
    server.drop_database(database)


def test_colons_are_parameters_only_outside_of_quotes() -> None:
    statement = (
        "SELECT ':a', \":b\", '\\:c', \"%:d\" -- :e '\n, :f, x::int, $$ ':g $$, "
        '$t$ :h $$ ":i $t$, \'it\'\'s :j\', "a"":k", :l'
    )
    engine = create_engine("postgresql+psycopg://", poolclass=NullPool)
    compiled = sql_text(statement).compile(dialect=printing(engine.dialect))
    assert set(compiled.params) == {"f", "l"}
    expected = statement.replace(":f", "%(f)s").replace(":l", "%(l)s")
    assert str(compiled) == expected
    # And as the driver is to get it.
    assert "%%:d" in str(sql_text(statement).compile(dialect=engine.dialect))
