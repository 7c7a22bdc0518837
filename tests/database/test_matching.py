"""Which tables and columns are taken for those of Chinook, and what is refused as ambiguous."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from chinook_sim import (
    Customer,
    Employee,
    Track,
    generate_d1,
    recognise,
)
from chinook_sim.database.name_file import load_names
from chinook_sim.errors import InvalidInput, NotAChinook
from chinook_sim.models import playlist_track
from support.cases import VARIANTS, on_variants

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import ChinookDatabase
    from support.postgres_server import Server

DAY = date(2026, 1, 31)
tutorial = on_variants([VARIANTS["sqlite-tutorial"]])
plural = on_variants([VARIANTS["postgres-plural-pg18"], VARIANTS["sqlite-tutorial"]])


@plural
def test_a_table_of_another_application_is_never_taken(shop: ChinookDatabase) -> None:
    shop.execute(
        "CREATE TABLE customer (id integer PRIMARY KEY, name varchar(80))",
        "CREATE TABLE track (track_id integer PRIMARY KEY, name varchar(80))",
        "CREATE TABLE employee (id integer PRIMARY KEY, name varchar(80))",
        "CREATE TABLE invoice_line (id integer PRIMARY KEY)",
    )
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 20, day=DAY)
        assert session.scalar(select(func.count()).select_from(Customer)) == 12
        assert session.scalar(select(func.count()).select_from(Employee)) == 3
    assert shop.value("SELECT count(*) FROM customer") == 0


@plural
def test_foreign_keys_decide_between_copies(shop: ChinookDatabase) -> None:
    """A copy has the same columns; invoices do not refer to it."""
    customers = shop.sql("[Customer]")
    shop.execute(f"CREATE TABLE customer AS SELECT * FROM {customers}")
    with shop.engine.connect() as connection:
        assert recognise(connection).names["Customer"] == "customers"


@plural
def test_a_column_is_found_by_its_other_usual_name(shop: ChinookDatabase) -> None:
    shop.execute("ALTER TABLE [Invoice] RENAME COLUMN [BillingPostalCode] TO billing_postal")
    with Session(shop.engine) as session, session.begin():
        assert generate_d1(session, 20, day=DAY).count == 20
        assert recognise(session).names["Invoice.BillingPostalCode"] == "billing_postal"
    assert shop.value("SELECT count(billing_postal) FROM [Invoice] WHERE [InvoiceId] > 30") > 0


@tutorial
def test_between_two_that_fit_equally_none_is_chosen(shop: ChinookDatabase) -> None:
    shop.execute(
        "CREATE TABLE bills AS SELECT * FROM [Invoice]",
        "DROP TABLE [Invoice]",
        "ALTER TABLE bills RENAME TO invoices",
        "CREATE TABLE customer AS SELECT * FROM [Customer]",
    )
    with shop.engine.connect() as connection, pytest.raises(NotAChinook) as caught:
        recognise(connection)
    assert str(caught.value) == (
        "ambiguous Chinook: Customer may be customer or customers; rename one, or state which it "
        "is in a file for --map"
    )


@on_variants([VARIANTS["postgres-lower-pg18"]])
def test_between_two_columns_that_fit_equally_none_is_chosen(
    shop: ChinookDatabase, command: Command, tmp_path: Path
) -> None:
    shop.execute("ALTER TABLE [Customer] ADD COLUMN postal_code text")
    done = command("generate", "1", DATABASE_URL=shop.text)
    assert done.returncode == 3
    assert (
        "ambiguous Chinook: customer.PostalCode may be postal_code or postalcode; rename one, or "
        "state which it is in a file for --map"
    ) in done.stderr
    (tmp_path / "names.toml").write_text('[Customer]\nPostalCode = "postalcode"\n')
    done = command("generate", "1", "--map", "names.toml", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr


@plural
def test_a_column_of_another_table_stops_no_sale(shop: ChinookDatabase) -> None:
    shop.execute(
        "ALTER TABLE [Employee] RENAME COLUMN [BirthDate] TO born",
        "DROP TABLE [PlaylistTrack]",
    )
    with Session(shop.engine) as session, session.begin():
        assert generate_d1(session, 20, day=DAY).count == 20
        with pytest.raises(NotAChinook, match="employees of this database has no column BirthDate"):
            session.scalars(select(Employee)).all()
        with pytest.raises(NotAChinook, match="this Chinook has no table PlaylistTrack"):
            session.execute(select(playlist_track)).all()
        assert session.scalar(select(func.count()).select_from(Track)) == 40


@plural
def test_what_is_missing_of_a_sale_table_is_named(shop: ChinookDatabase, command: Command) -> None:
    shop.execute("ALTER TABLE [Customer] RENAME COLUMN [Fax] TO telefax")
    fax = shop.shape.spell("Fax").strip('"')
    for arguments in (["generate", "1"], ["init"], ["status"], ["verify"]):
        done = command(*arguments, DATABASE_URL=shop.text)
        assert done.returncode == 3, done.stdout
        assert f"incomplete Chinook: customers.{fax} not found; if they have other" in done.stderr
        assert "alembic" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Customers]\ntable = 'x'", "unknown table 'Customers'; the tables are "),
        ("[Customer]\nId = 'x'", "Customer has no column 'Id'; it has CustomerId, FirstName"),
        ("[Customer]\nCustomerId = 3", "Customer.CustomerId must be a name, got 3"),
        ("[Customer]\ntable = ''", "Customer.table must be a name, got ''"),
        ("Customer = 'x'", "Customer must be a section [Customer], got 'x'"),
        ("[Customer]\nFax = 'x'\nPhone = 'x'", "two columns of Customer have the name 'x'"),
        ("[Customer", "not TOML"),
        ("#" * 100_001, "larger than 100,000 bytes"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_states_what_no_chinook_has_is_refused(
    text: str | None, said: str, tmp_path: Path, command: Command
) -> None:
    file = tmp_path / "shop.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        load_names(file)
    assert said in str(caught.value)
    done = command("generate", "1", "--map", str(file))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert not list(tmp_path.glob("*.db"))


def refused(shop: ChinookDatabase, command: Command, *, exit_status: int = 3) -> str:
    """Return the line with which commands refuse a shop, and check that nothing is written."""
    before = shop.dump()
    lines = []
    for arguments in (["generate", "1"], ["init"]):
        done = command(*arguments, DATABASE_URL=shop.text)
        assert done.returncode == exit_status, (arguments, done.stdout, done.stderr)
        lines.append(done.stderr)
    assert shop.dump() == before
    assert len({line.rpartition("database ")[2] for line in lines}) <= 2
    return lines[-1]


@on_variants([VARIANTS["postgres-snake-int-pg16"], VARIANTS["sqlite-int"]])
def test_a_foreign_key_to_another_table_is_named(shop: ChinookDatabase, command: Command) -> None:
    """Nothing is made beside a table that was renamed."""
    shop.execute(
        "ALTER TABLE [Invoice] RENAME TO sales_invoice",
        "ALTER TABLE [Customer] RENAME TO client",
    )
    line = refused(shop, command)
    assert "foreign keys contradict the names: " in line
    assert "refers to sales_invoice, not to Invoice" in line
    assert "alembic" not in line


@on_variants([VARIANTS["postgres-plural-pg18"], VARIANTS["sqlite-tutorial"]])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Customer]\ntable = 'nope'", "names 'nope' as Customer, but this database has no such t"),
        ("[Invoice]\nInvoiceId = 'nope'", "names 'nope' as Invoice.InvoiceId, but this database "),
        ("[Album]\ntable = 'nope'", "names 'nope' as Album, but this database has no such table"),
    ],
)
def test_a_wrong_map_is_named(
    text: str, said: str, shop: ChinookDatabase, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "names.toml").write_text(text)
    before = shop.dump()
    for arguments in (["generate", "1"], ["init"], ["status"]):
        done = command(*arguments, "--map", "names.toml", DATABASE_URL=shop.text)
        assert done.returncode == 3, (arguments, done.stderr)
        assert said in done.stderr
    assert shop.dump() == before


def test_tables_of_another_application_elsewhere_are_no_reason_to_refuse(
    server: Server, command: Command
) -> None:
    database = server.create_database()
    role = f"role_{database}"
    with server.connect(database) as admin:
        admin.execute("CREATE SCHEMA hr")
        admin.execute("CREATE TABLE hr.employees (employee_id integer PRIMARY KEY, name text)")
        admin.execute("CREATE SCHEMA closed")
        admin.execute("CREATE TABLE closed.customers (id integer PRIMARY KEY, first_name text)")
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        admin.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        admin.execute(f"GRANT USAGE ON SCHEMA hr TO {role}")
        url = server.url(database, user=role, password="x")
        done = command("init", DATABASE_URL=url.render_as_string(hide_password=False))
        assert done.returncode == 0, done.stderr
    server.drop_database(database)


def test_names_of_another_type_are_refused() -> None:
    engine = create_engine("sqlite://", execution_options={"chinook_names": "shop.toml"})
    with engine.connect() as connection, pytest.raises(InvalidInput, match="load_names returns"):
        recognise(connection)
