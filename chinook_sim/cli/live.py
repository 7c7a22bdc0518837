"""`live`: sales that never stop."""

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

SLOW = 2.0
"""Seconds behind from which on it is said that the database is."""

FINE = 1.02
"""Latencies are told to within this factor, however many there are."""


@click.command(cls=Command)
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
    help="Random seed. [default: drawn at random and reported]",
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
    """Sell for as long as the shop is open: sales dated now, arriving at random.

    What has arrived since the transaction before makes the next one. Ctrl-C ends it after the one
    that is running; a second Ctrl-C at once. A connection that is lost is opened again.
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
    location = settings.find()
    if location.embedded:
        make_missing_file(settings, location)
    status = StatusLine(settings)
    stop = threading.Event()
    stream = sell(settings, location, stop, status.say, wanted)
    tally = Tally(stream)
    notices = Notices(status.say)
    try:
        with stopping(stop, stream):
            for batch in stream:
                tally.add(batch)
                notices.tell(batch, wanted["rate"])
                passed = status.due()
                if passed is not None:
                    status.show(tally.line(passed))
            settings.done = True
    except (BatchFailed, DatabaseUnavailable) as error:
        status.end()
        if tally.transactions:
            error.add_note(tally.kept())
        raise
    except KeyboardInterrupt:
        status.end()
        if tally.transactions:
            settings.interrupted = f"interrupted; {tally.kept()}"
        raise
    status.end()
    show(settings, location, tally, wanted)


def sell(
    settings: CliContext,
    location: Location,
    stop: threading.Event,
    say: Callable[[str], None],
    wanted: dict[str, Any],
) -> LiveStream:
    """Make the stream, with the patience that the command was given."""
    from chinook_sim.database.engine import limit, make_engine, open_connection
    from chinook_sim.operations.live.api import live as stream

    engine = make_engine(location, writing=True, patience=settings.lock_timeout)

    def connect() -> Connection:
        # The stream itself is patient, and tells of it, once it has begun.
        if made.open:
            return open_connection(engine, location, say=lambda _: None, patience=0)
        return open_connection(engine, location, say=say)

    made = stream(
        engine,
        **wanted,
        stop=stop,
        say=say,
        connect=connect,
        prepare=lambda it: limit(it, settings.lock_timeout, settings.statement_timeout),
    )
    return made


@contextmanager
def stopping(stop: threading.Event, stream: LiveStream) -> Iterator[None]:
    """Let the first interruption of a stream that has begun set an event; any other interrupts."""
    asked = False

    def told(number: int, frame: FrameType | None) -> None:
        # Not asking the event: a second signal may come while the first is in `set`, with its lock.
        nonlocal asked
        if asked or not stream.open:
            signal.default_int_handler(number, frame)
        asked = True
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Tally:
    """What a stream came to."""

    def __init__(self, stream: LiveStream) -> None:
        self.stream = stream
        self.transactions = self.sales = self.updates = self.cancellations = self.arrivals = 0
        self.revenue = Decimal("0.00")
        self._shown = 0
        # By their logarithm, so that a stream may go on for ever.
        self._latencies: Counter[int] = Counter()

    def add(self, batch: LiveBatch) -> None:
        """Count a transaction."""
        made = batch.made
        self.transactions += 1
        self.sales += made.count
        self.updates += made.updates
        self.cancellations += made.cancellations
        self.revenue += made.revenue
        self.arrivals += batch.arrivals
        for seconds in batch.latencies:
            self._latencies[round(math.log(max(seconds, 1e-6), FINE))] += 1

    def latency(self, share: float) -> float | None:
        """Return the milliseconds within which a share of the arrivals were committed."""
        wanted = share * self._latencies.total()
        for step in sorted(self._latencies):
            wanted -= self._latencies[step]
            if wanted <= 0:
                return round(float(FINE**step) * 1_000, 1)
        return None

    def line(self, passed: float) -> str:
        """Say how it goes, with the rate of the seconds that have passed since it was said."""
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

    def kept(self) -> str:
        """Say what stays."""
        return (
            f"what was committed before stays: {counted(self.sales, 'sale')} of {self.stream.name}"
        )


class Notices:
    """What is said when the database falls behind, and when it has caught up."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._behind = self._left_out = False

    def tell(self, batch: LiveBatch, rate: float) -> None:
        """Say what has changed with a transaction."""
        behind = batch.behind > SLOW
        if batch.left_out and not self._left_out:
            self._say(
                f"the database is slower than {rate:g} arrivals per second; those that waited too "
                f"long are left out, {batch.left_out:,} so far"
            )
        elif behind and not self._behind:
            self._say(f"the database is {batch.behind:.1f} s behind {rate:g} a second")
        elif self._behind and not behind and not batch.left_out:
            self._say(f"the database has caught up with {rate:g} a second")
        self._left_out = batch.left_out > 0 or (self._left_out and behind)
        self._behind = behind or batch.left_out > 0


def show(settings: CliContext, location: Location, tally: Tally, wanted: dict[str, Any]) -> None:
    """Print what the stream came to."""
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
    shown = {
        name: f"{value:,}" if isinstance(value, int) and name != "seed" else value
        for name, value in record.items()
    }
    settings.print(
        {"database": location.shown, **record},
        [f"sold {counted(tally.sales, 'time')} in {location.shown}", "", *table(shown)],
    )
