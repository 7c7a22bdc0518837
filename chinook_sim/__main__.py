"""The command's door: `chinook-sim`, and `python -m chinook_sim`, which is the same."""

import gc
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Import the command, and run it."""
    # While it is imported there is nothing to take back: an interrupt just ends the process.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Hardly anything of what is imported is ever garbage: looking for it as often as Python does
    # takes a tenth of the time of a small batch.
    gc.set_threshold(50_000)
    from chinook_sim.cli import main as command

    command()


if __name__ == "__main__":
    main()
