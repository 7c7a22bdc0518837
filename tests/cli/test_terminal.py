"""What a person sees who sits at a terminal, while something goes on."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING

import pytest

from support.processes import Popen, run

if TYPE_CHECKING:
    from pathlib import Path


class Terminal:
    """A terminal of so many columns, and a command whose messages go to it.

    With `results`, its results go there, too.
    """

    def __init__(
        self, directory: Path, *arguments: str, columns: int = 120, results: bool = False
    ) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = Popen(
            [sys.executable, "-m", "chinook_sim", *arguments],
            cwd=directory,
            env={name: it for name, it in os.environ.items() if name != "COLUMNS"},
            stdout=theirs if results else subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        self._ours = ours
        self.said = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        # A terminal whose other end is closed answers with an error.
        try:
            while block := os.read(self._ours, 4096):
                self.said += block
        except OSError:
            pass
        os.close(self._ours)

    def wait_for(self, pattern: str) -> None:
        until = time.monotonic() + 60
        while not re.search(pattern, self.said.decode()):
            assert time.monotonic() < until, self.said
            time.sleep(0.02)

    def end(self) -> str:
        """Wait for the command to end; return what it printed as its result."""
        shown, _ = self.process.communicate(timeout=60)
        self._reader.join()
        return (shown or b"").decode()

    def lines(self) -> list[str]:
        """Return what was ever to be seen on the lines, one after the other."""
        said = re.sub(r"\x1b\[[?\d]*\w", "", self.said.decode())
        return [line.strip() for line in re.split(r"[\r\n]+", said) if line.strip()]


def test_a_backfill_shows_its_rate_and_how_long_it_will_take(stocked: Path) -> None:
    terminal = Terminal(stocked.parent, "backfill", "2022-01-01", "2025-12-31", "--per-day", "1")
    terminal.wait_for("left.*left")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == ""
    assert terminal.process.returncode == 130
    lines = [line for line in terminal.lines() if "days, " in line]
    assert lines
    how = r"[\d,]+ of 1,461 days, [\d,]+ sales? a second, \d+:\d\d:\d\d left"
    assert all(re.fullmatch(how, line) for line in lines), lines


def test_a_stream_shows_how_it_goes_on_one_line(stocked: Path) -> None:
    terminal = Terminal(stocked.parent, "live", "--rate", "100", columns=60)
    terminal.wait_for(r"(/s.*\r.*){3}")
    terminal.process.send_signal(signal.SIGINT)
    assert "added " in terminal.end()
    assert terminal.process.returncode == 0
    lines = [line for line in terminal.lines() if "/s" in line]
    assert len(lines) >= 3
    assert all(re.match(r"[\d.]+/s, p50 [\d.]+ ms, p99 [\d.]+ ms, \d+ sales", it) for it in lines)
    assert all(len(line) < 60 for line in lines)
    # One line, which a summary can follow.
    said = terminal.said.decode().rstrip(" ")
    assert said.endswith("\n")
    # Where a busy machine cannot keep up, there are lines that say so.
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in said.split("\n")]
    assert len([line for line in shown if "/s, p50" in line]) == 1


@pytest.mark.slow(reason="waits for lines that must not come")
def test_quiet_shows_no_progress(stocked: Path) -> None:
    for arguments in (
        ("backfill", "2025-01-01", "2025-01-20", "--per-day", "4", "--quiet"),
        ("live", "--for", "2s", "--quiet"),
    ):
        terminal = Terminal(stocked.parent, *arguments)
        assert terminal.end() == ""
        assert terminal.said == b""


def test_reports_fit_the_terminal(stocked: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chinook_sim"]
    run([*command, "generate", "5", "--once", "--quiet"], cwd=stocked.parent, check=True)
    for arguments in (("status",), ("verify", "--expect", "6")):
        piped = run([*command, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True).stdout
        assert max(map(len, piped.splitlines())) > 70
        terminal = Terminal(tmp_path, *arguments, columns=70, results=True)
        terminal.end()
        said = terminal.said.decode()
        assert max(map(len, said.splitlines())) <= 70
        assert said.split() == piped.split()
