"""What is shown as the database is what was connected to, however it was named."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from chinook_sim.database.engine import make_engine, open_connection
from chinook_sim.database.settings import find_database
from chinook_sim.errors import DatabaseUnavailable
from chinook_sim.provisioning.migration_runner import upgrade
from support.chinook_variants import SHAPES, build_postgresql
from support.postgres_server import PASSWORD, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.command import Command

ACCOUNT = f"postgres:{quote(PASSWORD, safe='')}"


@dataclass(frozen=True)
class There:
    """A shop on a server that listens on a socket, on 127.0.0.1, and on ::1 if there is IPv6."""

    server: Server
    directory: str
    database: str
    down: int
    """A port that nobody listens on."""

    def fill(self, template: str) -> str:
        """Write what is known of the server into a URL or the value of a variable."""
        return (
            template.replace("ACCOUNT", ACCOUNT)
            .replace("PORT", str(self.server.port))
            .replace("DOWN", str(self.down))
            .replace("SOCKET", self.directory)
            .replace("ENCODED", quote(self.directory, safe=""))
            .replace("SHOP", self.database)
        )


@pytest.fixture(scope="module")
def there() -> Iterator[There]:
    # The path of a socket has room for about a hundred characters, and the server may be another
    # user.
    directory = tempfile.mkdtemp(prefix="chinook-socket-", dir="/tmp")
    Path(directory).chmod(0o777)
    settings = ("listen_addresses=127.0.0.1,::1", f"unix_socket_directories={directory}")
    try:
        with Server(18, *settings) as server:
            name = server.create_database()
            build_postgresql(next(it for it in SHAPES if it.postgresql), server, name)
            with create_engine(server.url(name), poolclass=NullPool).begin() as connection:
                upgrade(connection)
            yield There(server, directory, name, free_port())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def services(there: There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service file, with passwords in it."""
    path = tmp_path / "services.conf"
    account = f"user=postgres\npassword={PASSWORD}\ndbname=SHOP\n"
    path.write_text(
        there.fill(
            f"[shop]\nhost=127.0.0.1\nport=PORT\n{account}"
            f"[two]\nhost=127.0.0.1,SOCKET\nport=DOWN,PORT\n{account}"
            f"[down]\nhost=127.0.0.1\nport=DOWN\n{account}"
            f"[lost]\nhost=shop.invalid\n{account}"
        )
    )
    monkeypatch.setenv("PGSERVICEFILE", str(path))
    return path


