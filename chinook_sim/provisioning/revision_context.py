"""What a revision works on, and what it leaves behind for later ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from alembic import op
from sqlalchemy import Table, inspect, text

from chinook_sim.database.backends import backend_for
from chinook_sim.database.backends.postgresql_catalogue import COMMENTS, SEARCHED_SCHEMAS
from chinook_sim.database.backends.postgresql_ledger import LEDGER_OWNER
from chinook_sim.database.column_types import check_types
from chinook_sim.database.identifiers import apply_names, quoted, sql_text
from chinook_sim.database.introspection import find_candidate, incomplete
from chinook_sim.database.locks import MIGRATION_LOCK
from chinook_sim.database.names import CHINOOK_TABLES, SALE_TABLES, SPELLINGS, stated_names
from chinook_sim.database.privileges import missing_grants
from chinook_sim.database.schema import (
    MARK,
    VERSION_TABLE,
)
from chinook_sim.errors import MigrationRefused, NotAChinook
from chinook_sim.models import Customer, Invoice, InvoiceLine
from chinook_sim.provisioning.ledger_location import place_ledger

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from chinook_sim.database.names import NameMap, Spelling
    from chinook_sim.database.privileges import Privilege
    from chinook_sim.database.schema import SchemaCandidate

__all__ = [
    "RevisionContext",
    "check_init_privileges",
    "check_upgrade_privileges",
    "current_context",
    "execute",
    "leave_out",
    "lock",
    "mark",
    "marked",
    "new_schema",
    "prepare",
    "refuse_others",
]


@dataclass(frozen=True)
class RevisionContext:
    """What a revision works on.

    A revision writes through Alembic's `op`, which only prints with `--sql`. It reads the database
    through `connection`, which is connected in either mode, and writes nothing there.

    Attributes:
        connection: to the database; it renders names as the Chinook has them.
        schema: where the Chinook is, and our sequences and functions; None on SQLite.
        ledger_schema: where the ledger is: beside the Chinook, or in a schema of its own.
        names: of the tables of Chinook that exist, and those that missing ones would get.
    """

    connection: Connection
    schema: str | None
    ledger_schema: str | None
    names: NameMap

    @cached_property
    def place(self) -> SchemaCandidate | None:
        """What there is of a Chinook when this is first asked for; None in an empty database."""
        return find_candidate(self.connection)

    @property
    def postgresql(self) -> bool:
        """Whether it is PostgreSQL, and not SQLite: a revision has SQL for one or the other."""
        return backend_for(self.connection).name == "postgresql"

    def spell(self, *names: Table | str) -> str:
        """Return names as SQL, tables with their schema."""
        return quoted(self.connection, *names)

    def ours(self, name: str) -> str:
        """Return the name of a function or sequence of ours as SQL, with its schema."""
        return self._within(self.schema, name)

    def ledgers(self, name: str) -> str:
        """Return the name of a table of the ledger as SQL, with its schema."""
        return self._within(self.ledger_schema, name)

    def _within(self, schema: str | None, name: str) -> str:
        name = quoted(self.connection, name)
        return f"{quoted(self.connection, schema)}.{name}" if schema else name

    def sequence_of(self, table: str) -> str | None:
        """Return the sequence that makes the ids of a table of Chinook's, as SQL; None for none."""
        if self.place is not None and self.place.has(table):
            return self.place.ids_of(table).sequence
        # Made by the first revision, as an identity column; named by PostgreSQL's rule.
        return self.ours(f"{self.names[table]}_{self.names[f'{table}.{table}Id']}_seq")


def current_context() -> RevisionContext:
    """Return a context for the current revision, whose `place` has what earlier ones made."""
    found: RevisionContext = op.get_context().opts["revision_context"]
    return replace(found)


