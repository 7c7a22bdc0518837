"""What the tests of backfill share."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, timedelta
from typing import TYPE_CHECKING

from support.cases import alternating_versions, on_variants
from support.processes import Popen

if TYPE_CHECKING:
    from support.databases import ChinookDatabase


START = date(2025, 12, 20)
END = date(2026, 1, 8)
DAYS = [START + timedelta(days=number) for number in range(20)]
on_postgresql = on_variants(
    [case for case in alternating_versions(migrated=True) if case.major][::3]
)


def made(shop: ChinookDatabase) -> dict[str, int]:
    """Sales of each day, as they are in the tables; the ledger must say the same."""
    day = "CAST([InvoiceDate] AS date)" if shop.server else "date([InvoiceDate])"
    found = {
        str(day): sales
        for day, sales in shop.rows(
            f"SELECT {day}, count(*) FROM [Invoice] WHERE [InvoiceId] > 30 GROUP BY 1"
        )
    }
    noted = shop.rows(
        "SELECT day, sales FROM chinook_sim_run WHERE kind = 'generate' AND undone_at IS NULL"
    )
    assert {str(day): sales for day, sales in noted} == found
    assert len(noted) == len(found)
    return found


def start(shop: ChinookDatabase, *arguments: str, end: date = END) -> subprocess.Popen[bytes]:
    command = ("backfill", str(START), str(end), "--per-day", *arguments)
    return Popen(
        [sys.executable, "-m", "chinook_sim", *command],
        env={**os.environ, "DATABASE_URL": shop.text},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
