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
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL

__all__ = ["EMBEDDED", "Location", "find_database", "load_dotenv", "read_url", "scrub"]

EMBEDDED = "chinook.db"
"""The SQLite file that is used, and made, where nothing else is named."""

URL_VARIABLES = ("CHINOOK_SIM_DATABASE_URL", "DATABASE_URL")

# Those of libpq's variables that say where a database is; the others only say how to get there.
LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGDATABASE")

DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
}

# What other tools write into URLs.
FOREIGN = frozenset(
    ("connection_limit", "pgbouncer", "pool_timeout", "prepared_statements", "schema", "ssl")
)

EXAMPLES = "postgresql://user:password@host/database, or sqlite:///file.db"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a database is.

    Attributes:
        url: what SQLAlchemy makes an engine of.
        source: which setting named it.
        embedded: whether it is the default file, because nothing named another.
        environment: the libpq variables that name it, where they do.
        secrets: every form in which its password may turn up in somebody's message.
    """

    url: URL
    source: str
    embedded: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for any other database."""
        return Path(self.url.database or "") if self.url.drivername == "sqlite" else None

    @property
    def shown(self) -> str:
        """The database as it may be shown: without any password."""
        if self.path is not None:
            return self.path.name if self.embedded else str(self.path)
        if self.environment:
            return "postgresql, " + ", ".join(f"{name}={value}" for name, value in self.environment)
        user = f"{self.url.username}@" if self.url.username else ""
        return f"postgresql://{user}{_hosts(self.url)}/{self.url.database or ''}"

    @property
    def missing(self) -> bool:
        """Whether it is a SQLite file that is not there."""
        # Unlike Path.exists, this has an answer for a name that is too long as well.
        return self.path is not None and not os.path.exists(self.path)  # noqa: PTH110


def _hosts(url: URL) -> str:
    """Return the server, or the servers, of a URL, with their ports."""
    given = url.query.get("host", ())
    hosts = [given] if isinstance(given, str) else list(given)
    host = url.host or ",".join(hosts) or "localhost"
    if ":" in host and not hosts:
        host = f"[{host}]"
    port = url.port or url.query.get("port", "")
    return f"{host}:{port}" if port and isinstance(port, int | str) else host


def load_dotenv(directory: Path) -> None:
    """Add what the directory's `.env` sets to the environment, which wins where both do.

    Of a name that is set twice, the last value counts.

    Raises:
        InvalidInput: the file cannot be read.
    """
    path = directory / ".env"
    if not _is_dotenv(path):
        return
    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8") as file:
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
            settings[line.key] = line.value
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
        return _locate(option, "--database-url")
    for name in URL_VARIABLES:
        if environ.get(name):
            return _locate(environ[name], name)
    libpq = tuple((name, environ[name]) for name in LIBPQ_VARIABLES if environ.get(name))
    if libpq:
        # libpq reads its variables, its service file and its password file itself.
        url = read_url("postgresql://", libpq[0][0])
        secrets = _spellings(environ.get("PGPASSWORD"))
        return Location(url, libpq[0][0], environment=libpq, secrets=secrets)
    if environ.get("NEON_PROJECT_ID"):
        from chinook_sim.neon import connection_string

        return replace(_locate(connection_string(environ), "neonctl"), source="NEON_PROJECT_ID")
    from sqlalchemy import URL

    embedded = URL.create("sqlite", database=str(directory / EMBEDDED))
    return Location(embedded, "the default", embedded=True)


def _locate(text: str, source: str) -> Location:
    url = read_url(text, source)
    # A parameter that is given twice comes as a tuple.
    given = [url.query.get(name, ()) for name in ("password", "sslpassword")]
    found = [
        value for values in given for value in ([values] if isinstance(values, str) else values)
    ]
    return Location(url, source, secrets=_spellings(url.password, *found))


def _spellings(*passwords: str | None) -> tuple[str, ...]:
    """Return passwords as they are and as they may be written in a URL."""
    forms = (str, partial(quote, safe=""), quote_plus)
    return tuple({form(password) for password in passwords if password for form in forms})


