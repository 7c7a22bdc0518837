"""Finding the database from the options of the command, the environment and `.env`.

No message of this module, and no attribute that is shown, holds a password: parsers put the text
that they could not read into their errors, so their errors are never shown.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from chinook_sim.database.urls import LIBPQ_VARIABLES, holds_url, read_url
from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import ConnectionInfo
    from sqlalchemy import URL

    from chinook_sim.database.names import NameMap

__all__ = ["EMBEDDED", "Location", "find_database", "scrub"]

EMBEDDED = "chinook.db"
"""The SQLite file that is used, and made, where nothing else is named."""

URL_VARIABLES = ("CHINOOK_SIM_DATABASE_URL", "DATABASE_URL")


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
        names: names of tables and columns that a file states.
    """

    url: URL
    source: str
    embedded: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    server: str | None = None
    names: NameMap | None = None

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


def find_database(
    environ: Mapping[str, str],
    *,
    option: str | None = None,
    names_file: str | None = None,
    directory: Path,
) -> Location:
    """Return the first database that is named: option, URL, libpq, Neon, or else the embedded one.

    A variable that is empty counts as not set.

    Args:
        environ: the environment, `.env` included.
        option: what the command line says.
        names_file: the file of `--map`; by default that of its variable.
        directory: where the embedded default is.

    Raises:
        InvalidInput: a URL cannot be read or names no database that we know; or the file of names
            cannot be read.
        DatabaseUnavailable: neonctl could not be asked.
    """
    location = _find(environ, option, directory)
    names_file = names_file or environ.get("CHINOOK_SIM_MAP")
    if names_file:
        from chinook_sim.database.name_file import load_names

        location = replace(location, names=load_names(names_file))
    return location


def _find(environ: Mapping[str, str], option: str | None, directory: Path) -> Location:
    # The option's value may come from its variable, which is the first of these.
    if option and option != environ.get(URL_VARIABLES[0]):
        return _locate(option, "--database-url", environ)
    for name in URL_VARIABLES:
        if environ.get(name):
            return _locate(environ[name], name, environ)
    for name in LIBPQ_VARIABLES:
        if environ.get(name):
            # libpq reads its variables, its service file and its password file itself.
            return _locate("postgresql://", name, environ)
    if environ.get("NEON_PROJECT_ID"):
        from chinook_sim.database.neon import connection_string

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
        if holds_url(value):
            raise InvalidInput(f"{name} is a URL; set DATABASE_URL to it instead")
    return location


def _spellings(*passwords: str | None) -> tuple[str, ...]:
    """Return passwords as they are and as they may be written in a URL."""
    forms = (str, partial(quote, safe=""), quote_plus)
    return tuple({form(password) for password in passwords if password for form in forms})


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text with every secret in it replaced by ***."""
    for secret in sorted(secrets, key=len, reverse=True):
        # A short password occurs in any text by chance, and what is left out would reveal it.
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return text
