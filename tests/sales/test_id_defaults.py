"""Ids whose columns have other defaults than `nextval` of a sequence that counts up."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from chinook_sim import (
    BatchFailed,
    IdsExhausted,
    SaleFactory,
    generate_d1,
    live,
    recognise,
    simulate_changes,
    undo,
)
from chinook_sim.provisioning.migration_runner import upgrade
from chinook_sim.verification import verify_all
from support.alembic_commands import downgrade
from support.cases import DatabaseVariant, on_variants
from support.chinook_variants import SHAPES

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 20)

CASES = [DatabaseVariant(shape, major) for shape, major in zip(SHAPES[:2], (16, 18), strict=True)]

each = on_variants(CASES)
one = on_variants(CASES[:1])

NEXT = "nextval('shard') * 16 + 3"

DEFAULTS = {
    "arithmetic": NEXT,
    "function": "next_id()",
    "by name": "nextval('shard'::text)",
    "both": "nextval('shard') + nextval('other')",
    "falling": "(1000000 - nextval('shard') * 7)",
    "shuffled": "((nextval('shard') * 7919) % 1000003 + 2000)",
    "counting down": "nextval('down')",
    "quoted": r"""nextval('"it''s\here"') * 2""",
}


BY_DEFAULT = ("arithmetic", "falling", "counting down")

# The expression matters here, and the shape does not: each default on one of them.
TURNS = [
    pytest.param(
        CASES[place % 2],
        default,
        id=f"{CASES[place % 2].id}-{default}",
        marks=() if default in BY_DEFAULT else pytest.mark.slow(reason="similar to others"),
    )
    for place, default in enumerate(DEFAULTS)
]


def give(shop: ChinookDatabase, default: str, *tables: str) -> None:
    """Let the ids of tables come from a default of the owner's."""
    shop.execute(
        "CREATE SEQUENCE shard START 100",
        "CREATE SEQUENCE other START 100",
        "CREATE SEQUENCE down INCREMENT -1 START 2000000 MAXVALUE 2000000",
        r"""CREATE SEQUENCE "it's\here" START 100""",
        f"CREATE FUNCTION next_id() RETURNS bigint LANGUAGE sql AS $$SELECT {NEXT}$$",
        *(
            f"ALTER TABLE [{table}] ALTER COLUMN [{table}Id] SET DEFAULT {default}"
            for table in tables or ("Invoice", "InvoiceLine", "Customer")
        ),
    )


def sequences(shop: ChinookDatabase) -> list[tuple[Any, ...]]:
    return shop.rows("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")


def migrate(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)


def sells(shop: ChinookDatabase) -> None:
    """Do everything that takes ids, with sales of the owner's in between."""
    for seed in range(2):
        with Session(shop.engine) as session, session.begin():
            made = generate_d1(session, 20, day=DAY, seed=seed, new_customers=2)
        assert len(made.invoice_ids) == len(set(made.invoice_ids)) == 20
        with Session(shop.engine) as session, session.begin():
            simulate_changes(session, day=DAY, updates=5, cancellations=2)
        shop.insert_by_default()
    with Session(shop.engine) as session, session.begin():
        created = [SaleFactory(session).create(DAY) for _ in range(3)]
        assert all(it.total == sum(line.unit_price for line in it.lines) for it in created)
    assert sum(batch.made.count for batch in live(shop.engine, 500, seed=3, duration=0.05)) > 0
    shop.insert_by_default()


@pytest.mark.parametrize(("shop", "default"), TURNS, indirect=["shop"])
def test_the_default_gives_the_ids(shop: ChinookDatabase, default: str) -> None:
    give(shop, DEFAULTS[default])
    migrate(shop)
    with Session(shop.engine) as session, session.begin():
        before = shop.snapshot()
        run = generate_d1(session, 20, day=DAY, seed=1).run_id
    with Session(shop.engine) as session, session.begin():
        undo(session, str(run))
    assert shop.snapshot() == before
    sells(shop)
    with shop.engine.connect() as connection:
        failed = [it for it in verify_all(connection) if not it.passed]
    # What the owner inserted has a total of its own.
    assert not failed, failed


