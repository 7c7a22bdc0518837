"""Where is the database? Read from what the command, the environment and `.env` say.

No message of this module, and nothing that it makes readable, holds a password: parsers put the
text they could not read into their errors, so their errors are never shown.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from select import select
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, unquote_to_bytes

from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from psycopg import ConnectionInfo
    from sqlalchemy import URL

    Refuse = Callable[[str], InvalidInput]

__all__ = ["EMBEDDED", "Location", "find_database", "load_dotenv", "read_url", "scrub"]

EMBEDDED = "chinook.db"
"""The SQLite file that is used, and made, where nothing else is named."""

URL_VARIABLES = ("CHINOOK_SIM_DATABASE_URL", "DATABASE_URL")

# Those of libpq's variables that say where a database is, and the parameters that they stand for;
# the others only say how to get there.
LIBPQ_VARIABLES = {
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGPORT": "port",
    "PGSERVICE": "service",
    "PGDATABASE": "dbname",
}

DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
}

# What other tools write into URLs.
FOREIGN = frozenset(
    ("connection_limit", "pgbouncer", "pool_timeout", "prepared_statements", "schema", "ssl")
)

NOT_ENCODED = "a special character is not percent-encoded (@ is %40, : is %3A, / is %2F)"

PIPE_PATIENCE = 10.0
"""Seconds that whoever writes `.env` to a named pipe may take to begin."""

EXAMPLES = "postgresql://user:password@host/database, or sqlite:///file.db"


@dataclass(slots=True)
class Location:
    """Where a database is.

    Attributes:
        url: what names it.
        source: which setting named it.
        embedded: whether it is the default file, because nothing named another.
        environment: the libpq variables that say what the URL leaves open.
        secrets: every form in which its password may turn up in somebody's message.
        server: what the last connection was made to; None before the first, and for SQLite.
    """

    url: URL
    source: str
    embedded: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    server: str | None = None

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for any other database."""
        return Path(self.url.database or "") if self.url.drivername == "sqlite" else None

    @property
    def parameters(self) -> dict[str, str]:
        """The libpq parameters that the URL sets, its password included."""
        url = self.url
        given = {
            "user": url.username,
            "password": url.password,
            "host": url.host,
            "port": None if url.port is None else str(url.port),
            "dbname": url.database,
            **{name: values[-1] for name, values in url.normalized_query.items()},
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def shown(self) -> str:
        """The database as it may be shown: what was connected to, or else what the settings say."""
        return self.server or self.asked

    @property
    def asked(self) -> str:
        """The database as the settings name it, without any password."""
        if self.path is not None:
            return self.path.name if self.embedded else str(self.path)
        variables = [f"{name}={value}" for name, value in self.environment]
        return ", ".join(
            [_server(self.parameters) if self.parameters else "postgresql", *variables]
        )

    def connected(self, info: ConnectionInfo) -> None:
        """Note what a connection was made to, for `shown`."""
        found = {
            "user": info.user,
            "host": info.host,
            "port": str(info.port),
            "dbname": info.dbname,
        }
        # The address of a name is shown only if something else than the name may have decided it.
        # psycopg looks a PGHOST up even where the service names another host.
        named = {*self.parameters, *(LIBPQ_VARIABLES[name] for name, _ in self.environment)}
        if named & {"hostaddr", "service"} and info.hostaddr != info.host:
            found["hostaddr"] = info.hostaddr
        self.server = _server(found)

    @property
    def missing(self) -> bool:
        """Whether it is a SQLite file that is not there."""
        # Unlike Path.exists, this has an answer for a name that is too long as well.
        return self.path is not None and not os.path.exists(self.path)  # noqa: PTH110


def _server(parameters: Mapping[str, str]) -> str:
    """Write libpq parameters as a URL for people: as they are, and only those that say where."""
    user, host, port, database, address, service = (
        parameters.get(name, "")
        for name in ("user", "host", "port", "dbname", "hostaddr", "service")
    )
    hosts, ports = (host or address).split(","), port.split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    servers = [
        (f"[{name}]" if ":" in name and name[0] != "/" else name) + (f":{number}" if number else "")
        for name, number in zip_longest(hosts, ports, fillvalue="")
    ]
    others = {"hostaddr": address if host else "", "service": service}
    query = "&".join(f"{name}={value}" for name, value in others.items() if value)
    return (
        f"postgresql://{user}{'@' if user else ''}{','.join(servers)}/{database}"
        f"{'?' if query else ''}{query}"
    )


def load_dotenv(directory: Path) -> None:
    """Add what the directory's `.env` sets to the environment, which wins where both do.

    Of a name that is set twice, the last value counts. `${NAME}` and `${NAME:-default}` stand for
    other settings, but not between single quotes.

    Raises:
        InvalidInput: the file cannot be read.
    """
    path = directory / ".env"
    if not _is_dotenv(path):
        return
    from dotenv.parser import parse_stream
    from dotenv.variables import parse_variables

    try:
        with _open_dotenv(path) as file:
            lines = list(parse_stream(file))
    except (OSError, UnicodeDecodeError):
        raise InvalidInput(
            f"{path} cannot be read; it must be a UTF-8 file of NAME=value lines"
        ) from None
    settings: dict[str, str] = {}
    for line in lines:
        if line.error or "\0" in (line.value or "") or "=" in (line.key or ""):
            raise InvalidInput(f"{path} line {line.original.line} cannot be read; write NAME=value")
        if line.key and line.value is not None:
            known = settings | os.environ
            literal = re.match(r"[^=]*=\s*'", line.original.string)
            settings[line.key] = (
                line.value
                if literal
                else "".join(part.resolve(known) for part in parse_variables(line.value))
            )
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _is_dotenv(path: Path) -> bool:
    """Return whether there is a file or a named pipe, such as a secret manager makes.

    Raises:
        InvalidInput: there is something else, whose settings would be missed.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            return False
        raise InvalidInput(f"{path} is a link to a file that does not exist; remove it") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode) and (path / "pyvenv.cfg").exists():
        # A virtual environment of that name.
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InvalidInput(f"{path} is not a file; it must be a file of NAME=value lines")
    return True


def _open_dotenv(path: Path) -> TextIO:
    """Open the file; a named pipe once somebody writes to it.

    Raises:
        InvalidInput: nobody does.
    """
    if not path.is_fifo():
        return path.open(encoding="utf-8")
    # Opened in the usual way it would wait for a writer without end.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not select([number], [], [], PIPE_PATIENCE)[0]:
        os.close(number)
        raise InvalidInput(f"{path} is a named pipe, and nothing writes to it; remove it")
    os.set_blocking(number, True)
    return os.fdopen(number, encoding="utf-8")


def find_database(
    environ: Mapping[str, str], *, option: str | None = None, directory: Path
) -> Location:
    """Return the first database that is named: option, URL, libpq, Neon, or else the embedded one.

    A variable that is empty counts as not set.

    Args:
        environ: the environment, `.env` included.
        option: what the command line says.
        directory: where the embedded default is.

    Raises:
        InvalidInput: a URL cannot be read or names no database that we know.
        DatabaseUnavailable: neonctl could not be asked.
    """
    if option:
        return _locate(option, "--database-url", environ)
    for name in URL_VARIABLES:
        if environ.get(name):
            return _locate(environ[name], name, environ)
    for name in LIBPQ_VARIABLES:
        if environ.get(name):
            # libpq reads its variables, its service file and its password file itself.
            return _locate("postgresql://", name, environ)
    if environ.get("NEON_PROJECT_ID"):
        from chinook_sim.neon import connection_string

        location = _locate(connection_string(environ), "neonctl", environ)
        return replace(location, source="NEON_PROJECT_ID")
    from sqlalchemy import URL

    embedded = URL.create("sqlite", database=str(directory / EMBEDDED))
    return Location(embedded, "the default", embedded=True)


def _locate(text: str, source: str, environ: Mapping[str, str]) -> Location:
    location = Location(read_url(text, source), source)
    if location.path is not None:
        return location
    given = location.parameters
    passwords = (given.get("password"), given.get("sslpassword"), environ.get("PGPASSWORD"))
    location.secrets = _spellings(location.url.password, *passwords)
    location.environment = tuple(
        (name, environ[name])
        for name, parameter in LIBPQ_VARIABLES.items()
        if environ.get(name) and parameter not in given
    )
    for name, value in location.environment:
        if _holds_url(value):
            raise InvalidInput(f"{name} is a URL; set DATABASE_URL to it instead")
    return location


def _spellings(*passwords: str | None) -> tuple[str, ...]:
    """Return passwords as they are and as they may be written in a URL."""
    forms = (str, partial(quote, safe=""), quote_plus)
    return tuple({form(password) for password in passwords if password for form in forms})


def read_url(text: str, source: str) -> URL:
    """Read a database URL: of PostgreSQL as libpq does, of SQLite as SQLAlchemy does.

    Args:
        text: the URL; `postgres://` and `postgresql://` both mean psycopg.
        source: which setting it is from, for messages.

    Raises:
        InvalidInput: it cannot be read, or names a database that is not supported.
    """

    def refuse(why: str) -> InvalidInput:
        return InvalidInput(f"the database URL from {source} {why}")

    text = text.strip()
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+]*)://", text)
    if scheme is None:
        raise refuse(f"is not a URL; it must look like {EXAMPLES}")
    if "\0" in text or "%00" in text:
        raise refuse("has a control character in it")
    name = scheme[1].lower()
    if name.partition("+")[0] not in DRIVERS:
        raise refuse("names a kind of database that is not supported; use PostgreSQL or SQLite")
    if name not in DRIVERS:
        raise refuse("names a driver; leave it out: the command brings its own")
    read = _read_sqlite if DRIVERS[name] == "sqlite" else _read_postgresql
    return read(text[scheme.end() :], refuse)


def _read_sqlite(rest: str, refuse: Refuse) -> URL:
    """Read what follows `sqlite://`."""
    from sqlalchemy import URL, make_url

    try:
        # SQLAlchemy decodes the path from 2.1 on.
        path = unquote(rest.partition("?")[0].removeprefix("/"), errors="strict")
        url = make_url(f"sqlite://{rest}")
    except ValueError:
        raise refuse("cannot be read; write sqlite:///file.db, and in its name % as %25") from None
    if url.host and not (url.database or url.username or url.query):
        raise refuse("has two slashes; write three: sqlite:///file.db")
    if not path or path == ":memory:" or "mode=memory" in path:
        raise refuse("names a database in memory, which is lost when the command ends; name a file")
    if "?" in rest or url.host or path.startswith("file:"):
        raise refuse(
            "must be a plain path: sqlite:///relative.db or sqlite:////absolute.db; in a name "
            "write ? as %3F"
        )
    # Path would drop it, and mean a file of that name.
    if os.path.basename(path) in ("", os.curdir):  # noqa: PTH119
        raise refuse(f"must name a file, got the directory {path}")
    return URL.create("sqlite", database=path)


def _read_postgresql(rest: str, refuse: Refuse) -> URL:
    """Read what follows `postgresql://`."""
    from psycopg import OperationalError
    from psycopg.pq import Conninfo
    from sqlalchemy import URL

    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise refuse("has a space or a control character in it; write a space as %20")
    account = re.match(r"[^:/@]*(?::([^@]*))?@", rest)
    password = (account and account[1]) or ""
    # Whatever stands before the last @ may be a part of the password: nothing of it is shown, nor
    # looked up as the name of a host.
    if (
        rest.count("@") > 1
        or re.search(r"/.*\?", password)
        or ("@" in rest.partition("?")[0] and not account)
    ):
        raise refuse("has an @ that is not percent-encoded; in a password write it as %40")
    if re.search("%(?![0-9A-Fa-f]{2})", password):
        raise refuse("has a % in its password that is not percent-encoded; write it as %25")
    try:
        if account and password:
            # Special characters other than @ and % need not be encoded, as in SQLAlchemy's URLs.
            encoded = quote(unquote_to_bytes(password), safe="")
            rest = rest[: account.start(1)] + encoded + rest[account.end(1) :]
        options = Conninfo.parse(f"postgresql://{_with_one_list_of_hosts(rest)}".encode())
        given = {it.keyword.decode(): it.val.decode() for it in options if it.val is not None}
    except (OperationalError, UnicodeError):
        unreadable = f"cannot be read: a parameter is not name=value, or {NOT_ENCODED}"
        raise refuse(_unknown_parameter(rest) or unreadable) from None
    _check_servers(given, refuse)
    # One in the parameters wins over it, and both are secrets.
    secret = unquote(password) or given.get("password")
    if given.get("password") == secret:
        given.pop("password", None)
    # SQLAlchemy's class has no room for the ports of several hosts.
    several = {name: given.pop(name) for name in ("host", "port") if "," in given.get(name, "")}
    port = given.pop("port", "")
    return URL.create(
        "postgresql+psycopg",
        username=given.pop("user", None),
        password=secret,
        host=given.pop("host", None),
        port=int(port) if port else None,
        database=given.pop("dbname", None),
        query={**given, **several},
    )


def _check_servers(given: Mapping[str, str], refuse: Refuse) -> None:
    """Refuse what libpq would not connect to, or could not."""
    hosts, addresses, ports = (
        given[name].split(",") if given.get(name) else [] for name in ("host", "hostaddr", "port")
    )
    for port in filter(None, ports):
        if not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
            raise refuse(f"has a port that is not an integer between 1 and 65535, or {NOT_ENCODED}")
    servers = len(hosts or addresses)
    if servers and (len(addresses) not in (0, servers) or len(ports) not in (0, 1, servers)):
        raise refuse("must have as many ports or addresses as hosts; give each host its own")
    try:
        for host in hosts:
            # Any other is a directory with a socket in it.
            if not host.startswith("/"):
                host.encode("idna")
    except UnicodeError:
        raise refuse("has an invalid host name; correct it") from None
    if any(_holds_url(given.get(name, "")) for name in ("user", *LIBPQ_VARIABLES.values())):
        raise refuse("has another URL in a parameter; give that one alone")


def _with_one_list_of_hosts(rest: str) -> str:
    """Return what follows `postgresql://` with SQLAlchemy's `?host=h1:1&host=h2:2` as `h1:1,h2:2`.

    libpq would take the last of them only.
    """
    place, _, query = rest.partition("?")
    parameters = query.split("&")
    hosts = [it.removeprefix("host=") for it in parameters if it.startswith("host=")]
    if len(hosts) < 2:
        return rest
    user, at, place = place.rpartition("@")
    listed = ",".join(unquote(host).replace("/", "%2F") for host in hosts)
    others = "&".join(it for it in parameters if not it.startswith("host="))
    return f"{user}{at}{listed}/{place.partition('/')[2]}?{others}"


def _unknown_parameter(rest: str) -> str | None:
    """Return what to say of the first parameter that libpq does not know, if there is one.

    Only well-known names are told: any other may be a part of a password.
    """
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    query = rest.partition("?")[2]
    unknown = [it.partition("=")[0] for it in query.split("&") if it.partition("=")[0] not in known]
    if not query or not unknown:
        return None
    named = next((name for name in unknown if name in FOREIGN), None)
    return f"has a parameter that libpq does not know{f', {named}' if named else ''}; leave it out"


def _holds_url(value: str) -> bool:
    """Return whether a value is a connection string, which may have a password in it."""
    return "://" in value or "password=" in value


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text with every secret in it replaced by ***."""
    for secret in sorted(secrets, key=len, reverse=True):
        # Of a password of three letters every text is full, and what was left out would tell it.
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return text
