"""A Chinook that `init --from` reads from a URL."""

from __future__ import annotations

import http.server
import json
import socket
import sqlite3
import threading
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from chinook_sim.errors import DatabaseUnavailable, InvalidInput
from chinook_sim.provisioning.source_file import fetch
from support.chinook_variants import SHAPES, build_sqlite
from support.postgres_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.command import Command


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web site that has a Chinook."""
    (tmp_path / "site").mkdir()
    build_sqlite(SHAPES[4], tmp_path / "site" / "shop.db")
    handler = partial(Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def test_a_chinook_comes_from_a_url(site: str, command: Command, tmp_path: Path) -> None:
    done = command("init", "--from", f"{site}/shop.db", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["made"] == "copy"
    with closing(sqlite3.connect(tmp_path / "chinook.db")) as connection:
        assert connection.execute('SELECT count(*) FROM "Invoice"').fetchone() == (30,)
    assert command("init", "--from", f"{site}/shop.db").returncode == 2
    assert command("generate", "5").returncode == 0


@pytest.mark.parametrize("path", ["/nothing.db", "/shop.db/"])
def test_a_url_without_a_chinook_is_refused(site: str, tmp_path: Path, path: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="404"):
        fetch(site + path, tmp_path)


def test_a_url_that_cannot_be_read_is_named_without_its_password(tmp_path: Path) -> None:
    for url in (
        f"http://user:hunter2@127.0.0.1:{free_port()}/x.db",
        "http://user:hun/hunter2@127.0.0.1/x",
        "http://localhost:9/hunter2@example.org/x.db",
        "http://127.0.0.1/hunter2 x.db",
    ):
        with pytest.raises(InvalidInput) as caught:
            fetch(url, tmp_path)
        assert "hunter2" not in str(caught.value)
    for url in (f"http://127.0.0.1:{free_port()}/x.db", "http://[x/y.db", "http://h:port/x"):
        with pytest.raises(DatabaseUnavailable, match="could not be downloaded"):
            fetch(url, tmp_path)
    with pytest.raises(InvalidInput, match="ftp://"):
        fetch("ftp://user:hunter2@example.org/x.db", tmp_path)
    with pytest.raises(InvalidInput, match="no file"):
        fetch(str(tmp_path / "nothing.sql"), tmp_path)
    (tmp_path / "here.sql").write_text("x")
    copied = fetch((tmp_path / "here.sql").as_uri(), tmp_path_of(tmp_path))
    assert copied.read_text() == "x"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\nCREATE TABLE artist (name text);",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nCREATE",
        b"this is no HTTP\r\n\r\n",
    ],
)
def test_a_download_that_breaks_off_is_no_file(tmp_path: Path, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(DatabaseUnavailable, match="could not be downloaded"):
            fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/x.sql", tmp_path)
        thread.join()


def tmp_path_of(path: Path) -> Path:
    (path / "download").mkdir()
    return path / "download"
