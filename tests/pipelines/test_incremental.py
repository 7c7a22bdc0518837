"""Readers that load a shop night after night, each with the SQL of docs/how-to/load-it-right.md."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.orm import Session

from chinook_sim import SaleFactory, align, generate_d1, simulate_changes, undo
from chinook_sim.verification import verify_all
from support import ROOT
from support.cases import DatabaseVariant, on_variants
from support.chinook_variants import SHAPES, TABLES
from support.documents import SPELLINGS, Block, Reader, blocks, do, reading, spellings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.databases import ChinookDatabase

GUIDE = ROOT / "docs" / "how-to" / "load-it-right.md"

FIRST = date(2026, 1, 20)

LOADED = ("Invoice", "InvoiceLine", "Customer", "Track")

Row = tuple[Any, ...]


def block(beginning: str, *words: str) -> Block:
    """Return the one block of the guide that begins so."""
    (found,) = (it for it in blocks(GUIDE, "sql", *words) if it.code.startswith(beginning))
    return found


ABOVE = block('SELECT * FROM "Invoice" WHERE "InvoiceId" > :last_id ORDER')
OVERLAP = block('SELECT * FROM "Invoice" WHERE "InvoiceId" > :last_id - :overlap')
VERSIONS = block("SELECT pg_snapshot_xmin", "horizon")
RECENT = block('SELECT * FROM "Invoice" WHERE "InvoiceDate"')
TOUCHED = block("SELECT min(day)")
CHANGED = block("SELECT table_name, row_id", "triggers")
EVERYTHING = block('SELECT * FROM "Invoice" ORDER BY')
DELETE_RECENT = block('DELETE FROM "InvoiceLine"', "warehouse")
ORPHANS = block('SELECT l."InvoiceLineId"', "warehouse")
PER_DAY = block("SELECT substr")


def of(table: str, block: Block) -> Block:
    """Return what a block for invoices is for another table."""
    code = block.code.replace('"InvoiceId"', f'"{table}Id"').replace('"Invoice"', f'"{table}"')
    code = code.replace("invoice_", f"{table.lower()}_").replace("'Invoice'", f"'{table}'")
    return block._replace(code=code)


class Copy:
    """A warehouse with the tables of a shop, spelled CamelCase."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for table in LOADED:
            key, *columns = (f'"{word.split(":")[0]}"' for word in TABLES[table].split())
            columns.insert(0, f"{key} INTEGER PRIMARY KEY")
            self.connection.execute(f'CREATE TABLE "{table}" ({", ".join(columns)})')

    def rows(self, table: str) -> dict[int, Row]:
        found = self.connection.execute(f'SELECT * FROM "{table}"').fetchall()
        return {row[0]: row for row in found}

    def put(self, table: str, rows: list[Row], *, merge: bool = False) -> None:
        """Insert rows, over those with the same ids if they are to be merged."""
        width = len(TABLES[table].split())
        verb = "REPLACE" if merge else "INSERT"
        self.connection.executemany(
            f'{verb} INTO "{table}" VALUES ({", ".join("?" * width)})',
            [plain(row)[:width] for row in rows],
        )

    def run(self, block: Block, **values: object) -> list[list[Row]]:
        code = block.code
        for name, value in values.items():
            code = code.replace(f":{name}", f"'{value}'")
        return [self.connection.execute(part).fetchall() for part in code.split(";")[:-1]]

    def highest(self, table: str) -> int:
        return max(self.rows(table), default=0)


def plain(row: Row) -> Row:
    """Return a row as SQLite holds it: dates as text, amounts in whole cents."""
    return tuple(
        str(it)
        if hasattr(it, "year")
        else round(it * 100)
        if not isinstance(it, str | int | None)
        else it
        for it in row
    )


def source(shop: ChinookDatabase, table: str) -> dict[int, Row]:
    width = len(TABLES[table].split())
    return {row[0]: plain(row)[:width] for row in shop.rows(f"SELECT * FROM [{table}]")}