def read_url(text: str, source: str) -> URL:
    """Read a database URL.

    Args:
        text: the URL; `postgres://` and `postgresql://` both mean psycopg.
        source: which setting it is from, for messages.

    Raises:
        InvalidInput: it cannot be read, or names a database that is not supported.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    def refuse(why: str) -> InvalidInput:
        return InvalidInput(f"the database URL from {source} {why}")

    text, hosts = _without_hosts(text.strip())
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+]*)://", text)
    if scheme is None:
        raise refuse(f"is none; it looks like {EXAMPLES}")
    if re.search(r"[\s\x00-\x1f\x7f]", text) and not scheme[1].startswith("sqlite"):
        raise refuse("has a space or a control character in it; write a space as %20")
    if "\0" in text:
        raise refuse("has a control character in it")
    try:
        url = make_url(text)
        url.port  # noqa: B018
    except (ArgumentError, ValueError):
        raise refuse(
            "cannot be read: the port is no number, or a special character is not "
            "percent-encoded (@ is %40, : is %3A, / is %2F)"
        ) from None
    name = url.drivername.lower()
    if name in DRIVERS:
        url = url.set(drivername=DRIVERS[name])
    if url.get_backend_name() not in ("postgresql", "sqlite"):
        raise refuse("names a kind of database that is not supported; use PostgreSQL or SQLite")
    if url.drivername not in DRIVERS.values():
        raise refuse("names a driver; leave it out: the command brings its own")
    if url.drivername == "sqlite":
        if url.host and not (url.database or url.username or url.query):
            raise refuse("has two slashes; write three: sqlite:///file.db")
        if not url.database or url.database == ":memory:" or "mode=memory" in url.database:
            raise refuse("names a database in memory, of which nothing would remain; name a file")
        if "?" in text or url.host or url.database.startswith("file:"):
            raise refuse("must be a plain path: sqlite:///relative.db or sqlite:////absolute.db")
        # Path would drop it, and mean a file of that name.
        if os.path.basename(url.database) in ("", os.curdir):  # noqa: PTH119
            raise refuse(f"must name a file, got the directory {url.database}")
        return url
    # Whatever stands before the last @ may be a part of the password: nothing of it is shown, nor
    # looked up as the name of a host.
    if text.count("@") > 1:
        raise refuse("has an @ that is not percent-encoded; in a password write it as %40")
    if url.port is not None and not (0 < url.port < 65536 and f":{url.port}" in text):
        raise refuse("has a port that no server can have")
    # libpq would stop reading at it, and go to a default server.
    if "%00" in text:
        raise refuse("has a control character in it")
    try:
        (url.host or "").encode("idna")
    except UnicodeError:
        raise refuse("has a host name that cannot be") from None
    unknown = _unknown_parameter(url)
    if unknown is not None:
        raise refuse(f"has {unknown}; leave it out")
    if hosts:
        return url.update_query_dict({"host": hosts})
    # A directory with a socket in it.
    return url.set(host=unquote(url.host)) if url.host and "%2F" in url.host.upper() else url


def _without_hosts(text: str) -> tuple[str, list[str]]:
    """Return a URL of several hosts without them, and the hosts; any other as it is."""
    parts = re.fullmatch(
        r"(postgres(?:ql)?(?:\+psycopg)?://(?:[^@/?]*@)?)([\w.-]+(?::\d+)?(?:,[\w.-]+(?::\d+)?)+)"
        r"((?:/.*)?)",
        text,
        re.IGNORECASE | re.ASCII,
    )
    return (parts[1] + parts[3], parts[2].split(",")) if parts else (text, [])


def _unknown_parameter(url: URL) -> str | None:
    """Return what to call the first parameter that libpq does not know, if there is one.

    Only well-known names are told: any other may be a part of a password.
    """
    if not url.query:
        return None
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    unknown = [name for name in url.query if name not in known]
    if not unknown:
        return None
    named = next((name for name in unknown if name in FOREIGN), None)
    return f"a parameter that libpq does not know{f', {named}' if named else ''}"


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text with every secret in it replaced by ***."""
    for secret in sorted(secrets, key=len, reverse=True):
        # Of a password of three letters every text is full, and what was left out would tell it.
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return text