@pytest.mark.parametrize(
    ("shop", "table"),
    [
        pytest.param(CASES[place % 2], table, id=f"{CASES[place % 2].id}-{table}")
        for place, table in enumerate(("Invoice", "InvoiceLine", "Customer"))
    ],
    indirect=["shop"],
)
@pytest.mark.slow(reason="many migrations")
def test_one_table_may_have_such_a_default(shop: ChinookDatabase, table: str) -> None:
    give(shop, NEXT, table)
    if table != "Invoice":
        shop.execute("ALTER TABLE [Invoice] ALTER COLUMN [InvoiceId] SET DEFAULT nextval('other')")
    if table != "InvoiceLine":
        default = "SET DEFAULT nextval('other')"
        shop.execute(f"ALTER TABLE [InvoiceLine] ALTER COLUMN [InvoiceLineId] {default}")
    migrate(shop)
    sells(shop)


@each
def test_only_what_the_default_calls_is_taken_from(shop: ChinookDatabase) -> None:
    give(shop, NEXT, "Invoice")
    migrate(shop)
    with Session(shop.engine) as session, session.begin():
        made = generate_d1(session, 20, day=DAY, seed=1)
    assert list(made.invoice_ids) == [(100 + step) * 16 + 3 for step in range(20)]
    found = dict(sequences(shop))
    assert found["shard"] == 119
    assert "invoice_id_seq" not in found
    assert found["invoice_line_id_seq"] is not None
    with Session(shop.engine) as session:
        ids = recognise(session).invoice_ids
    assert (ids.kind, ids.sequence) == ("expression", None)
    assert "16" in ids.shown


@each
def test_a_plain_nextval_is_a_sequence_whatever_its_name_and_the_settings(
    shop: ChinookDatabase,
) -> None:
    name = r'''"it's\here"'''
    shop.execute(
        f"CREATE SEQUENCE {name} START 500",
        "ALTER TABLE [Invoice] ALTER COLUMN [InvoiceId] "
        r"""SET DEFAULT nextval(E'"it\'s\\here"')""",
        f'ALTER DATABASE "{shop.url.database}" SET quote_all_identifiers = on',
    )
    with Session(shop.engine) as session:
        ids = recognise(session).invoice_ids
        assert (ids.kind, ids.sequence) == ("sequence", f'"public".{name}')
        session.execute(text("SET standard_conforming_strings = off"))
        assert recognise(session).invoice_ids == ids


@one
def test_an_identity_column_that_counts_down(shop: ChinookDatabase) -> None:
    shop.execute(
        "ALTER TABLE [Invoice] ALTER COLUMN [InvoiceId] ADD GENERATED ALWAYS AS IDENTITY "
        "(INCREMENT -2 START 900000 MAXVALUE 900000)"
    )
    with Session(shop.engine) as session, session.begin():
        made = generate_d1(session, 10, day=DAY)
    assert list(made.invoice_ids) == list(range(900000 - 18, 900001, 2))


@pytest.mark.parametrize("default", ["quoted", "shuffled"])
@pytest.mark.parametrize("driver", ["postgresql+pg8000"])
@one
def test_through_another_driver(shop: ChinookDatabase, driver: str, default: str) -> None:
    give(shop, DEFAULTS[default])
    with Session(shop.engine_for(driver)) as session, session.begin():
        assert generate_d1(session, 20, day=DAY).count == 20


@pytest.mark.parametrize(
    ("default", "says"),
    [
        ("coalesce(NULL, 77)", "gave only 1 different values for 20 rows"),
        ("abs(NULL)", "gave only 0"),
    ],
)
@one
def test_a_default_that_is_no_new_id_is_refused(
    shop: ChinookDatabase, default: str, says: str
) -> None:
    give(shop, default, "Invoice")
    before = shop.snapshot()
    with pytest.raises(BatchFailed, match=says), Session(shop.engine) as session, session.begin():
        generate_d1(session, 20, day=DAY)
    assert shop.snapshot() == before


@one
def test_a_constant_is_no_source_of_ids(shop: ChinookDatabase) -> None:
    give(shop, "0", "Invoice")
    with Session(shop.engine) as session, session.begin():
        assert list(generate_d1(session, 2, day=DAY).invoice_ids) == [31, 32]


@one
def test_ids_beyond_the_column_are_refused_in_time(shop: ChinookDatabase) -> None:
    give(shop, "nextval('shard') * 20000000", "Invoice")
    wanted = "has 8 ids left and the batch needs 20"
    with (
        pytest.raises(IdsExhausted, match=wanted),
        Session(shop.engine) as session,
        session.begin(),
    ):
        generate_d1(session, 20, day=DAY)