def check_init_privileges(connection: Connection, ledger_schema: str | None) -> None:
    """Refuse a role without the privileges that `init` takes on an existing shop.

    Args:
        connection: with a transaction open.
        ledger_schema: as for `upgrade`.

    Raises:
        MigrationRefused: it names the GRANTs that are missing.
    """
    place = find_candidate(connection)
    if not backend_for(connection).has_roles or place is None or place.missing(SALE_TABLES):
        return
    migrated = inspect(connection).has_table(VERSION_TABLE, schema=place.ledger_schema)
    if migrated:
        ledger_schema = None
    ledger_schema = ledger_schema or place.ledger_schema
    here = RevisionContext(connection, place.schema, ledger_schema, place.names)
    apply_names(connection, here.names, here.schema, here.ledger_schema)
    needed = [("SELECT", here.spell(Customer.__table__))]
    needed += [("SELECT", here.ledgers(VERSION_TABLE))] if migrated else _needs(here)
    _refuse_missing(missing_grants(connection, needed))


def check_upgrade_privileges(here: RevisionContext) -> None:
    """Refuse a role without the privileges that an upgrade takes.

    Raises:
        MigrationRefused: it names the role that owns the ledger, or the GRANTs that are missing.
    """
    if here.postgresql:
        owner = here.connection.scalar(
            LEDGER_OWNER, {"schema": here.ledger_schema, "marker": VERSION_TABLE}
        )
        if owner is not None:
            raise MigrationRefused(
                f"not upgraded: must be owner of the tables of chinook_sim. Run it as {owner}"
            )
        _refuse_missing(missing_grants(here.connection, _needs(here)))


def _needs(here: RevisionContext) -> list[Privilege]:
    """Return what an upgrade takes."""
    place, tables = here.place, (Invoice.__table__, InvoiceLine.__table__)
    schemas = [here.schema] if new_schema(here) else [here.schema, here.ledger_schema]
    needed: list[Privilege] = [("CREATE", f"SCHEMA {here.spell(it or 'public')}") for it in schemas]
    if new_schema(here):
        database = here.connection.scalar(text("SELECT quote_ident(current_database())"))
        needed.append(("CREATE", f"DATABASE {database}"))
    needed += [("SELECT", here.spell(table)) for table in tables if place and place.has(table.name)]
    if place and any(not place.has(table.name) for table in CHINOOK_TABLES):
        there = [table for table in CHINOOK_TABLES if place.has(table.name)]
        needed += [("REFERENCES", here.spell(table)) for table in there]
    return needed


def _refuse_missing(missing: str) -> None:
    if missing:
        raise MigrationRefused(f"missing privileges. Run: {missing}")


def execute(statement: str) -> None:
    """Execute, or print with `--sql`, a statement that contains names of the database's.

    Alembic's `op.execute` would look for parameters in the names; see `sql_text`.
    """
    op.execute(sql_text(statement))


def leave_out(what: str) -> None:
    """Say what a revision does not make in this database, and why."""
    line = f"left out: {what}"
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(f"-- {line}")
    else:
        logging.getLogger("alembic.chinook_sim").info(line)


def prepare(
    connection: Connection, spelling: Spelling = "camel", ledger_schema: str | None = None
) -> RevisionContext:
    """Find out what is there, and let a connection write names as they are there.

    Args:
        connection: with a transaction open.
        spelling: for a database without Chinook tables, which get the current schema; CamelCase
            by default, as in most Chinooks.
        ledger_schema: where the ledger shall be, if there is none yet; by default beside the
            Chinook.

    Raises:
        InvalidInput: a ledger schema is given, and the database is SQLite.
        MigrationRefused: there is no schema to make tables in, or what is there is no Chinook.
        NotAChinook: a Chinook with other names is incomplete, or a stated name is not there.
    """
    place = find_candidate(connection)
    schema = place.schema if place else None
    if place is None and backend_for(connection).has_schemas:
        schema = connection.scalar(text("SELECT current_schema()"))
        if schema is None:
            _refuse_what_is_no_chinook(connection, place)
            for closed in connection.scalars(SEARCHED_SCHEMAS):
                missing = [(privilege, f"SCHEMA {closed}") for privilege in ("USAGE", "CREATE")]
                _refuse_missing(missing_grants(connection, missing))
            raise MigrationRefused(
                "no schema on the search_path exists; set a search_path with an existing schema"
            )
    if schema == "$user":
        # The SQL functions need the shop's schema in their search path, for triggers on its tables.
        raise MigrationRefused(
            'a Chinook in the schema "$user" is not supported: PostgreSQL reads this name in a '
            'search_path as the current role\'s name. Run: ALTER SCHEMA "$user" RENAME TO chinook'
        )
    _refuse_what_is_no_chinook(connection, place)
    ledger_schema = place_ledger(connection, place, schema, ledger_schema)
    names = place.names.completed if place else SPELLINGS[spelling]
    apply_names(connection, names, schema, ledger_schema)
    if place is not None and not place.missing(SALE_TABLES):
        check_types(connection, place)
    return RevisionContext(connection, schema, ledger_schema, names)


