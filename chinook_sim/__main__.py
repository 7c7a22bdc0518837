"""Entry point of the command: `chinook-sim`, or `python -m chinook_sim`."""

import gc
import os
import signal
from contextlib import suppress
from typing import NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Import the command, and run it."""
    # While it is imported there is nothing to roll back.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    # Hardly anything of what is imported is ever garbage: looking for it as often as Python does
    # takes a tenth of the time of a small batch.
    gc.set_threshold(50_000)
    from chinook_sim.cli import main as command

    command()


def end(*_: object) -> NoReturn:
    """End the process at once, as the command ends where it is interrupted."""
    with suppress(OSError):
        os.write(2, b"Error: interrupted; nothing was written\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
