"""Sessions, engines and connections as users pass them: what is accepted, and what is refused."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, scoped_session

from chinook_sim.errors import InvalidInput
from chinook_sim.models import Invoice

__all__ = [
    "check_connection",
    "check_engine",
    "check_session",
    "connection_of",
    "is_psycopg",
    "refuse_autocommit",
    "refuse_translation",
    "shop_connection",
]


def connection_of(session: Session) -> Connection:
    """Return the connection on which a session keeps the tables of Chinook, to write on it.

    Raises:
        InvalidInput: it is no session; or its connection has no transactions.
    """
    check_session(session)
    connection = shop_connection(session)
    refuse_autocommit(connection)
    return connection


def shop_connection(session: Session | scoped_session[Session]) -> Connection:
    """Return the connection on which a session keeps the tables of Chinook."""
    return session.connection(bind_arguments={"mapper": Invoice})


def refuse_autocommit(connection: Connection) -> None:
    """Refuse a connection that commits every statement.

    Raises:
        InvalidInput: it is one.
    """
    driver: Any = connection.connection.dbapi_connection
    # Other values than True are those of sqlite3, where we begin the transaction.
    if getattr(driver, "autocommit", False) is True:
        raise InvalidInput(
            "the connection is in AUTOCOMMIT mode, and a transaction is needed; use an engine with "
            "another isolation level"
        )


def refuse_translation(connection: Connection) -> None:
    """Refuse a connection that renders our tables in another schema than the one we look in."""
    translated: Any = connection.get_execution_options().get("schema_translate_map") or {}
    if translated.get(None) is not None:
        raise InvalidInput(
            f"schema_translate_map to {translated[None]!r} is not supported; use an engine whose "
            "search_path begins with that schema"
        )


def check_session(session: object) -> None:
    """Refuse what is no session.

    Raises:
        InvalidInput: it is something else, such as asyncio's session, a connection or an engine.
    """
    if not isinstance(session, Session | scoped_session):
        raise InvalidInput(
            f"expected a Session, got {type(session).__name__}; pass `Session(engine)`, or from "
            "asyncio `await session.run_sync(generate_d1, …)`"
        )


def check_engine(engine: object) -> None:
    """Refuse what is no engine.

    Raises:
        InvalidInput: it is something else, such as asyncio's engine, or a connection.
    """
    if not isinstance(engine, Engine):
        raise InvalidInput(
            f"expected an Engine, got {type(engine).__name__}; pass what "
            "`sqlalchemy.create_engine` returns"
        )


def check_connection(connection: object) -> None:
    """Refuse what is no connection.

    Raises:
        InvalidInput: it is something else, such as a session or an engine.
    """
    if not isinstance(connection, Connection):
        raise InvalidInput(
            f"expected a Connection, got {type(connection).__name__}; pass `session.connection()` "
            "or `engine.connect()`"
        )


def is_psycopg(connection: Connection) -> bool:
    """Return whether the driver is psycopg 3, and not its asynchronous half."""
    dialect = connection.dialect
    return dialect.driver == "psycopg" and not dialect.is_async
