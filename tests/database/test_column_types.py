"""Columns of types that sales cannot be written to are refused before anything is written."""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session

from chinook_sim import SaleFactory, generate_d1
from chinook_sim.errors import BatchFailed, NotAChinook
from chinook_sim.verification import verify_all
from support.cases import VARIANTS, on_variants
from support.databases import without_keys

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)
AT = datetime(2026, 1, 31, 14, 30)  # noqa: DTZ001

on_postgresql = on_variants(
    [VARIANTS["postgres-snake-serial-pg16"], VARIANTS["postgres-neon-pg18-migrated"]]
)
on_sqlite = on_variants([VARIANTS["sqlite-int"], VARIANTS["sqlite-tutorial-migrated"]])


def refuse(shop: ChinookDatabase, command: Command) -> str:
    """Return the line with which all commands refuse a shop, and check that nothing is written."""
    before = shop.dump()
    lines = set()
    for arguments in (["generate", "5"], ["init"], ["verify", "--all"], ["undo", "x"]):
        done = command(*arguments, DATABASE_URL=shop.text)
        assert done.returncode == 3, (arguments, done.stdout, done.stderr)
        lines.add(re.sub("^.*?(?=unsupported columns)", "", done.stderr))
    with Session(shop.engine) as session:
        with pytest.raises(NotAChinook, match="unsupported columns"):
            generate_d1(session, 5)
        with pytest.raises(NotAChinook, match="unsupported columns"):
            SaleFactory(session, seed=1).create(AT)
    assert shop.dump() == before
    (line,) = lines
    assert line.count("\n") == 1
    return line


