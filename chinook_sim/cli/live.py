"""`live`: a stream of sales until it is stopped."""

from __future__ import annotations

import math
import signal
import threading
from collections import Counter
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from chinook_sim.cli.init import make_missing_file
from chinook_sim.cli.options import (
    Command,
    common_options,
    option,
    profile_option,
    timeout_options,
    timezone_option,
)
from chinook_sim.cli.output import StatusLine, counted, table
from chinook_sim.cli.param_types import Duration, Mix, Rate, Seed
from chinook_sim.errors import BatchFailed, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from sqlalchemy import Connection

    from chinook_sim.cli.context import CliContext
    from chinook_sim.database.settings import Location
    from chinook_sim.operations.live.api import LiveStream
    from chinook_sim.operations.live.worker import LiveBatch
    from chinook_sim.sampling.profile import Profile

__all__ = ["live"]

LAG_NOTICED = 2.0
"""How many seconds the database may lag behind before a notice says so."""

LATENCY_STEP = 1.02
"""Latencies are counted in buckets; each is this factor wider than the one before."""


@click.command(cls=Command, short_help="Add sales dated now, until stopped.")
@option(
    "--rate",
    type=Rate(),
    metavar="N",
    default="20",
    help="Average number of arrivals per second.",
)
@option(
    "--for",
    "for_",
    type=Duration(),
    metavar="TIME",
    help="Duration, such as 90s or 1h30m. [default: forever]",
)
@option(
    "--mix",
    type=Mix(),
    metavar="S:U:C",
    default="90:8:2",
    help="Ratio of sales, updates and cancellations.",
)
@option(
    "--seed",
    type=Seed(),
    metavar="NUMBER",
    help="Random seed. [default: drawn at random]",
)
@timezone_option
@profile_option
@common_options
@timeout_options
def live(
    settings: CliContext,
    rate: float,
    for_: float | None,
    mix: tuple[int, int, int],
    seed: int | None,
    timezone: str | None,
    profile: Profile,
) -> None:
    """Add sales that arrive at random and are dated now, until stopped.

    Each transaction contains what has arrived since the one before. Ctrl-C stops the stream after
    the current transaction, a second Ctrl-C at once. A lost connection is opened again.
    """
    from chinook_sim.operations.options import draw_seed

    wanted: dict[str, Any] = {
        "rate": rate,
        "duration": for_,
        "mix": mix,
        "seed": draw_seed() if seed is None else seed,
        "timezone": timezone,
        "profile": profile,
    }
    location = settings.find_database()
    if location.embedded:
        make_missing_file(settings, location)
    status = StatusLine(settings)
    stop = threading.Event()
    stream = open_stream(settings, location, stop, status.say, wanted)
    tally = Tally(stream)
    notices = LagNotices(status.say)
    try:
        with stop_on_signal(stop, stream):
            for batch in stream:
                tally.add(batch)
                notices.report(batch, wanted["rate"])
                passed = status.due()
                if passed is not None:
                    status.show(tally.status_line(passed))
            settings.committed = True
    except (BatchFailed, DatabaseUnavailable) as error:
        status.end()
        if tally.transactions:
            error.add_note(tally.what_remains())
        raise
    except KeyboardInterrupt:
        status.end()
        if tally.transactions:
            settings.interrupted = f"interrupted; {tally.what_remains()}"
        raise
    status.end()
    print_totals(settings, location, tally, wanted)


def open_stream(
    settings: CliContext,
    location: Location,
    stop: threading.Event,
    say: Callable[[str], None],
    wanted: dict[str, Any],
) -> LiveStream:
    """Create the stream, with the timeouts of the command."""
    from chinook_sim.database.engine import make_engine, open_connection, set_timeouts
    from chinook_sim.operations.live.api import live as stream

    engine = make_engine(location, writing=True, lock_timeout=settings.lock_timeout)

    def connect() -> Connection:
        # Once the stream has begun, it retries and reports lost connections itself.
        if made.open:
            return open_connection(engine, location, say=lambda _: None, timeout=0)
        return open_connection(engine, location, say=say)

    made = stream(
        engine,
        **wanted,
        stop=stop,
        say=say,
        connect=connect,
        prepare=lambda it: set_timeouts(it, settings.lock_timeout, settings.statement_timeout),
    )
    return made


