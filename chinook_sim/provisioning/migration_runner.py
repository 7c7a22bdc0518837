"""Running the project's Alembic migrations on a connection of the caller."""

from __future__ import annotations

import re
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from chinook_sim.database.connections import (
    check_connection,
    refuse_autocommit,
    refuse_translation,
)
from chinook_sim.database.matching import may_be_chinook_table
from chinook_sim.database.names import SPELLING_NAMES
from chinook_sim.database.transactions import translated
from chinook_sim.errors import InvalidInput, MigrationRefused
from chinook_sim.models import ChinookName
from chinook_sim.provisioning.ledger_location import installed
from chinook_sim.provisioning.revision_context import RevisionContext, lock, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from chinook_sim.database.names import Spelling

__all__ = [
    "SqlFunction",
    "check_ledger_schema",
    "check_spelling",
    "head",
    "include_object",
    "read_functions",
    "refresh_functions",
    "revision_of",
    "upgrade",
]

PREFIX = "chinook_sim_"
"""What the names of our tables begin with."""

_ALEMBIC = threading.RLock()
"""Alembic's `op` and `context` are global. An `env.py` of the user's may call `upgrade` again."""


def upgrade(
    connection: Connection, *, spelling: Spelling = "camel", ledger_schema: str | None = None
) -> str:
    """Bring a database up to the newest revision, and return the revision.

    It happens in the connection's transaction, which is yours to commit. On an error nothing of it
    is kept. If the database is at the newest revision, only SQL functions are written anew in which
    a schema or a sequence has another name now.

    Args:
        connection: on PostgreSQL or SQLite.
        spelling: `camel` or `snake`, of the tables that an empty database gets; a Chinook that is
            there keeps its own.
        ledger_schema: a PostgreSQL schema for the ledger; by default the one of the shop.

    Raises:
        MigrationRefused: it is at a revision that is not known here, or privileges are missing.
        InvalidInput: an argument has a wrong value; or it is no connection, or one of PostgreSQL in
            AUTOCOMMIT mode, or its tables are renamed by `schema_translate_map`.
        BatchFailed: the database refused a statement.
    """
    check_connection(connection)
    refuse_autocommit(connection)
    refuse_translation(connection)
    check_spelling(spelling)
    check_ledger_schema(ledger_schema)
    with translated():
        # Before the savepoint: it sets the isolation level, or SQLite's transaction begins there.
        lock(connection)
        with connection.begin_nested(), _ALEMBIC:
            return _upgrade(connection, spelling, ledger_schema)


def check_spelling(spelling: object) -> None:
    """Refuse what is no spelling.

    Raises:
        InvalidInput: it is none.
    """
    if not isinstance(spelling, str) or spelling not in SPELLING_NAMES:
        known = " or ".join(map(repr, SPELLING_NAMES))
        raise InvalidInput(f"spelling must be {known}, got {spelling!r}")


def check_ledger_schema(schema: object) -> None:
    """Refuse what cannot be the name of a schema.

    Raises:
        InvalidInput: it is neither None nor a text.
    """
    if schema is not None and (not isinstance(schema, str) or not schema):
        raise InvalidInput(f"ledger_schema must be the name of a schema, got {schema!r}")


def _upgrade(connection: Connection, spelling: Spelling, ledger_schema: str | None) -> str:
    scripts = ScriptDirectory(str(_scripts()))
    found = installed(connection)
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise MigrationRefused(
            f"the database is at revision {found}, of a newer chinook_sim than this one; upgrade "
            "the package"
        )
    if found == head():
        refresh_functions(prepare(connection, spelling, ledger_schema))
        return found
    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.attributes.update(connection=connection, spelling=spelling, ledger_schema=ledger_schema)
    command.upgrade(config, "head")
    return head()


def include_object(
    thing: Any,
    name: str | None,
    kind: str,
    reflected: bool,
    compare_to: Any,
) -> bool:
    """Leave Chinook's tables and those of chinook_sim out of a comparison by your own Alembic.

    Pass it to `context.configure(include_object=...)` in your `env.py`. Autogenerate then proposes
    neither to drop these tables nor to change them, whether `target_metadata` is your metadata,
    `chinook_sim.Base.metadata` or a list of both. A table of Chinook that your own metadata
    declares is compared as any other.

    Args:
        thing: the object.
        name: its name.
        kind: `table`, `column`, `index` and others; only tables are left out.
        reflected: whether it was read from the database.
        compare_to: the object on the other side of the comparison, if there is one.
    """
    if kind != "table":
        return True
    if (name or "").startswith(PREFIX) or isinstance(thing.name, ChinookName):
        return False
    if not reflected or compare_to is not None:
        return True
    return not may_be_chinook_table(name or "", [str(column.name) for column in thing.columns])


def refresh_functions(here: RevisionContext) -> None:
    """Write the SQL functions of a database at the newest revision anew where names have changed.

    PostgreSQL renames nothing in the text of a function.

    Args:
        here: the database, locked, in a transaction.
    """
    context = MigrationContext.configure(here.connection, opts={"revision_context": here})
    with _ALEMBIC, Operations.context(context):
        for script in ScriptDirectory(str(_scripts())).walk_revisions():
            if hasattr(script.module, "refresh_functions"):
                script.module.refresh_functions()
                return


@cache
def head() -> str:
    """Return the newest revision there is."""
    return str(ScriptDirectory(str(_scripts())).get_current_head())


@cache
def revision_of(name: str) -> Any:
    """Return the module of a revision: a later one builds on what it has."""
    return ScriptDirectory(str(_scripts())).get_revision(name).module


class SqlFunction(NamedTuple):
    """A SQL function: its body as in the file of a revision, or as it is installed."""

    name: str
    parameters: str
    result: str
    body: str

    def render(self, names: Mapping[str, str]) -> SqlFunction:
        """Return the function with each placeholder of its body replaced.

        Args:
            names: what stands in braces in the body, and the SQL that replaces it.
        """
        return self._replace(body=self.body.format_map(names))


def read_functions(revision: str, *files: str) -> dict[str, SqlFunction]:
    """Return the SQL functions that a revision has files of, by the names of the files.

    The bodies are byte for byte what is between the dollar quotes, with their placeholders.

    Args:
        revision: the folder in `migrations/functions`.
        files: without `.sql`, in the order in which the functions are to be created: the name of
            the function; of an overload, also a dot and its type.
    """
    functions = {}
    for file in files:
        path = _scripts() / "functions" / revision / f"{file}.sql"
        found = _FUNCTION.search(path.read_text(encoding="utf-8"))
        if found is None or found["name"] != file.partition(".")[0]:
            raise ValueError(f"{path} does not create the function {file}")
        functions[file] = SqlFunction(**found.groupdict())
    return functions


_FUNCTION = re.compile(
    r"^CREATE OR REPLACE FUNCTION \{schema\}\.(?P<name>\w+)\((?P<parameters>[^)]*)\)\n"
    r"RETURNS (?P<result>[^\n]+)\n"
    r"LANGUAGE plpgsql AS \$function\$(?P<body>.*)\$function\$;\n\Z",
    re.MULTILINE | re.DOTALL,
)


def _scripts() -> Path:
    """Return where the migrations are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"
