"""`live`: sales that never stop."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from chinook_sim.cli.common import (
    Common,
    common,
    limited,
    option,
    profile_option,
    read_number,
    read_timezone,
    timezone_option,
)
from chinook_sim.cli.output import table
from chinook_sim.cli.shop import make_missing_file
from chinook_sim.errors import BatchFailed, DatabaseUnavailable, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from sqlalchemy import Connection

    from chinook_sim.settings import Location
    from chinook_sim.stream import LiveBatch

__all__ = ["live"]

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

SHOWN, LOGGED = 1.0, 10.0
"""Seconds between one status line and the next, on a terminal and elsewhere."""

SLOW = 2.0
"""Seconds behind from which on it is said that the database is."""

FINE = 1.02
"""Latencies are told to within this factor, however many there are."""


@click.command()
@option("--rate", metavar="N", default="20", help="So many arrivals a second, on average.")
@option("--for", "for_", metavar="TIME", help="So long, such as 90s, 10m or 1h30m; default: ever.")
@option("--mix", metavar="S:U:C", default="90:8:2", help="Of sales, updates and cancellations.")
@option("--seed", metavar="NUMBER", help="Who buys what when; default: drawn, and shown.")
@timezone_option
@profile_option
@common
@limited
def live(
    settings: Common,
    rate: str,
    for_: str | None,
    mix: str,
    seed: str | None,
    timezone: str | None,
    profile: str,
) -> None:
    """Sell for as long as the shop is open: sales dated now, arriving at random.

    What has arrived since the transaction before makes the next one. Ctrl-C ends it after the one
    that is running; a second Ctrl-C at once. A connection that is lost is opened again.
    """
    from chinook_sim.arrivals import check_mix, check_rate
    from chinook_sim.profile import load_profile
    from chinook_sim.request import draw_seed
    from chinook_sim.sampling import SEED_LIMIT

    wanted: dict[str, Any] = {
        "rate": check_rate(rate),
        "duration": None if for_ is None else read_duration(for_),
        "mix": check_mix(read_mix(mix)),
        "seed": draw_seed() if seed is None else read_number("the seed", seed, SEED_LIMIT - 1),
        "timezone": read_timezone(timezone),
        "profile": load_profile(profile),
    }
    location = settings.find()
    if location.embedded:
        make_missing_file(settings, location)
    tally = Tally(wanted["rate"])
    status = Status(settings)
    stop = threading.Event()
    with stopping(stop):
        try:
            for batch in sell(settings, location, stop, wanted):
                tally.add(batch)
                status.show(tally)
        except (BatchFailed, DatabaseUnavailable) as error:
            status.end()
            kind = BatchFailed if isinstance(error, BatchFailed) else DatabaseUnavailable
            raise kind(f"{error}; {tally.kept()}") if tally.transactions else error from None
        except KeyboardInterrupt:
            status.end()
            settings.interrupted = f"interrupted; {tally.kept()}"
            raise
    status.end()
    show(settings, location, tally, wanted)


def sell(
    settings: Common, location: Location, stop: threading.Event, wanted: dict[str, Any]
) -> Iterator[LiveBatch]:
    """Make the stream's transactions, with the patience that the command was given."""
    from chinook_sim.connecting import PATIENCE, limit, make_engine, open_connection
    from chinook_sim.stream import live as stream

    engine = make_engine(location, writing=True, patience=settings.lock_timeout)
    patience = [PATIENCE]

    def connect() -> Connection:
        # The stream itself is patient, once it has begun.
        return open_connection(
            engine,
            location,
            say=settings.say if patience else lambda _: None,
            patience=patience.pop() if patience else 0,
        )

    return stream(
        engine,
        **wanted,
        stop=stop,
        say=settings.say,
        connect=connect,
        prepare=lambda it: limit(it, settings.lock_timeout, settings.statement_timeout),
    )


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """Set an event at the first interruption; the second one interrupts."""

    def told(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Tally:
    """What a stream came to."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.begun = time.monotonic()
        self.transactions = self.sales = self.updates = self.cancellations = 0
        self.arrivals = self.left_out = self.lost = 0
        self.revenue = Decimal("0.00")
        self.behind = 0.0
        self.name: str | None = None
        # By their logarithm, so that a stream may go on for ever.
        self._latencies: Counter[int] = Counter()

    def add(self, batch: LiveBatch) -> None:
        """Count a transaction."""
        made = batch.made
        self.name = str(made.key).split("/")[0]
        self.transactions += 1
        self.sales += made.count
        self.updates += made.updates
        self.cancellations += made.cancellations
        self.revenue += made.revenue
        self.arrivals += batch.arrivals
        self.left_out += batch.left_out
        self.lost += batch.lost
        self.behind = batch.behind
        for seconds in batch.latencies:
            self._latencies[round(math.log(max(seconds, 1e-6), FINE))] += 1

    @property
    def seconds(self) -> float:
        """How long it has gone on."""
        return time.monotonic() - self.begun

    def latency(self, share: float) -> float | None:
        """Return the milliseconds within which a share of the arrivals were committed."""
        wanted = share * self._latencies.total()
        for step in sorted(self._latencies):
            wanted -= self._latencies[step]
            if wanted <= 0:
                return round(float(FINE**step) * 1_000, 1)
        return None

    def kept(self) -> str:
        """Say what stays."""
        return f"the {self.transactions:,} transactions before are committed, {self.sales:,} sales"


class Status:
    """A line that tells how it goes."""

    def __init__(self, settings: Common) -> None:
        self._settings = settings
        self._terminal = sys.stderr.isatty()
        self._shown = time.monotonic()
        self._arrivals = 0
        self._slow = False
        self._width = 0

    def show(self, tally: Tally) -> None:
        """Tell how it goes, once a while, and at once when the database cannot keep up."""
        slow = tally.behind > SLOW or tally.left_out > 0
        if slow and not self._slow:
            self.end()
            self._settings.say(
                f"the database is {tally.behind:.1f} s behind {tally.rate:g} a second"
                + "; what has waited for too long is left out" * (tally.left_out > 0)
            )
        self._slow = slow
        now = time.monotonic()
        passed = now - self._shown
        if passed < (SHOWN if self._terminal else LOGGED):
            return
        rate = (tally.arrivals - self._arrivals) / passed
        self._shown, self._arrivals = now, tally.arrivals
        left_out = f", {tally.left_out:,} left out" if tally.left_out else ""
        line = (
            f"{rate:,.1f}/s, p50 {tally.latency(0.5)} ms, p99 {tally.latency(0.99)} ms{left_out}, "
            f"{tally.sales:,} sales, {tally.updates:,} updates, "
            f"{tally.cancellations:,} cancellations"
        )
        if not self._terminal:
            self._settings.say(line)
        elif not self._settings.quiet:
            # A line that is too long would go on in the next, and stay there.
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            line = line[: columns - 1]
            click.echo("\r" + line.ljust(self._width), nl=False, err=True)
            self._width = len(line)

    def end(self) -> None:
        """Leave the line, so that another can follow."""
        if self._width:
            click.echo(err=True)
            self._width = 0


def show(settings: Common, location: Location, tally: Tally, wanted: dict[str, Any]) -> None:
    """Print what the stream came to."""
    record = {
        "stream": tally.name,
        "seconds": round(tally.seconds, 1),
        "rate": round(tally.arrivals / tally.seconds, 1),
        "asked_rate": tally.rate,
        "transactions": tally.transactions,
        "sales": tally.sales,
        "updates": tally.updates,
        "cancellations": tally.cancellations,
        "revenue": str(tally.revenue),
        "left_out": tally.left_out,
        "connections_lost": tally.lost,
        "p50_ms": tally.latency(0.5),
        "p99_ms": tally.latency(0.99),
        "profile": wanted["profile"].name,
        "seed": wanted["seed"],
    }
    shown = {
        name: f"{value:,}" if isinstance(value, int) and name != "seed" else value
        for name, value in record.items()
    }
    settings.print(
        {"database": location.shown, **record},
        [f"sold {tally.sales:,} times in {location.shown}", "", *table(shown)],
    )


def read_duration(given: str) -> float:
    """Read a length of time such as 90s, 10m, 1h30m, or seconds."""
    parts = re.fullmatch(r"(?:[0-9]{1,9}[smhd])+|[0-9]{1,9}", given)
    seconds = sum(
        int(number) * UNITS[unit or "s"]
        for number, unit in re.findall(r"([0-9]+)([smhd]?)", given if parts else "")
    )
    if not seconds:
        raise InvalidInput(f"a time is written as 90s, 10m or 1h30m, and {given[:40]!r} is none")
    return float(seconds)


def read_mix(given: str) -> tuple[int, ...]:
    """Read a mix such as 90:8:2."""
    if not re.fullmatch("[0-9]{1,9}(:[0-9]{1,9}){2}", given):
        raise InvalidInput(
            f"a mix is written as sales:updates:cancellations, such as 90:8:2, and {given[:40]!r} "
            "is none"
        )
    return tuple(int(part) for part in given.split(":"))