def check_sales(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        assert generate_d1(session, 50, day=DAY, seed=7).count == 50
    with shop.engine.connect() as connection:
        assert [check for check in verify_all(connection) if not check.passed] == []


CURED = {
    "date": ("[Invoice]", "[InvoiceDate]", "date", "the type date, but must hold a date and time"),
    "text date": ("[Invoice]", "[InvoiceDate]", "text", "the type text, but must hold a date"),
    "money": ("[Track]", "[UnitPrice]", "money USING [UnitPrice]::money", "the type money, but"),
    "text price": ("[InvoiceLine]", "[UnitPrice]", "varchar(9)", "character varying, but"),
    "cents": ("[Track]", "[UnitPrice]", "integer USING ([UnitPrice] * 100)::integer", "integer"),
    "one digit": ("[Invoice]", "[Total]", "numeric(10,1)", "numeric with scale 1, but must"),
    "text id": ("[InvoiceLine]", "[InvoiceLineId]", "varchar(20)", "must hold an id"),
    "text reference": ("[InvoiceLine]", "[InvoiceId]", "text", "text, but must hold an id"),
    "text quantity": ("[InvoiceLine]", "[Quantity]", "text", "text, but must hold a number"),
    "numeric id": ("[Invoice]", "[InvoiceId]", "numeric", "numeric, but must hold an id"),
}


@on_variants([VARIANTS["postgres-neon-pg18-migrated"]])
@pytest.mark.parametrize("what", CURED)
def test_a_type_is_refused_with_the_statement_that_changes_it(
    what: str, shop: ChinookDatabase, command: Command
) -> None:
    table, column, type_, said = CURED[what]
    without_keys(shop)
    shop.execute(
        # The values stay what they are.
        "UPDATE [Invoice] SET [Total] = round([Total]::numeric, 1)",
        *([f"ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT"] if "id" in what else []),
        f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {type_}",
    )
    # test_several_types_are_named_at_once has the other commands, and that nothing is written.
    done = command("generate", "5", DATABASE_URL=shop.text)
    assert done.returncode == 3
    assert said in done.stderr
    (cure,) = re.findall(r": (ALTER TABLE .*)", done.stderr)
    shop.run_script(f"{cure};")
    shop.execute(
        "UPDATE [Invoice] i SET [Total] = (SELECT sum(l.[UnitPrice] * l.[Quantity]) "
        "FROM [InvoiceLine] l WHERE l.[InvoiceId] = i.[InvoiceId])"
    )
    check_sales(shop)


@on_postgresql
def test_several_types_are_named_at_once(shop: ChinookDatabase, command: Command) -> None:
    shop.execute(
        "ALTER TABLE [Invoice] ALTER COLUMN [InvoiceDate] TYPE date",
        "ALTER TABLE [Track] ALTER COLUMN [UnitPrice] TYPE money",
        "ALTER TABLE [Invoice] ADD COLUMN seller integer NOT NULL DEFAULT 1",
        "ALTER TABLE [Invoice] ALTER COLUMN seller DROP DEFAULT",
    )
    line = refuse(shop, command)
    assert line.count("ALTER TABLE") == 3
    assert "seller is NOT NULL and has no default" in line


@on_postgresql
def test_generated_columns_of_chinook_are_refused(shop: ChinookDatabase, command: Command) -> None:
    shop.execute(
        "ALTER TABLE [Invoice] DROP COLUMN [BillingState]",
        "ALTER TABLE [Invoice] ADD COLUMN [BillingState] varchar(40) "
        "GENERATED ALWAYS AS ([BillingCity]) STORED",
    )
    line = refuse(shop, command)
    assert "is generated, but must be an ordinary column" in line
    (cure,) = re.findall("Run: (ALTER TABLE .*)", line)
    shop.run_script(f"{cure};")
    check_sales(shop)


@on_postgresql
def test_a_trigger_may_give_a_value(shop: ChinookDatabase) -> None:
    shop.execute(
        "ALTER TABLE [Invoice] ADD COLUMN seller integer NOT NULL DEFAULT 1",
        "ALTER TABLE [Invoice] ALTER COLUMN seller DROP DEFAULT",
        "CREATE FUNCTION give() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.seller := 7; RETURN NEW; END'",
        "CREATE TRIGGER give BEFORE INSERT ON [Invoice] FOR EACH ROW EXECUTE FUNCTION give()",
    )
    check_sales(shop)
    assert shop.value("SELECT count(*) FROM [Invoice] WHERE seller = 7") == 50


SUPPORTED = {
    "double precision": "ALTER TABLE [Track] ALTER COLUMN [UnitPrice] TYPE double precision",
    "real": "ALTER TABLE [Track] ALTER COLUMN [UnitPrice] TYPE real",
    "numeric": "ALTER TABLE [Invoice] ALTER COLUMN [Total] TYPE numeric",
    "bigint": "ALTER TABLE [InvoiceLine] ALTER COLUMN [Quantity] TYPE bigint",
    "smallint": "ALTER TABLE [InvoiceLine] ALTER COLUMN [Quantity] TYPE smallint",
    "timestamp(0)": "ALTER TABLE [Invoice] ALTER COLUMN [InvoiceDate] TYPE timestamp(0)",
    "timestamptz": "ALTER TABLE [Invoice] ALTER COLUMN [InvoiceDate] TYPE timestamptz",
    "domain of an amount": "CREATE DOMAIN amount AS numeric(12,2) CHECK (VALUE >= 0); "
    "ALTER TABLE [Invoice] ALTER COLUMN [Total] TYPE amount",
    "domain of a date": "CREATE DOMAIN moment AS timestamp NOT NULL; "
    "ALTER TABLE [Invoice] ALTER COLUMN [InvoiceDate] TYPE moment",
    "enum": "CREATE TYPE land AS ENUM ('Ireland', 'Germany', 'Poland', 'Canada'); "
    "ALTER TABLE [Customer] ALTER COLUMN [Country] TYPE land USING [Country]::land; "
    "ALTER TABLE [Invoice] ALTER COLUMN [BillingCountry] TYPE land USING [BillingCountry]::land",
    "domain of an address": "CREATE DOMAIN street AS varchar(70); "
    "ALTER TABLE [Customer] ALTER COLUMN [Address] TYPE street",
    "generated": "ALTER TABLE [Invoice] ADD COLUMN cents bigint NOT NULL "
    "GENERATED ALWAYS AS (CAST([Total] * 100 AS bigint)) STORED",
}


@on_postgresql
@pytest.mark.parametrize("what", SUPPORTED)
def test_a_type_is_supported(what: str, shop: ChinookDatabase) -> None:
    shop.execute(*SUPPORTED[what].split("; "))
    check_sales(shop)
    if shop.value("SELECT to_regproc('simulate_sales')") is not None:
        shop.execute(
            f"SELECT simulate_new_sale('{DAY}')",
            f"SELECT simulate_sales('{DAY}', 20)",
            f"SELECT simulate_update_sale('{DAY}')",
            f"SELECT simulate_delete_sale('{DAY}')",
        )
        assert shop.value(f"SELECT simulate_update_sale('{DAY}')") is not None
        assert shop.value(f"SELECT simulate_delete_sale('{DAY}')") is not None


@on_postgresql
def test_invoices_may_be_partitioned_by_date(shop: ChinookDatabase, command: Command) -> None:
    # As PostgreSQL wants it, the date is a part of the key, and nothing refers to the table.
    without_keys(shop)
    shop.execute(
        "CREATE TABLE parted (LIKE [Invoice] INCLUDING DEFAULTS INCLUDING IDENTITY) "
        "PARTITION BY RANGE ([InvoiceDate])",
        "CREATE TABLE parted_old PARTITION OF parted FOR VALUES FROM (MINVALUE) TO ('2026-01-01')",
        "CREATE TABLE parted_new PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO (MAXVALUE)",
        "INSERT INTO parted OVERRIDING SYSTEM VALUE SELECT * FROM [Invoice]",
        "ALTER TABLE [Invoice] RENAME TO invoice_before",
        "ALTER TABLE parted RENAME TO [Invoice]",
        "ALTER TABLE [Invoice] ADD PRIMARY KEY ([InvoiceId], [InvoiceDate])",
    )
    assert command("init", DATABASE_URL=shop.text).returncode == 0
    before = shop.snapshot()
    made = json.loads(
        command("generate", "50", "--day", str(DAY), "--json", DATABASE_URL=shop.text).stdout
    )
    changed = json.loads(
        command(
            *("generate", "10", "--day", "2025-12-31", "--late", "0.2", "--updates", "3"),
            *("--cancellations", "3", "--json"),
            DATABASE_URL=shop.text,
        ).stdout
    )
    assert shop.value("SELECT count(*) FROM parted_new") == 50
    for arguments in (["verify", "--all"], ["undo", changed["run"]], ["undo", made["run"]]):
        done = command(*arguments, DATABASE_URL=shop.text)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    assert shop.snapshot() == before


@on_postgresql
def test_a_trigger_may_give_the_ids(shop: ChinookDatabase) -> None:
    shop.execute(
        "CREATE SEQUENCE numbers START 1000",
        "CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN NEW.{shop.sql('[InvoiceId]')} := nextval('numbers'); RETURN NEW; END$$",
        "CREATE TRIGGER number BEFORE INSERT ON [Invoice] FOR EACH ROW EXECUTE FUNCTION number()",
    )
    before = shop.snapshot()
    with Session(shop.engine) as session, pytest.raises(BatchFailed, match="trigger") as caught:
        generate_d1(session, 5)
    assert "[Invoice]".strip("[]").lower() in str(caught.value).lower()
    assert not caught.value.retryable
    assert shop.snapshot() == before


@on_sqlite
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("strftime('%s', [InvoiceDate]) + 0", "datetime({}, 'unixepoch')"),
        ("strftime('%s', [InvoiceDate]) * 1000", "datetime({} / 1000, 'unixepoch')"),
        ("julianday([InvoiceDate])", "datetime({})"),
        ("'9/8/2021'", None),
        ("'08.09.2021 14:30'", None),
        ("'2021-13-45'", None),
        ("'2021-02-31 00:00:00'", None),
        ("'2021-02-03 24:00:00'", None),
        ("strftime('%Y%m%d', [InvoiceDate]) + 0", None),
        ("-1", None),
    ],
)
def test_dates_in_other_forms_are_refused(
    value: str, said: str | None, shop: ChinookDatabase, command: Command
) -> None:
    before = shop.rows("SELECT [InvoiceId], [InvoiceDate] FROM [Invoice]")
    shop.execute(f"UPDATE [Invoice] SET [InvoiceDate] = {value}")
    line = refuse(shop, command)
    assert "but must hold text such as '2026-01-31 14:30:00'" in line
    if said is None:
        assert "Run:" not in line
        return
    column = shop.sql("[InvoiceDate]")
    (cure,) = re.findall("Run: (UPDATE .*)", line)
    assert said.format(column if '"' in cure else column.strip('"')) in cure
    shop.run_script(f"{cure};")
    assert shop.rows("SELECT [InvoiceId], [InvoiceDate] FROM [Invoice]") == before
    check_sales(shop)


