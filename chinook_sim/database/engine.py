"""Engines for the command and for Alembic, and connecting with a limited number of attempts."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from chinook_sim.database.backends import backend_for
from chinook_sim.database.settings import scrub
from chinook_sim.errors import DatabaseUnavailable, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from chinook_sim.database.settings import Location

__all__ = ["make_engine", "open_connection", "set_timeouts"]

logger = logging.getLogger(__name__)


CONNECT_TIMEOUT = 15.0
"""Seconds in all that a database has to answer; a sleeping Neon endpoint takes about five."""

ATTEMPT_TIMEOUT = 8
"""Seconds that one attempt may take, unless the URL says otherwise."""

LOCK_TIMEOUT = 30
"""Seconds that SQLite waits for another writer, by default."""

UNLIMITED = 10**6

KEEPALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Settings of libpq: a dead connection is detected within a minute, not two hours."""


def make_engine(
    location: Location, *, writing: bool, create: bool = False, lock_timeout: int = LOCK_TIMEOUT
) -> Engine:
    """Make an engine for one connection.

    Args:
        location: the database.
        writing: whether SQLite's transactions take its write lock at once.
        create: whether a SQLite file is made if there is none. Otherwise a mistyped path would
            leave an empty file behind.
        lock_timeout: seconds that SQLite waits for another writer; 0 waits forever.
    """
    path = location.path
    if path is not None:
        engine = _sqlite_engine(path, writing=writing, create=create, lock_timeout=lock_timeout)
    else:
        engine = _postgresql_engine(location)
    if location.names is not None:
        engine.update_execution_options(chinook_names=location.names)
    return engine


def _postgresql_engine(location: Location) -> Engine:
    return create_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        hide_parameters=True,
        # Whatever default the role or the database has.
        isolation_level="READ COMMITTED",
        connect_args={
            # A pooler in transaction mode, as on Neon's -pooler hosts, may send the next statement
            # to another server process, which has not prepared it.
            "prepare_threshold": None,
            # Parameters are passed here, since SQLAlchemy rejects the URL `host=a,b&port=1`.
            **_defaults(location),
            **location.parameters,
        },
    )


def _defaults(location: Location) -> dict[str, str | int]:
    """Return libpq parameters that neither the URL nor the environment has set."""
    defaults: tuple[tuple[str, str, str | int], ...] = (
        ("connect_timeout", "PGCONNECT_TIMEOUT", ATTEMPT_TIMEOUT),
        ("application_name", "PGAPPNAME", "chinook_sim"),
        # By default it is the database's. As SQL_ASCII psycopg returns bytes, and in others it
        # could not send a name that has to be refused by the server.
        ("client_encoding", "PGCLIENTENCODING", "UTF8"),
        *((name, "", value) for name, value in KEEPALIVE.items()),
    )
    return {
        name: value
        for name, variable, value in defaults
        if name not in location.parameters and not os.environ.get(variable)
    }


def set_timeouts(connection: Connection, lock_timeout: int, statement_timeout: int | None) -> None:
    """Set the timeouts of a PostgreSQL transaction, in seconds; 0 disables one.

    The settings of `session_settings` are pinned as well. All are local to the transaction: behind
    a pooler the next one belongs to another client.
    """
    backend_for(connection).set_timeouts(connection, lock_timeout, statement_timeout)


def _sqlite_engine(path: Path, *, writing: bool, create: bool, lock_timeout: int) -> Engine:
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={'rwc' if create else 'rw'}"
    lock_timeout = lock_timeout or UNLIMITED

    def connect() -> sqlite3.Connection:
        # Transactions are begun below: left to itself the driver begins none before a SELECT, a
        # SAVEPOINT or a CREATE TABLE. A writer waits only where it is said below, since SQLite
        # would also wait, again and again, to write out early what its cache has no room for.
        timeout = 0 if writing else lock_timeout
        connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            # Reads the file, which opening it does not: it may be no database at all.
            _wait_for_lock(lock_timeout, lambda: connection.execute("PRAGMA schema_version"))
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    # A transaction that reads first and writes later fails at once if another wrote in between.
    statement = "BEGIN IMMEDIATE" if writing else "BEGIN"

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        _wait_for_lock(lock_timeout, lambda: connection.exec_driver_sql(statement))

    @event.listens_for(engine, "commit")
    def commit(connection: Connection) -> None:
        _wait_for_lock(lock_timeout, lambda: connection.exec_driver_sql("COMMIT"))

    return engine


def _wait_for_lock(timeout: float, work: Callable[[], object]) -> None:
    """Do something once others have released the file. SQLite itself would wait through signals."""
    end = time.monotonic() + timeout
    while True:
        try:
            work()
        except (sqlite3.OperationalError, OperationalError) as error:
            if "database is locked" not in str(error) or time.monotonic() > end:
                raise
        else:
            return
        time.sleep(0.02)


