"""Users' columns and schemas may have any name; no statement of ours mistakes one for its own."""

from __future__ import annotations

import io
import json
import re
import sqlite3
from contextlib import closing
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command as alembic
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import SaleFactory, align, backfill, generate_d1, live, recognise
from chinook_sim.database.identifiers import printing, sql_text
from chinook_sim.database.privileges import missing_grants, required_privileges
from chinook_sim.errors import MigrationRefused
from chinook_sim.provisioning.initialise import initialise
from chinook_sim.provisioning.ledger_location import installed
from chinook_sim.provisioning.migration_runner import head, upgrade
from chinook_sim.verification import verify_all, verify_day
from support.alembic_commands import alembic_process, config, downgrade, timeless
from support.cases import DRIVERS, alternating_versions, on_variants
from support.chinook_variants import SHAPES, TABLES, build_postgresql
from support.databases import ChinookDatabase
from support.postgres_server import MAJORS
from support.runs import take_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.databases import DatabaseTemplates

DAY = date(2026, 1, 31)
CHANGED = ("Invoice", "InvoiceLine", "Customer", "Track")

NAMES = [
    # Every alias that there could be, and names that our statements give to what they compute.
    *"abcdefghijklmnopqrstuvwxyz",
    *("value", "key", "number", "id", "ids", "part", "batch", "position", "place", "which", "low"),
    *("high", "seen", "valid", "yes", "next", "found", "a0", "a1", "unnest", "anon_1", "column0"),
    *("run_id", "kind", "subject", "subject_id", "change_id", "last_line_id", "before", "after"),
    *("invoice_ids", "numbers", "runs", "highest0", "last0", "count_1", "sum_1", "max_1", "path"),
    # What PostgreSQL would call a function on a row.
    *("to_jsonb", "json_agg", "json_populate_record", "jsonb_populate_record", "count", "nextval"),
    # Chinook's in the other spelling.
    *("invoice_id", "InvoiceId", "customer_id", "TrackId", "unit_price", "Total", "Name"),
    *("rowid", "_rowid_", "oid", "ctid_", "xmin_", "blob", "real", "row", "text"),
    *("select", "user", "order", "default", "table", "from", "where", "group", "null", "limit"),
    *("with space", 'double"quote', '"', "single'quote", "per%cent", "%", "%%", "%s", "%(run)s"),
    *("a:b", ":run", "x :ids", "::text", "a::b", ":", "\\", "back\\slash", "\\:runs", "\\\\:runs"),
    *("{brace}", "{0}", "{", "?", "$1", "$$", "$function$", "--", "-- '", "/* */", ";", "tab\t"),
    *("new\nline", ".", "*", "r.*", "[", "ünï", "日本", "x" * 63, "%:" * 31),
    # To Python's lower(), but not to SQLite, the same as a name of Chinook's.
    "Trac\N{KELVIN SIGN}Id",
]  # fmt: skip
"""Names of users' columns, all different to SQLite, which ignores the case of ASCII letters."""

# Both spellings on PostgreSQL, and ids that are GENERATED ALWAYS; and SQLite.
CASES = [
    case for case in alternating_versions(migrated=True) if case.shape in (SHAPES[0], *SHAPES[3:5])
]

each = on_variants(CASES)
on_postgresql = on_variants([case for case in CASES if case.major])


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def execute(shop: ChinookDatabase, *statements: str) -> list[tuple[Any, ...]]:
    """Execute statements as they are, and commit; return the rows of the last."""
    if shop.server is None:
        with closing(sqlite3.connect(shop.path)) as connection, connection:
            return [connection.execute(statement) for statement in statements][-1].fetchall()
    with shop.server.connect(shop.url.database or "") as other:
        cursors = [other.execute(statement.encode()) for statement in statements]
        return cursors[-1].fetchall() if cursors[-1].description else []