class Night:
    """Loads a shop in every way, each into a copy of its own."""

    def __init__(self, shop: ChinookDatabase, reader: Reader) -> None:
        self._shop = shop
        self._reader = reader
        self.copies: dict[str, Copy] = defaultdict(Copy)
        self._horizons = dict.fromkeys(LOADED, "3")
        self._read_at = ""

    def load(self, since: date, *, everything: bool = False) -> None:
        """Load what is new, in every way.

        Args:
            since: the first of the days that are read again.
            everything: whether who reads days shall load everything, once.
        """
        run = self._reader.run
        by_id = self.copies["highest id"]
        for table in ("Invoice", "InvoiceLine", "Customer"):
            (rows,) = run(of(table, ABOVE), last_id=by_id.highest(table))
            by_id.put(table, rows)

        first = date.min if everything or not self._read_at else since
        recent = run(RECENT, since=first)
        for way in ("merged days", "reinserted days"):
            if way == "reinserted days":
                self.copies[way].run(DELETE_RECENT, since=first)
            for table, rows in zip(LOADED, recent, strict=False):
                self.copies[way].put(table, rows, merge=True)

        # A test is quicker than any transaction that may be open.
        self._read_changed(self._read_at or "2000-01-01")
        self._read_at = str(self._shop.value("SELECT CURRENT_TIMESTAMP"))

        whole = self.copies["everything"] = Copy()
        for table, rows in zip(LOADED, run(EVERYTHING), strict=True):
            whole.put(table, rows)

        if self._shop.shape.postgresql:
            for table in LOADED:
                ((horizon,),), rows = run(of(table, VERSIONS), last_horizon=self._horizons[table])
                self.copies["row versions"].put(table, rows, merge=True)
                self._horizons[table] = str(horizon)

    def _read_changed(self, since: str) -> None:
        copy = self.copies["updated_at"]
        for table in LOADED:
            deleted, rows = self._reader.run(of(table, CHANGED), since=since)
            name = self._shop.sql(f"[{table}]").strip('"')
            copy.connection.executemany(
                f'DELETE FROM "{table}" WHERE "{table}Id" = ?',
                [(number,) for which, number in deleted if which in (table, name)],
            )
            copy.put(table, rows, merge=True)

    def differing(self, way: str, *tables: str) -> dict[str, set[int]]:
        """Return the ids of the rows of each table that are not as in the shop, if any."""
        found = {}
        for table in tables or ("Invoice", "InvoiceLine"):
            there, copied = source(self._shop, table), self.copies[way].rows(table)
            ids = there.keys() | copied.keys()
            found[table] = {it for it in ids if there.get(it) != copied.get(it)}
        return {table: ids for table, ids in found.items() if ids}

    def extra(self, way: str, table: str) -> set[int]:
        """Return the ids of the rows that only the copy has."""
        return self.copies[way].rows(table).keys() - source(self._shop, table).keys()


@pytest.fixture
def night(shop: ChinookDatabase) -> Iterator[Night]:
    """A shop with the triggers of the guide, and its readers."""
    with reading(shop) as reader:
        for it in blocks(GUIDE, "sql", "triggers"):
            if it.is_for(shop) and it != CHANGED:
                reader.run(it)
                if not shop.shape.postgresql:
                    code = it.code[it.code.index("ALTER TABLE") :]
                    for table in LOADED[1:]:
                        reader.run(of(table, it._replace(code=code)))
        yield Night(shop, reader)


def assert_sound(shop: ChinookDatabase) -> None:
    with shop.engine.connect() as connection:
        assert [check for check in verify_all(connection) if not check.passed] == []


