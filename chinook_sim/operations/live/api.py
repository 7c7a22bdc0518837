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
from chinook_sim.sampling.profile import UNIFORM, load_profile

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
    """Make sales as if a shop were open: at random moments, dated when they come, and for ever.

    Besides sales there are updates and cancellations of earlier ones, as in `generate_d1`. Each
    transaction is a run of the ledger. A connection that is lost is opened again, with pauses that
    grow, and what was on its way is looked up in the ledger, and made if it is not there::

        for batch in live(engine, 20, duration=60):
            print(batch.made.count, batch.latencies)

    Args:
        engine: on a Chinook with a ledger; one connection of it is used.
        rate: arrivals a second, on average.
        duration: seconds for which there are arrivals; None for ever.
        mix: how often sales, updates and cancellations come, in whole numbers.
        seed: 0 to 2**63 - 1: what comes when, and, on a day, who buys what; drawn from the system
            if None.
        timezone: an IANA name, to date sales by the clock there, and not by the database's own.
        profile: as for `generate_d1`; its hours and days are no part of a stream.
        stop: set it, from another thread or a signal handler, to end after the transaction that is
            running.
        say: told what a person should know, such as that the connection was lost.
        connect: opens a connection, if not just the engine.
        prepare: called with the connection at the beginning of each transaction.
        clock: seconds, rising.

    Returns:
        An iterator of the transactions, each once it is committed. What comes while its consumer
        is at something else waits, as for a database that is slow.

    Raises:
        InvalidInput: an argument cannot mean anything.
        NoLedger: the database was not migrated.
        NotAChinook: it holds no Chinook.
        BatchFailed: a transaction could not be made, and nothing of it was kept.
        DatabaseUnavailable: the connection was lost, and is not there a minute after the end.
    """
    check_engine(engine)
    if timezone is not None:
        check_timezone(timezone)
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
            f"a duration must be a number of seconds, more than 0, not {duration!r:.40}"
        )
    return float(number)
