"""The privileges that the library needs; with one less, one line names the GRANT."""

from __future__ import annotations

import re
import threading
from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import BatchFailed, SaleFactory, align, generate_d1, live, simulate_changes, undo
from chinook_sim.ledger import merging
from support.cases import on_each_postgresql_shape, on_two_postgresql_shapes
from support.roles import Role, climb, sequences, spelled

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


@on_each_postgresql_shape
def test_the_library_says_which_privileges_it_lacks(shop: ChinookDatabase, role: Role) -> None:
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
def test_factory_names_missing_privileges(shop: ChinookDatabase, role: Role) -> None:
    role.grant("USAGE ON SCHEMA public", "SELECT ON ALL TABLES IN SCHEMA public")
    role.grant("USAGE ON ALL SEQUENCES IN SCHEMA public")
    with (
        role.connect() as connection,
        Session(connection) as session,
        pytest.raises(BatchFailed) as refused,
    ):
        SaleFactory(session).create(DAY)
    for privilege in spelled(shop, "INSERT ON [Invoice]", "INSERT ON [InvoiceLine]"):
        assert f"GRANT {privilege} TO {role.name}" in str(refused.value)


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
        privilege = f"UPDATE ON SEQUENCE public.{sequences(shop)[0]}"
        assert f"GRANT {privilege} TO {role.name}" in str(caught.value)
        role.grant(privilege)


@on_each_postgresql_shape
def test_undo_and_align_name_missing_privileges(shop: ChinookDatabase, role: Role) -> None:
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
def test_changes_and_their_undo_name_missing_privileges(shop: ChinookDatabase, role: Role) -> None:
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
            f"{privilege} ON [{table}]"
            for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
            for table in ("Invoice", "InvoiceLine")
        ),
        *(f"{privilege} ON chinook_sim_run" for privilege in ("SELECT", "INSERT", "UPDATE")),
        *(f"{privilege} ON chinook_sim_run_invoices" for privilege in ("SELECT", "INSERT")),
        *(f"{privilege} ON chinook_sim_change" for privilege in ("SELECT", "INSERT", "UPDATE")),
    )
    if "ALWAYS" not in shop.shape.ids:
        needed |= {f"USAGE ON SEQUENCE {name}" for name in sequences(shop)}
    climb(role, work, needed)


def privileges_of_a_stream(shop: ChinookDatabase) -> set[str]:
    needed = spelled(
        shop,
        "SELECT ON [Customer]",
        "SELECT ON [Track]",
        *(f"{privilege} ON [Invoice]" for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")),
        *(f"{privilege} ON [InvoiceLine]" for privilege in ("SELECT", "INSERT", "DELETE")),
        *(f"{privilege} ON chinook_sim_run" for privilege in ("SELECT", "INSERT")),
        *(f"{privilege} ON chinook_sim_run_invoices" for privilege in ("SELECT", "INSERT")),
        *(f"{privilege} ON chinook_sim_change" for privilege in ("SELECT", "INSERT", "UPDATE")),
    )
    if "ALWAYS" not in shop.shape.ids:
        needed |= {f"USAGE ON SEQUENCE {name}" for name in sequences(shop)}
    return needed


@on_each_postgresql_shape
def test_a_stream_names_missing_privileges(shop: ChinookDatabase, role: Role) -> None:
    def work() -> None:
        url = shop.url.set(username=role.name, password="x")
        stream = live(create_engine(url, poolclass=NullPool), 80, seed=7, mix=(1, 1, 1))
        try:
            assert all(next(stream).made.run_id for _ in range(10))
        finally:
            stream.close()

    climb(role, work, privileges_of_a_stream(shop))


@on_two_postgresql_shapes
@pytest.mark.slow(reason="many transactions")
def test_a_stream_that_may_not_merge_says_so_once_and_goes_on(
    shop: ChinookDatabase, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "TRANSACTIONS", 4)

    def sell() -> list[str]:
        said: list[str] = []
        stop = threading.Event()
        url = shop.url.set(username=role.name, password="x")
        engine = create_engine(url, poolclass=NullPool)
        stream = live(engine, 80, seed=7, mix=(1, 1, 1), say=said.append, stop=stop)
        for number, _ in enumerate(stream, 1):
            if number == 9:
                stop.set()
        return said

    runs = "SELECT count(*) FROM chinook_sim_run WHERE kind = 'live'"
    role.grant("USAGE ON SCHEMA public", *privileges_of_a_stream(shop))
    (said,) = sell()
    assert shop.value(runs) == 9
    lacking = re.findall(r"GRANT (\w+ ON [^;]*?) TO \w+", said)
    assert [privilege.replace("public.", "") for privilege in lacking] == [
        "UPDATE ON chinook_sim_run",
        "DELETE ON chinook_sim_run",
        "DELETE ON chinook_sim_run_invoices",
    ]
    role.grant(*lacking)
    assert sell() == []
    assert shop.value(runs) == 9 + 3


@on_each_postgresql_shape
def test_customer_and_price_changes_name_missing_privileges(
    shop: ChinookDatabase, role: Role
) -> None:
    def work() -> None:
        with role.connect() as connection, connection.begin(), Session(connection) as session:
            made = generate_d1(session, 1, day=DAY, new_customers=1, moves=2, price_changes=2)
            undo(session, made.run_id or "")

    needed = spelled(
        shop,
        *(f"{privilege} ON [Customer]" for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")),
        *(f"{privilege} ON [Track]" for privilege in ("SELECT", "UPDATE")),
        *(
            f"{privilege} ON [{table}]"
            for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
            for table in ("Invoice", "InvoiceLine")
        ),
        *(f"{privilege} ON chinook_sim_run" for privilege in ("SELECT", "INSERT", "UPDATE")),
        *(f"{privilege} ON chinook_sim_run_invoices" for privilege in ("SELECT", "INSERT")),
        *(f"{privilege} ON chinook_sim_change" for privilege in ("SELECT", "INSERT", "UPDATE")),
    )
    if "ALWAYS" not in shop.shape.ids:
        needed |= {f"USAGE ON SEQUENCE {name}" for name in sequences(shop)}
    if shop.shape.ids:
        needed.add("USAGE ON SEQUENCE customer_customer_id_seq")
    climb(role, work, needed)


@on_each_postgresql_shape
def test_a_stream_that_may_not_change_sells_nothing(shop: ChinookDatabase, role: Role) -> None:
    lacking = spelled(shop, "UPDATE ON [Invoice]", "DELETE ON [Invoice]", "DELETE ON [InvoiceLine]")
    role.grant("USAGE ON SCHEMA public", *(privileges_of_a_stream(shop) - lacking))
    url = shop.url.set(username=role.name, password="x")
    engine = create_engine(url, poolclass=NullPool)
    with pytest.raises(BatchFailed) as refused:
        next(live(engine, 400, seed=7, mix=(90, 8, 2)))
    named = set(re.findall(r"GRANT (\w+ ON [^;]*?) TO \w+", str(refused.value)))
    assert {privilege.replace("public.", "") for privilege in named} == lacking
    assert shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'live'") == 0
    # Sales alone need none of these.
    stream = live(engine, 400, seed=7, mix=(1, 0, 0))
    assert next(stream).made.count
    stream.close()