@one
@pytest.mark.slow(reason="many migrations")
def test_the_functions_are_left_out_and_come_back(
    shop: ChinookDatabase, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    functions = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'simulate_%'"
    give(shop, NEXT, "Invoice")
    with caplog.at_level("INFO"):
        migrate(shop)
    assert "left out: functions, as the ids of" in caplog.text
    assert shop.value(functions) == 0
    with shop.engine.begin() as connection:
        downgrade(connection)
    shop.execute("ALTER TABLE [Invoice] ALTER COLUMN [InvoiceId] SET DEFAULT nextval('shard')")
    migrate(shop)
    installed = shop.value(functions)
    assert installed > 5
    shop.execute(f"ALTER TABLE [Invoice] ALTER COLUMN [InvoiceId] SET DEFAULT {NEXT}")
    done = command("init", DATABASE_URL=shop.text)
    assert "the SQL functions are left out" in done.stderr
    assert shop.value(functions) == 0
    shop.execute("ALTER TABLE [Invoice] ALTER COLUMN [InvoiceId] SET DEFAULT nextval('shard')")
    done = command("init", DATABASE_URL=shop.text)
    assert done.stderr == ""
    assert shop.value(functions) == installed
    shop.execute("SELECT simulate_new_sale(localtimestamp)")


@pytest.mark.parametrize("tables", [("Invoice",), ("Invoice", "InvoiceLine")])
@each
@pytest.mark.slow(reason="many migrations")
def test_the_functions_work_where_a_default_was_dropped(
    shop: ChinookDatabase, tables: tuple[str, ...]
) -> None:
    give(shop, NEXT, *tables)
    migrate(shop)
    shop.execute(
        *(f"ALTER TABLE [{table}] ALTER COLUMN [{table}Id] DROP DEFAULT" for table in tables)
    )
    for _ in range(2):
        migrate(shop)
        shop.execute("SELECT simulate_new_sale(localtimestamp)")
    with Session(shop.engine) as session, session.begin():
        assert generate_d1(session, 20, day=DAY, updates=3).count == 20
    with shop.engine.begin() as connection:
        downgrade(connection)


@one
def test_a_downgrade_leaves_no_function_behind_that_cannot_work(shop: ChinookDatabase) -> None:
    migrate(shop)
    give(shop, NEXT, "Invoice")
    with shop.engine.begin() as connection:
        downgrade(connection, "0006")
    ours = "SELECT proname FROM pg_proc WHERE proname ~ '^(simulate|chinook_sim)_'"
    assert shop.rows(ours) == []


@one
def test_the_advice_is_about_what_is_the_limit(shop: ChinookDatabase) -> None:
    shop.execute(
        "CREATE SEQUENCE few MAXVALUE 1000",
        "ALTER TABLE [Invoice] ALTER [InvoiceId] SET DEFAULT nextval('few')",
    )
    migrate(shop)
    wanted = r"run: ALTER SEQUENCE .*few.* AS bigint NO MAXVALUE$"
    with Session(shop.engine) as session, pytest.raises(IdsExhausted, match=wanted) as caught:
        generate_d1(session, 2000, day=DAY)
    shop.execute(str(caught.value).rpartition("run: ")[2])
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 2000, day=DAY)


@one
def test_a_sequence_of_both_tables_has_ids_for_both(shop: ChinookDatabase) -> None:
    shop.execute(
        "CREATE SEQUENCE few MAXVALUE 4100",
        *(
            f"ALTER TABLE [{table}] ALTER [{table}Id] SET DEFAULT nextval('few')"
            for table in ("Invoice", "InvoiceLine")
        ),
    )
    with Session(shop.engine) as session, pytest.raises(IdsExhausted, match="ids left"):
        generate_d1(session, 2000, day=DAY)
    # Moved up to what is there, and none taken.
    last = shop.value("SELECT max([InvoiceLineId]) FROM [InvoiceLine]")
    assert dict(sequences(shop))["few"] == last


@one
def test_a_domain_has_the_limit_of_its_type(shop: ChinookDatabase) -> None:
    shop.execute(
        "CREATE DOMAIN number AS smallint",
        "ALTER TABLE [Invoice] ALTER [InvoiceId] TYPE number",
    )
    with Session(shop.engine) as session, pytest.raises(IdsExhausted, match="32737 ids left"):
        generate_d1(session, 40_000, day=DAY)
