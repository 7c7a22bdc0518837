"""How fast sales are made and written, each next to its rival; see README.md here."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from benchmarks import checking, rivals, shop
from benchmarks.slow_wire import slow_wire
from chinook_sim import Customer, Invoice, InvoiceLine, SaleFactory, Track, backfill, live
from chinook_sim.database.connections import connection_of
from chinook_sim.database.introspection import recognise
from chinook_sim.sales.batch import SalePlan
from chinook_sim.sales.catalogue import read_catalogue
from chinook_sim.sampling.arrivals import MIX, Arrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DELAY = 0.010
"""Seconds that the slow wire adds, each way."""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        what: what was measured, and with what it is compared.
        size: how many sales, calls or rows.
        ours: our figure, in `unit`.
        rival: the rival's, or None.
        unit: of both.
        compared: what `goal` speaks of, from medians: a ratio of times, how many times faster, or
            how much more, as `goal` says.
        fastest: the same, of the fastest runs, which a busy machine disturbs least.
        goal: what is to be reached.
        reached: whether it was.
    """

    what: str
    size: int
    ours: float
    rival: float | None
    unit: str
    compared: float
    fastest: float | None
    goal: str
    reached: bool


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    batch: int
    old_way: int
    over_wire: int
    calls: int
    made: int
    memory: int
    history: int
    live: int
    objects: int
    checked: int
    turns: int
    seconds: float


FULL = Sizes(
    100_000, 10_000, 1_000, 2_000, 5_000_000, 4_000_000, 1_000_000, 60, 1_000, 400_000, 5, 15
)
QUICK = Sizes(20_000, 1_000, 50, 500, 1_000_000, 100_000, 100_000, 5, 200, 40_000, 3, 1)


@dataclass(frozen=True)
class Taken:
    """How long a run took, in seconds."""

    median: float
    least: float


def in_turn(
    *runs: Callable[[], object], sizes: Sizes, tidy: Engine | None = None, turns: int = 0
) -> list[Taken]:
    """Time runs in turn: `turns` times, or else until it is often and long enough."""
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + sizes.seconds
    while len(times[0]) < (turns or sizes.turns) or (not turns and time.perf_counter() < end):
        for run, taken in zip(runs, times, strict=True):
            if tidy is not None:
                shop.tidy(tidy)
            begun = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begun)
    return [Taken(statistics.median(taken), min(taken)) for taken in times]


def at_most(what: str, size: int, times: list[Taken], goal: float, unit: str = "sales/s") -> Row:
    """Make a row of which the ratio of times shall be at most so much; 0 where it is only shown."""
    ours, rival = times
    ratio = ours.median / rival.median
    figures = size / ours.median, size / rival.median
    fastest = ours.least / rival.least
    said = f"≤ {goal}" if goal else ""
    return Row(what, size, *figures, unit, ratio, fastest, said, not goal or ratio <= goal)


def times_faster(what: str, size: int, ours: Taken, rival: float, goal: float) -> Row:
    """Make a row of which the ratio of speeds shall be at least so much.

    Args:
        what: what was measured.
        size: how many sales ours were.
        ours: how long they took.
        rival: seconds of the rival for as many sales.
        goal: how many times faster it is to be; 0 for a limit that is only shown.
    """
    ratio = rival / ours.median
    return Row(
        what,
        size,
        size / ours.median,
        size / rival,
        "sales/s",
        ratio,
        rival / ours.least,
        f"≥ {goal:,.0f}" if goal else "",
        ratio >= goal,
    )


def postgresql(engine: Engine, server: shop.Server, sizes: Sizes) -> Iterator[Row]:
    """Measure what is written to PostgreSQL."""
    n = sizes.batch
    copy = shop.plain_copy(engine, n)
    times = in_turn(shop.ours(engine, n), copy, sizes=sizes, tidy=engine)
    yield at_most("generate_d1, PostgreSQL : COPY of ready-made text", n, times, 1.05)

    n = sizes.old_way
    rivals.install(engine)
    few = shop.ours(engine, n)
    old, ours = in_turn(rivals.one_by_one(engine, n), few, sizes=sizes, tidy=engine, turns=3)
    yield times_faster("generate_d1 : the old way", n, ours, old.median, 50)

    with slow_wire(server.port, DELAY) as port:
        slow = create_engine(engine.url.set(port=port))
        with slow.connect():
            pass
        (old,) = in_turn(
            rivals.one_by_one(slow, sizes.over_wire), sizes=sizes, tidy=engine, turns=1
        )
        ours, plain = in_turn(
            shop.ours(slow, n), shop.plain_copy(engine, n, slow), sizes=sizes, tidy=engine
        )
        slow.dispose()
    slowly = old.median / sizes.over_wire * n
    what = f"… with {DELAY * 1000:.0f} ms added each way"
    yield times_faster(what, n, ours, slowly, 2000)
    yield times_faster(f"COPY {what}", n, plain, slowly, 0)

    yield from functions(engine, server, sizes)

    n = sizes.batch
    copy = shop.plain_copy(engine, n)

    def a_day() -> None:
        with engine.connect() as connection:
            connection.execute(text(f"SELECT simulate_sales('2026-01-31', {n})"))
            connection.rollback()

    times = in_turn(a_day, copy, sizes=sizes, tidy=engine)
    yield at_most("simulate_sales : COPY of ready-made text", n, times, 1.3)


