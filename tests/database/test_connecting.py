"""Connecting: again where it may help, and once where it does not."""

from __future__ import annotations

import socket
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import OperationalError

from chinook_sim.database.engine import make_engine, open_connection
from chinook_sim.database.settings import Location, find_database
from chinook_sim.errors import DatabaseUnavailable
from support.postgres_server import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Callable


def at(url: str) -> Location:
    return find_database({}, option=url, directory=Path())


def refused(location: Location, *, timeout: float) -> tuple[str, list[str]]:
    said: list[str] = []
    engine = make_engine(location, writing=False)
    with pytest.raises(DatabaseUnavailable) as caught:
        open_connection(engine, location, say=said.append, timeout=timeout)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value), said


def test_where_nobody_listens_the_timeout_ends_it() -> None:
    waits: list[float] = []
    passed = [0.0]

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        passed[0] += seconds

    location = at(f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d")
    said: list[str] = []
    with pytest.raises(DatabaseUnavailable, match="refused"):
        open_connection(
            make_engine(location, writing=True),
            location,
            say=said.append,
            sleep=sleep,
            clock=lambda: passed[0],
        )
    assert waits == [0.5, 1, 2, 4]
    assert len(said) == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_listens_there_may_be_no_postgresql(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        message, _ = refused(at(f"postgresql://u:hunter2@127.0.0.1:{port}/d"), timeout=0.4)
        assert f"127.0.0.1:{port}" in message
        listener.shutdown(socket.SHUT_RDWR)


def test_a_silent_host_does_not_hang_the_job() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        url = f"postgresql://u:hunter2@127.0.0.1:{port}/d?connect_timeout=2"
        message, _ = refused(at(url), timeout=0.4)
        assert "timeout" in message


@pytest.mark.slow(reason="waits for a server")
def test_a_server_that_wakes_up_is_waited_for() -> None:
    with Server(18) as server:
        server.kill()
        waker = threading.Timer(1.5, server.start)
        waker.start()
        location = at(server.url().render_as_string(hide_password=False))
        said: list[str] = []
        with open_connection(
            make_engine(location, writing=True), location, say=said.append
        ) as connection:
            assert connection.exec_driver_sql("SHOW application_name").scalar() == "chinook_sim"
        assert len(said) == 1
        waker.join()


def test_an_engine_alone_makes_no_file_either(tmp_path: Path) -> None:
    engine = make_engine(at(f"sqlite:///{tmp_path / 'shop.db'}"), writing=True)
    with pytest.raises(OperationalError):
        engine.connect()
    assert list(tmp_path.iterdir()) == []


def spoil_with_text(path: Path) -> None:
    path.write_text("not a database " * 100)


def make_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _: None, "there is no file"),
        (spoil_with_text, "not a database"),
        (make_directory, "unable to open"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "shop.db"
    spoil(path)
    message, waited = refused(at(f"sqlite:///{path}"), timeout=5)
    assert said in message
    assert str(path) in message
    assert waited == []


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "a?mode=memory.db", "a#b.db", "ü'\".db"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE here (it INTEGER)")
    from sqlalchemy import URL

    location = Location(URL.create("sqlite", database=str(path)), "test")
    engine = make_engine(location, writing=True)
    with open_connection(engine, location, say=print) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM here").scalar() == 0
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert [found.name for found in tmp_path.iterdir()] == [name]
