"""Database URLs: of PostgreSQL as libpq reads them, of SQLite as SQLAlchemy does.

No message of this module holds a password: parsers put the text they could not read into their
errors, so their errors are never shown.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_to_bytes

from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import URL

    Refuse = Callable[[str], InvalidInput]

__all__ = ["LIBPQ_VARIABLES", "holds_url", "read_url"]

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

EXAMPLES = "postgresql://user:password@host/database, or sqlite:///file.db"


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
    if any(holds_url(given.get(name, "")) for name in ("user", *LIBPQ_VARIABLES.values())):
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

    Only well-known names are shown: any other may be a part of a password.
    """
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    query = rest.partition("?")[2]
    unknown = [it.partition("=")[0] for it in query.split("&") if it.partition("=")[0] not in known]
    if not query or not unknown:
        return None
    named = next((name for name in unknown if name in FOREIGN), None)
    return f"has a parameter that libpq does not know{f', {named}' if named else ''}; leave it out"


def holds_url(value: str) -> bool:
    """Return whether a value is a connection string, which may have a password in it."""
    return "://" in value or "password=" in value