def open_connection(
    engine: Engine,
    location: Location,
    *,
    say: Callable[[str], None],
    timeout: float = CONNECT_TIMEOUT,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Connection:
    """Connect, and try again for a while if waiting may help.

    No statement was sent yet, so nothing can happen twice.

    Args:
        engine: of `make_engine`.
        location: the database, for messages.
        say: called once with the reason for waiting.
        timeout: seconds after which no further attempt is made.
        sleep: waits for a number of seconds.
        clock: returns seconds, and never goes back.

    Raises:
        DatabaseUnavailable: it could not be reached, or refused the connection.
        InvalidInput: libpq cannot use the parameters that name it.
    """
    if location.missing:
        raise DatabaseUnavailable(
            f"there is no file {location.path}; `chinook-sim init` makes one there"
        )
    end = clock() + timeout
    pause = 0.5
    while True:
        try:
            connection = engine.connect()
            name = backend_for(connection).name
            if location.path is None:
                driver: Any = connection.connection.driver_connection
                location.connected(driver.info)
            version = ".".join(map(str, connection.dialect.server_version_info or ()))
            logger.info("connected to %s: %s %s", location.shown, name, version)
            return connection
        except DBAPIError as error:
            reason = _reason(error, location)
            if _is_invalid_setting(error, location):
                raise InvalidInput(
                    f"{location.asked} cannot be used: {reason}; "
                    f"check {_variable(reason, location) or location.source}"
                ) from None
            may_pass = _may_pass(error, location)
            if not may_pass or clock() + pause > end:
                raise DatabaseUnavailable(
                    f"{location.asked} cannot be used: {reason}; {_advice(location, reason)}",
                    retryable=may_pass or "database is locked" in reason,
                ) from None
        logger.info("no connection: %s; the next attempt is in %s s", reason, pause)
        if pause == 0.5:
            say(f"waiting for {location.asked}: {reason}")
        sleep(pause)
        pause *= 2


def _reason(error: DBAPIError, location: Location) -> str:
    """Return the first line of an error, without secrets: what the last address tried met."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    reason = lines[0] if lines else "no reason given"
    for prefix in ("connection failed: ", "connection is bad: "):
        reason = reason.removeprefix(prefix)
    return scrub(reason, location.secrets)


SERVER_REFUSES = (
    "invalid value for parameter",
    "unrecognized configuration parameter",
    "requires a value",
    "invalid command-line argument",
)
"""What the server answers, with FATAL, to `options` and `client_encoding` that it cannot use."""

UNUSABLE = (
    # libpq reads the numbers of the keepalives when it has a socket; psycopg splits the hosts.
    "invalid integer value",
    "could not match",
    *SERVER_REFUSES,
)


def _is_invalid_setting(error: DBAPIError, location: Location) -> bool:
    """Return whether a setting is invalid: an unknown service, a wrong sslmode or option."""
    if location.path is not None:
        return False
    said = str(error.orig)
    if any(words in said for words in UNUSABLE):
        return True
    tried = ("connection to server", "could not translate host name")
    # A wrong parameter is another kind of error than a server that cannot be reached.
    return not isinstance(error, OperationalError) or (
        said.startswith("connection is bad: ") and not any(words in said for words in tried)
    )


_SERVER_VARIABLES = {"TimeZone": "PGTZ", "DateStyle": "PGDATESTYLE", "geqo": "PGGEQO"}
"""Variables from which libpq sets parameters of the server, by parameter."""


def _variable(reason: str, location: Location) -> str | None:
    """Return the libpq variable that an error is about, or None if it is about the URL."""
    from psycopg.pq import Conninfo

    # Which server it was is no part of the complaint.
    reason = reason.partition(" failed: ")[2] or reason
    words = set(re.findall(r"\w+", reason))
    for option in Conninfo.get_defaults():
        keyword, variable = option.keyword.decode(), (option.envvar or b"").decode()
        if keyword in words:
            given = keyword not in location.parameters and os.environ.get(variable)
            return variable if given else None
    for parameter, variable in _SERVER_VARIABLES.items():
        if f'"{parameter}"' in reason and f'"{os.environ.get(variable)}"' in reason:
            return variable
    if any(complaint in reason for complaint in SERVER_REFUSES) and os.environ.get("PGOPTIONS"):
        return None if "options" in location.parameters else "PGOPTIONS"
    return None


def _may_pass(error: DBAPIError, location: Location) -> bool:
    """Return whether another attempt may succeed after this error."""
    if location.path is not None:
        return False
    said = str(error.orig)
    waking = ("starting up", "shutting down", "recovery mode", "too many", "not yet accepting")
    # A FATAL answer is final, except for these.
    return "FATAL" not in said or any(word in said for word in waking)


def _advice(location: Location, reason: str) -> str:
    if "database is locked" in reason:
        return "another program has locked it; run it again when that has ended"
    if location.path is not None:
        return "name a SQLite file that may be read and written"
    answered = "FATAL" in reason
    return f"check {location.source}" + ("" if answered else ", and that the server is running")