def has_ipv6() -> bool:
    """Return whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


NAMED = {"PGUSER": "postgres", "PGPASSWORD": PASSWORD, "PGDATABASE": "SHOP"}

WAYS: list[tuple[str, dict[str, str], str]] = [
    # URL, other variables → the server that is shown.
    ("postgresql://ACCOUNT@127.0.0.1:PORT/SHOP", {}, "127.0.0.1:PORT"),
    ("postgresql://ACCOUNT@localhost:PORT/SHOP", {}, "localhost:PORT"),
    ("postgresql://ACCOUNT@/SHOP?host=SOCKET&port=PORT", {}, "SOCKET:PORT"),
    ("postgresql://ACCOUNT@/SHOP?host=SOCKET", {"PGPORT": "PORT"}, "SOCKET:PORT"),
    ("postgresql://ACCOUNT@ENCODED:PORT/SHOP", {}, "SOCKET:PORT"),
    ("postgresql://ACCOUNT@/SHOP", {"PGHOST": "SOCKET", "PGPORT": "PORT"}, "SOCKET:PORT"),
    ("", {"PGHOST": "SOCKET", "PGPORT": "PORT", **NAMED}, "SOCKET:PORT"),
    ("postgresql://?service=shop", {}, "127.0.0.1:PORT"),
    ("postgresql://ENCODED/?service=shop", {}, "SOCKET:PORT"),
    ("postgresql://?service=two", {}, "SOCKET:PORT"),
    ("", {"PGSERVICE": "shop"}, "127.0.0.1:PORT"),
    ("postgresql://ACCOUNT@127.0.0.1:DOWN,127.0.0.1:PORT/SHOP", {}, "127.0.0.1:PORT"),
    ("postgresql://ACCOUNT@ENCODED:DOWN,127.0.0.1:PORT/SHOP", {}, "127.0.0.1:PORT"),
    ("postgresql://ACCOUNT@127.0.0.1:DOWN,ENCODED:PORT/SHOP", {}, "SOCKET:PORT"),
    ("postgresql://ACCOUNT@/SHOP?host=127.0.0.1,SOCKET&port=DOWN,PORT", {}, "SOCKET:PORT"),
    ("postgresql://ACCOUNT@/SHOP?host=127.0.0.1:DOWN&host=127.0.0.1:PORT", {}, "127.0.0.1:PORT"),
    # What is in /tmp is no socket of a server.
    ("postgresql://ACCOUNT@/SHOP?host=/tmp,127.0.0.1&port=PORT", {}, "127.0.0.1:PORT"),
    ("", {"PGHOST": "SOCKET,127.0.0.1", "PGPORT": "DOWN,PORT", **NAMED}, "127.0.0.1:PORT"),
    # The name does not exist.
    (
        "postgresql://ACCOUNT@shop.invalid:PORT/SHOP?hostaddr=127.0.0.1",
        {},
        "shop.invalid:PORT/SHOP?hostaddr=127.0.0.1",
    ),
    (
        "postgresql://ACCOUNT@shop.invalid:PORT/SHOP",
        {"PGHOSTADDR": "127.0.0.1"},
        "shop.invalid:PORT/SHOP?hostaddr=127.0.0.1",
    ),
    ("postgresql://ACCOUNT@:PORT/SHOP", {"PGHOSTADDR": "127.0.0.1"}, "127.0.0.1:PORT"),
    (
        "postgresql://ACCOUNT@/SHOP?hostaddr=127.0.0.1,127.0.0.1&port=DOWN,PORT",
        {},
        "127.0.0.1:PORT",
    ),
    ("postgresql://ACCOUNT@[::1]:PORT/SHOP", {}, "[::1]:PORT"),
    ("postgresql://ACCOUNT@[::1]:DOWN,127.0.0.1:PORT/SHOP", {}, "127.0.0.1:PORT"),
    ("postgresql://ACCOUNT@127.0.0.1:DOWN,[::1]:PORT/SHOP", {}, "[::1]:PORT"),
    ("postgresql://ACCOUNT@/SHOP?host=::1&port=PORT", {}, "[::1]:PORT"),
    ("", {"PGHOSTADDR": "::1", "PGPORT": "PORT", **NAMED}, "[::1]:PORT"),
]


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize(("url", "variables", "server"), WAYS)
def test_the_server_that_answered_is_shown(
    there: There,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    variables: dict[str, str],
    server: str,
) -> None:
    if "::1" in server and not has_ipv6():
        pytest.skip("this operating system has no IPv6")
    for name, value in variables.items():
        monkeypatch.setenv(name, there.fill(value))
    arguments = ["--database-url", there.fill(url)] if url else []
    expected = there.fill(f"postgresql://postgres@{server}{'' if '/SHOP' in server else '/SHOP'}")
    answer = command("status", "--json", *arguments)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["database"] == expected
    assert PASSWORD not in answer.stdout + answer.stderr
    answer = command("status", *arguments)
    assert f" {expected}\n" in answer.stdout
    assert PASSWORD not in answer.stdout + answer.stderr


def test_the_address_is_shown_if_psycopg_prefers_pghost_to_the_host_of_a_service(
    there: There, command: Command, services: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # libpq would prefer the service's, which does not exist.
    services.write_text(services.read_text().replace("host=127.0.0.1\n", "host=shop.invalid\n"))
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGSERVICE", "shop")
    answer = command("status", "--json")
    assert json.loads(answer.stdout)["database"] == there.fill(
        "postgresql://postgres@shop.invalid:PORT/SHOP?hostaddr=127.0.0.1"
    )


def test_of_two_servers_the_one_that_may_be_written_to_is_shown(
    there: There, command: Command
) -> None:
    with Server(18) as standby:
        with standby.connect() as connection:
            connection.execute(f'CREATE DATABASE "{there.database}"')
            connection.execute(
                f'ALTER DATABASE "{there.database}" SET default_transaction_read_only = on'
            )
        url = there.fill(
            f"postgresql://ACCOUNT@127.0.0.1:{standby.port},127.0.0.1:PORT/SHOP"
            "?target_session_attrs=read-write"
        )
        answer = command("status", "--json", "--database-url", url)
    assert json.loads(answer.stdout)["database"] == there.fill(
        "postgresql://postgres@127.0.0.1:PORT/SHOP"
    )


COMMANDS = [
    ("init",),
    ("generate", "3", "--dry-run"),
    ("generate", "3", "--key", "k"),
    ("generate", "3", "--key", "k"),
    ("backfill", "2001-02-03", "2001-02-04", "--per-day", "2"),
    ("verify", "--all"),
    ("status", "--invoice", "1"),
    ("align", "--dry-run"),
    ("undo", "k"),
    ("undo", "k"),
    ("undo", "--backfill", "2001-02-03", "2001-02-04"),
    ("live", "--for", "1s"),
]


@pytest.mark.slow(reason="every command")
def test_every_command_shows_the_server_that_answered(there: There, command: Command) -> None:
    name = there.server.create_database(there.database)
    url = there.fill(f"postgresql://ACCOUNT@127.0.0.1:DOWN,ENCODED:PORT/{name}")
    expected = there.fill(f"postgresql://postgres@SOCKET:PORT/{name}")
    for arguments in COMMANDS:
        answer = command(*arguments, "--json", "--database-url", url)
        assert json.loads(answer.stdout)["database"] == expected, (arguments, answer)
        answer = command(*arguments, "--database-url", url)
        assert expected in answer.stdout, (arguments, answer)
    there.server.drop_database(name)


def test_an_error_of_the_database_names_the_server_that_answered(
    there: There, command: Command
) -> None:
    url = there.fill(
        "postgresql://ACCOUNT@127.0.0.1:DOWN,ENCODED:PORT/SHOP?options=-c%20statement_timeout%3D300"
    )
    expected = there.fill("postgresql://postgres@SOCKET:PORT/SHOP")
    with there.server.connect(there.database) as other, other.transaction():
        other.execute('LOCK TABLE "Invoice"')
        answer = command("status", "--json", "--database-url", url)
    assert answer.returncode == 3
    assert answer.stderr.startswith(f"Error: {expected} refused: ")
    assert json.loads(answer.stdout)["error"]["message"].startswith(f"{expected} refused: ")


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize(
    ("url", "variables", "shown"),
    [
        (
            "postgresql://ACCOUNT@127.0.0.1:DOWN,[::1]:DOWN/SHOP",
            {},
            "postgresql://postgres@127.0.0.1:DOWN,[::1]:DOWN/SHOP",
        ),
        (
            "postgresql://ACCOUNT@/SHOP?host=SOCKET,127.0.0.1&port=DOWN",
            {},
            "postgresql://postgres@SOCKET:DOWN,127.0.0.1:DOWN/SHOP",
        ),
        ("postgresql://?service=down", {}, "postgresql:///?service=down"),
        ("", {"PGSERVICE": "down"}, "postgresql, PGSERVICE=down"),
        # Names of hosts may be resolved later.
        ("", {"PGSERVICE": "lost"}, "postgresql, PGSERVICE=lost"),
        (
            "postgresql://ACCOUNT@:DOWN/SHOP",
            {"PGHOSTADDR": "127.0.0.1"},
            "postgresql://postgres@:DOWN/SHOP, PGHOSTADDR=127.0.0.1",
        ),
    ],
)
def test_where_nobody_answers_all_that_was_tried_is_named(
    there: There,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    variables: dict[str, str],
    shown: str,
) -> None:
    environ = {name: there.fill(value) for name, value in variables.items()}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    location = find_database(environ, option=there.fill(url), directory=Path())
    said = unreachable(location, timeout=0.6)
    assert len(said) == 2
    for line in said:
        assert there.fill(shown) in line
        assert PASSWORD not in line


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://?service=nowhere", '"nowhere" not found'),
        ("postgresql://u@127.0.0.1/d?sslmode=bogus", "invalid sslmode"),
        # Read only when there is a connection to the server.
        ("postgresql://ACCOUNT@127.0.0.1:PORT/SHOP?keepalives=abc", "invalid integer value"),
        ("postgresql://ACCOUNT@127.0.0.1:PORT/SHOP?tcp_user_timeout=1s", "invalid integer value"),
        # Read by the server, which answers FATAL.
        ("postgresql://ACCOUNT@127.0.0.1:PORT/SHOP?client_encoding=foo", '"client_encoding"'),
        ("postgresql://ACCOUNT@127.0.0.1:PORT/SHOP?options=-cfoo", "-c foo requires a value"),
        ("postgresql://ACCOUNT@127.0.0.1:PORT/SHOP?options=-cfoo%3D1", '"foo"'),
        ("postgresql://ACCOUNT@127.0.0.1:PORT/SHOP?options=-cwork_mem%3Dx", '"work_mem"'),
        ("postgresql://ACCOUNT@127.0.0.1:PORT/SHOP?options=--x", "--x requires a value"),
        ("postgresql://ACCOUNT@127.0.0.1:PORT/SHOP?options=-Q", "invalid command-line argument"),
    ],
)
def test_what_libpq_cannot_use_is_a_wrong_setting(
    there: There, command: Command, url: str, said: str
) -> None:
    # Values that stand in the message, of variables that nothing is wrong with.
    others = {"PGSSLMODE": "prefer", "PGAPPNAME": "foo"}
    done = command("status", "--database-url", there.fill(url), **others)
    assert done.returncode == 2
    (message,) = done.stderr.splitlines()
    assert said in message
    assert "check --database-url" in message
    assert "service=nowhere cannot be used" in message or "service" not in url


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PGPORT", "abc", 'invalid integer value "abc"'),
        ("PGPORT", "70000", "invalid port number"),
        ("PGSSLMODE", "bogus", 'invalid sslmode value: "bogus"'),
        ("PGCLIENTENCODING", "foo", '"client_encoding": "foo"'),
        ("PGOPTIONS", "-cwork_mem=x", '"work_mem": "x"'),
        ("PGOPTIONS", "--no-such=foo", '"no_such"'),
        ("PGTZ", "Mars/Phobos", '"Mars/Phobos"'),
        ("PGTARGETSESSIONATTRS", "none", 'invalid target_session_attrs value: "none"'),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    there: There, command: Command, variable: str, value: str, said: str
) -> None:
    # Its value stands in the message, too.
    others = {"PGAPPNAME": value, "PGCONNECT_TIMEOUT": "5"}
    environ = {"PGHOST": "127.0.0.1", "PGPORT": "PORT", **NAMED, **others, variable: value}
    done = command("status", **{name: there.fill(value) for name, value in environ.items()})
    assert done.returncode == 2
    (message,) = done.stderr.splitlines()
    assert said in message
    assert message.endswith(f"check {variable}")


def test_ports_that_do_not_match_the_hosts_are_a_wrong_setting(command: Command) -> None:
    done = command("status", PGHOST="127.0.0.1,127.0.0.2", PGPORT="1,2,3")
    assert done.returncode == 2
    (message,) = done.stderr.splitlines()
    assert "could not match 3 port numbers to 2 hosts; check PGPORT" in message


def unreachable(location: Any, *, timeout: float) -> list[str]:
    """Return what is said while nobody answers, and at last. Time passes in pauses only."""
    said: list[str] = []
    pauses: list[float] = []
    with pytest.raises(DatabaseUnavailable) as caught:
        open_connection(
            make_engine(location, writing=False),
            location,
            say=said.append,
            timeout=timeout,
            sleep=pauses.append,
            clock=lambda: sum(pauses),
        )
    return [*said, str(caught.value)]


def test_a_lost_server_is_named_as_it_was_asked_for(there: There) -> None:
    with Server(18) as server:
        url = f"postgresql://{ACCOUNT}@127.0.0.1:{there.down},127.0.0.1:{server.port}/postgres"
        location = find_database({}, option=url, directory=Path())
        with open_connection(make_engine(location, writing=False), location, say=print):
            assert location.shown == f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
        server.kill()
        (message,) = unreachable(location, timeout=0)
    assert f"127.0.0.1:{there.down},127.0.0.1:{server.port}/postgres cannot be used" in message


def test_a_url_that_cannot_be_used_is_one_line_and_status_2(command: Command) -> None:
    for url in ("postgresql://u:hunter2@h/d?pgbouncer=true", "sqlite:///what?.db"):
        answer = command("status", "--json", "--database-url", url)
        assert answer.returncode == 2
        assert answer.stderr.count("\n") == 1
        assert "hunter2" not in answer.stdout + answer.stderr


def test_a_file_with_a_question_mark_is_the_one_that_was_named(
    command: Command, tmp_path: Path, stand_in: Path
) -> None:
    (tmp_path / "what?.db").write_bytes(stand_in.read_bytes())
    answer = command("status", "--json", "--database-url", "sqlite:///what%3F.db")
    assert json.loads(answer.stdout)["database"] == "what?.db"
    assert [it.name for it in tmp_path.iterdir()] == ["what?.db"]
