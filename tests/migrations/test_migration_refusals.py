"""What no revision touches: other databases, other functions, and newer revisions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from alembic import command as alembic
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from chinook_sim.errors import MigrationRefused, NotAChinook
from chinook_sim.provisioning.migration_runner import upgrade
from support.alembic_commands import alembic_process, config, downgrade
from support.cases import (
    on_each_postgresql_shape_unmigrated,
    on_each_shape_unmigrated,
)
from support.chinook_variants import SHAPES, build_postgresql

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase, DatabaseTemplates
    from support.postgres_server import Server

OTHERS = {
    "a table of a Chinook elsewhere": (
        "CREATE SCHEMA crm; CREATE TABLE crm.employee (employee_id integer PRIMARY KEY)",
        "not a Chinook",
    ),
    "another customer": ("CREATE TABLE customer (id integer PRIMARY KEY)", "not a Chinook"),
    "other invoices": (
        "CREATE TABLE invoice (id integer); CREATE TABLE invoice_line (id integer)",
        "not a Chinook",
    ),
    "another application": (
        "CREATE TABLE stock (id integer)",
        "neither empty nor a Chinook: it has stock",
    ),
    "plural names of another application": (
        "CREATE TABLE invoices (id integer); CREATE TABLE customers (id integer)",
        "neither empty nor a Chinook: it has",
    ),
}


@pytest.mark.parametrize("others", OTHERS)
def test_what_is_no_chinook_is_not_made_one(server: Server, others: str) -> None:
    script, said = OTHERS[others]
    database = server.create_database()
    server.psql(database, script)
    before = server.dump(database)
    with (
        create_engine(server.url(database), poolclass=NullPool).begin() as connection,
        pytest.raises((MigrationRefused, NotAChinook), match=said),
    ):
        upgrade(connection)
    assert server.dump(database) == before
    server.drop_database(database)


def test_a_chinook_that_is_closed_to_us_is_not_made_again(server: Server, command: Command) -> None:
    database = server.create_database()
    role = f"stranger_{database}"
    build_postgresql(SHAPES[2], server, database, schema="shop")
    with server.connect(database) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        admin.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        url = server.url(database, user=role, password="x")
        text = url.render_as_string(hide_password=False)
        alembics = alembic_process("upgrade", "head", DATABASE_URL=text)
        ours = command("init", DATABASE_URL=text)
        assert ours.returncode > 1
        for done in (alembics, ours):
            assert done.returncode != 0
            assert f"GRANT USAGE ON SCHEMA shop TO {role}" in done.stdout + done.stderr
        made = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert admin.execute(made).fetchone() == (0,)
        admin.execute(f"REVOKE CREATE ON SCHEMA public FROM {role}")
        admin.execute(f"DROP ROLE {role}")
    server.drop_database(database)


@on_each_shape_unmigrated
def test_a_newer_revision_is_refused(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
    shop.execute("UPDATE chinook_sim_version SET version_num = '9999'")
    with (
        shop.engine.connect() as connection,
        pytest.raises(MigrationRefused, match="newer chinook_sim"),
    ):
        upgrade(connection)


@on_each_postgresql_shape_unmigrated
def test_a_function_of_somebody_else_is_not_overwritten(shop: ChinookDatabase) -> None:
    shop.execute(
        "CREATE FUNCTION simulate_new_sale(timestamp) RETURNS text LANGUAGE sql AS 'SELECT 1::text'"
    )
    before = shop.dump()
    with shop.engine.connect() as connection, pytest.raises(MigrationRefused) as caught:
        upgrade(connection)
    assert "simulate_new_sale(timestamp without time zone)" in str(caught.value)
    assert "RENAME" in str(caught.value)
    assert shop.dump() == before


@on_each_postgresql_shape_unmigrated
def test_a_function_that_was_changed_is_not_dropped(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
    shop.execute(
        "CREATE OR REPLACE FUNCTION simulate_delete_sale(ts timestamp) RETURNS integer "
        "LANGUAGE sql AS 'SELECT 7'"
    )
    with shop.engine.connect() as connection, pytest.raises(MigrationRefused, match="changed"):
        downgrade(connection)
    assert shop.value("SELECT simulate_delete_sale(localtimestamp)") == 7


def test_init_says_why_it_does_not_upgrade(templates: DatabaseTemplates, command: Command) -> None:
    server = templates.server(18)
    database = server.create_database()
    build_postgresql(SHAPES[0], server, database)
    with server.connect(database) as connection:
        connection.execute(
            "CREATE FUNCTION simulate_sales(date, int) RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
    done = command("init", DATABASE_URL=server.url(database).render_as_string(hide_password=False))
    assert done.returncode == 3
    assert "simulate_sales(date, integer) is there already" in done.stderr
    assert done.stderr.count("\n") == 1
    server.drop_database(database)


@on_each_postgresql_shape_unmigrated
def test_a_function_of_ours_that_was_changed_is_not_mended(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
    shop.execute(
        "CREATE OR REPLACE FUNCTION simulate_delete_sale(ts timestamp) RETURNS integer "
        "LANGUAGE sql AS 'SELECT 7'",
        "ALTER SCHEMA public RENAME TO shop",
    )
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert shop.value("SELECT shop.simulate_delete_sale(now())") == 7
    assert shop.rows("SELECT shop.simulate_update_sale(now())") == [(None,)]


@on_each_postgresql_shape_unmigrated
@pytest.mark.slow(reason="as a function of somebody else, which another test has")
def test_an_overload_of_somebody_else_is_not_overwritten(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        alembic.upgrade(config(connection), "0006")
    shop.execute(
        "CREATE FUNCTION simulate_delete_sale(timestamptz) RETURNS integer LANGUAGE sql "
        "AS 'SELECT 7'"
    )
    with shop.engine.connect() as connection, pytest.raises(MigrationRefused) as caught:
        upgrade(connection)
    said = str(caught.value)
    renames = re.findall(r"ALTER ROUTINE .*?;", said)
    assert len(renames) == 1
    shop.execute(*renames)
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert shop.value("SELECT simulate_delete_sale_earlier(now())") == 7
