"""The time of a stream, and how it waits."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

__all__ = ["StreamStopped", "StreamTime", "wait"]

POLL_INTERVAL = 0.05
"""Seconds after which a stream that waits looks again whether it is to stop."""


class StreamStopped(Exception):
    """The stream is to end, and what was to be made next is not made."""


class StreamTime:
    """The seconds since a stream began, until when it lasts, and whether it is to stop.

    Attributes:
        end: the seconds after which there are no more arrivals.
    """

    def __init__(self, clock: Callable[[], float], stop: threading.Event) -> None:
        self._stop = stop
        self._began = 0.0
        self.clock = clock
        self.end = math.inf

    def begin(self, seconds: float) -> None:
        """Let the stream begin now, and end after a number of seconds."""
        self._began, self.end = self.clock(), seconds

    @property
    def passed(self) -> float:
        """How many seconds it is since the stream began."""
        return self.clock() - self._began

    @property
    def stopping(self) -> bool:
        """Whether the stream is to stop."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep for a number of seconds, or until the stream is to stop; return whether it is."""
        return wait(self._stop, seconds)


def wait(stop: threading.Event, seconds: float) -> bool:
    """Sleep until an event is set or a number of seconds has passed; return whether it is set.

    Not by `Event.wait`, which holds the event's lock now and then. A signal handler that runs at
    that moment, in the same thread, would wait in `Event.set` for that lock for ever.
    """
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, POLL_INTERVAL))
    return stop.is_set()
