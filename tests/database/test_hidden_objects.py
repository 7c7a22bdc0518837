"""Schemas, tables, rows and sequences that a role may not see."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import (
    BatchFailed,
    ChinookSimError,
    SaleFactory,
    align,
    backfill,
    generate_d1,
    live,
    recognise,
    simulate_changes,
    undo,
)
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import plan_batch
from support.cases import on_each_postgresql_shape, on_two_postgresql_shapes
from support.roles import Role, climb

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


@on_each_postgresql_shape
def test_a_closed_schema_is_named(shop: ChinookDatabase, role: Role, command: Command) -> None:
    url = shop.url.set(username=role.name, password="x")
    done = command("status", DATABASE_URL=url.render_as_string(hide_password=False))
    assert done.returncode == 3
    assert f"database {shop.url.database}: no Chinook" in done.stderr
    assert f"GRANT USAGE ON SCHEMA public TO {role.name}" in done.stderr
    assert done.stderr.count("\n") == 1
    with pytest.raises(ChinookSimError), role.connect() as connection:
        generate_d1(Session(connection), 1)


@pytest.mark.parametrize("rule", ["ON DELETE CASCADE", "ON DELETE SET NULL", ""])
@on_two_postgresql_shapes
def test_undo_and_cancellations_are_refused_if_a_policy_hides_rows(
    shop: ChinookDatabase, role: Role, rule: str
) -> None:
    with Session(shop.engine) as session, session.begin():
        run = generate_d1(session, 5, day=DAY).run_id or ""
    shop.execute(
        f"CREATE TABLE review (invoice integer REFERENCES [Invoice] {rule})",
        "INSERT INTO review SELECT [InvoiceId] FROM [Invoice]",
        "ALTER TABLE review ENABLE ROW LEVEL SECURITY",
    )
    role.grant("ALL ON ALL TABLES IN SCHEMA public", "USAGE ON SCHEMA public")
    before = shop.snapshot()
    with role.connect() as connection, Session(connection) as session:
        for call in (
            lambda: undo(session, run),
            lambda: simulate_changes(session, cancellations=1, day=DAY),
        ):
            # Of a foreign key that changes nothing PostgreSQL says so itself.
            says = "row-level security on" if rule else "violates foreign key"
            with pytest.raises(BatchFailed, match=says):
                call()
            session.rollback()
    assert shop.snapshot() == before
    assert shop.value("SELECT count(*) FROM review WHERE invoice IS NULL") == 0
    assert shop.value("SELECT count(*) FROM review") > 0


@pytest.mark.parametrize("table", ["[Invoice]", "[Track]", "chinook_sim_run"])
@on_two_postgresql_shapes
def test_a_role_from_which_a_policy_hides_rows_is_refused(
    shop: ChinookDatabase, role: Role, command: Command, table: str
) -> None:
    with Session(shop.engine) as session, session.begin():
        run = generate_d1(session, 5, day=DAY).run_id or ""
    role.grant(
        "ALL ON ALL TABLES IN SCHEMA public",
        "ALL ON ALL SEQUENCES IN SCHEMA public",
        "USAGE ON SCHEMA public",
    )
    shop.execute(
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY clerks ON {table} USING (false) WITH CHECK (true)",
    )
    before = shop.snapshot()
    url = shop.url.set(username=role.name, password="x")
    text = url.render_as_string(hide_password=False)
    engine = create_engine(url, poolclass=NullPool)
    hidden = shop.sql(table).replace(chr(34), "")
    hides = f"row-level security on {hidden} may hide rows"
    for call in (
        lambda session: generate_d1(session, 3, day=DAY),
        lambda session: plan_batch(session, 3, BatchOptions(day=DAY)),
        lambda session: simulate_changes(session, updates=1, day=DAY),
        lambda session: undo(session, run),
        lambda session: align(session),
        lambda session: SaleFactory(session).create(DAY),
    ):
        with Session(engine) as session, pytest.raises(BatchFailed, match=hides):
            call(session)
    with pytest.raises(BatchFailed, match=hides):
        list(backfill(engine, DAY, DAY, 3))
    with pytest.raises(BatchFailed, match=hides):
        list(live(engine, 100, duration=0.2))
    for arguments, status in (
        (("generate", "3"), 4),
        (("verify", "--all"), 3),
        (("verify", "--day", str(DAY)), 3),
        (("verify", "--shape", "--all"), 3),
    ):
        done = command(*arguments, DATABASE_URL=text)
        assert done.returncode == status, done.stderr
        assert hides in done.stderr
        assert done.stderr.count("\n") == 1
    assert shop.snapshot() == before
    # The owner of the tables sees every row, and so does a reader of the classes what is shown.
    with Session(shop.engine) as session, session.begin():
        assert generate_d1(session, 3, day=DAY).count == 3
    with engine.connect() as connection:
        recognise(connection)


@on_two_postgresql_shapes
def test_a_table_of_the_users_that_may_not_be_read_is_named(
    shop: ChinookDatabase, role: Role
) -> None:
    with Session(shop.engine) as session, session.begin():
        run = generate_d1(session, 5, day=DAY).run_id or ""
    shop.execute(
        "CREATE SCHEMA desk",
        "CREATE TABLE refund (invoice integer REFERENCES [Invoice])",
        "CREATE TABLE desk.claim (line integer REFERENCES [InvoiceLine])",
    )
    role.grant(
        "USAGE ON SCHEMA public",
        "ALL ON ALL TABLES IN SCHEMA public",
        "ALL ON ALL SEQUENCES IN SCHEMA public",
    )
    shop.execute(f"REVOKE ALL ON refund FROM {role.name}")
    # Updates alone read none of these tables.
    engine = create_engine(shop.url.set(username=role.name, password="x"), poolclass=NullPool)
    with Session(engine) as session:
        assert simulate_changes(session, updates=1, day=DAY).updates == 1
    list(live(engine, 100, mix=(9, 1, 0), duration=0.2))
    for call in (
        lambda session: simulate_changes(session, cancellations=1, day=DAY),
        lambda session: undo(session, run),
    ):
        for granted in ("SELECT ON refund", "USAGE ON SCHEMA desk", "SELECT ON desk.claim"):
            with (
                role.connect() as connection,
                Session(connection) as session,
                pytest.raises(BatchFailed, match=rf"Run: .*GRANT {granted} TO"),
            ):
                call(session)
            shop.execute(f"GRANT {granted} TO {role.name}")
        with role.connect() as connection, Session(connection) as session:
            call(session)
        shop.execute(
            f"REVOKE ALL ON refund, desk.claim FROM {role.name}",
            f"REVOKE ALL ON SCHEMA desk FROM {role.name}",
        )


@on_each_postgresql_shape
def test_a_sequence_in_a_closed_schema_is_named(shop: ChinookDatabase, role: Role) -> None:
    shop.execute(
        "CREATE SCHEMA hid",
        "CREATE SEQUENCE hid.numbers START 5000",
        *(
            f"ALTER TABLE [{table}] ALTER [{table}Id] {change}"
            for table in ("Invoice", "InvoiceLine")
            for change in (
                "DROP IDENTITY IF EXISTS",
                "DROP DEFAULT",
                "SET DEFAULT nextval('hid.numbers')",
            )
        ),
    )
    role.grant("ALL ON ALL TABLES IN SCHEMA public")

    def work() -> None:
        with role.connect() as connection, connection.begin(), Session(connection) as session:
            generate_d1(session, 3, day=DAY)

    sequence = {"USAGE ON SCHEMA hid", "USAGE ON SEQUENCE hid.numbers"}
    climb(role, work, sequence | set(role.granted))
