"""Dates that are kept with a time zone: whatever the TimeZone of a session, all agree."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from chinook_sim import InvalidInput, SaleFactory, generate_d1, invoice_history, recognise
from chinook_sim.dates import DAY_SECONDS, move_out_of_gaps
from support.cases import VARIANTS, on_variants

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase

SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
"""When clocks are set in Europe, forward and back."""

PARIS, ANGELES = "Europe/Paris", "America/Los_Angeles"

on_lower = on_variants([VARIANTS["postgres-lower-pg18"]])


@given(
    zone=st.sampled_from([PARIS, ANGELES, "Australia/Lord_Howe", "America/Santiago", "UTC"]),
    day=st.dates(date(1970, 1, 10), date(2037, 12, 31)),
    back=st.sampled_from([0, 7]),
)
@example(zone=PARIS, day=SPRING, back=0)
@example(zone=PARIS, day=SPRING + timedelta(days=3), back=7)
@example(zone="America/Santiago", day=date(2025, 9, 7), back=0)
@example(zone="Australia/Lord_Howe", day=date(2025, 10, 5), back=0)
def test_times_that_clocks_skip_are_moved_as_a_round_trip_does(
    zone: str, day: date, back: int
) -> None:
    seconds = np.arange(-back * DAY_SECONDS, DAY_SECONDS, 600)
    moved = move_out_of_gaps(seconds, day, ZoneInfo(zone), days_before=back)
    midnight = datetime.combine(day, time())
    naive = [midnight + timedelta(seconds=int(it)) for it in seconds]
    there = [it.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for it in naive]
    again = [it.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for it in there]
    assert [midnight + timedelta(seconds=int(it)) for it in moved] == again


@pytest.mark.parametrize("day", [date.min + timedelta(days=8), date(9999, 12, 30)])
def test_the_first_and_last_days_are_no_exception(day: date) -> None:
    seconds = np.arange(-7 * DAY_SECONDS, DAY_SECONDS, 3600)
    assert (move_out_of_gaps(seconds, day, ZoneInfo(PARIS), days_before=7) == seconds).all()


@pytest.mark.parametrize(
    ("zone", "day"),
    [("America/Nuuk", date(2026, 3, 28)), ("America/Scoresbysund", date(2026, 3, 28)),
     ("America/Santiago", date(2025, 9, 7)), ("Asia/Beirut", date(2026, 3, 29))],
)  # fmt: skip
def test_a_time_that_is_skipped_about_midnight_stays_one_of_its_day(zone: str, day: date) -> None:
    seconds = np.arange(DAY_SECONDS)
    moved = move_out_of_gaps(seconds, day, ZoneInfo(zone))
    assert 3500 < np.count_nonzero(moved != seconds) <= 3600
    assert moved.min() >= 0
    assert moved.max() < DAY_SECONDS
    midnight = datetime.combine(day, time())
    for second in np.unique(moved).tolist()[::60]:
        drawn = (midnight + timedelta(seconds=second)).replace(tzinfo=ZoneInfo(zone))
        assert drawn.astimezone(UTC).astimezone(ZoneInfo(zone)) == drawn
        assert drawn.astimezone(UTC).astimezone(ZoneInfo(zone)).hour == drawn.hour


@on_lower
def test_a_day_of_which_the_last_hour_is_skipped(shop: ChinookDatabase, command: Command) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        done = command(*arguments, "--json", DATABASE_URL=shop.text, PGTZ="America/Nuuk")
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    run("init")
    before = shop.snapshot()
    made = run("generate", "2000", "--day", "2026-03-28", "--seed", "7")
    run("verify", "--day", "2026-03-28", "--expect", "2000", "--shape")
    run("undo", made["run"])
    assert shop.snapshot() == before
    shop.execute("SELECT simulate_sales('2026-03-28', 2000)")
    run("verify", "--day", "2026-03-28", "--expect", "2000")


@on_lower
@pytest.mark.parametrize("day", [SPRING, AUTUMN])
def test_all_agree_whatever_the_time_zone_of_the_session(
    day: date, shop: ChinookDatabase, command: Command
) -> None:
    def run(zone: str, *arguments: str) -> dict[str, Any]:
        done = command(*arguments, "--json", DATABASE_URL=shop.text, PGTZ=zone)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    run(PARIS, "init")
    before = shop.snapshot()
    made = run(ANGELES, "generate", "500", "--day", str(day), "--seed", "7", "--late", "0.1")
    hours = shop.rows(
        "SELECT DISTINCT extract(hour FROM [InvoiceDate] AT TIME ZONE 'Europe/Paris') "
        f"FROM [Invoice] WHERE ([InvoiceDate] AT TIME ZONE 'Europe/Paris')::date = '{day}'"
    )
    assert len(hours) == (23 if day == SPRING else 24)
    statuses: dict[str, str] = {}
    changed = run("Asia/Tokyo", "generate", "0", "--day", str(day), "--updates", "5",
                  "--cancellations", "5", "--moves", "2", "--price-changes", "2")  # fmt: skip
    for zone in (ANGELES, "Asia/Tokyo"):
        run(zone, "verify", "--day", str(day), "--expect", "500")
        run(zone, "verify", "--all", "--shape")
        shown = run(zone, "status", "--timezone", "UTC")
        assert shown["last_invoice"] == statuses.setdefault("last_invoice", shown["last_invoice"])
    run("UTC", "undo", changed["run"])
    run("Asia/Tokyo", "undo", made["run"])
    assert shop.snapshot() == before


@on_lower
@pytest.mark.parametrize(
    "zone",
    [pytest.param("UTC-3", marks=pytest.mark.slow(reason="one is enough")), "<+0230>-02:30"],
)
def test_a_zone_that_python_does_not_know(
    zone: str, shop: ChinookDatabase, command: Command
) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        done = command(*arguments, "--json", DATABASE_URL=shop.text, PGTZ=zone)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    run("init")
    before = shop.snapshot()
    made = run("generate", "50", "--day", str(SPRING), "--late", "0.1")
    run("verify", "--day", str(SPRING), "--expect", "50")
    run("undo", made["run"])
    assert shop.snapshot() == before


@on_lower
def test_a_day_of_which_an_hour_is_skipped_has_its_shape(
    shop: ChinookDatabase, command: Command
) -> None:
    def run(*arguments: str) -> None:
        done = command(*arguments, DATABASE_URL=shop.text, PGTZ=PARIS)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    run("init")
    for profile in ("uniform", "realistic"):
        run("generate", "5000", "--day", str(SPRING), "--seed", "7", "--profile", profile)
        run("verify", "--day", str(SPRING), "--shape")


@on_lower
def test_align_moves_whole_days_of_the_shops_clock(shop: ChinookDatabase, command: Command) -> None:
    def run(zone: str, *arguments: str) -> None:
        done = command(*arguments, DATABASE_URL=shop.text, PGTZ=zone)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    shop.execute(
        "UPDATE [Invoice] SET [InvoiceDate] = "
        "([InvoiceDate] AT TIME ZONE 'UTC') AT TIME ZONE 'Europe/Paris'"
    )
    run(PARIS, "init")
    before = shop.snapshot()
    run(ANGELES, "align")
    midnights = shop.rows(
        "SELECT DISTINCT ([InvoiceDate] AT TIME ZONE 'Europe/Paris')::time::text FROM [Invoice]"
    )
    assert midnights == [("00:00:00",)]
    run("Asia/Tokyo", "verify", "--all")
    (run_id,) = shop.rows("SELECT run_id FROM chinook_sim_run WHERE kind = 'align'")[0]
    run("UTC", "undo", run_id)
    assert shop.snapshot() == before


@on_lower
def test_without_a_ledger_the_zone_is_that_of_the_session(shop: ChinookDatabase) -> None:
    with shop.engine.connect() as connection:
        connection.exec_driver_sql("SET TimeZone = 'Asia/Tokyo'")
        assert recognise(connection).timezone == "Asia/Tokyo"


@on_lower
def test_the_setting_of_the_callers_transaction_is_restored(
    shop: ChinookDatabase, command: Command
) -> None:
    assert command("init", DATABASE_URL=shop.text, PGTZ=PARIS).returncode == 0
    with Session(shop.engine) as session:
        session.connection().exec_driver_sql("SET TimeZone = 'Asia/Tokyo'")
        generate_d1(session, 5, day=SPRING)
        assert session.connection().exec_driver_sql("SHOW TimeZone").scalar() == "Asia/Tokyo"


@on_lower
def test_each_sale_of_a_factory_is_dated_by_the_clock_of_the_shop(
    shop: ChinookDatabase, command: Command
) -> None:
    assert command("init", DATABASE_URL=shop.text, PGTZ=PARIS).returncode == 0
    at = datetime(2026, 1, 31, 14, 30)  # noqa: DTZ001
    with Session(shop.engine) as session, session.begin():
        session.connection().exec_driver_sql("SET TimeZone = 'Asia/Tokyo'")
        factory = SaleFactory(session, seed=7)
        numbers = [factory.create(at).invoice_id for _ in range(3)]
    assert {dated(shop, number) for number in numbers} == {"2026-01-31 14:30:00"}


@on_lower
def test_a_history_is_dated_by_the_clock_of_the_shop(
    shop: ChinookDatabase, command: Command
) -> None:
    assert command("init", DATABASE_URL=shop.text, PGTZ=PARIS).returncode == 0
    number = shop.value("SELECT generated_invoice_id FROM simulate_new_sale('2026-03-29 12:00')")
    with shop.engine.connect() as connection:
        assert str(invoice_history(connection, number).date) == "2026-03-29 12:00:00"
        connection.rollback()
        autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(InvalidInput, match="AUTOCOMMIT"):
            invoice_history(autocommit, number)


@on_lower
def test_align_and_generate_take_the_same_day_for_yesterday(
    shop: ChinookDatabase, command: Command
) -> None:
    assert command("init", DATABASE_URL=shop.text, PGTZ="Pacific/Kiritimati").returncode == 0
    environment = {"DATABASE_URL": shop.text, "PGTZ": "Pacific/Pago_Pago"}
    made = json.loads(command("generate", "5", "--json", **environment).stdout)
    moved = json.loads(command("align", "--json", **environment).stdout)
    assert date.fromisoformat(made["day"]) - date.fromisoformat(moved["target"]) == timedelta(1)


@on_lower
def test_the_sql_functions_date_by_the_clock_of_the_shop(
    shop: ChinookDatabase, command: Command
) -> None:
    assert command("init", DATABASE_URL=shop.text, PGTZ=PARIS).returncode == 0
    for moment in (
        "'2026-03-29 12:00'::timestamp",
        "'2026-03-29 12:00'",
        "'2026-03-29 10:00+00'::timestamptz",
    ):
        number = shop.value(f"SELECT generated_invoice_id FROM simulate_new_sale({moment})")
        assert dated(shop, number) == "2026-03-29 12:00:00", moment


@on_lower
def test_simulated_sales_of_a_day_are_of_the_day_of_the_shop(
    shop: ChinookDatabase, command: Command
) -> None:
    assert command("init", DATABASE_URL=shop.text, PGTZ=ANGELES).returncode == 0
    shop.execute("SELECT * FROM simulate_sales('2026-03-08', 200)")
    done = command(
        "verify", "--day", "2026-03-08", "--expect", "200", DATABASE_URL=shop.text, PGTZ=PARIS
    )
    assert done.returncode == 0, done.stdout
    assert shop.value("SELECT simulate_update_sale(date '2026-03-08')") is not None
    assert shop.value("SELECT simulate_delete_sale(date '2026-03-08')") is not None


@on_variants([VARIANTS["postgres-snake-serial-pg16-migrated"]])
def test_init_gives_the_functions_the_zone_when_the_column_was_altered(
    shop: ChinookDatabase, command: Command
) -> None:
    def zones() -> set[str | None]:
        found = shop.rows(
            "SELECT substring(array_to_string(proconfig, ',') FROM 'TimeZone=(.*/Paris)') "
            "FROM pg_proc WHERE proname LIKE 'simulate_%'"
        )
        return {zone for (zone,) in found}

    assert zones() == {None}
    shop.execute("ALTER TABLE invoice ALTER COLUMN invoice_date TYPE timestamptz")
    shop.execute("UPDATE chinook_sim_run SET timezone = 'Europe/Paris' WHERE run_id = 'baseline'")
    assert command("init", DATABASE_URL=shop.text).returncode == 0
    assert zones() == {PARIS}
    shop.execute("ALTER TABLE invoice ALTER COLUMN invoice_date TYPE timestamp")
    assert command("init", DATABASE_URL=shop.text).returncode == 0
    assert zones() == {None}


def dated(shop: ChinookDatabase, number: int) -> str:
    return str(
        shop.value(
            "SELECT to_char([InvoiceDate] AT TIME ZONE 'Europe/Paris', 'YYYY-MM-DD HH24:MI:SS') "
            f"FROM [Invoice] WHERE [InvoiceId] = {number}"
        )
    )