def add_columns(shop: ChinookDatabase, names: list[str]) -> None:
    """Add columns to the tables whose rows we change, and give each row a value in each."""
    for table, columns in TABLES.items():
        if table not in CHANGED:
            continue
        key, *others = (word.split(":")[0] for word in columns.split())
        taken = {shop.shape.spell(name).strip('"').casefold() for name in (key, *others)}
        free = [name for name in names if not name.isascii() or name.casefold() not in taken]
        of = shop.shape.spell(table)
        assigned = ", ".join(
            f"{quote(name)} = '{place} ' || {shop.shape.spell(key)}"
            for place, name in enumerate(free)
        )
        if shop.server is None:
            # All at once: after each ALTER TABLE, SQLite would parse the whole schema again.
            columns = ", ".join(f"{quote(name)} text" for name in free).replace("'", "''")
            execute(
                shop,
                "PRAGMA writable_schema = ON",
                "UPDATE sqlite_master "
                f"SET sql = replace(sql, ', CONSTRAINT', ', {columns}, CONSTRAINT') "
                f"WHERE type = 'table' AND name = '{table}'",
            )
            # As an ALTER TABLE would: other connections read the schema again.
            version = shop.value("PRAGMA schema_version")
            execute(shop, f"PRAGMA schema_version = {version + 1}")
        else:
            columns = ", ".join(f"ADD COLUMN {quote(name)} text" for name in free)
            execute(shop, f"ALTER TABLE {of} {columns}")
        execute(shop, f"UPDATE {of} SET {assigned}")


