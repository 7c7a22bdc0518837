"""`verify --shape` passes for the sales of a profile, and reports each distribution that is off."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.orm import Session

from chinook_sim import (
    InvalidInput,
    KeyTaken,
    Peak,
    Profile,
    SaleFactory,
    backfill,
    generate_d1,
    undo,
)
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import plan_batch
from chinook_sim.sampling.profile import UNIFORM
from chinook_sim.verification import verify_day
from chinook_sim.verification.distribution import verify_shape
from chinook_sim.verification.statistics import merged_cells
from support.cases import (
    on_both_databases,
    on_both_databases_unmigrated,
    on_each_shape,
    on_three_shapes,
)
from support.profiles import CALENDAR, STEEP

if TYPE_CHECKING:
    from chinook_sim.verification import Check
    from support.databases import ChinookDatabase

pytestmark = pytest.mark.one_database

DAY = date(2026, 1, 31)


def make(shop: ChinookDatabase, n: int = 2_000, **wanted: Any) -> Any:
    with Session(shop.engine) as session, session.begin():
        return generate_d1(session, n, **{"day": DAY, "seed": 7, "profile": "realistic", **wanted})


def judged(shop: ChinookDatabase, profile: Any = None, day: date | None = DAY) -> list[Check]:
    with shop.engine.connect() as connection:
        return verify_shape(connection, profile, day=day)


def failed(checks: list[Check]) -> list[str]:
    return [check.name.split(": ")[1] for check in checks if not check.passed]


@on_each_shape
def test_verify_sees_the_shape_that_was_asked_for(shop: ChinookDatabase) -> None:
    made = make(shop)
    assert made.profile == "realistic"
    assert shop.value("SELECT profile FROM chinook_sim_run WHERE kind = 'generate'") == "realistic"
    assert failed(judged(shop)) == []
    assert failed(judged(shop, "realistic")) == []
    assert failed(judged(shop, day=None)) == []
    assert {"hours of the day", "tracks per sale"} <= set(failed(judged(shop, "uniform")))
    with shop.engine.connect() as connection:
        checks = {check.name: check for check in verify_day(connection, DAY, expect=2_000)}
    assert all(check.passed for check in checks.values())
    assert "realistic" in checks["distribution over the hours"].figure


@on_both_databases
def test_uniform_sales_pass_as_uniform_and_fail_another_profile(shop: ChinookDatabase) -> None:
    make(shop, profile="uniform")
    assert failed(judged(shop)) == []
    steep = failed(judged(shop, STEEP))
    assert {"hours of the day", "tracks per sale", "customers", "tracks"} == set(steep)


@on_both_databases
@pytest.mark.slow(reason="eight hundred changes, judged six times")
def test_a_shape_can_be_judged_through_whatever_happens(shop: ChinookDatabase) -> None:
    # Long before many sign up and change who has which rank.
    make(shop, profile=STEEP, seed=6, updates=50)
    shop.execute("UPDATE chinook_sim_run SET created_at = '2026-02-01 00:00:00'")
    make(shop, profile=STEEP, new_customers=500, updates=300, cancellations=200, late=0.2)
    second = make(shop, profile=STEEP, seed=8, moves=3, price_changes=3, updates=100)
    third = make(shop, profile="uniform", day=DAY + timedelta(days=1), updates=50)
    # Of both days' runs those that had the profile.
    assert failed(judged(shop, STEEP, None)) == []
    assert failed(judged(shop, STEEP)) == []
    assert failed(judged(shop, day=DAY + timedelta(days=1))) == []
    with pytest.raises(InvalidInput, match="'steep'; give the profile, or its file"):
        judged(shop)
    with Session(shop.engine) as session, session.begin():
        undo(session, third.run_id)
        undo(session, second.run_id)
    assert failed(judged(shop, STEEP)) == []


@on_both_databases
def test_a_day_is_made_once_of_one_shape(shop: ChinookDatabase) -> None:
    make(shop, once=True)
    assert make(shop, once=True).existed
    assert make(shop, once=True).profile == "realistic"
    with pytest.raises(KeyTaken, match="profile realistic, not uniform"):
        make(shop, once=True, profile="uniform")


@on_three_shapes
def test_one_by_one_and_in_bulk_have_the_same_shape(shop: ChinookDatabase) -> None:
    def content(first: int) -> list[Any]:
        return shop.rows(
            "SELECT i.[InvoiceDate], i.[CustomerId], l.[TrackId] FROM [Invoice] i JOIN "
            f"[InvoiceLine] l ON l.[InvoiceId] = i.[InvoiceId] WHERE i.[InvoiceId] >= {first} "
            "ORDER BY l.[InvoiceLineId]"
        )

    with Session(shop.engine) as session:
        first = make(shop, 0).count + shop.value("SELECT max([InvoiceId]) FROM [Invoice]") + 1
        factory = SaleFactory(session, 7, profile=STEEP)
        for _ in range(5):
            factory.create(DAY)
        factory.create_batch(5, DAY)
        session.commit()
    one_by_one = content(first)
    second = make(shop, 10, profile=STEEP)
    assert content(second.invoice_ids[0]) == one_by_one
    options = BatchOptions(day=DAY, seed=7, profile=STEEP)
    with Session(shop.engine) as session:
        assert plan_batch(session, 10, options).digest == second.digest


@on_both_databases
@pytest.mark.slow(reason="a long history")
def test_a_history_has_the_shape_of_its_years(shop: ChinookDatabase) -> None:
    shape = Profile(
        "peaked",
        weekdays=(1, 1, 1, 1, 1, 6, 6),
        months=(1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1, 2),
        growth=9,
        peaks=(Peak("11-15", 20),),
    )
    start, end = date(2025, 10, 1), date(2025, 12, 31)
    days = list(backfill(shop.engine, start, end, 40, seed=7, profile=shape))
    assert {day.profile for day in days} == {"peaked"}
    assert [day.count for day in days] == [shape.count(40, day.day, 7) for day in days]
    again = list(backfill(shop.engine, start, end, 40, seed=7, profile=shape))
    assert all(day.existed for day in again)
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 0, day=date(2025, 10, 31), updates=99, cancellations=999, seed=7)
    assert failed(judged(shop, shape, None)) == []
    assert judged(shop, shape, None)[-1].name == "peaked: sales of each day"
    assert judged(shop, shape, None)[-1].figure == "92 days, 0 differ"
    for part in CALENDAR:
        flat = replace(shape, name="flat", **{part: getattr(UNIFORM, part)})
        assert failed(judged(shop, flat, None)) == ["sales of each day"]


SLOW = pytest.mark.slow(reason="another test has each part of a calendar, with greater differences")

ORDINARY = Profile(
    "ordinary",
    weekdays=(1, 1, 1, 1, 1.1, 1.2, 1.1),
    months=(*(1,) * 10, 1.2, 1.3),
    growth=0.15,
    since=date(2025, 1, 1),
    peaks=(Peak("11-27", 3), Peak("2025-12-05", 1.5)),
)


@on_both_databases
@pytest.mark.parametrize(
    "part",
    [
        part if part in ("weekdays", "peaks") else pytest.param(part, marks=SLOW)
        for part in CALENDAR
    ],
)
def test_what_is_missing_of_an_ordinary_calendar_is_missed(
    shop: ChinookDatabase, part: str
) -> None:
    """A few sales more on a Saturday, a sixth more a year: as little as that."""
    flat = replace(ORDINARY, name="flat", **{part: getattr(UNIFORM, part)})
    start, end = date(2025, 11, 20), date(2025, 12, 31)
    list(backfill(shop.engine, start, end, 60, seed=9, profile=flat))
    assert failed(judged(shop, flat, None)) == []
    assert failed(judged(shop, ORDINARY, None)) == ["sales of each day"]


@on_both_databases
def test_days_that_are_all_alike_fail_a_calendar(shop: ChinookDatabase) -> None:
    list(backfill(shop.engine, date(2025, 11, 27), date(2025, 12, 2), 60, seed=9))
    for part in CALENDAR:
        only = replace(UNIFORM, name=part, since=ORDINARY.since, **{part: getattr(ORDINARY, part)})
        assert failed(judged(shop, only, None)) == ["sales of each day"]
    assert failed(judged(shop, replace(UNIFORM, name="as they are"), None)) == []


@on_three_shapes
def test_sales_that_somebody_deleted_are_missed(shop: ChinookDatabase) -> None:
    start, end = date(2025, 11, 20), date(2025, 12, 1)
    days = list(backfill(shop.engine, start, end, 60, seed=9, profile=ORDINARY))
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 5, day=end, cancellations=400, updates=20, late=1, seed=7)
    assert failed(judged(shop, ORDINARY, None)) == []
    (peak,) = (day for day in days if day.day == date(2025, 11, 27))
    of_it = f"BETWEEN {peak.invoice_ids[0]} AND {peak.invoice_ids[-1]}"
    gone = shop.rows(f"SELECT [InvoiceId] FROM [Invoice] WHERE [InvoiceId] {of_it}")[-2:]
    for table in ("InvoiceLine", "Invoice"):
        shop.execute(*(f"DELETE FROM [{table}] WHERE [InvoiceId] = {id_}" for (id_,) in gone))
    (missed,) = (check for check in judged(shop, ORDINARY, None) if not check.passed)
    assert f"12 days, 1 differs: 2025-11-27 has {peak.count - 2}, not " in missed.figure


@on_both_databases
def test_a_day_of_a_backfill_without_seasons_is_the_one_of_once(shop: ChinookDatabase) -> None:
    list(
        backfill(
            shop.engine,
            DAY,
            DAY,
            9,
            profile=replace(STEEP, weekdays=(1,) * 7, months=(1,) * 12, growth=0, peaks=()),
        )
    )
    assert make(shop, 9, once=True, seed=None, profile=STEEP).existed


@on_both_databases_unmigrated
def test_without_a_ledger_the_shape_must_be_named(shop: ChinookDatabase) -> None:
    make(shop, profile="uniform")
    with pytest.raises(InvalidInput, match="give the profile"):
        judged(shop)
    assert failed(judged(shop, "uniform")) == []
    assert "tracks per sale" in failed(judged(shop, "realistic"))
    with pytest.raises(InvalidInput, match="give a day"):
        judged(shop, "uniform", None)


@on_both_databases
def test_too_few_sales_are_not_judged(shop: ChinookDatabase) -> None:
    make(shop, 10)
    checks = judged(shop)
    assert failed(checks) == []
    assert all("too few to judge" in check.figure for check in checks)
    assert "no days of a backfill" in judged(shop, day=None)[-1].figure


def test_cells_are_put_together_whatever_was_seen_in_them() -> None:
    sums = {}
    for seen in ([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [1, 6, 2, 5, 3, 4]):
        cells = [(10.0, float(10**6 * place + it)) for place, it in enumerate(seen)]
        # Which places went together shows in the millions.
        sums[tuple(seen)] = sorted(int(it // 10**6) for _, it in merged_cells(cells))
    emptiest_first = [(10.0, float(it)) for it in (3, 20, 4, 19, 5, 18)]
    assert len(set(map(tuple, sums.values()))) == 1
    assert (20.0, 7.0) not in merged_cells(emptiest_first)
