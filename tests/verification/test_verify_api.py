"""`verify`, as users of the library call it."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from chinook_sim import (
    SaleFactory,
    generate_d1,
    verify,
)
from chinook_sim.errors import InvalidInput
from support.cases import (
    alternating_versions,
    on_both_databases,
    on_variants,
    one_of_each,
)

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import ChinookDatabase, DatabaseTemplates

DAY = date(2026, 1, 30)


@on_both_databases
def test_verify_leaves_the_connection_as_it_was(shop: ChinookDatabase) -> None:
    with shop.engine.connect() as connection:
        assert not verify(connection, day=DAY).ok
        assert not connection.in_transaction()
        with connection.begin():
            generate_d1(Session(connection), 3, day=DAY)
            assert verify(connection, day=DAY, expect=3).ok
        with connection.begin():
            assert verify(connection, day=DAY, expect=3).ok


@on_both_databases
@pytest.mark.slow(reason="both have tests of their own")
def test_the_library_and_the_command_find_the_same(shop: ChinookDatabase, command: Command) -> None:
    with Session(shop.engine) as session, session.begin():
        made = generate_d1(session, 30, day=DAY, seed=3)
    shop.execute(f"DELETE FROM [InvoiceLine] WHERE [InvoiceId] = {made.invoice_ids[4]}")
    for arguments, options in (
        (["--day", str(DAY), "--expect", "30"], {"day": DAY, "expect": 30}),
        (["--all", "--shape"], {"all_days": True, "shape": True}),
        ([], {}),
    ):
        answer = command("verify", *arguments, "--json", "--database-url", shop.text)
        told = json.loads(answer.stdout)
        with shop.engine.connect() as connection:
            result = verify(connection, **options)
        assert (answer.returncode == 0) == result.ok == told["passed"]
        assert told["day"] == (None if result.day is None else str(result.day))
        assert [
            {"name": it.name, "passed": it.passed, "count": it.count, "ids": [*it.ids]}
            | {"remark": it.remark, "figure": it.figure}
            for it in result.checks
        ] == [
            {key: it[key] for key in ("name", "passed", "count", "ids", "remark", "figure")}
            for it in told["checks"]
        ]
        assert {it.name for it in result.failed} == {
            it["name"] for it in told["checks"] if not it["passed"]
        }
        assert not result.ok


@on_variants([it for it in alternating_versions(migrated=True) if it.shape.postgresql])
@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+pg8000"])
def test_verify_works_with_every_driver(shop: ChinookDatabase, driver: str) -> None:
    with Session(shop.engine_for(driver)) as session:
        generate_d1(session, 20, day=DAY, seed=1, once=True, late=0.3, new_customers=2)
        generate_d1(session, 20, day=DAY, seed=2, updates=3, cancellations=2, price_changes=2)
        connection = session.connection()
        result = verify(connection, day=DAY, expect=40, shape=True)
        assert result.ok, result.failed
        assert verify(connection, all_days=True, shape=True).ok


@on_both_databases
def test_verify_sees_what_is_not_committed_yet(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        made = generate_d1(session, 10)
        assert verify(session.connection(), expect=10).ok
        result = verify(session.connection(), expect=11)
        assert (result.day, result.ok) == (made.day, False)
        assert [it.name for it in result.failed] == ["sales of the day"]
        # The transaction is as it was, and takes more.
        SaleFactory(session).create(made.day)
        assert verify(session.connection(), day=made.day, expect=11).ok
        session.rollback()
    with shop.engine.connect() as connection:
        assert verify(connection, day=made.day, expect=0).ok


def test_all_is_checked_as_of_one_moment(templates: DatabaseTemplates, tmp_path: Path) -> None:
    shop = templates.copy(one_of_each()[0], tmp_path)
    said: list[str] = []
    with shop.engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", lambda *it: said.append(it[2]))
        verify(connection)
        setting = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
        assert [it for it in said if setting in it] == said[:1]
        assert connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "off"
    shop.close()


@on_both_databases
def test_wrong_arguments_of_verify_are_refused(shop: ChinookDatabase) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"day": DAY, "all_days": True}, "exclude each other"),
        ({"day": "2026-01-30"}, "a day must be"),
        ({"expect": "3"}, "expect must be an integer"),
        ({"expect": True}, "expect must be an integer"),
        ({"expect": -1}, "expect must be an integer"),
        ({"profile": "realistic"}, "needs shape"),
        ({"profile": "baroque", "shape": True}, "baroque"),
        ({"timezone": "Mars"}, "not a time zone"),
    ]
    for given, said in wrong:
        with shop.engine.connect() as connection, pytest.raises(InvalidInput, match=said):
            verify(connection, **given)
