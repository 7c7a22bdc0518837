"""Sales that arrive late: dated before their day, and so missed by whoever only looks ahead."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy.orm import Session

from chinook_sim import InvalidInput, KeyTaken, generate_d1, simulate_changes, undo
from chinook_sim.operations.options import BatchOptions, backdating_rule
from chinook_sim.operations.run_batch import plan_batch
from chinook_sim.sampling.selections import count_late, sample_late
from chinook_sim.verification import verify_all, verify_day
from support.cases import (
    alternating_versions,
    on_both_databases,
    on_each_shape,
    on_three_shapes,
    on_variants,
)

if TYPE_CHECKING:
    from chinook_sim.sales.summary import BatchSummary
    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


def make(shop: ChinookDatabase, n: int = 100, **wanted: Any) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return generate_d1(session, n, **{"day": DAY, "seed": 7, **wanted})


def days_back(shop: ChinookDatabase, made: BatchSummary) -> list[int]:
    """By how many days each sale of a batch is dated before its day."""
    rows = shop.rows(
        f"SELECT [InvoiceDate] FROM [Invoice] WHERE [InvoiceId] >= {made.invoice_ids[0]} "
        f"AND [InvoiceId] <= {made.invoice_ids[-1]} ORDER BY [InvoiceId]"
    )
    return [(made.day - datetime.fromisoformat(str(row[0])).date()).days for row in rows]


def passes(shop: ChinookDatabase, day: date | None, expect: int | None = None) -> bool:
    with shop.engine.connect() as connection:
        checks = (
            verify_all(connection, expect=expect)
            if day is None
            else verify_day(connection, day, expect=expect)
        )
    return all(check.passed for check in checks)


@pytest.mark.parametrize("parts", [0, 1, 333, 2000, 9999, 10_000])
def test_the_share_is_exact_to_within_one_sale(parts: int) -> None:
    for seed in range(20):
        back = sample_late(seed, DAY, 0, 1000, parts=parts, days=7)
        assert abs(np.count_nonzero(back) - parts / 10) < 1
        assert np.count_nonzero(back) == count_late(seed, DAY, 0, 1000, parts=parts)


def test_any_slice_has_the_same_late_sales() -> None:
    whole = sample_late(7, DAY, 0, 5000, parts=1234, days=30)
    for first, last in ((0, 1), (17, 1900), (1999, 2001), (4000, 5000)):
        part = sample_late(7, DAY, first, last, parts=1234, days=30)
        assert part.tolist() == whole[first:last].tolist()


def test_each_number_of_days_is_as_likely() -> None:
    back = sample_late(7, DAY, 0, 70_000, parts=10_000, days=7)
    counts = np.bincount(back, minlength=8)
    assert counts[0] == 0
    # Chi-square with six degrees of freedom: more once in a million.
    assert ((counts[1:] - 10_000) ** 2 / 10_000).sum() < 38


@on_each_shape
def test_late_sales_are_dated_before_the_day(shop: ChinookDatabase) -> None:
    made = make(shop, late=0.2)
    back = days_back(shop, made)
    assert made.late == sum(day > 0 for day in back) == 20
    assert set(back) <= set(range(8))
    assert len(set(back)) > 4
    # All else is as it would be: the same customers, tracks and times of day.
    other = make(shop)
    assert (other.lines, other.revenue, other.hours) == (made.lines, made.revenue, made.hours)
    assert other.digest != made.digest
    assert other.late == 0


@on_three_shapes
def test_verify_counts_the_late_ones_with_the_day_they_came_on(shop: ChinookDatabase) -> None:
    days = [DAY - timedelta(days=back) for back in range(4)]
    for day in reversed(days):
        make(shop, 50, day=day, late=0.3, late_days=3)
    for day in days:
        assert passes(shop, day, expect=50)
        assert not passes(shop, day, expect=49)
    assert passes(shop, None, expect=30 + 200)
    # What came late is wrong, and it is the day it came on that knows.
    late = shop.value(f"SELECT max([InvoiceId]) FROM [Invoice] WHERE [InvoiceDate] < '{DAY}' ")
    shop.execute(f"UPDATE [Invoice] SET [Total] = [Total] + 1 WHERE [InvoiceId] = {late}")
    moment = shop.value(f"SELECT [InvoiceDate] FROM [Invoice] WHERE [InvoiceId] = {late}")
    dated = date.fromisoformat(str(moment)[:10])
    assert [day for day in days if not passes(shop, day)] == [DAY, dated]


@on_both_databases
@pytest.mark.slow(reason="test_undo.py and test_runs_and_keys.py have other sales")
def test_late_sales_are_undone_and_made_once(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    made = make(shop, late="0.1", late_days=30, once=True)
    again = make(shop, late=Decimal("0.10"), late_days=30, once=True)
    assert again.existed
    assert again.late == made.late == 10
    with pytest.raises(KeyTaken, match="parameters"):
        make(shop, late=0.2, late_days=30, once=True)
    with pytest.raises(KeyTaken, match="parameters"):
        make(shop, once=True)
    with Session(shop.engine) as session, session.begin():
        undo(session, made.run_id or "")
    assert shop.snapshot() == before


@on_both_databases
def test_a_cancelled_late_sale_is_accounted_for(shop: ChinookDatabase) -> None:
    make(shop, 40, late=1)
    with Session(shop.engine) as session, session.begin():
        simulate_changes(session, day=DAY, cancellations=40)
    assert passes(shop, None)


@on_both_databases
@pytest.mark.slow(reason="verifies nine times")
def test_late_sales_that_were_cancelled_count_with_the_day_of_their_run(
    shop: ChinookDatabase,
) -> None:
    made = make(shop, late=0.5, late_days=3)
    with Session(shop.engine) as session, session.begin():
        later = simulate_changes(session, day=DAY + timedelta(days=1), cancellations=40, seed=8)
    assert later.cancellations == 40
    # Late ones and others are among them.
    gone = 40 - shop.value(
        "SELECT count(*) FROM chinook_sim_change WHERE kind = 'cancellation' "
        f"AND subject_id NOT IN ({', '.join(map(str, made.invoice_ids))})"
    )
    assert gone == 40
    assert passes(shop, DAY, expect=100)
    assert not passes(shop, DAY, expect=99)
    for back in (1, 2, 3):
        assert passes(shop, DAY - timedelta(days=back), expect=0)
        assert not passes(shop, DAY - timedelta(days=back), expect=1)
    assert passes(shop, None, expect=30 + 60)


@on_both_databases
def test_a_dry_run_reports_the_number_of_late_sales(shop: ChinookDatabase) -> None:
    options = BatchOptions(day=DAY, seed=1, backdating=backdating_rule(0.05, 7))
    with Session(shop.engine) as session:
        assert plan_batch(session, 200, options).late == 10


@pytest.mark.parametrize(
    "share",
    [-0.1, 1.1, "x", float("nan"), float("inf"), 0.00001, None, "", True, "0_1", "٠.٥", " 0.5",
     "+0.5", "5e-1", "0.0.5", ".", "0.5\n"],
)  # fmt: skip
def test_a_wrong_share_of_late_sales_is_refused(share: Any, shop: ChinookDatabase) -> None:
    with pytest.raises(InvalidInput, match="share"):
        make(shop, late=share)


test_a_wrong_share_of_late_sales_is_refused = on_variants(alternating_versions()[-1:])(
    test_a_wrong_share_of_late_sales_is_refused
)


@on_variants(alternating_versions()[-1:])
def test_there_is_no_day_before_the_first(shop: ChinookDatabase) -> None:
    with pytest.raises(InvalidInput, match="less than 7 for 0001-01-07, got 7"):
        make(shop, day=date(1, 1, 7), late=0.5)
    assert make(shop, day=date(1, 1, 8), late=0.5).late == 50
    with pytest.raises(InvalidInput, match="an integer between 1 and 10000, got 0"):
        make(shop, late=0.5, late_days=0)


@on_both_databases
def test_the_command_makes_them(shop: ChinookDatabase, command: Command) -> None:
    night = ("generate", "50", "--day", str(DAY), "--late", "0.1", "--late-days", "3")
    done = command(*night, DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    assert "late     5" in done.stdout
    summary = json.loads(command(*night, "--json", DATABASE_URL=shop.text).stdout)
    assert summary["late"] == 5
    shown = command("verify", "--day", str(DAY), "--expect", "100", DATABASE_URL=shop.text)
    assert shown.returncode == 0
    assert "100, 10 dated before it, 100 expected" in shown.stdout
    for wrong in ("2", "10%", "0_1", "٠.٥", "1e-1"):
        done = command("generate", "1", "--late", wrong, DATABASE_URL=shop.text)
        assert done.returncode == 2
        assert "share of late sales" in done.stderr
        assert done.stderr.count("\n") == 1
    done = command("generate", "1", "--late-days", "0", DATABASE_URL=shop.text)
    assert done.returncode == 2
