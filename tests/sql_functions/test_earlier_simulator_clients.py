"""The way over from the earlier simulator: its clients, unchanged, call the functions of ours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chinook_sim.verification import verify_all
from support import ROOT
from support.cases import on_each_postgresql_shape_unmigrated

if TYPE_CHECKING:
    import psycopg

    from support.command import Command
    from support.databases import ChinookDatabase

GUIDE = ROOT / "docs" / "how-to" / "from-the-earlier-simulator.md"


NEW_SALE = """
CREATE FUNCTION simulate_new_sale(p_invoice_date timestamptz DEFAULT now())
RETURNS TABLE (generated_invoice_id integer, generated_total numeric) LANGUAGE plpgsql AS $$
DECLARE
    buyer record;
BEGIN
    SELECT * INTO buyer FROM [Customer] ORDER BY random() LIMIT 1;
    generated_invoice_id := nextval('earlier_invoice_seq');
    generated_total := 0;
    INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) {overriding}
    VALUES (generated_invoice_id, buyer.[CustomerId], p_invoice_date, 0);
    RETURN NEXT;
END $$
"""

CHANGE_SALE = """
CREATE FUNCTION simulate_{change}_sale(simulation_date timestamptz) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    chosen integer;
BEGIN
    SELECT i.[InvoiceId] INTO chosen FROM [Invoice] i
     WHERE i.[InvoiceDate] >= simulation_date - interval '90 days' ORDER BY random() LIMIT 1;
    {statement} WHERE [InvoiceId] = chosen;
    RETURN chosen;
END $$
"""


def set_up(shop: ChinookDatabase) -> None:
    """Install something like the earlier simulator's functions, with its sequences."""
    overriding = "OVERRIDING SYSTEM VALUE" if "ALWAYS" in shop.shape.ids else ""
    changes = {"update": "UPDATE [Invoice] SET [Total] = 1", "delete": "DELETE FROM [InvoiceLine]"}
    shop.execute(
        "CREATE SEQUENCE earlier_invoice_seq START 31",
        "CREATE SEQUENCE earlier_invoice_line_seq START 200",
        NEW_SALE.format(overriding=overriding),
        *(CHANGE_SALE.format(change=key, statement=value) for key, value in changes.items()),
    )


def run_client(connection: psycopg.Connection[Any]) -> list[list[int]]:
    """Sell, update and cancel as the earlier clients do; return the ids."""
    yesterday = datetime.now(UTC).replace(hour=9, minute=0, second=0) - timedelta(days=1)
    sold, changed = [], []
    for number in range(20):
        moment = yesterday + timedelta(minutes=number)
        row = connection.execute("SELECT * FROM simulate_new_sale(%s)", [moment]).fetchone()
        assert row is not None
        sold.append(row[0])
    for call in (
        *("simulate_update_sale(CURRENT_DATE - 1)", "simulate_update_sale(now())"),
        "simulate_update_sale(simulation_date => CURRENT_DATE - 1)",
        *("simulate_delete_sale(CURRENT_DATE - 1)", "simulate_delete_sale(now()::date)"),
        "simulate_delete_sale(simulation_date => now())",
    ):
        (found,) = connection.execute(f"SELECT {call}").fetchall()
        changed.append(found[0])
    return [sold, changed]


@on_each_postgresql_shape_unmigrated
def test_the_earlier_clients_work_after_the_statements_of_the_message(
    shop: ChinookDatabase, command: Command
) -> None:
    set_up(shop)
    assert shop.server is not None
    with shop.server.connect(shop.url.database or "") as connection:
        run_client(connection)
        connection.execute(shop.sql("DELETE FROM [Invoice] WHERE [InvoiceId] > 30"))
    done = command("init", DATABASE_URL=shop.text)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    renames = re.findall(r"ALTER ROUTINE .*?;", done.stderr)
    assert len(renames) == 3
    assert GUIDE.name in done.stderr
    shop.execute(*renames)
    done = command("init", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    with shop.server.connect(shop.url.database or "") as connection:
        sold, changed = run_client(connection)
    assert set(changed) <= set(sold)
    existing = {row[0] for row in shop.rows("SELECT [InvoiceId] FROM [Invoice]")}
    assert set(changed[3:]).isdisjoint(existing)
    assert existing >= set(sold) - set(changed[3:])
    with shop.engine.connect() as connection:
        assert [check for check in verify_all(connection) if not check.passed] == []


@on_each_postgresql_shape_unmigrated
@pytest.mark.slow(reason="another test has the message")
def test_the_guide_has_the_statements_that_are_needed(
    shop: ChinookDatabase, command: Command
) -> None:
    set_up(shop)
    script = "".join(re.findall(r"```sql\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL))
    before, after = script.split("-- after `chinook-sim init`\n")
    shop.run_script(before)
    assert command("init", DATABASE_URL=shop.text).returncode == 0
    shop.run_script(after)
    left = "SELECT count(*) FROM pg_proc WHERE proname LIKE '%_earlier'"
    assert shop.value(left) == 0
