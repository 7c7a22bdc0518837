"""`live`, and what it returns."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from chinook_sim.database.connections import check_engine
from chinook_sim.dates import check_timezone
from chinook_sim.errors import InvalidInput
from chinook_sim.operations.live.worker import LiveBatch, Worker
from chinook_sim.operations.options import check_seed, draw_seed
from chinook_sim.sampling.arrivals import MIX, Arrivals, check_mix, check_rate
from chinook_sim.sampling.profile import UNIFORM
from chinook_sim.sampling.profile_file import load_profile

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from sqlalchemy import Connection, Engine

    from chinook_sim.sampling.profile import Profile

__all__ = ["LiveStream", "live"]


class LiveStream(Iterator[LiveBatch]):
    """The transactions of a live stream, each as it is committed; see `live`."""

    def __init__(self, stream: Worker, seconds: float) -> None:
        self._stream = stream
        self._batches = stream.run(seconds)

    def __repr__(self) -> str:
        return f"<LiveStream {self.name}>"

    def __next__(self) -> LiveBatch:
        return next(self._batches)

    def close(self) -> None:
        """End the stream and close its connection.

        Transactions that were not merged in the ledger yet, 500 at most, stay as they are.
        """
        self._batches.close()

    @property
    def name(self) -> str:
        """Its name, as `status` shows and `undo` takes it."""
        return self._stream.name

    @property
    def open(self) -> bool:
        """Whether it has begun: the shop was read, and there are arrivals."""
        return self._stream.open

    @property
    def seconds(self) -> float:
        """For how many seconds it has run, or ran."""
        return self._stream.seconds

    @property
    def lost(self) -> int:
        """How often the connection was lost."""
        return self._stream.lost

    @property
    def left_out(self) -> int:
        """Number of arrivals that were left out because the database is too slow."""
        return self._stream.left_out

    @property
    def waiting(self) -> int:
        """Number of arrivals that were not made any more when it ended."""
        return self._stream.waiting


def live(
    engine: Engine,
    rate: float | Decimal,
    *,
    duration: float | timedelta | None = None,
    mix: Sequence[int] = MIX,
    seed: int | None = None,
    timezone: str | None = None,
    profile: str | os.PathLike[str] | Profile = UNIFORM,
    stop: threading.Event | None = None,
    say: Callable[[str], None] = lambda _: None,
    connect: Callable[[], Connection] | None = None,
    prepare: Callable[[Connection], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LiveStream:
    """Make sales at random times, dated when they arrive, without end.

    There are also updates and cancellations of earlier sales, as in `generate_d1`. Each
    transaction is a run of the ledger. If the connection is lost, another one is opened, after
    pauses that grow. The transaction that was being committed is looked up in the ledger, and made
    again if it is not there::

        for batch in live(engine, 20, duration=60):
            print(batch.made.count, batch.latencies)

    Args:
        engine: on a Chinook with a ledger. One connection of it is used.
        rate: average number of arrivals per second.
        duration: seconds after which there are no more arrivals; None for no end.
        mix: relative frequencies of sales, updates and cancellations, as integers.
        seed: 0 to 2**63 - 1. It determines what arrives when and, for a given day, the sales. If
            None, one is drawn from the system.
        timezone: an IANA name, to date sales by the clock there and not by the database's.
        profile: as for `generate_d1`, but its hours and days are not used.
        stop: an event. Set it, from another thread or a signal handler, to end the stream after
            the current transaction.
        say: called with messages for a person, such as that the connection was lost.
        connect: opens a connection; `engine.connect` if None.
        prepare: called with the connection at the beginning of each transaction.
        clock: returns seconds, and never goes back.

    Returns:
        An iterator of the transactions, each after its commit. While its consumer does something
        else, arrivals wait, as they do for a slow database.

    Raises:
        InvalidInput: an argument is of the wrong type or out of range.
        NoLedger: the database was not migrated.
        NotAChinook: the database holds no Chinook.
        BatchFailed: a transaction could not be made, and nothing of it was kept.
        DatabaseUnavailable: the connection was lost, and not restored a minute after the end.
    """
    check_engine(engine)
    if timezone is not None:
        check_timezone(timezone)
    if stop is not None and (isinstance(stop, type) or not hasattr(stop, "is_set")):
        raise InvalidInput(f"stop must be a threading.Event, got {stop!r:.40}")
    arrivals = Arrivals(
        draw_seed() if seed is None else check_seed(seed), check_rate(rate), check_mix(mix)
    )
    stream = Worker(
        arrivals,
        load_profile(profile),
        timezone,
        stop or threading.Event(),
        say,
        connect or engine.connect,
        prepare or (lambda _: None),
        clock,
    )
    return LiveStream(stream, math.inf if duration is None else _seconds(duration))


def _seconds(duration: object) -> float:
    given = duration.total_seconds() if isinstance(duration, timedelta) else duration
    number = math.nan if isinstance(given, bool) else given
    if not isinstance(number, int | float) or not 0 < number < math.inf:
        raise InvalidInput(
            f"a duration must be a number of seconds, more than 0, got {duration!r:.40}"
        )
    return float(number)
