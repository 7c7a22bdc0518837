"""What the processes of one test run share: servers, template databases and other files.

pytest-xdist runs tests in several processes, its workers. What takes long to make is made by the
first worker that needs it. The process that starts the workers is the controller, which stops the
servers and removes the files when the workers have ended.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from support.postgres_server import Server
from support.processes import adopt_orphans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What tests write can be followed, as test_replication.py does; and nobody tidies up databases
# that are there for a second.
SETTINGS = (
    "wal_level=logical",
    "full_page_writes=off",
    "autovacuum=off",
    "max_connections=300",
)


class SharedRun:
    """A directory that all processes of a run use.

    Args:
        directory: The directory that the controller has made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[SharedRun]:
        """Make the directory; at the end, stop the servers and remove it."""
        run = cls(Path(tempfile.mkdtemp(prefix="chinook-tests-")))
        # A server may be another user.
        run.directory.chmod(0o711)
        reading, writing = os.pipe()
        guard = os.fork()
        if guard == 0:
            run._close_after_controller(reading, writing)
        os.close(reading)
        # A server that a worker started can be waited for when the worker has ended.
        adopt_orphans()
        try:
            yield run
        finally:
            run._close()
            os.close(writing)
            os.waitpid(guard, 0)

    def _close_after_controller(self, reading: int, writing: int) -> NoReturn:
        """Wait until the controller has ended, and close what it has not if it was killed."""
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            os.close(writing)
            os.read(reading, 1)
            self._close()
        finally:
            os._exit(0)

    def once(self, name: str, make: Callable[[], object]) -> str:
        """Return the text that `make` returned in the first process that asked for a name.

        Other processes wait for it. If the first one ends before it has finished, the next one
        begins anew.
        """
        made = self.directory / name
        with (self.directory / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                text = str(make())
                made.with_suffix(".new").write_text(text)
                made.with_suffix(".new").rename(made)
            return made.read_text()

    def server(self, major: int) -> Server:
        """Return the server of a major version, and start it if there is none."""
        return Server.started_in(Path(self.once(f"pg{major}", lambda: self._start(major))), major)

    def _start(self, major: int) -> Path:
        home = Path(tempfile.mkdtemp(prefix=f"server-{major}-", dir=self.directory))
        Server(major, *SETTINGS, home=home).leave_running()
        return home

    def _close(self) -> None:
        try:
            for home in self.directory.glob("server-*"):
                Server(int(home.name.split("-")[1]), home=home).stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
