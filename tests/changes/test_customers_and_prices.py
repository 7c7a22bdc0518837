"""People who sign up or move, and prices that change: what runs do, and undo."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session

from chinook_sim import (
    Customer,
    NoLedger,
    Track,
    UndoRefused,
    recognise,
    simulate_changes,
)
from support.cases import (
    on_both_databases,
    on_each_shape,
    on_each_shape_unmigrated,
    on_three_shapes,
    on_two_postgresql_shapes,
)
from support.changes import DAY, addresses, failed, make, prices
from support.chinook_variants import TABLES
from support.runs import take_back

if TYPE_CHECKING:
    from chinook_sim.sales.summary import BatchSummary
    from support.command import Command
    from support.databases import ChinookDatabase

BILLED = "[BillingAddress], [BillingCity], [BillingState], [BillingCountry], [BillingPostalCode]"


def sold(shop: ChinookDatabase, made: BatchSummary) -> list[tuple[int, int]]:
    """Track and price of each line of a batch."""
    first, last = made.invoice_ids[0], made.invoice_ids[-1]
    return [
        (track, round(price * 100))
        for track, price in shop.rows(
            "SELECT [TrackId], [UnitPrice] FROM [InvoiceLine] "
            f"WHERE [InvoiceId] BETWEEN {first} AND {last}"
        )
    ]


@on_each_shape
def test_new_customers_sign_up_and_buy(shop: ChinookDatabase) -> None:
    before = {row[0] for row in shop.rows("SELECT [CustomerId] FROM [Customer]")}
    made = make(shop, 10, new_customers=4)
    assert made.new_customers == 4
    after = shop.rows("SELECT * FROM [Customer] ORDER BY [CustomerId]")
    new = [row for row in after if row[0] not in before]
    assert len(new) == 4
    assert min(row[0] for row in new) > max(before)
    columns = [word.split(":") for word in TABLES["Customer"].split()]
    for row in new:
        for value, (name, kind) in zip(row, columns, strict=True):
            length = kind.rstrip("!")
            if length.isdecimal() and value is not None:
                assert 0 < len(value) <= int(length), name
        assert row[7] in {customer[7] for customer in after if customer[0] in before}
    buyers = [
        row[0]
        for row in shop.rows(
            f"SELECT [CustomerId] FROM [Invoice] WHERE [InvoiceId] >= {made.invoice_ids[0]} "
            "ORDER BY [InvoiceId]"
        )
    ]
    assert buyers[:4] == [row[0] for row in new]
    assert failed(shop) == []
    # From now on they are customers like all others.
    more = make(shop, 200, seed=8)
    again = shop.rows(
        f"SELECT DISTINCT [CustomerId] FROM [Invoice] WHERE [InvoiceId] >= {more.invoice_ids[0]}"
    )
    assert {row[0] for row in new} & {row[0] for row in again}


@on_three_shapes
def test_who_moves_gets_bills_at_the_new_address_from_now_on(shop: ChinookDatabase) -> None:
    old = make(shop, 60)
    bills = shop.rows(f"SELECT [InvoiceId], {BILLED} FROM [Invoice] ORDER BY 1")
    before = addresses(shop)
    made = make(shop, 60, seed=8, moves=5)
    assert made.moves == 5
    after = addresses(shop)
    moved = {customer for customer in after if after[customer] != before[customer]}
    assert len(moved) == 5
    assert all(after[customer][3] == before[customer][3] for customer in moved)
    now = shop.rows(f"SELECT [InvoiceId], {BILLED} FROM [Invoice] ORDER BY 1")
    assert now[: len(bills)] == bills
    assert old.count
    for customer, *address in shop.rows(
        f"SELECT [CustomerId], {BILLED} FROM [Invoice] WHERE [InvoiceId] >= {made.invoice_ids[0]}"
    ):
        assert tuple(address) == after[customer]


@on_three_shapes
def test_a_price_changes_between_the_price_points_and_old_lines_keep_theirs(
    shop: ChinookDatabase,
) -> None:
    first = make(shop, 60)
    lines = sold(shop, first)
    before = prices(shop)
    second = make(shop, 60, seed=8, price_changes=15, updates=10)
    after = prices(shop)
    changed = {track for track in after if after[track] != before[track]}
    assert second.price_changes == len(changed) == 15
    assert {after[track] for track in changed} <= set(before.values())
    assert set(sold(shop, second)) <= set(after.items())
    assert set(lines) <= set(sold(shop, first))
    assert failed(shop) == failed(shop, None) == []
    third = make(shop, 60, seed=9, price_changes=30)
    assert third.price_changes == 30
    assert failed(shop) == []
    # Its prices were valid when they were, and so they stay.
    take_back(shop, third.run_id)
    assert prices(shop) == after
    fourth = make(shop, 40, seed=10, day=DAY + timedelta(days=1))
    assert set(sold(shop, fourth)) <= set(after.items())
    assert failed(shop) == failed(shop, DAY + timedelta(days=1)) == []


@on_each_shape
def test_everything_at_once_is_undone_exactly(shop: ChinookDatabase) -> None:
    make(shop, 30)
    wanted = {
        "updates": 5, "cancellations": 4, "new_customers": 3, "moves": 4, "price_changes": 6,
    }  # fmt: skip
    before = shop.snapshot()
    made = make(shop, 20, seed=8, **wanted)
    assert {name: getattr(made, name) for name in wanted} == wanted
    first = shop.snapshot()
    take_back(shop, made.run_id)
    assert shop.snapshot() == before
    assert failed(shop, None) == []
    # The same seed does the same again; only ids that a sequence gave go on.
    again = make(shop, 20, seed=8, **wanted)
    assert again.lines == made.lines
    assert again.revenue == made.revenue
    second = shop.snapshot()
    assert {row[1:9] for row in first["Customer"]} == {row[1:9] for row in second["Customer"]}
    assert first["Track"] == second["Track"]


@on_three_shapes
def test_customers_who_bought_again_are_not_undone(shop: ChinookDatabase) -> None:
    made = make(shop, 0, new_customers=5)
    later = make(shop, 200, seed=8)
    with pytest.raises(
        UndoRefused, match=f"have bought .* since; undo run {str(later.run_id)[:8]} first"
    ):
        take_back(shop, made.run_id)
    # Cancelled, they would come back with what cancelled them.
    gone = make(shop, 0, seed=9, cancellations=200)
    with pytest.raises(
        UndoRefused, match=f"have bought .* since; undo .*run {str(gone.run_id)[:8]}.* first"
    ):
        take_back(shop, made.run_id)
    take_back(shop, gone.run_id)
    take_back(shop, later.run_id)
    take_back(shop, made.run_id)
    assert shop.value("SELECT count(*) FROM [Customer]") == 12


@on_three_shapes
def test_what_new_customers_bought_without_a_run_is_named(shop: ChinookDatabase) -> None:
    made = make(shop, new_customers=1)
    newcomer = shop.value("SELECT max([CustomerId]) FROM [Customer]")
    shop.execute(f"UPDATE [Invoice] SET [CustomerId] = {newcomer} WHERE [InvoiceId] IN (7, 9)")
    with pytest.raises(UndoRefused, match=r"bought 2 times since; .*\(the first is 7\)"):
        take_back(shop, made.run_id)


@on_three_shapes
def test_who_moved_again_by_hand_is_not_moved_back(shop: ChinookDatabase) -> None:
    made = make(shop, 0, moves=3)
    customer = shop.value("SELECT min(subject_id) FROM chinook_sim_change WHERE kind = 'move'")
    shop.execute(f"UPDATE [Customer] SET [City] = 'Elsewhere' WHERE [CustomerId] = {customer}")
    with pytest.raises(UndoRefused, match=f"customer {customer}"):
        take_back(shop, made.run_id)


@on_both_databases
def test_a_shop_with_one_price_gets_another_of_chinook(shop: ChinookDatabase) -> None:
    shop.execute("UPDATE [Track] SET [UnitPrice] = 0.99")
    assert make(shop, 5, price_changes=3).price_changes == 3
    assert sorted(prices(shop).values()) == [99] * 37 + [199] * 3
    assert failed(shop) == []


@on_both_databases
def test_more_than_there_are_is_all_of_them(shop: ChinookDatabase) -> None:
    made = make(shop, 5, moves=100, price_changes=1000)
    assert (made.moves, made.price_changes) == (12, 40)
    assert failed(shop) == []


@on_each_shape_unmigrated
def test_without_a_ledger_nobody_signs_up(shop: ChinookDatabase) -> None:
    for name in ("new_customers", "moves", "price_changes"):
        with pytest.raises(NoLedger, match="init"):
            make(shop, **{name: 1})
    assert shop.value("SELECT count(*) FROM [Customer]") == 12


@on_three_shapes
def test_objects_that_were_loaded_see_it(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        recognise(session)
        people = {it.customer_id: (it, it.address) for it in session.query(Customer)}
        tracks = {it.track_id: (it, it.unit_price) for it in session.query(Track)}
        simulate_changes(session, moves=3, price_changes=4, day=DAY)
        assert sum(it.address != before for it, before in people.values()) == 3
        assert sum(it.unit_price != before for it, before in tracks.values()) == 4


@on_two_postgresql_shapes
def test_prices_that_change_while_others_sell_are_known(shop: ChinookDatabase) -> None:
    def work(seed: int) -> BatchSummary:
        changes = 10 if seed % 2 else 0
        return make(shop, 40, seed=seed, price_changes=changes, new_customers=seed % 3, moves=2)

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(work, range(12)))
    assert sum(it.price_changes for it in done) == 60
    assert failed(shop) == failed(shop, None) == []
    assert shop.value("SELECT count(*) FROM [Customer]") == 12 + 12


@on_both_databases
def test_the_command_changes_people_and_prices(shop: ChinookDatabase, command: Command) -> None:
    done = command(
        "generate", "10", "--day", str(DAY), "--new-customers", "2", "--moves", "3",
        "--price-changes", "4", "--json", DATABASE_URL=shop.text,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["new_customers"], told["moves"], told["price_changes"]) == (2, 3, 4)
    assert command("verify", "--day", str(DAY), DATABASE_URL=shop.text).returncode == 0
    assert command("undo", told["run"], DATABASE_URL=shop.text).returncode == 0
    assert shop.value("SELECT count(*) FROM [Customer]") == 12
    # Who signs up but finds no sale left to buy in is told of.
    night = ("generate", "2", "--day", str(DAY), "--new-customers")
    for dry in ((), ("--dry-run",)):
        done = command(*night, "5", *dry, DATABASE_URL=shop.text)
        assert "3 of 5 buy nothing yet, since there are only 2 sales" in done.stderr
        assert done.stderr.count("\n") == 1
        assert command(*night, "2", *dry, DATABASE_URL=shop.text).stderr == ""
    for name in ("new-customers", "moves", "price-changes"):
        done = command("generate", "1", f"--{name}", "x", DATABASE_URL=shop.text)
        assert done.returncode == 2
        assert name.replace("-", " ") in done.stderr
