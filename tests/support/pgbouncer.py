"""A real pgbouncer in front of a server, in transaction mode as Neon's poolers are."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import psycopg
import pytest

from support import ROOT
from support.postgres_server import PASSWORD, free_port
from support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    from support.postgres_server import Server

Way = Literal["directly", "to pgbouncer", "from pgbouncer"]
"""Where a wire that can be cut lies on the way to a server."""

CACHE = ROOT / ".cache" / "pgbouncer"


def find_pgbouncer() -> Path | None:
    """Return pgbouncer: the one that is installed, or one unpacked from the system's packages."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found:
        return Path(found)
    program = CACHE / "usr" / "sbin" / "pgbouncer"
    if not program.exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        _unpack()
    return program if program.exists() else None


def _unpack() -> None:
    """Fetch the packages and unpack them, which needs no root; whole or not at all."""
    CACHE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as directory:
        needed = subprocess.run(
            ["apt-cache", "depends", "pgbouncer"],
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        libraries = [line.split()[-1] for line in needed.splitlines() if " Depends: lib" in line]
        # The system's own C library is there, and only one of it can be used.
        for name in {"pgbouncer", *libraries} - {"libc6"}:
            subprocess.run(
                ["apt-get", "download", name],
                cwd=directory,
                capture_output=True,
                timeout=60,
                check=False,
            )
        root = Path(directory) / "root"
        for package in Path(directory).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, root], check=True)
        if (root / "usr" / "sbin" / "pgbouncer").exists() and not CACHE.exists():
            root.rename(CACHE)


class Pooler:
    """Runs on a free port of the loopback interface until it is closed.

    Args:
        program: of `find_pgbouncer`.
        server: what it pools.
        port: where it reaches the server, if not directly.
    """

    def __init__(self, program: Path, server: Server, *, port: int | None = None) -> None:
        self.port = free_port()
        self._program = program
        self._server = server
        self._home = Path(tempfile.mkdtemp(prefix="chinook-pgbouncer-"))
        self._settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "plain",
            "auth_file": self._home / "users",
            "pool_mode": "transaction",
            "default_pool_size": 4,
            "max_client_conn": 200,
            "logfile": self._home / "log",
            # A server connection that was cut is not waited for.
            "server_login_retry": 0,
        }
        self._to = port or server.port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        settings = "\n".join(f"{name} = {value}" for name, value in self._settings.items())
        users, ini = self._home / "users", self._home / "ini"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        ini.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self._to}\n[pgbouncer]\n{settings}\n"
        )
        command = [str(self._program), str(ini)]
        if os.getuid() == 0:
            # It refuses to run as root.
            for path in (self._home, users, ini):
                os.chown(path, 65534, 65534)
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        libraries = ":".join(str(path) for path in CACHE.glob("usr/lib/*") if path.is_dir())
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 15
        while True:
            try:
                url = self.url("postgres")
                psycopg.connect(
                    host="127.0.0.1",
                    port=self.port,
                    user="postgres",
                    password=url.password,
                    dbname="postgres",
                ).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > until or self._process.poll() is not None:
                    log = self._home / "log"
                    said = log.read_text() if log.exists() else str(error)
                    self.__exit__()
                    raise RuntimeError(said) from None
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def url(self, database: str) -> URL:
        """Return the URL of a database behind it."""
        return self._server.url(database).set(port=self.port)


@contextmanager
def wired(server: Server, way: Way) -> Iterator[tuple[TcpProxy, int]]:
    """Give a wire that can be cut, and the port of the way to the server that it is on."""
    with ExitStack() as stack:
        program = None if way == "directly" else find_pgbouncer()
        if program is None:
            if way != "directly":
                pytest.skip("pgbouncer is not installed, and apt-get cannot bring it")
            wire = stack.enter_context(TcpProxy(server.port))
            yield wire, wire.port
        elif way == "to pgbouncer":
            wire = stack.enter_context(TcpProxy(stack.enter_context(Pooler(program, server)).port))
            yield wire, wire.port
        else:
            wire = stack.enter_context(TcpProxy(server.port))
            yield wire, stack.enter_context(Pooler(program, server, port=wire.port)).port
