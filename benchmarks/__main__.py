"""How fast sales are made and written, each next to its rival; see README.md here."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from benchmarks import rivals, shop
from benchmarks.slow_wire import slow_wire
from chinook_sim import Customer, Invoice, InvoiceLine, SaleFactory, Track
from chinook_sim.batch import SalePlan
from chinook_sim.catalogue import read_catalogue
from chinook_sim.naming import connection_of, recognise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TURNS = 5
"""How often each run and its rival are timed, in turn."""

DELAY = 0.010
"""Seconds that the slow wire adds, each way."""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        what: what was measured, against what.
        size: how many sales, calls or rows.
        ours: our figure, in `unit`.
        rival: the rival's, or None.
        unit: of both.
        ratio: what `goal` speaks of.
        goal: what is to be reached.
        reached: whether it was.
    """

    what: str
    size: int
    ours: float
    rival: float | None
    unit: str
    ratio: float
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
    objects: int
    turns: int


FULL = Sizes(100_000, 10_000, 1_000, 2_000, 5_000_000, 4_000_000, 1_000, TURNS)
QUICK = Sizes(20_000, 1_000, 100, 500, 1_000_000, 200_000, 200, 3)


def in_turn(*runs: Callable[[], object], turns: int, tidy: Engine | None = None) -> list[float]:
    """Time runs in turn, and return the median of each, in seconds."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(turns):
        for run, taken in zip(runs, times, strict=True):
            if tidy is not None:
                shop.tidy(tidy)
            begun = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begun)
    return [statistics.median(taken) for taken in times]


def at_most(
    what: str, size: int, times: list[float], goal: float, *, rate: bool = True, unit: str = ""
) -> Row:
    """Make a row of which the ratio of times shall be at most so much."""
    ours, rival = times
    ratio = ours / rival
    figures = (size / ours, size / rival) if rate else (ours, rival)
    unit = unit or ("sales/s" if rate else "s")
    return Row(what, size, *figures, unit, ratio, f"≤ {goal}", ratio <= goal)


def postgresql(engine: Engine, server: shop.Server, sizes: Sizes) -> Iterator[Row]:
    """Measure what is written to PostgreSQL."""
    n = sizes.batch
    copy = shop.plain_copy(engine, n)
    times = in_turn(shop.ours(engine, n), copy, turns=sizes.turns, tidy=engine)
    yield at_most("generate_d1, PostgreSQL : COPY of ready-made text", n, times, 1.05)

    n = sizes.old_way
    rivals.install(engine)
    old, ours = in_turn(
        rivals.one_by_one(engine, n), shop.ours(engine, n), turns=min(sizes.turns, 3), tidy=engine
    )
    yield Row("generate_d1 : the old way", n, n / ours, n / old, "sales/s", old / ours, "≥ 50", old >= 50 * ours)  # fmt: skip # noqa: E501

    with slow_wire(server.port, DELAY) as port:
        slow = create_engine(engine.url.set(port=port))
        with slow.connect():
            pass
        few = sizes.over_wire
        (old,) = in_turn(rivals.one_by_one(slow, few), turns=1, tidy=engine)
        ours, plain = in_turn(
            shop.ours(slow, n), shop.plain_copy(engine, n, slow), turns=sizes.turns, tidy=engine
        )
        slow.dispose()
    old = old / few * n
    what = f"… with {DELAY * 1000:.0f} ms added each way"
    yield Row(what, n, n / ours, n / old, "sales/s", old / ours, "≥ 2000", old >= 2000 * ours)
    ratio = old / plain
    yield Row(f"COPY {what}", n, n / plain, n / old, "sales/s", ratio, "(the limit)", True)

    yield from functions(engine, server, sizes)

    n = sizes.batch
    copy = shop.plain_copy(engine, n)

    def a_day() -> None:
        with engine.connect() as connection:
            connection.execute(text(f"SELECT simulate_sales('2026-01-31', {n})"))
            connection.rollback()

    times = in_turn(a_day, copy, turns=sizes.turns, tidy=engine)
    yield at_most("simulate_sales : COPY of ready-made text", n, times, 1.3)


def functions(engine: Engine, server: shop.Server, sizes: Sizes) -> Iterator[Row]:
    """Measure one sale in SQL."""
    n, turns = sizes.calls, sizes.turns * 3
    ours = rivals.calls(engine, "simulate_new_sale", n)
    least = rivals.calls(engine, "least_sale", n)
    times = in_turn(ours, least, turns=turns, tidy=engine)
    yield at_most("simulate_new_sale : the least function", n, times, 1.6, unit="calls/s")
    rivals.install(engine, "SET plan_cache_mode = force_generic_plan")
    times = in_turn(ours, least, turns=turns, tidy=engine)
    yield at_most("… planned once, as ours is", n, times, 1.6, unit="calls/s")

    url = server.url(server.create_database())
    many = shop.stocked(create_engine(url, poolclass=NullPool), 100)
    times = in_turn(rivals.calls(many, "simulate_new_sale", n), ours, turns=turns)
    yield at_most("… with 100 times the tracks : with 3,503", n, times, 1.1, unit="calls/s")


def sqlite(engine: Engine, sizes: Sizes) -> Iterator[Row]:
    """Measure what is written to SQLite."""
    n = sizes.batch
    times = in_turn(shop.ours(engine, n), shop.plain_executemany(engine, n), turns=sizes.turns)
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
    many, few = in_turn(make(n), make(n // 10), turns=sizes.turns)
    yield Row("making sales : a tenth as many", n, n / many, n / 10 / few, "sales/s", n / many / 5e6, "≥ 5,000,000/s", n / many >= 5e6)  # fmt: skip # noqa: E501


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
    return Row(what, sizes.memory, many, few, "MB", many / few, "+ ≤ 30, ≤ 200 MB", reached)


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

    times = in_turn(ours, by_hand, turns=sizes.turns)
    return at_most(f"SaleFactory.create, {name} : an ORM loop by hand", n, times, 1.3)


def command(directory: Path, sizes: Sizes) -> Iterator[Row]:
    """Measure the command as a whole process."""

    def process(line: str) -> Callable[[], object]:
        words = [str(Path(sys.executable).parent / shlex.split(line)[0]), *shlex.split(line)[1:]]
        return lambda: subprocess.run(words, cwd=directory, check=True, capture_output=True)

    process("chinook-sim generate 10")()
    turns = sizes.turns * 2
    bare, shown, whole = in_turn(
        process("python -c pass"),
        process("chinook-sim --help"),
        process("chinook-sim generate 10"),
        turns=turns,
    )
    more = shown - bare
    yield Row("chinook-sim --help : bare Python", 1, shown, bare, "s", more, "+ ≤ 0.09 s", more <= 0.09)  # fmt: skip # noqa: E501
    yield Row("chinook-sim generate 10, embedded", 10, whole, bare, "s", whole, "≤ 0.7 s", whole <= 0.7)  # fmt: skip # noqa: E501


def measure(sizes: Sizes) -> Iterator[Row]:
    """Measure everything."""
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
        yield memory("SQLite", str(embedded.url), sizes)
        yield memory("PostgreSQL", url.render_as_string(hide_password=False), sizes)


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


def figure(value: float | None) -> str:
    """Write a figure as precisely as it is worth."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Run everything, print one table, and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="smaller, in less than two minutes")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="where to write")
    options = parser.parse_args()
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{'what : against what':52} {'size':>9} {'ours':>10} {'rival':>10} {'':8} {'ratio':>8}")
    rows = []
    for row in measure(QUICK if options.quick else FULL):
        rows.append(row)
        print(
            f"{row.what:52} {row.size:>9,} {figure(row.ours):>10} {figure(row.rival):>10} "
            f"{row.unit:8} {figure(row.ratio):>8}  {row.goal}{'' if row.reached else '  MISSED'}",
            flush=True,
        )
    record = {"machine": about, "quick": options.quick, "rows": [asdict(row) for row in rows]}
    options.json.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
