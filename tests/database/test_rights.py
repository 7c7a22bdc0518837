"""The smallest sets of rights that suffice; with one less, one line names the GRANT."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

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
from chinook_sim.ledger import merging
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import plan_batch
from chinook_sim.provisioning.migration_runner import upgrade
from support.cases import on_each_postgresql_shape, on_each_postgresql_shape_unmigrated
from support.chinook_variants import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


@dataclass
class Role:
    """A role that may log in, and nothing else but what it is granted."""

    shop: ChinookDatabase
    name: str
    granted: list[str] = field(default_factory=list)

    def grant(self, *rights: str) -> None:
        for right in rights:
            self.granted.append(right)
            self.shop.execute(f"GRANT {right} TO {self.name}")

    def connect(self) -> Connection:
        url = self.shop.url.set(username=self.name, password="x")
        return create_engine(url, poolclass=NullPool).connect()


@pytest.fixture
def role(shop: ChinookDatabase) -> Iterator[Role]:
    name = f"role_{shop.url.database}"
    # Before PostgreSQL 15 everybody might make tables in public; here nobody may.
    shop.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'x'", "REVOKE ALL ON SCHEMA public FROM PUBLIC"
    )
    role = Role(shop, name)
    yield role
    shop.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def sequences(shop: ChinookDatabase) -> list[str]:
    return (
        ["invoice_id_seq", "invoice_line_id_seq"]
        if not shop.shape.ids
        else [
            "invoice_invoice_id_seq",
            "invoice_line_invoice_line_id_seq",
        ]
    )


def climb(role: Role, work: Callable[[], object], needed: set[str]) -> None:
    """Grant what each refusal names until it works; it must name just what is needed."""
    role.grant("USAGE ON SCHEMA public")
    for _ in range(20):
        try:
            work()
        except Exception as error:
            said = str(getattr(error, "orig", error)).splitlines()[0]
            named = re.findall(r"GRANT (\w+ ON [^;]*?) TO \w+", said)
            assert named, said
            role.grant(*named)
        else:
            break
    public = {right.replace("public.", "").replace('"', "") for right in role.granted}
    assert public - {"USAGE ON SCHEMA public"} == {right.replace('"', "") for right in needed}


def spelled(shop: ChinookDatabase, *rights: str) -> set[str]:
    return {shop.sql(right) for right in rights}


@on_each_postgresql_shape
def test_the_library_says_which_rights_it_lacks(shop: ChinookDatabase, role: Role) -> None:
    def work() -> None:
        with role.connect() as connection, connection.begin(), Session(connection) as session:
            generate_d1(session, 5, day=DAY, once=True)

    needed = spelled(
        shop,
        "SELECT ON [Customer]",
        "SELECT ON [Track]",
        "INSERT ON [Invoice]",
        "INSERT ON [InvoiceLine]",
        "SELECT ON chinook_sim_run",
        "INSERT ON chinook_sim_run",
        "SELECT ON chinook_sim_run_invoices",
        "INSERT ON chinook_sim_run_invoices",
        "SELECT ON chinook_sim_change",
    )
    if "ALWAYS" in shop.shape.ids:
        needed |= spelled(shop, "SELECT ON [Invoice]", "SELECT ON [InvoiceLine]")
    else:
        needed |= {f"USAGE ON SEQUENCE {name}" for name in sequences(shop)}
    climb(role, work, needed)


@on_each_postgresql_shape
def test_so_does_a_single_sale(shop: ChinookDatabase, role: Role) -> None:
    role.grant("USAGE ON SCHEMA public", "SELECT ON ALL TABLES IN SCHEMA public")
    role.grant("USAGE ON ALL SEQUENCES IN SCHEMA public")
    with (
        role.connect() as connection,
        Session(connection) as session,
        pytest.raises(BatchFailed) as refused,
    ):
        SaleFactory(session).create(DAY)
    for right in spelled(shop, "INSERT ON [Invoice]", "INSERT ON [InvoiceLine]"):
        assert f"GRANT {right} TO {role.name}" in str(refused.value)


@on_each_postgresql_shape
def test_a_sequence_far_behind_needs_a_right_that_is_named(
    shop: ChinookDatabase, role: Role
) -> None:
    role.grant("USAGE ON SCHEMA public", "SELECT, INSERT ON ALL TABLES IN SCHEMA public")
    role.grant("USAGE ON ALL SEQUENCES IN SCHEMA public")
    always = "OVERRIDING SYSTEM VALUE" if "ALWAYS" in shop.shape.ids else ""
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{always} VALUES (2000000, 5, '2001-01-01', 0)"
    )
    for allowed in (False, True):
        with role.connect() as connection, connection.begin(), Session(connection) as session:
            if allowed:
                assert generate_d1(session, 5, day=DAY).invoice_ids[0] == 2_000_001
                continue
            with pytest.raises(BatchFailed) as caught:
                generate_d1(session, 5, day=DAY)
        right = f"UPDATE ON SEQUENCE public.{sequences(shop)[0]}"
        assert f"GRANT {right} TO {role.name}" in str(caught.value)
        role.grant(right)


@on_each_postgresql_shape
def test_so_does_undo_and_align(shop: ChinookDatabase, role: Role) -> None:
    with Session(shop.engine) as session, session.begin():
        run = generate_d1(session, 5, day=DAY).run_id or ""

    def work() -> None:
        with role.connect() as connection, connection.begin(), Session(connection) as session:
            align(session)
            undo(session, run)

    climb(
        role,
        work,
        spelled(
            shop,
            "SELECT ON [Invoice]",
            "UPDATE ON [Invoice]",
            "DELETE ON [Invoice]",
            "SELECT ON [InvoiceLine]",
            "UPDATE ON [InvoiceLine]",
            "DELETE ON [InvoiceLine]",
            "SELECT ON chinook_sim_run",
            "INSERT ON chinook_sim_run",
            "UPDATE ON chinook_sim_run",
            "SELECT ON chinook_sim_run_invoices",
            "INSERT ON chinook_sim_run_invoices",
            "SELECT ON chinook_sim_change",
        ),
    )


@on_each_postgresql_shape
def test_so_do_changes_and_their_undoing(shop: ChinookDatabase, role: Role) -> None:
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 5, day=DAY)

    def work() -> None:
        with role.connect() as connection, connection.begin(), Session(connection) as session:
            made = simulate_changes(session, day=DAY, updates=2, cancellations=2)
            undo(session, made.run_id or "")

    needed = spelled(
        shop,
        "SELECT ON [Customer]",
        "SELECT ON [Track]",
        *(
            f"{right} ON [{table}]"
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
            for table in ("Invoice", "InvoiceLine")
        ),
        *(f"{right} ON chinook_sim_run" for right in ("SELECT", "INSERT", "UPDATE")),
        *(f"{right} ON chinook_sim_run_invoices" for right in ("SELECT", "INSERT")),
        *(f"{right} ON chinook_sim_change" for right in ("SELECT", "INSERT", "UPDATE")),
    )
    if "ALWAYS" not in shop.shape.ids:
        needed |= {f"USAGE ON SEQUENCE {name}" for name in sequences(shop)}
    climb(role, work, needed)


def rights_of_a_stream(shop: ChinookDatabase) -> set[str]:
    needed = spelled(
        shop,
        "SELECT ON [Customer]",
        "SELECT ON [Track]",
        *(f"{right} ON [Invoice]" for right in ("SELECT", "INSERT", "UPDATE", "DELETE")),
        *(f"{right} ON [InvoiceLine]" for right in ("SELECT", "INSERT", "DELETE")),
        *(f"{right} ON chinook_sim_run" for right in ("SELECT", "INSERT")),
        *(f"{right} ON chinook_sim_run_invoices" for right in ("SELECT", "INSERT")),
        *(f"{right} ON chinook_sim_change" for right in ("SELECT", "INSERT", "UPDATE")),
    )
    if "ALWAYS" not in shop.shape.ids:
        needed |= {f"USAGE ON SEQUENCE {name}" for name in sequences(shop)}
    return needed


@on_each_postgresql_shape
def test_so_does_a_stream(shop: ChinookDatabase, role: Role) -> None:
    def work() -> None:
        url = shop.url.set(username=role.name, password="x")
        stream = live(create_engine(url, poolclass=NullPool), 400, seed=7, mix=(1, 1, 1))
        try:
            assert all(next(stream).made.run_id for _ in range(10))
        finally:
            stream.close()

    climb(role, work, rights_of_a_stream(shop))


@on_each_postgresql_shape
def test_a_stream_that_may_not_merge_says_so_once_and_goes_on(
    shop: ChinookDatabase, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "TRANSACTIONS", 4)

    def sell() -> list[str]:
        said: list[str] = []
        stop = threading.Event()
        url = shop.url.set(username=role.name, password="x")
        engine = create_engine(url, poolclass=NullPool)
        stream = live(engine, 400, seed=7, mix=(1, 1, 1), say=said.append, stop=stop)
        for number, _ in enumerate(stream, 1):
            if number == 9:
                stop.set()
        return said

    runs = "SELECT count(*) FROM chinook_sim_run WHERE kind = 'live'"
    role.grant("USAGE ON SCHEMA public", *rights_of_a_stream(shop))
    (said,) = sell()
    assert shop.value(runs) == 9
    lacking = re.findall(r"GRANT (\w+ ON [^;]*?) TO \w+", said)
    assert [right.replace("public.", "") for right in lacking] == [
        "UPDATE ON chinook_sim_run",
        "DELETE ON chinook_sim_run",
        "DELETE ON chinook_sim_run_invoices",
    ]
    role.grant(*lacking)
    assert sell() == []
    assert shop.value(runs) == 9 + 3


@on_each_postgresql_shape
def test_so_do_people_and_prices_and_their_undoing(shop: ChinookDatabase, role: Role) -> None:
    def work() -> None:
        with role.connect() as connection, connection.begin(), Session(connection) as session:
            made = generate_d1(session, 1, day=DAY, new_customers=1, moves=2, price_changes=2)
            undo(session, made.run_id or "")

    needed = spelled(
        shop,
        *(f"{right} ON [Customer]" for right in ("SELECT", "INSERT", "UPDATE", "DELETE")),
        *(f"{right} ON [Track]" for right in ("SELECT", "UPDATE")),
        *(
            f"{right} ON [{table}]"
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
            for table in ("Invoice", "InvoiceLine")
        ),
        *(f"{right} ON chinook_sim_run" for right in ("SELECT", "INSERT", "UPDATE")),
        *(f"{right} ON chinook_sim_run_invoices" for right in ("SELECT", "INSERT")),
        *(f"{right} ON chinook_sim_change" for right in ("SELECT", "INSERT", "UPDATE")),
    )
    if "ALWAYS" not in shop.shape.ids:
        needed |= {f"USAGE ON SEQUENCE {name}" for name in sequences(shop)}
    if shop.shape.ids:
        needed.add("USAGE ON SEQUENCE customer_customer_id_seq")
    climb(role, work, needed)


SALES = (
    "SELECT ON [Customer]",
    "SELECT ON [Track]",
    "SELECT ON [Invoice]",
    "INSERT ON [Invoice]",
    "SELECT ON [InvoiceLine]",
    "INSERT ON [InvoiceLine]",
)
CHANGES = ("SELECT ON [Invoice]", "UPDATE ON [Invoice]", "SELECT ON [InvoiceLine]")
FUNCTIONS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    # call → rights, and the sequences used
    "simulate_new_sale('2026-01-31 10:00')": (SALES, (0, 1)),
    "simulate_sales('2026-01-31', 5)": (
        (
            *SALES,
            "SELECT ON chinook_sim_run",
            "INSERT ON chinook_sim_run",
            "INSERT ON chinook_sim_run_invoices",
        ),
        (0, 1),
    ),
    "simulate_update_sale('2025-03-30 10:00')": (
        (*CHANGES, "SELECT ON [Track]", "INSERT ON [InvoiceLine]"),
        (1,),
    ),
    "simulate_delete_sale('2025-03-30 10:00')": (
        (*CHANGES, "DELETE ON [Invoice]", "DELETE ON [InvoiceLine]"),
        (),
    ),
}


@on_each_postgresql_shape
@pytest.mark.parametrize("call", FUNCTIONS)
def test_each_function_says_which_rights_it_lacks(
    shop: ChinookDatabase, role: Role, call: str
) -> None:
    rights, used = FUNCTIONS[call]
    needed = spelled(shop, *rights)
    needed |= {f"USAGE ON SEQUENCE {sequences(shop)[place]}" for place in used}

    def work() -> Any:
        with role.connect() as connection, connection.begin():
            found = connection.exec_driver_sql(f"SELECT * FROM public.{call}").one()
            assert found[0] is not None
            return found

    climb(role, work, needed)


@on_each_postgresql_shape_unmigrated
def test_an_upgrade_says_which_rights_it_lacks(shop: ChinookDatabase, role: Role) -> None:
    def work() -> None:
        with role.connect() as connection, connection.begin():
            upgrade(connection)

    climb(
        role,
        work,
        spelled(shop, "SELECT ON [Invoice]", "SELECT ON [InvoiceLine]")
        | {"CREATE ON SCHEMA public"},
    )
    assert shop.value("SELECT count(*) FROM chinook_sim_run") == 1


@on_each_postgresql_shape
def test_a_stream_that_may_not_change_sells_nothing(shop: ChinookDatabase, role: Role) -> None:
    lacking = spelled(shop, "UPDATE ON [Invoice]", "DELETE ON [Invoice]", "DELETE ON [InvoiceLine]")
    role.grant("USAGE ON SCHEMA public", *(rights_of_a_stream(shop) - lacking))
    url = shop.url.set(username=role.name, password="x")
    engine = create_engine(url, poolclass=NullPool)
    with pytest.raises(BatchFailed) as refused:
        next(live(engine, 400, seed=7, mix=(90, 8, 2)))
    named = set(re.findall(r"GRANT (\w+ ON [^;]*?) TO \w+", str(refused.value)))
    assert {right.replace("public.", "") for right in named} == lacking
    assert shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'live'") == 0
    # Sales alone need none of these.
    stream = live(engine, 400, seed=7, mix=(1, 0, 0))
    assert next(stream).made.count
    stream.close()


@on_each_postgresql_shape
def test_status_shows_what_a_role_may_see(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    role.grant("USAGE ON SCHEMA public")
    role.grant(*spelled(shop, "SELECT ON [Invoice]", "SELECT ON [Customer]"))
    url = shop.url.set(username=role.name, password="x").render_as_string(hide_password=False)
    told = json.loads(command("status", "--json", DATABASE_URL=url).stdout)
    assert (told["invoices"], told["customers"]) == (30, 12)
    for name in ("tracks", "revision", "runs"):
        assert told[name].startswith("not readable: permission denied for table"), told
    assert told["latest_runs"] == []
    done = command("status", DATABASE_URL=url)
    assert done.returncode == 0
    assert "not readable: permission denied for table chinook_sim_version" in done.stdout


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
@on_each_postgresql_shape
def test_rows_that_a_policy_hides_are_not_taken_along(
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
@on_each_postgresql_shape
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


@on_each_postgresql_shape
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


@on_each_postgresql_shape
@pytest.mark.parametrize("options", [("--all",), ("--day", str(DAY)), ("--shape", "--all")])
def test_verify_names_all_that_it_may_not_read(
    shop: ChinookDatabase, role: Role, command: Command, options: tuple[str, ...]
) -> None:
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 5, day=DAY)
    role.grant("USAGE ON SCHEMA public")
    url = shop.url.set(username=role.name, password="x").render_as_string(hide_password=False)
    done = command("verify", *options, DATABASE_URL=url)
    assert done.returncode == 3
    named = re.findall(r"GRANT (SELECT ON [^;]*?) TO \w+", done.stderr)
    assert len(named) == 7
    role.grant(*named)
    assert command("verify", *options, DATABASE_URL=url).returncode == 0


@on_each_postgresql_shape
def test_init_of_what_is_ready_names_what_it_may_not_read(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    role.grant("USAGE ON SCHEMA public")
    url = shop.url.set(username=role.name, password="x").render_as_string(hide_password=False)
    done = command("init", DATABASE_URL=url)
    assert done.returncode == 3
    named = re.findall(r"GRANT (SELECT ON [^;]*?) TO \w+", done.stderr)
    assert len(named) == 2
    role.grant(*named)
    done = command("init", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr


def init(role: Role, command: Command, *options: str) -> list[str]:
    """Let a role run `init` on its shop; return the GRANTs that it names, which are then given."""
    url = role.shop.url.set(username=role.name, password="x")
    done = command("init", *options, DATABASE_URL=url.render_as_string(hide_password=False))
    assert done.returncode in (0, 3), done.stderr
    named = re.findall(r"GRANT (\w+ ON [^;]*?) TO \w+", done.stderr)
    assert done.returncode == 0 or named, done.stderr
    role.grant(*named)
    return named


@on_each_postgresql_shape_unmigrated
def test_init_names_all_that_it_lacks_at_once(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    role.grant("USAGE ON SCHEMA public")
    assert len(init(role, command, "--ledger-schema", "apart")) == 5
    assert init(role, command, "--ledger-schema", "apart") == []


@on_each_postgresql_shape_unmigrated
def test_init_of_an_empty_database_names_all_that_it_lacks(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    shop.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    assert init(role, command) == ["USAGE ON SCHEMA public", "CREATE ON SCHEMA public"]
    assert init(role, command) == []


@on_each_postgresql_shape_unmigrated
def test_init_from_a_dump_names_what_it_lacks(
    shop: ChinookDatabase, role: Role, command: Command, tmp_path: Path
) -> None:
    dump = tmp_path / "chinook.sql"
    dump.write_text(";\n".join((*SHAPES[1].schema(), "")))
    shop.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    role.grant("USAGE ON SCHEMA public")
    assert init(role, command, "--from", str(dump)) == ["CREATE ON SCHEMA public"]


@on_each_postgresql_shape
def test_an_upgrade_by_another_role_names_the_owner(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    shop.execute("UPDATE chinook_sim_version SET version_num = '0007'")
    role.grant("ALL ON SCHEMA public", "SELECT ON ALL TABLES IN SCHEMA public")
    url = shop.url.set(username=role.name, password="x").render_as_string(hide_password=False)
    done = command("init", DATABASE_URL=url)
    assert done.returncode == 3
    assert f"must be owner of the tables of chinook_sim. Run it as {shop.url.username}" in (
        done.stderr
    )