def history(server: shop.Server, template: str, sizes: Sizes) -> Row:
    """Measure a year, a transaction a day, against plain COPY of the same rows, day by day."""

    def fresh() -> Engine:
        url = server.url(server.create_database(template))
        engine = create_engine(url, poolclass=NullPool)
        shop.tidy(engine)
        return engine

    engine, year = fresh(), (date(2025, 1, 1), date(2025, 12, 31))
    begun = time.perf_counter()
    days = [day.invoice_ids for day in backfill(engine, *year, sizes.history // 365, seed=7)]
    ours = time.perf_counter() - begun
    with engine.connect() as connection:
        ready = [shop.copy_out(connection, ids[0], ids[-1]) for ids in days]
    with fresh().connect() as connection:
        begun = time.perf_counter()
        for rows in ready:
            shop.copy_in(connection, rows)
            connection.commit()
        rival = time.perf_counter() - begun
    n = sizes.history // 365 * 365
    what = "backfill, a year : COPY of ready-made text, day by day"
    return at_most(what, n, [Taken(ours, ours), Taken(rival, rival)], 1.25)


def open_shop(name: str, engine: Engine, sizes: Sizes) -> Row:
    """Measure how long what arrives 500 times a second waits until it is committed."""
    rate, seed = 500, 7
    shop.tidy(engine)
    latencies: list[float] = []
    # A full garbage collection of what earlier measurements left takes 100 ms and more: one in
    # these few seconds would decide the p99.
    gc.collect()
    gc.freeze()
    begun = time.perf_counter()
    for batch in live(engine, rate, duration=sizes.live, seed=seed):
        latencies += batch.latencies
    held = len(latencies) / (time.perf_counter() - begun)
    came = Arrivals(seed, rate, MIX).until(sizes.live, 10**6)
    p99 = statistics.quantiles(latencies, n=100)[-1] * 1_000
    p50 = statistics.median(latencies) * 1_000
    return Row(
        f"live, {name}, {rate} a second : as many as came; p99, and p50, in ms",
        len(came),
        held,
        len(came) / sizes.live,
        "/s",
        p99,
        p50,
        "all, p99 ≤ 200 ms",
        len(latencies) == len(came) and p99 <= 200,
    )


def checks(name: str, engines: Iterator[Engine], sizes: Sizes) -> Iterator[Row]:
    """Measure checking and undoing, for a number of sales and for a quarter of it."""
    goals = {"verify --all": 3.0, "verify --all --shape": 5.0}
    bounds = {"verify of a day": 1.0, "the runs of status": 0.5}
    per_sale: dict[str, float] = {}
    for count, engine in zip((sizes.checked // 4, sizes.checked), engines, strict=False):
        for what, sales, ours, rival in checking.measure(engine, count):
            title = f"{what}, {name}"
            if rival is None:
                most = bounds[what]
                yield Row(title, sales, ours, None, "s", ours, None, f"≤ {most} s", ours <= most)
            elif what in goals:
                times = [Taken(ours, ours), Taken(rival, rival)]
                yield at_most(f"{title} : SELECT of the same rows", sales, times, goals[what])
            else:
                before = per_sale.setdefault(what, ours / sales)
                ratio = ours / sales / before
                yield Row(
                    f"{title} : SELECT of the same rows; a sale, against a quarter of them",
                    sales,
                    sales / ours,
                    sales / rival,
                    "sales/s",
                    ratio,
                    None,
                    "≤ 1.3",
                    ratio <= 1.3,
                )


def functions(engine: Engine, server: shop.Server, sizes: Sizes) -> Iterator[Row]:
    """Measure one sale in SQL."""
    n = sizes.calls
    ours = rivals.calls(engine, "simulate_new_sale", n)
    least = rivals.calls(engine, "least_sale", n)
    times = in_turn(ours, least, sizes=sizes, tidy=engine)
    yield at_most("simulate_new_sale : the least function", n, times, 1.6, "calls/s")
    rivals.install(engine, "SET plan_cache_mode = force_generic_plan")
    times = in_turn(ours, least, sizes=sizes, tidy=engine)
    yield at_most("… planned once, as ours is", n, times, 0, "calls/s")

    url = server.url(server.create_database())
    many = shop.stocked(create_engine(url, poolclass=NullPool), 100)
    # Once: after a checkpoint each time, the first lock of each track would log a whole page, which
    # the least function pays for as well.
    shop.tidy(engine)
    times = in_turn(rivals.calls(many, "simulate_new_sale", n), ours, sizes=sizes)
    yield at_most("… with 100 times the tracks : with 3,503", n, times, 1.1, "calls/s")


def sqlite(engine: Engine, sizes: Sizes) -> Iterator[Row]:
    """Measure what is written to SQLite."""
    n = sizes.batch
    times = in_turn(shop.ours(engine, n), shop.plain_executemany(engine, n), sizes=sizes)
    yield at_most("generate_d1, SQLite : executemany of ready-made rows", n, times, 1.15)


def sampling(engine: Engine, sizes: Sizes) -> Iterator[Row]:
    """Measure making sales, with no database."""
    with Session(engine) as session:
        recognise(session)
        catalogue = read_catalogue(connection_of(session))

    def make(count: int) -> Callable[[], None]:
        def run() -> None:
            for _ in SalePlan(catalogue, 7, shop.DAY, 0, count).slices():
                pass

        return run

    n = sizes.made
    many, few = in_turn(make(n), make(n // 10), sizes=sizes)
    rate, before = n / many.median, n / 10 / few.median
    # Linear: as many a second, but for what other work on the machine takes.
    reached = rate >= 5e6 and rate >= 0.8 * before
    yield Row(
        "making sales : a tenth as many", n, rate, before, "sales/s", rate, n / many.least,
        "≥ 5,000,000/s, linear", reached,
    )  # fmt: skip


def peak_memory(url: str, sales: int) -> float:
    """Return the peak memory of a process that writes so many sales, in MB."""
    code = (
        "import re, sys, datetime, pathlib\n"
        "from sqlalchemy import create_engine\n"
        "from sqlalchemy.orm import Session\n"
        "from chinook_sim import generate_d1\n"
        "with Session(create_engine(sys.argv[1])) as session:\n"
        "    generate_d1(session, int(sys.argv[2]), day=datetime.date(2026, 1, 31), seed=7)\n"
        "    session.rollback()\n"
        # ru_maxrss would be the parent's: a process keeps it from before its exec.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(re.search('VmHWM:[^0-9]*([0-9]+)', status)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url, str(sales)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


def memory(name: str, url: str, sizes: Sizes) -> Row:
    """Measure how much memory a large batch takes more than a small one."""
    many, few = peak_memory(url, sizes.memory), peak_memory(url, 4_000)
    what = f"peak memory, {name} : with 4,000 sales"
    reached = many - few <= 30 and many <= 200
    return Row(what, sizes.memory, many, few, "MB", many - few, None, "+ ≤ 30, ≤ 200 MB", reached)


def objects(name: str, engine: Engine, sizes: Sizes) -> Row:
    """Measure sales made one at a time, as objects, against a loop written by hand."""
    n = sizes.objects

    def ours() -> None:
        with Session(engine) as session:
            factory = SaleFactory(session, seed=7)
            for _ in range(n):
                factory.create(shop.DAY)
            session.rollback()

    def by_hand() -> None:
        chance = random.Random(7)
        with Session(engine) as session:
            customers = session.execute(select(Customer)).scalars().all()
            tracks = session.execute(select(Track.track_id, Track.unit_price)).all()
            for _ in range(n):
                buyer = chance.choice(customers)
                basket = chance.sample(tracks, chance.randint(1, 5))
                session.add(
                    Invoice(
                        customer_id=buyer.customer_id,
                        invoice_date=datetime(2026, 1, 31)  # noqa: DTZ001
                        + timedelta(seconds=chance.randrange(86_400)),
                        billing_address=buyer.address,
                        billing_city=buyer.city,
                        billing_state=buyer.state,
                        billing_country=buyer.country,
                        billing_postal_code=buyer.postal_code,
                        total=sum((price for _, price in basket), Decimal(0)),
                        lines=[
                            InvoiceLine(track_id=track, unit_price=price, quantity=1)
                            for track, price in basket
                        ],
                    )
                )
                session.flush()
            session.rollback()

    times = in_turn(ours, by_hand, sizes=sizes)
    return at_most(f"SaleFactory.create, {name} : an ORM loop by hand", n, times, 1.3)


def command(directory: Path, sizes: Sizes) -> Iterator[Row]:
    """Measure the command as a whole process."""

    def process(line: str) -> Callable[[], object]:
        words = [str(Path(sys.executable).parent / shlex.split(line)[0]), *shlex.split(line)[1:]]
        return lambda: subprocess.run(words, cwd=directory, check=True, capture_output=True)

    process("chinook-sim generate 10")()
    bare, shown, whole, loaded = in_turn(
        process("python -c pass"),
        process("chinook-sim --help"),
        process("chinook-sim generate 10"),
        process("python -c 'import click, numpy, sqlalchemy.orm'"),
        sizes=sizes,
    )
    more = shown.median - bare.median
    least = shown.least - bare.least
    what = "chinook-sim --help : bare Python"
    yield Row(what, 1, shown.median, bare.median, "s", more, least, "+ ≤ 0.09 s", more <= 0.09)
    what = "chinook-sim generate 10 : importing its libraries"
    yield Row(
        what,
        10,
        whole.median,
        loaded.median,
        "s",
        whole.median,
        whole.least,
        "≤ 0.7 s",
        whole.median <= 0.7,
    )


def measure_checks(sizes: Sizes) -> Iterator[Row]:
    """Measure what reads a filled shop, each in a shop of its own."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(shop.Server(18))
        served = (
            shop.stocked(create_engine(server.url(server.create_database()), poolclass=NullPool))
            for _ in range(2)
        )
        embedded = (
            shop.stocked(create_engine(f"sqlite:///{directory / name}.db", poolclass=NullPool))
            for name in ("quarter", "whole")
        )
        yield from checks("PostgreSQL", served, sizes)
        yield from checks("SQLite", embedded, sizes)


def measure(sizes: Sizes) -> Iterator[Row]:
    """Measure everything else."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(shop.Server(18))
        embedded = create_engine(f"sqlite:///{directory / 'shop.db'}", poolclass=NullPool)
        event.listen(embedded, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
        shop.stocked(embedded)
        url = server.url(server.create_database())
        served = shop.stocked(create_engine(url, poolclass=NullPool))
        yield from sampling(embedded, sizes)
        yield from sqlite(embedded, sizes)
        yield objects("SQLite", embedded, sizes)
        yield from command(directory, sizes)
        yield from postgresql(served, server, sizes)
        yield objects("PostgreSQL", served, sizes)
        yield history(server, str(url.database), sizes)
        yield memory("SQLite", str(embedded.url), sizes)
        yield memory("PostgreSQL", url.render_as_string(hide_password=False), sizes)
        # Last, as what they make is committed.
        yield open_shop("SQLite", embedded, sizes)
        yield open_shop("PostgreSQL", served, sizes)


def machine() -> dict[str, Any]:
    """Describe what was measured on."""
    info = Path("/proc/cpuinfo")
    model = re.search("model name.*: (.*)", info.read_text()) if info.is_file() else None
    from importlib.metadata import version
    from sqlite3 import sqlite_version

    return {
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "postgresql": "18, same machine, fsync=off",
        "sqlite": sqlite_version,
        **{name: version(name) for name in ("chinook-sim", "sqlalchemy", "psycopg", "numpy")},
    }


LINE = "{:52} {:>9} {:>10} {:>10} {:8} {:>8} {:>8}  {}"


def figure(value: float | None) -> str:
    """Write a figure as precisely as it is worth."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Run everything, print one table, and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="smaller, in about four minutes")
    parser.add_argument("--checks", action="store_true", help="only checking and undoing")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="where to write")
    options = parser.parse_args()
    # A terminated run shall end its server, like an interrupted one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(
        LINE.format(
            "measured : compared with", "size", "ours", "rival", "", "compared", "fastest", "goal"
        )
    )
    rows = []
    sizes = QUICK if options.quick else FULL
    everything = chain(() if options.checks else measure(sizes), measure_checks(sizes))
    for row in everything:
        rows.append(row)
        figures = map(figure, (row.ours, row.rival))
        ratios = map(figure, (row.compared, row.fastest))
        goal = row.goal if row.reached else f"{row.goal}  MISSED"
        print(LINE.format(row.what, f"{row.size:,}", *figures, row.unit, *ratios, goal), flush=True)
    record = {"machine": about, "quick": options.quick, "rows": [asdict(row) for row in rows]}
    options.json.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    if options.quick:
        print("at these sizes fixed costs weigh more: goals are meant for the full sizes")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
