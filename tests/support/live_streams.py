"""What the tests of live streams share: streams in this process, and as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from chinook_sim import live
from chinook_sim.sampling.arrivals import MIX
from chinook_sim.verification import verify_all, verify_day
from support.processes import Popen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chinook_sim.operations.live.worker import LiveBatch
    from support.databases import ChinookDatabase


def sell(shop: ChinookDatabase, count: int, rate: float = 400, **wanted: Any) -> list[LiveBatch]:
    """Make transactions until so many arrivals are made, of each kind, and in several of them."""
    batches: list[LiveBatch] = []
    _, updates, cancellations = wanted.get("mix", MIX)
    for batch in live(shop.engine, rate, **{"seed": 7, **wanted}):
        batches.append(batch)
        made = sum(it.arrivals for it in batches)
        # A machine with other work makes all in the first, which has no earlier sales to change.
        changed = (not updates or any(it.made.updates for it in batches)) and (
            not cancellations or any(it.made.cancellations for it in batches)
        )
        if made >= count and len(batches) > 3 and (changed or made > 20 * count):
            break
    return batches


def assert_all_there_once(shop: ChinookDatabase, batches: Sequence[LiveBatch]) -> None:
    """What was told, what the ledger has, and what is in the tables are the same."""
    runs = shop.rows(
        "SELECT key, day, sales, lines, revenue FROM chinook_sim_run WHERE kind = 'live' "
        "ORDER BY length(key), key"
    )
    # A row has the key of the last transaction that was merged into it.
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for key, *row in runs:
        stream, number = key.split("/")
        rows.setdefault(stream, []).append((int(number), *row))
    merged: dict[tuple[str, int], list[LiveBatch]] = {}
    for it in batches:
        stream, number = str(it.made.key).split("/")
        last = next(row[0] for row in rows[stream] if row[0] >= int(number))
        merged.setdefault((stream, last), []).append(it)
    assert len(runs) == len(merged)
    for stream, of_it in rows.items():
        for last, day, *made in of_it:
            some = [it.made for it in merged[stream, last]]
            assert {str(it.day) for it in some} == {str(day)}
            assert made[:2] == [sum(it.count for it in some), sum(it.lines for it in some)]
            assert float(made[2]) == pytest.approx(float(sum(it.revenue for it in some)))
    ids = [id_ for it in batches for id_ in it.made.invoice_ids]
    assert len(ids) == len(set(ids)) == sum(it.made.count for it in batches)
    cancelled = sum(it.made.cancellations for it in batches)
    there = shop.value(f"SELECT count(*) FROM [Invoice] WHERE [InvoiceId] >= {min(ids)}")
    assert there == len(ids) - cancelled
    changes = dict(
        shop.rows("SELECT kind, count(*) FROM chinook_sim_change GROUP BY kind ORDER BY kind")
    )
    assert changes.get("cancellation", 0) == cancelled
    assert changes.get("update", 0) == sum(it.made.updates for it in batches)
    with shop.engine.connect() as connection:
        assert [it for it in verify_all(connection) if not it.passed] == []
        for day in {it.made.day for it in batches}:
            assert [it for it in verify_day(connection, day) if not it.passed] == []


class Clock:
    """Seconds that also pass when they are told to."""

    def __init__(self) -> None:
        self.more = 0.0

    def pass_by(self, seconds: float) -> None:
        self.more += seconds

    def __call__(self) -> float:
        return time.monotonic() + self.more


class StepClock:
    """Seconds that pass when they are told to, and a thousandth whenever it is looked at.

    So what arrives in a transaction does not depend on the speed of the machine.
    """

    def __init__(self) -> None:
        self._seconds = 0.0

    def pass_by(self, seconds: float) -> None:
        self._seconds += seconds

    def __call__(self) -> float:
        self._seconds += 0.001
        return self._seconds


def start(shop: ChinookDatabase, *arguments: str) -> subprocess.Popen[bytes]:
    return Popen(
        [sys.executable, "-m", "chinook_sim", "live", *arguments],
        env={**os.environ, "DATABASE_URL": shop.text},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(shop: ChinookDatabase, runs: int) -> None:
    until = time.monotonic() + 60
    while shop.value("SELECT count(*) FROM chinook_sim_run WHERE kind = 'live'") < runs:
        assert time.monotonic() < until
        time.sleep(0.02)
