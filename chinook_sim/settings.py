"""Where is the database? Read from what the command, the environment and `.env` say.

No message of this module, and nothing that it makes readable, holds a password: parsers put the
text they could not read into their errors, so their errors are never shown.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

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

EXAMPLES = "postgresql://user:password@host/database, or sqlite:///file.db"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a database is.

    Attributes:
        url: what SQLAlchemy makes an engine of.
        source: which setting named it.
        embedded: whether it is the default file, because nothing named another.
        environment: the libpq variables that name it, where they do.
    """

    url: URL
    source: str
    embedded: bool = False
    environment: tuple[tuple[str, str], ...] = ()

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
        host = f"{self.url.host or 'localhost'}{f':{self.url.port}' if self.url.port else ''}"
        user = f"{self.url.username}@" if self.url.username else ""
        return f"postgresql://{user}{host}/{self.url.database or ''}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every form in which the password may turn up in somebody's message."""
        known = {self.url.password, self.url.query.get("password"), os.environ.get("PGPASSWORD")}
        words = {str(secret) for secret in known if secret}
        return tuple(
            sorted(words | {quote(word, safe="") for word in words} | set(map(quote_plus, words)))
        )


def load_dotenv(directory: Path) -> None:
    """Add what the directory's `.env` sets to the environment, which wins where both do.

    Raises:
        InvalidInput: the file cannot be read.
    """
    import dotenv

    path = directory / ".env"
    if not path.exists():
        return
    try:
        values = dotenv.dotenv_values(path, encoding="utf-8", verbose=False)
    except (OSError, UnicodeDecodeError, ValueError):
        raise InvalidInput(
            f"{path} cannot be read; it must be a UTF-8 file of NAME=value lines"
        ) from None
    for name, value in values.items():
        if value is not None and "\0" not in value:
            os.environ.setdefault(name, value)


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
        return Location(read_url(option, "--database-url"), "--database-url")
    for name in URL_VARIABLES:
        if environ.get(name):
            return Location(read_url(environ[name], name), name)
    libpq = tuple((name, environ[name]) for name in LIBPQ_VARIABLES if environ.get(name))
    if libpq:
        # libpq reads its variables, its service file and its password file itself.
        return Location(read_url("postgresql://", libpq[0][0]), libpq[0][0], environment=libpq)
    if environ.get("NEON_PROJECT_ID"):
        from chinook_sim.neon import connection_string

        url = connection_string(environ)
        return Location(read_url(url, "neonctl"), "NEON_PROJECT_ID")
    from sqlalchemy import URL

    return Location(URL.create("sqlite", database=str(directory / EMBEDDED)), "the default", True)


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

    text = text.strip()
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
        if not url.database or url.database == ":memory:" or "mode=memory" in url.database:
            raise refuse("names a database in memory, of which nothing would remain; name a file")
        if url.host or url.query or url.database.startswith("file:"):
            raise refuse("must be a plain path: sqlite:///relative.db or sqlite:////absolute.db")
    elif "@" in (url.host or "") or "@" in (url.database or ""):
        raise refuse("has an @ that is not percent-encoded; in a password write it as %40")
    elif url.port is not None and not 0 < url.port < 65536:
        raise refuse("has a port that no server can have")
    return url


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text with every secret in it replaced by ***."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