def contents(shop: ChinookDatabase) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the tables that we change, with all their columns."""
    return {
        table: execute(shop, f"SELECT * FROM {shop.shape.spell(table)} ORDER BY 1")
        for table in CHANGED
    }


def make(shop: ChinookDatabase, *, seed: int = 8, **wanted: int) -> str:
    """Make a batch with every kind of change, each as often as it was asked for."""
    changes: dict[str, Any] = {"updates": 6, "cancellations": 4, "new_customers": 3, "moves": 3}
    changes |= {"price_changes": 3, **wanted}
    with Session(shop.engine) as session, session.begin():
        made = generate_d1(session, 20, day=DAY, seed=seed, **changes)
    assert {name: getattr(made, name) for name in changes} == changes
    assert made.run_id is not None
    return made.run_id


def sell(shop: ChinookDatabase) -> None:
    """Make sales that later batches may change."""
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 30, day=DAY - timedelta(days=1), seed=7)


def failed(shop: ChinookDatabase, *, day: bool = True) -> list[str]:
    with shop.engine.connect() as connection:
        checks = [*verify_all(connection), *(verify_day(connection, DAY) if day else ())]
    return [f"{check.name}: {check.figure}" for check in checks if not check.passed]


@each
def test_undo_is_exact_whatever_users_columns_are_called(shop: ChinookDatabase) -> None:
    sell(shop)
    add_columns(shop, NAMES)
    before = contents(shop)
    run = make(shop)
    ours = f"FROM chinook_sim_change WHERE run_id = '{run}' AND kind = 'cancellation'"
    for kept, number in execute(shop, f"SELECT before, subject_id {ours}"):
        document = json.loads(kept)
        place = NAMES.index("r")
        assert document["Invoice"][0]["r"] == f"{place} {number}"
        assert all(len(row) > len(NAMES) for rows in document.values() for row in rows)
    assert failed(shop) == []
    take_back(shop, run)
    assert contents(shop) == before
    assert failed(shop, day=False) == []


@each
@pytest.mark.slow(reason="many orders")
def test_runs_that_change_the_same_are_undone_one_by_one_and_together(
    shop: ChinookDatabase,
) -> None:
    sell(shop)
    add_columns(shop, NAMES)
    before = contents(shop)
    for day in backfill(shop.engine, DAY, DAY + timedelta(days=1), 5):
        take_back(shop, day.run_id or "")
    runs = [make(shop, seed=seed) for seed in (8, 9)]
    for run in reversed(runs):
        take_back(shop, run)
    assert contents(shop) == before
    stream = live(shop.engine, 400, seed=7, mix=(1, 2, 1))
    for number, batch in enumerate(stream):
        if number >= 2 and batch.made.updates:
            break
    stream.close()
    assert contents(shop) != before
    take_back(shop, stream.name)
    assert contents(shop) == before


@each
@pytest.mark.slow(reason="another test of this file has undo of such columns")
def test_another_value_in_a_users_column_is_kept(shop: ChinookDatabase) -> None:
    sell(shop)
    add_columns(shop, NAMES)
    before = contents(shop)
    run = make(shop)
    invoice, key = shop.shape.spell("Invoice"), shop.shape.spell("InvoiceId")
    changed = shop.value("SELECT min(subject_id) FROM chinook_sim_change WHERE kind = 'update'")
    update = f'UPDATE {invoice} SET "r" = {{}} WHERE {key} = {changed}'
    execute(shop, update.format("\"r\" || ' '"))
    take_back(shop, run)
    assert contents(shop) != before
    execute(shop, update.format('trim("r")'))
    assert contents(shop) == before


@each
@pytest.mark.slow(reason="other tests have such columns")
def test_single_sales_and_an_alignment_leave_users_columns_alone(shop: ChinookDatabase) -> None:
    add_columns(shop, NAMES)
    before = contents(shop)
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
        made = SaleFactory(session, seed=7).create_batch(9, DAY)
        SaleFactory(session, seed=8).create(DAY)
        session.rollback()
    with Session(shop.engine) as session, session.begin():
        moved, made = align(session), SaleFactory(session, seed=7).create_batch(9, DAY)
    assert moved.invoices == 30
    take_back(shop, made.run_id or "")
    take_back(shop, moved.run_id or "")
    assert contents(shop) == before


@each
def test_users_tables_that_refer_to_sales_may_have_columns_of_any_name(
    shop: ChinookDatabase,
) -> None:
    names = ["r", "a:b", "per%cent", 'double"quote', "Invoice", "invoice_id", "back\\slash :x"]
    invoice, key = shop.shape.spell("Invoice"), shop.shape.spell("InvoiceId")
    sell(shop)
    for place, name in enumerate(names):
        table = quote(f"{name} {place}" if place else "r")
        execute(
            shop,
            f"CREATE TABLE {table} ({quote(name)} integer REFERENCES {invoice} ({key}))",
            f"INSERT INTO {table} SELECT max({key}) - {place} FROM {invoice}",
        )
    ((latest,),) = execute(shop, f"SELECT max({key}) FROM {invoice}")
    kept = [(latest - place,) for place in reversed(range(len(names)))]
    make(shop, cancellations=15)
    found = execute(
        shop,
        f"SELECT {key} FROM {invoice} WHERE {key} > {latest - len(names)} AND {key} <= {latest} "
        f"ORDER BY {key}",
    )
    assert found == kept


def variables(shop: ChinookDatabase) -> set[str]:
    """Return the names of all parameters and variables of the functions that are installed."""
    rows = execute(
        shop,
        "SELECT prosrc, coalesce(proargnames, ARRAY[]::text[]) FROM pg_proc "
        "WHERE proname LIKE 'simulate%' "
        "OR proname LIKE 'chinook_sim%'",
    )
    found = set()
    for source, parameters_ in rows:
        declared = source.partition("DECLARE")[2].partition("\nBEGIN")[0]
        found |= {*parameters_, *re.findall(r"^    (\w+) \w", declared, re.MULTILINE)}
        found |= set(re.findall(r"FOR (\w+) IN", source))
    assert {"customers", "p_day", "chosen", "attempt", "amount", "sales"} <= found
    return found


def call_functions(shop: ChinookDatabase, schema: str = "") -> None:
    """Call each function; what it does must be sound."""
    at = f"'{DAY} 12:00:00'"
    # What it makes is in the ledger, which the changes of the others are not: so it comes last.
    calls = [
        f"simulate_new_sale({at})",
        f"simulate_update_sale({at})",
        f"simulate_delete_sale({at})",
        f"simulate_sales('{DAY}', 40)",
    ]
    for call in calls:
        ((answer,),) = execute(shop, f"SELECT {schema}{call}::text")
        assert answer is not None


@on_postgresql
def test_functions_work_whatever_users_columns_are_called(shop: ChinookDatabase) -> None:
    add_columns(shop, [name for name in NAMES if name not in variables(shop)])
    call_functions(shop)
    assert failed(shop) == []


@on_postgresql
def test_functions_do_not_mistake_users_columns_for_their_variables(shop: ChinookDatabase) -> None:
    before = contents(shop)
    add_columns(shop, sorted(variables(shop)))
    call_functions(shop)
    assert failed(shop) == []
    customers = {row[0] for row in before["Customer"]}
    sold = f"SELECT {shop.shape.spell('CustomerId')} FROM {shop.shape.spell('Invoice')}"
    assert {row[0] for row in execute(shop, sold)} <= customers


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
    [*((place, DRIVERS[True][0]) for place in range(len(SCHEMAS))), (0, DRIVERS[True][1])],
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
