"""The ledger in a schema of its own: found by itself, used by everything, and left by nothing."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from alembic import command as alembic
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import NotAChinook, align, backfill, generate_d1, live, recognise, undo
from chinook_sim.errors import MigrationRefused, NoLedger
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import plan_batch
from chinook_sim.provisioning.ledger_location import installed
from chinook_sim.provisioning.migration_runner import head, upgrade
from chinook_sim.verification import verify_all
from chinook_sim.verification.as_made import AS_MADE
from support.alembic_commands import alembic_process, config
from support.cases import VARIANTS, on_variants
from support.chinook_variants import SHAPES, build_postgresql
from support.postgres_server import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.command import Command
    from support.databases import ChinookDatabase
    from support.postgres_server import Server

DAY = date(2026, 1, 31)

LEDGER = 'the "ledger" 50% :x'
"""A name that must be quoted."""


on_two = on_variants([VARIANTS["postgres-neon-pg16"], VARIANTS["postgres-snake-identity-pg18"]])


def ours(shop: ChinookDatabase) -> set[tuple[str, str]]:
    return set(
        shop.rows(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE c.relname LIKE 'chinook_sim_%' AND c.relkind = 'r'"
        )
    )


@on_two
def test_everything_works_with_a_ledger_in_a_schema_of_its_own(
    shop: ChinookDatabase, command: Command
) -> None:
    done = command("init", "--ledger-schema", LEDGER, DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    # A publication of the shop's schema has none of our tables.
    shop.execute("CREATE PUBLICATION all_of_it FOR TABLES IN SCHEMA public")
    published = shop.rows("SELECT tablename FROM pg_publication_tables")
    assert len(published) == 11
    assert {schema for schema, _ in ours(shop)} == {LEDGER}
    with Session(shop.engine) as session, session.begin():
        assert recognise(session).ledger_schema == LEDGER
        align(session)
        generate_d1(session, 20, day=DAY, seed=1, once=True)
        generate_d1(session, 20, day=DAY + timedelta(days=1), updates=3, cancellations=3)
        assert generate_d1(session, 20, day=DAY, seed=1, once=True).existed
    list(backfill(shop.engine, DAY - timedelta(days=3), DAY - timedelta(days=2), 5, seed=1))
    list(live(shop.engine, 100, seed=7, mix=(6, 3, 1), duration=0.2))
    assert shop.rows("SELECT sales FROM simulate_sales('2026-02-20', 7)") == [(7,)]
    shop.execute("SELECT simulate_new_sale(localtimestamp)")
    with shop.engine.connect() as connection:
        assert [check for check in verify_all(connection) if not check.passed] == []
    for arguments in (("status",), ("verify", "--all"), ("generate", "5", "--once")):
        done = command(*arguments, DATABASE_URL=shop.text)
        assert done.returncode == 0, done.stderr
    done = command("init", "--ledger-schema", "other", DATABASE_URL=shop.text)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    shop.execute("DROP PUBLICATION all_of_it")
    with shop.engine.begin() as connection:
        alembic.downgrade(config(connection), "base")
    assert ours(shop) == set()


def move_tables(shop: ChinookDatabase) -> None:
    """Move the tables of the shop, and not those of the ledger, to the schema `north`."""
    tables = shop.rows(
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind = 'r' AND NOT starts_with(relname, 'chinook_sim_')"
    )
    shop.execute("CREATE SCHEMA north", *(f"ALTER TABLE {it} SET SCHEMA north" for (it,) in tables))


@on_two
@pytest.mark.slow(reason="a rare case of the test before it")
def test_views_in_place_of_moved_tables_do_not_hide_the_ledger_left_behind(
    shop: ChinookDatabase,
) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
    move_tables(shop)
    shop.execute("CREATE VIEW public.[Invoice] AS SELECT * FROM north.[Invoice]")
    refusal = "schema public has a ledger without a Chinook"
    with Session(shop.engine) as session, pytest.raises(NoLedger, match=refusal):
        generate_d1(session, 5, day=DAY)
    with shop.engine.begin() as connection, pytest.raises(MigrationRefused, match=refusal):
        upgrade(connection)


@on_two
def test_a_ledger_without_its_shop_is_named(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
    with Session(shop.engine) as session, session.begin():
        run = generate_d1(session, 5, day=DAY).run_id
    move_tables(shop)
    before = shop.value("SELECT count(*) FROM north.[Invoice]")
    calls: list[Callable[[Session], object]] = [
        lambda session: generate_d1(session, 5, day=DAY),
        lambda session: plan_batch(session, 5, BatchOptions(day=DAY)),
    ]
    for call in calls:
        with (
            Session(shop.engine) as session,
            pytest.raises(NoLedger, match="schema public has a ledger without a Chinook"),
        ):
            call(session)
    assert shop.value("SELECT count(*) FROM north.[Invoice]") == before
    with shop.engine.connect() as connection:
        (told,) = [it.figure for it in verify_all(connection) if it.name == AS_MADE]
    assert "in the schema public" in told
    with shop.engine.begin() as connection, pytest.raises(MigrationRefused) as caught:
        upgrade(connection)
    found = re.search(r"run: (ALTER .*?); then", str(caught.value))
    assert found
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(found[1])
        upgrade(connection)
    shop.execute("SELECT north.simulate_sales('2026-01-31', 5)")
    with Session(shop.engine) as session, session.begin():
        undo(session, run or "")
    assert shop.value("SELECT count(*) FROM north.chinook_sim_run WHERE kind <> 'baseline'") == 2
    with Session(shop.engine) as session, session.begin():
        assert generate_d1(session, 5, day=DAY).run_id


@on_two
def test_a_shop_moved_away_from_its_ledger_s_comment_is_refused(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection, ledger_schema="ledger")
    move_tables(shop)
    with (
        Session(shop.engine) as session,
        pytest.raises(NoLedger, match="schema ledger has a ledger without a Chinook"),
    ):
        generate_d1(session, 5, day=DAY)


@on_two
def test_tables_that_are_no_ledger_keep_nobody_from_a_batch(shop: ChinookDatabase) -> None:
    shop.execute(
        "CREATE SCHEMA warehouse",
        "CREATE TABLE warehouse.chinook_sim_run (run_id text)",
        "CREATE SCHEMA other",
        "CREATE TABLE other.chinook_sim_version (version_num text)",
    )
    with shop.engine.connect() as elsewhere:
        for name in ("chinook_sim_run", "chinook_sim_version"):
            elsewhere.exec_driver_sql(f"CREATE TEMP TABLE {name} (run_id text)")
        elsewhere.commit()
        with Session(shop.engine) as session, session.begin():
            assert generate_d1(session, 5, day=DAY).run_id is None


@on_two
@pytest.mark.slow(reason="four processes of alembic")
def test_a_script_makes_the_ledger_s_schema_too(shop: ChinookDatabase) -> None:
    given = ("-x", "ledger_schema=a ledger", "upgrade", "head")
    done = alembic_process(*given, "--sql", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    shop.run_script(done.stdout)
    assert {schema for schema, _ in ours(shop)} == {"a ledger"}
    for arguments in (("check",), ("downgrade", "base"), given):
        done = alembic_process(*arguments, DATABASE_URL=shop.text)
        assert done.returncode == 0, done.stderr
    assert {schema for schema, _ in ours(shop)} == {"a ledger"}
    with shop.engine.connect() as connection:
        assert installed(connection) == head()
        assert recognise(connection).ledger


@pytest.mark.slow(reason="makes several shops")
def test_two_shops_in_a_database_have_a_ledger_each(server: Server) -> None:
    database = server.create_database()
    elsewhere = Table("elsewhere", MetaData(), Column("id", Integer), schema="theirs")
    with server.connect(database) as other:
        other.execute("CREATE TABLE public.elsewhere (id integer)")
    for place, schema in enumerate(("north", "south")):
        build_postgresql(SHAPES[place], server, database, schema)
    for schema in ("north", "south"):
        engine = engine_in(server, database, schema)
        with engine.begin() as connection:
            upgrade(connection, ledger_schema=f"{schema} ledger")
    for number, schema in enumerate(("north", "south"), 3):
        # A map of the user's, for other tables than these.
        theirs = {"theirs": "public"} if schema == "north" else {None: None, "theirs": "public"}
        engine = engine_in(server, database, schema).execution_options(schema_translate_map=theirs)
        with Session(engine) as session, session.begin():
            generate_d1(session, number, day=DAY)
            assert session.execute(select(elsewhere)).all() == []
            run = generate_d1(session, number, day=DAY + timedelta(days=1), key="k")
        with server.connect(database) as other:
            made = other.execute(
                f"SELECT sales FROM \"{schema} ledger\".chinook_sim_run WHERE kind = 'generate'"
            ).fetchall()
        assert made == [(number,), (number,)]
        with Session(engine_in(server, database, schema)) as session, session.begin():
            undo(session, run.run_id or "")
    with (
        engine_in(server, database, "north").begin() as connection,
        pytest.raises(MigrationRefused, match="is not moved"),
    ):
        upgrade(connection, ledger_schema="south ledger")
    server.drop_database(database)


@on_two
def test_a_missing_privilege_on_the_ledger_s_schema_is_named(
    shop: ChinookDatabase, command: Command
) -> None:
    assert shop.server is not None
    with shop.engine.begin() as connection:
        upgrade(connection, ledger_schema="a ledger")
    role = f"clerk_{shop.url.database}"
    shop.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f'GRANT ALL ON ALL TABLES IN SCHEMA "a ledger" TO {role}',
    )
    try:
        url = shop.url.set(username=role).render_as_string(hide_password=False)
        done = command("generate", "5", DATABASE_URL=url)
        assert done.returncode != 0
        grant = f'GRANT USAGE ON SCHEMA "a ledger" TO {role}'
        assert done.stderr.count("\n") == 1
        assert grant in done.stderr
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection, pytest.raises(DBAPIError) as refused:
            connection.execute(text("SELECT simulate_sales('2026-01-31', 5)"))
        assert grant in str(refused.value)
        shop.execute(grant)
        with engine.begin() as connection:
            connection.execute(text("SELECT simulate_sales('2026-01-31', 5)"))
        assert command("generate", "5", DATABASE_URL=url).returncode == 0
    finally:
        shop.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def engine_in(server: Server, database: str, schema: str) -> Engine:
    return create_engine(
        server.url(database),
        poolclass=NullPool,
        connect_args={"options": f"-c search_path={schema}"},
    )


def test_an_empty_database_gets_both(server: Server, command: Command) -> None:
    database = server.create_database()
    url = server.url(database).render_as_string(hide_password=False)
    done = command("init", DATABASE_URL=url, CHINOOK_SIM_LEDGER_SCHEMA=LEDGER)
    assert done.returncode == 0, done.stderr
    # It is named once only.
    done = command("generate", "5", "--once", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    server.drop_database(database)


def test_sqlite_has_no_schema_for_it(command: Command) -> None:
    done = command("init", "--ledger-schema", "ledger", DATABASE_URL="sqlite:///shop.db")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@on_two
@pytest.mark.slow(reason="a rare case of the schema")
def test_schemas_that_are_renamed_are_found_or_refused(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection, ledger_schema="ledger")
    shop.execute("ALTER SCHEMA ledger RENAME TO books")
    with shop.engine.begin() as connection:
        upgrade(connection)
    shop.execute("SELECT simulate_sales('2026-01-31', 5)")
    shop.execute('ALTER SCHEMA public RENAME TO "it\'s mine"')
    with (
        Session(shop.engine) as session,
        pytest.raises(NoLedger, match="schema books has a ledger without a Chinook"),
    ):
        generate_d1(session, 5, day=DAY)
    with shop.engine.begin() as connection, pytest.raises(MigrationRefused) as caught:
        upgrade(connection)
    found = re.search(r"COMMENT ON .*?;", str(caught.value))
    assert found
    shop.execute(found[0])
    with shop.engine.begin() as connection:
        upgrade(connection)
    shop.execute("SELECT \"it's mine\".simulate_sales('2026-01-31', 5)")
    assert shop.value("SELECT count(*) FROM books.chinook_sim_run WHERE kind <> 'baseline'") == 2


def test_of_both_spellings_in_one_schema_none_is_chosen(server: Server) -> None:
    database = server.create_database()
    for shape in SHAPES[:2]:
        build_postgresql(shape, server, database, "public")
    with (
        engine_in(server, database, "public").connect() as connection,
        pytest.raises(NotAChinook, match="move one of them to another schema"),
    ):
        recognise(connection)
    server.drop_database(database)
