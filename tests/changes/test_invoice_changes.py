"""Changes of invoices: which are chosen, and what is done to them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from chinook_sim import (
    Invoice,
    KeyTaken,
    NoLedger,
    generate_d1,
    simulate_changes,
)
from chinook_sim.kinds import ChangeCounts
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import plan_batch
from support.cases import (
    alternating_versions,
    on_both_databases,
    on_each_shape,
    on_each_shape_unmigrated,
    on_three_shapes,
    on_two_postgresql_shapes,
    on_variants,
)
from support.changes import DAY, change, failed, make, sales, tracks_of
from support.chinook_variants import TRACKS
from support.runs import take_back
from support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from pathlib import Path

    from chinook_sim.sales.summary import BatchSummary
    from support.command import Command
    from support.databases import ChinookDatabase


@on_each_shape
def test_cancelled_sales_leave_no_lines_and_updated_ones_have_one_more(
    shop: ChinookDatabase,
) -> None:
    make(shop)
    before = tracks_of(shop)
    made = make(shop, updates=6, cancellations=4)
    assert (made.updates, made.cancellations) == (6, 4)
    after = tracks_of(shop)
    mine = set(made.invoice_ids)
    assert len(before.keys() - after.keys()) == 4
    assert after.keys() - before.keys() == mine
    grown = {number for number in before.keys() & after.keys() if after[number] != before[number]}
    assert len(grown) == 6
    assert all(len(after[number] - before[number]) == 1 for number in grown)
    assert all(before[number] < after[number] for number in grown)
    assert failed(shop) == failed(shop, None) == []
    # The price is the track's, one of it, and nobody else's line was touched.
    assert (
        shop.value(
            "SELECT count(*) FROM [InvoiceLine] l JOIN [Track] t ON t.[TrackId] = l.[TrackId] "
            "WHERE l.[UnitPrice] <> t.[UnitPrice] OR l.[Quantity] <> 1"
        )
        == 0
    )


@on_three_shapes
def test_changes_without_sales_are_a_run_of_their_own(shop: ChinookDatabase) -> None:
    make(shop)
    before = sales(shop)
    made = change(shop, updates=3, cancellations=2, once=True)
    assert (made.count, made.updates, made.cancellations) == (0, 3, 2)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 48
    again = change(shop, updates=3, cancellations=2, once=True)
    assert again.existed
    assert (again.run_id, again.updates, again.cancellations) == (made.run_id, 3, 2)
    with pytest.raises(KeyTaken, match="parameters"):
        change(shop, updates=4, cancellations=2, once=True)
    # The day's sales are another thing to be made once.
    assert not make(shop, once=True).existed
    take_back(shop, made.run_id)
    assert sales(shop)["Invoice"][:50] == before["Invoice"]


@on_both_databases
def test_fewer_candidates_than_asked_are_all_there_are(shop: ChinookDatabase) -> None:
    # The history of these shops ended years ago.
    made = change(shop, updates=5, cancellations=5)
    assert (made.updates, made.cancellations) == (0, 0)
    make(shop, 10)
    made = change(shop, updates=100, cancellations=4)
    assert (made.updates, made.cancellations) == (6, 4)
    assert failed(shop) == []


@on_three_shapes
def test_only_the_last_ninety_days_and_the_day_change(shop: ChinookDatabase) -> None:
    days = [DAY - timedelta(days=back) for back in (91, 90, 1, 0, -1)]
    ids = {day: set(make(shop, 3, day=day).invoice_ids) for day in days}
    made = change(shop, cancellations=100)
    left = {row[0] for row in shop.rows("SELECT [InvoiceId] FROM [Invoice]")}
    assert made.cancellations == 9
    assert {day for day in days if ids[day] & left} == {days[0], days[-1]}


@on_three_shapes
def test_sales_with_fewer_than_five_tracks_are_updated_first(shop: ChinookDatabase) -> None:
    make(shop, 40)
    recent = {
        row[0]
        for row in shop.rows(
            "SELECT [InvoiceId] FROM [Invoice] WHERE [InvoiceDate] >= '2026-01-01'"
        )
    }
    sizes = [len(tracks) for number, tracks in tracks_of(shop).items() if number in recent]
    small = sum(size < 5 for size in sizes)
    assert 0 < small < 40
    assert change(shop, updates=small).updates == small
    assert max(len(tracks) for number, tracks in tracks_of(shop).items() if number in recent) == 5
    # Those with five are next where there are not so many with fewer, and verify knows why.
    made = change(shop, updates=40)
    assert made.updates == 40
    assert failed(shop) == []


@on_both_databases
def test_an_invoice_with_every_track_gets_no_other(shop: ChinookDatabase) -> None:
    few = ", ".join(map(str, TRACKS[:8]))
    shop.execute(
        "DELETE FROM [InvoiceLine]",
        "DELETE FROM [PlaylistTrack]",
        f"DELETE FROM [Track] WHERE [TrackId] NOT IN ({few})",
    )
    made = make(shop, 1)
    number = made.invoice_ids[0]
    have = tracks_of(shop)[number]
    tracks = [row[0] for row in shop.rows("SELECT [TrackId] FROM [Track] ORDER BY [TrackId]")]
    for _ in range(len(tracks) - len(have)):
        assert change(shop, updates=1).updates == 1
    assert tracks_of(shop)[number] == set(tracks)
    assert change(shop, updates=1).updates == 0


@on_three_shapes
def test_what_refers_to_a_sale_keeps_it_from_being_cancelled(shop: ChinookDatabase) -> None:
    made = make(shop, 5)
    kept = made.invoice_ids[2]
    line = shop.value(
        f"SELECT min([InvoiceLineId]) FROM [InvoiceLine] WHERE [InvoiceId] = {made.invoice_ids[3]}"
    )
    shop.execute(
        "CREATE TABLE shipment (id INTEGER PRIMARY KEY, "
        f"invoice INTEGER REFERENCES {shop.sql('[Invoice] ([InvoiceId])')} ON DELETE CASCADE, "
        f"line INTEGER REFERENCES {shop.sql('[InvoiceLine] ([InvoiceLineId])')})",
        f"INSERT INTO shipment VALUES (1, {kept}, NULL), (2, NULL, {line})",
    )
    assert change(shop, cancellations=5).cancellations == 3
    left = {row[0] for row in shop.rows("SELECT [InvoiceId] FROM [Invoice]")}
    assert left & set(made.invoice_ids) == {kept, made.invoice_ids[3]}
    assert shop.value("SELECT count(*) FROM shipment") == 2


@on_variants([it for it in alternating_versions(migrated=True) if it.shape.ids == "" and it.major])
def test_partitions_of_the_lines_are_tables_of_chinook(shop: ChinookDatabase) -> None:
    shop.execute(
        "ALTER TABLE [InvoiceLine] RENAME TO whole",
        "CREATE TABLE [InvoiceLine] (LIKE whole INCLUDING ALL) PARTITION BY HASH ([InvoiceLineId])",
        *(
            f"CREATE TABLE part{rest} PARTITION OF [InvoiceLine] "
            f"FOR VALUES WITH (MODULUS 2, REMAINDER {rest})"
            for rest in range(2)
        ),
        "ALTER TABLE [InvoiceLine] ADD FOREIGN KEY ([InvoiceId]) REFERENCES [Invoice]",
        "INSERT INTO [InvoiceLine] SELECT * FROM whole",
        "DROP TABLE whole",
    )
    before = sales(shop)
    made = make(shop, 5)
    changed = change(shop, updates=0, cancellations=5)
    assert changed.cancellations == 5
    for run in (changed, made):
        take_back(shop, run.run_id)
    assert sales(shop) == before


@on_both_databases
def test_a_dry_run_reports_changes_and_makes_none(shop: ChinookDatabase) -> None:
    make(shop, 10)
    before = shop.snapshot()
    options = BatchOptions(day=DAY, seed=8, changes=ChangeCounts(updates=8, cancellations=4))
    with Session(shop.engine) as session:
        told = plan_batch(session, 5, options)
        session.rollback()
    assert shop.snapshot() == before
    made = make(shop, 5, seed=8, updates=8, cancellations=4)
    assert (told.updates, told.cancellations) == (made.updates, made.cancellations) == (6, 4)
    assert told.digest == made.digest


@on_three_shapes
def test_objects_that_were_loaded_see_the_change(shop: ChinookDatabase) -> None:
    make(shop, 10)
    with Session(shop.engine) as session, session.begin():
        loaded = {
            invoice.invoice_id: (invoice, invoice.total, len(invoice.lines))
            for invoice in session.query(Invoice).where(Invoice.invoice_date >= DAY)
        }
        made = simulate_changes(session, updates=3, day=DAY)
        assert made.updates == 3
        grown = [
            number
            for number, (invoice, total, lines) in loaded.items()
            if invoice.total > total and len(invoice.lines) == lines + 1
        ]
        assert len(grown) == 3


@on_each_shape_unmigrated
def test_without_a_ledger_nothing_is_changed(shop: ChinookDatabase) -> None:
    make(shop)
    with pytest.raises(NoLedger, match="init"):
        change(shop, updates=1)


@on_two_postgresql_shapes
@pytest.mark.slow(reason="many changes")
def test_round_trips_do_not_grow_with_the_changes(shop: ChinookDatabase) -> None:
    assert shop.server is not None
    make(shop, 400)
    turns = []
    with TcpProxy(shop.server.port) as wire:
        engine = create_engine(shop.url.set(port=wire.port))
        for number in (2, 100):
            with Session(engine) as session:
                session.connection()
                wire.turns = 0
                generate_d1(session, 5, day=DAY, updates=number, cancellations=number)
                session.commit()
                turns.append(wire.turns)
        engine.dispose()
    assert turns[0] == turns[1]


@on_two_postgresql_shapes
def test_batches_at_once_change_each_sale_in_turn(shop: ChinookDatabase) -> None:
    make(shop, 60)

    def work(seed: int) -> BatchSummary:
        return make(shop, 5, seed=seed, updates=10, cancellations=5)

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(work, range(6)))
    assert failed(shop) == failed(shop, None) == []
    assert sum(it.count for it in done) == 30
    cancelled = sum(it.cancellations for it in done)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + 60 + 30 - cancelled


@on_both_databases
def test_the_command_takes_three_numbers(shop: ChinookDatabase, command: Command) -> None:
    day = ("--day", str(DAY))
    assert command("generate", "30", *day, DATABASE_URL=shop.text).returncode == 0
    done = command("generate", *day, "--json", stdin="10 5 2\n", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["sales"], told["updates"], told["cancellations"]) == (10, 5, 2)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + 30 + 10 - 2
    done = command(
        "generate", "0", *day, "--updates", "1", "--cancellations", "100", DATABASE_URL=shop.text
    )
    assert "  changes  38 cancellations" in done.stdout
    assert "cancellations: 38 instead of 100" in done.stderr
    assert "updates: 0 instead of 1" in done.stderr
    assert command("undo", told["run"], DATABASE_URL=shop.text).returncode == 4
    verified = command("verify", *day, "--expect", "40", DATABASE_URL=shop.text)
    assert verified.returncode == 0
    assert "0, and 40 cancelled, 40 expected" in verified.stdout


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        ((), "1 2 3 4"),
        ((), "1 2"),
        ((), "1 -2 3"),
        ((), "1 2 ٣"),
        ((), "1, 2, 3"),
        (("1 2 3", "--updates", "2"), None),
        (("1", "--cancellations", "x"), None),
        (("1", "--updates", ""), None),
    ],
)
def test_other_numbers_are_refused(
    arguments: tuple[str, ...], stdin: str | None, command: Command, tmp_path: Path
) -> None:
    done = command("generate", *arguments, stdin=stdin)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