@spellings
def test_what_each_way_of_loading_has_after_each_night(shop: ChinookDatabase, night: Night) -> None:
    ways = {"highest id", "merged days", "reinserted days", "updated_at", "everything"}
    if shop.shape.postgresql:
        ways.add("row versions")
    # The last day that a run for the first night may change, and the one before it.
    for days in (91, 90):
        do(shop, generate_d1, 6, day=FIRST - timedelta(days=days))
    do(shop, generate_d1, 6, day=FIRST - timedelta(days=1))
    night.load(date.min)
    assert night.copies.keys() == ways
    sold = do(shop, generate_d1, 10, day=FIRST, late=0.5)
    assert sold.late == 5
    since = FIRST + timedelta(days=1) - timedelta(days=91)
    night.load(since)
    assert [way for way in ways if night.differing(way)] == []

    # Updates and cancellations, of the first day that there may be, too.
    changed = do(
        shop, generate_d1, 5, day=FIRST, updates=10, cancellations=6, new_customers=2, moves=3,
        price_changes=4,
    )  # fmt: skip
    kinds = dict(
        shop.rows("SELECT subject_id, kind FROM chinook_sim_change WHERE subject = 'invoice'")
    )
    cancelled = {number for number, kind in kinds.items() if kind == "cancellation"}
    updated = kinds.keys() - cancelled
    dates = night.copies["everything"].rows("Invoice")
    assert min(dates[number][2] for number in kinds)[:10] == str(since)
    before = night.copies["everything"].rows("InvoiceLine")
    gone = {number for number, line in before.items() if line[1] in cancelled}
    night.load(since)
    assert night.differing("everything", *LOADED) == {}
    assert night.differing("updated_at", *LOADED) == {}
    assert night.differing("reinserted days") == {}
    # Totals of updates are old; their lines are there, and those of what was cancelled, too.
    assert night.differing("highest id") == {"Invoice": updated | cancelled, "InvoiceLine": gone}
    assert night.extra("highest id", "Customer") == set()
    assert len(night.differing("highest id", "Customer")["Customer"]) == 3
    for way in ways & {"merged days", "row versions"}:
        assert night.differing(way) == {"Invoice": cancelled, "InvoiceLine": gone}
    if shop.shape.postgresql:
        assert night.differing("row versions", "Customer", "Track") == {}
    # The way to orphans.
    copy = night.copies["merged days"]
    copy.connection.executemany(
        'DELETE FROM "Invoice" WHERE "InvoiceId" = ?', [(it,) for it in cancelled]
    )
    orphans, _ = copy.run(ORPHANS)
    assert {number for number, _ in orphans} == gone
    assert night.copies["reinserted days"].run(ORPHANS) == [[], []]
    assert_sound(shop)

    # What was changed twice, is put back, and is undone again; ids are not given again.
    again = do(shop, simulate_changes, day=FIRST, updates=8, cancellations=3)
    do(shop, undo, again.run_id)
    do(shop, undo, changed.run_id)
    do(shop, lambda session: SaleFactory(session, seed=5).create(FIRST))
    made = do(shop, generate_d1, 4, day=FIRST)
    night.load(since)
    for way in ("everything", "updated_at"):
        assert night.differing(way, *LOADED) == {}
    assert night.differing("reinserted days") == {}
    assert {*made.invoice_ids} <= night.copies["highest id"].rows("Invoice").keys()
    assert night.extra("highest id", "Invoice") == {*changed.invoice_ids}
    assert_sound(shop)


@spellings
@pytest.mark.slow(reason="the test before it has each way of loading")
def test_old_runs_are_undone_and_the_history_is_moved(shop: ChinookDatabase, night: Night) -> None:
    since = FIRST - timedelta(days=90)
    old = do(shop, generate_d1, 5, day=FIRST - timedelta(days=200))
    do(shop, generate_d1, 5, day=FIRST)
    night.load(date.min)
    last_load = shop.value("SELECT CURRENT_TIMESTAMP")
    do(shop, undo, old.run_id)
    night.load(since)
    assert night.extra("reinserted days", "Invoice") == {*old.invoice_ids}
    assert night.differing("updated_at") == {}
    with reading(shop) as reader:
        (((first,),),) = reader.run(TOUCHED, last_load=last_load)
    night.load(date.fromisoformat(str(first)) - timedelta(days=90))
    assert night.differing("reinserted days") == {}

    do(shop, align)
    night.load(since)
    assert night.differing("reinserted days").keys() == {"Invoice"}
    assert night.differing("updated_at") == {}
    night.load(since, everything=True)
    assert night.differing("reinserted days") == {}
    with reading(shop) as reader:
        (days,) = reader.run(PER_DAY)
    copied = night.copies["updated_at"].connection.execute(
        PER_DAY.code.replace('round(sum("Total") * 100)', 'sum("Total")')
    )
    assert copied.fetchall() == [(day, count, int(cents)) for day, count, cents in days]
    assert_sound(shop)


@on_variants([DatabaseVariant(SHAPES[2], 18, migrated=True), SPELLINGS[0]])
def test_with_two_writers_the_highest_id_is_no_mark(shop: ChinookDatabase) -> None:
    seen, versions = Copy(), Copy()
    with reading(shop) as reader:

        def load() -> None:
            (rows,) = reader.run(ABOVE, last_id=seen.highest("Invoice"))
            seen.put("Invoice", rows)
            ((horizon,),), rows = reader.run(VERSIONS, last_horizon=horizons[-1])
            versions.put("Invoice", rows, merge=True)
            horizons.append(str(horizon))

        horizons = ["3"]
        load()
        with Session(shop.engine) as session, session.begin():
            large = generate_d1(session, 40, day=FIRST)
            small = do(shop, generate_d1, 3, day=FIRST)
            load()
        load()
        now = source(shop, "Invoice")
        assert now.keys() - seen.rows("Invoice").keys() == {*large.invoice_ids}
        assert seen.highest("Invoice") == small.invoice_ids[-1]
        assert versions.rows("Invoice") == now
        (rows,) = reader.run(OVERLAP, last_id=seen.highest("Invoice"), overlap=43)
        seen.put("Invoice", rows, merge=True)
        assert seen.rows("Invoice") == now