def new_schema(here: RevisionContext) -> str | None:
    """Return the statement that makes the ledger's schema, or None if it is there."""
    if (
        here.ledger_schema is None
        or here.ledger_schema in inspect(here.connection).get_schema_names()
    ):
        return None
    return f"CREATE SCHEMA {quoted(here.connection, here.ledger_schema)}"


def _refuse_what_is_no_chinook(connection: Connection, place: SchemaCandidate | None) -> None:
    """Refuse to make a Chinook, or to complete one, where that is hardly what is meant."""
    stated = stated_names(connection)
    if stated and (place is None or place.missing(SALE_TABLES)):
        # What is stated is there, or the file is wrong: nothing is made beside it.
        raise incomplete([] if place is None else [place], stated)
    if place is None:
        grant = backend_for(connection).grant_on_closed_schema(connection)
        if grant is not None:
            raise MigrationRefused(
                f"there is a Chinook in a schema that the role cannot use: {grant}"
            )
        return
    if not place.missing(SALE_TABLES):
        return
    if place.names.spelling is None or place.unclear or place.conflict:
        raise incomplete([place], stated)
    there = [table for table in CHINOOK_TABLES if place.has(table.name)]
    lacking = place.missing(there)
    if lacking or not place.on_path:
        named = ", ".join(quoted(connection, place.names[table.name]) for table in there)
        why = f"without {', '.join(lacking)}" if lacking else "off the search path"
        raise MigrationRefused(
            f"not a Chinook: there is {named} {why}; use another database, or set the search_path "
            "to a schema for the Chinook"
        )


def refuse_others(connection: Connection) -> None:
    """Refuse a database in which there is something, and nothing of it is a Chinook.

    Raises:
        NotAChinook: it names what there is.
    """
    others = [
        name
        for name in inspect(connection).get_table_names()
        if not name.startswith("chinook_sim_")
    ]
    if others:
        shown = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
        raise NotAChinook(
            f"this database is neither empty nor a Chinook: it has {shown}; "
            "use an empty one; nothing was changed"
        )


def lock(connection: Connection) -> None:
    """Keep other upgrades out until the transaction ends.

    Raises:
        MigrationRefused: the connection's transaction sees only what was there when it began.
    """
    backend = backend_for(connection)
    backend.begin_migration(connection)
    backend.lock(connection, MIGRATION_LOCK)


def mark(kind: str, name: str, more: str = "") -> None:
    """Let PostgreSQL remember that something was made by us, whatever becomes of its name."""
    execute(f"COMMENT ON {kind} {name} IS '{MARK}{more}'")


def marked(here: RevisionContext, catalogue: str, name: str) -> str | None:
    """Return what `mark` left at something, None where there is nothing, or nothing of ours.

    Args:
        here: the database.
        catalogue: `pg_class` for tables and sequences, `pg_proc` for functions.
        name: its name as SQL; of a function, its signature.
    """
    comment = here.connection.scalar(COMMENTS[catalogue], {"name": name})
    return comment.removeprefix(MARK) if comment and comment.startswith(MARK) else None