@contextmanager
def stop_on_signal(stop: threading.Event, stream: LiveStream) -> Iterator[None]:
    """Set an event on the first interruption of a stream that has begun. Any other interrupts."""
    interrupted = False

    def handle(number: int, frame: FrameType | None) -> None:
        # `stop.is_set` is not enough: a second signal may come while `set` holds the lock.
        nonlocal interrupted
        if interrupted or not stream.open:
            signal.default_int_handler(number, frame)
        interrupted = True
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Tally:
    """Totals of a stream."""

    def __init__(self, stream: LiveStream) -> None:
        self.stream = stream
        self.transactions = self.sales = self.updates = self.cancellations = self.arrivals = 0
        self.revenue = Decimal("0.00")
        self._shown = 0
        # Counted by their logarithm, so that memory does not grow with the stream.
        self._latencies: Counter[int] = Counter()

    def add(self, batch: LiveBatch) -> None:
        """Add a transaction."""
        made = batch.made
        self.transactions += 1
        self.sales += made.count
        self.updates += made.updates
        self.cancellations += made.cancellations
        self.revenue += made.revenue
        self.arrivals += batch.arrivals
        for seconds in batch.latencies:
            self._latencies[round(math.log(max(seconds, 1e-6), LATENCY_STEP))] += 1

    def latency(self, share: float) -> float | None:
        """Return a percentile of the latency in milliseconds; a share of 0.5 is the median."""
        wanted = share * self._latencies.total()
        for step in sorted(self._latencies):
            wanted -= self._latencies[step]
            if wanted <= 0:
                return round(float(LATENCY_STEP**step) * 1_000, 1)
        return None

    def status_line(self, passed: float) -> str:
        """Return the status line, with the rate over the seconds since the last one."""
        rate, self._shown = (self.arrivals - self._shown) / passed, self.arrivals
        left_out = self.stream.left_out
        return ", ".join(
            [
                f"{rate:,.1f}/s",
                f"p50 {self.latency(0.5)} ms",
                f"p99 {self.latency(0.99)} ms",
                *([f"{left_out:,} left out"] if left_out else []),
                counted(self.sales, "sale"),
                counted(self.updates, "update"),
                counted(self.cancellations, "cancellation"),
            ]
        )

    def what_remains(self) -> str:
        """Return what remains committed."""
        return f"what was committed remains: {counted(self.sales, 'sale')} of {self.stream.name}"


class LagNotices:
    """Messages when the database falls behind, and when it has caught up."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._behind = self._left_out = False

    def report(self, batch: LiveBatch, rate: float) -> None:
        """Write a message if the state changes with a transaction."""
        behind = batch.behind > LAG_NOTICED
        if batch.left_out and not self._left_out:
            self._say(
                f"the database is slower than {rate:g} arrivals per second; those that waited too "
                f"long are left out, {batch.left_out:,} so far"
            )
        elif behind and not self._behind:
            self._say(f"the database is {batch.behind:.1f} s behind {rate:g} arrivals per second")
        elif self._behind and not behind and not batch.left_out:
            self._say(f"the database has caught up with {rate:g} arrivals per second")
        self._left_out = batch.left_out > 0 or (self._left_out and behind)
        self._behind = behind or batch.left_out > 0


def print_totals(
    settings: CliContext, location: Location, tally: Tally, wanted: dict[str, Any]
) -> None:
    """Print the totals of the stream."""
    stream = tally.stream
    record = {
        "stream": stream.name if tally.transactions else None,
        "seconds": round(stream.seconds, 1),
        "rate": round(tally.arrivals / stream.seconds, 1),
        "asked_rate": wanted["rate"],
        "transactions": tally.transactions,
        "sales": tally.sales,
        "updates": tally.updates,
        "cancellations": tally.cancellations,
        "revenue": str(tally.revenue),
        "left_out": stream.left_out,
        "waiting": stream.waiting,
        "connections_lost": stream.lost,
        "p50_ms": tally.latency(0.5),
        "p99_ms": tally.latency(0.99),
        "profile": wanted["profile"].name,
        "seed": wanted["seed"],
    }
    labels = {"asked_rate": "target_rate"}
    shown = {
        labels.get(name, name): (
            f"{value:,}" if isinstance(value, int) and name != "seed" else value
        )
        for name, value in record.items()
    }
    settings.print(
        {"database": location.shown, **record},
        [f"added {counted(tally.sales, 'sale')} to {location.shown}", "", *table(shown)],
    )