@on_sqlite
def test_dates_in_two_forms_are_refused_and_cured(shop: ChinookDatabase, command: Command) -> None:
    before = shop.rows("SELECT [InvoiceId], [InvoiceDate] FROM [Invoice]")
    shop.execute(
        "UPDATE [Invoice] SET [InvoiceDate] = strftime('%s', [InvoiceDate]) + 0 "
        "WHERE [InvoiceId] > 15"
    )
    line = refuse(shop, command)
    (cure,) = re.findall("Run: (UPDATE .*)", line)
    shop.run_script(f"{cure};")
    assert shop.rows("SELECT [InvoiceId], [InvoiceDate] FROM [Invoice]") == before


@on_sqlite
def test_a_date_that_is_not_looked_at_is_no_reason_to_fail(
    shop: ChinookDatabase, command: Command
) -> None:
    # Fifty from either end are looked at.
    forms = ["2021-01-01 00:00:00"] * 60 + ["9/8/2021"] + ["2021-01-01 00:00:00"] * 60
    line = "SELECT max([InvoiceLineId]) + 1, {}, max([TrackId]), 0.99, 1 FROM [InvoiceLine]"
    for number, form in enumerate(forms, 31):
        shop.execute(
            "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
            f"SELECT {number}, max([CustomerId]), '{form}', 0.99 FROM [Invoice]",
            f"INSERT INTO [InvoiceLine] {line.format(number)}",
        )
    for arguments in (["status"], ["generate", "5"], ["init"], ["status"], ["verify", "--all"]):
        done = command(*arguments, DATABASE_URL=shop.text)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


@on_sqlite
@pytest.mark.parametrize(
    "form", ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%f", "%Y-%m-%d %H:%M"]
)
def test_iso_dates_are_supported(form: str, shop: ChinookDatabase) -> None:
    shop.execute(f"UPDATE [Invoice] SET [InvoiceDate] = strftime('{form}', [InvoiceDate])")
    check_sales(shop)
