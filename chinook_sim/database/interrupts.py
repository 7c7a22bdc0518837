"""Interruptions: KeyboardInterrupt and its kind, which errors of the clean-up must not replace."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chinook_sim.errors import ChinookSimError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["interruptible"]


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise the interruption of a block instead of the errors that it led to; ours are kept.

    A signal may arrive inside a driver, in the middle of a command. The transaction cannot be
    rolled back on that connection then, and the error of the ROLLBACK replaces KeyboardInterrupt.
    """
    handled = sys.exception()
    try:
        yield
    except ChinookSimError:
        raise
    except Exception as error:
        before: BaseException | None = error
        # What was being handled before the block led to nothing in it.
        while before is not None and before is not handled:
            if not isinstance(before, Exception | GeneratorExit):
                raise before from None
            before = before.__cause__ or before.__context__
        raise
