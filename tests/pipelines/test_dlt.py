"""A real reader, dlt into DuckDB, after each of several nights: what it has, and what it misses."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from sqlalchemy.orm import Session

from chinook_sim import generate_d1
from support import ROOT
from support.cases import on_one_postgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chinook_sim.sales.summary import BatchSummary
    from support.databases import ChinookDatabase

FIRST = date(2026, 1, 20)
READER = ROOT / "tests" / "support" / "dlt_pipeline.py"


def night(shop: ChinookDatabase, number: int, **wanted: Any) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        day = FIRST + timedelta(days=number)
        return generate_d1(session, 40, day=day, seed=number, **wanted)


@pytest.fixture
def load(shop: ChinookDatabase, tmp_path: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """Start the pipeline.

    Yields:
        Loads once each way; returns the totals, in cents, that each has of each invoice.
    """
    names = [shop.sql(f"[{name}]").strip('"') for name in ("Invoice", "InvoiceId", "InvoiceDate")]
    with (tmp_path / "errors").open("w+") as errors:
        reader = subprocess.Popen(
            [sys.executable, str(READER), shop.text, str(tmp_path), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "RUNTIME__DLTHUB_TELEMETRY": "false"},
        )

        def once() -> dict[str, Any]:
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write("load\n")
            reader.stdin.flush()
            answer = reader.stdout.readline()
            assert answer == "load\n", (answer, (tmp_path / "errors").read_text())
            with duckdb.connect(tmp_path / "copy.duckdb", read_only=True) as copy:
                return {
                    way: dict(
                        copy.execute(
                            "SELECT invoice_id, CAST(round(total * 100) AS INTEGER) "
                            f"FROM {way}.invoice"
                        ).fetchall()
                    )
                    for way in ("by_date", "by_id", "recent", "whole")
                }

        with reader:
            yield once
        # It ends with its input.
        assert reader.returncode == 0


def source(shop: ChinookDatabase) -> dict[int, int]:
    return dict(
        shop.rows(
            "SELECT [InvoiceId], CAST(round([Total] * 100) AS INTEGER) FROM [Invoice] ORDER BY 1"
        )
    )


# test_incremental.py has the same loads in SQL, on both databases.
@on_one_postgresql
@pytest.mark.slow(reason="a real pipeline takes seconds to start and to load")
def test_what_an_incremental_load_has_and_what_it_misses(
    shop: ChinookDatabase, load: Callable[[], dict[str, Any]]
) -> None:
    # New sales: every way has them all.
    for number in (0, 1):
        night(shop, number)
    assert all(copy == source(shop) for copy in load().values())
    seen = datetime.fromisoformat(str(shop.value("SELECT max([InvoiceDate]) FROM [Invoice]")))

    # Late sales: who looks at dates misses those from before the latest date seen, and no others.
    made = night(shop, 2, late=0.5)
    early = {
        number
        for number, moment in shop.rows(
            f"SELECT [InvoiceId], [InvoiceDate] FROM [Invoice] "
            f"WHERE [InvoiceId] >= {made.invoice_ids[0]}"
        )
        if datetime.fromisoformat(str(moment)) < seen
    }
    assert 10 < len(early) <= made.late == 20
    copies = load()
    assert source(shop).keys() - copies["by_date"].keys() == early
    assert copies["by_id"] == copies["recent"] == copies["whole"] == source(shop)

    # Updates and cancellations: new totals are seen by who looks again, what is gone by nobody
    # who only reads what is there, unless everything is read.
    night(shop, 3, updates=8, cancellations=6)
    changed = shop.rows("SELECT kind, subject_id FROM chinook_sim_change ORDER BY 2")
    updated = {number for kind, number in changed if kind == "update"}
    cancelled = {number for kind, number in changed if kind == "cancellation"}
    assert (len(updated), len(cancelled)) == (8, 6)
    copies, now = load(), source(shop)
    assert copies["whole"] == now
    for way in ("by_id", "recent"):
        assert copies[way].keys() - now.keys() == cancelled
        assert now.keys() <= copies[way].keys()
    assert {it for it in now if copies["by_id"][it] != now[it]} == updated
    assert {it for it in now if copies["recent"][it] != now[it]} == set()
    assert copies["by_date"].keys() == (now.keys() | cancelled) - early
