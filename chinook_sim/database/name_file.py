"""The file of `--map`: names of a Chinook that recognition cannot know.

A section for each table that has an unusual name, or columns with one:

    [Customer]
    table = "shop_clients"
    CustomerId = "id"

    [Invoice]
    table = "shop_invoices"
    InvoiceId = "id"
    CustomerId = "client"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chinook_sim.database.names import CHINOOK_TABLES, NameMap
from chinook_sim.errors import InvalidInput
from chinook_sim.toml_file import read_toml

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_names"]


def load_names(path: str | Path) -> NameMap:
    """Return the names that a TOML file states.

    Use it with an engine of your own:
    `create_engine(url, execution_options={"chinook_names": load_names("shop.toml")})`.

    Raises:
        InvalidInput: it cannot be read, or names a table or column that Chinook does not have, or
            two columns of a table by the same name.
    """
    where = f"the --map file {str(path)[-100:]!r}"
    try:
        sections = read_toml(path, where)
    except OSError as error:
        raise InvalidInput(f"{where} cannot be read: {error.strerror}") from None
    tables = {str(table.name): table for table in CHINOOK_TABLES}
    names: dict[str, str] = {}
    for table, section in sections.items():
        if table not in tables:
            raise InvalidInput(
                f"{where}: unknown table {table!r:.60}; the tables are {', '.join(tables)}"
            )
        if not isinstance(section, dict):
            raise InvalidInput(f"{where}: {table} must be a section [{table}], got {section!r:.60}")
        columns = [str(column.name) for column in tables[table].columns]
        for name, value in section.items():
            if name != "table" and name not in columns:
                raise InvalidInput(
                    f"{where}: {table} has no column {name!r:.60}; it has {', '.join(columns)}"
                )
            if not isinstance(value, str) or not value or "\0" in value:
                raise InvalidInput(f"{where}: {table}.{name} must be a name, got {value!r:.60}")
            names[table if name == "table" else f"{table}.{name}"] = value
        columns_here = [value for name, value in section.items() if name != "table"]
        twice = {it for it in columns_here if columns_here.count(it) > 1}
        if twice:
            raise InvalidInput(
                f"{where}: two columns of {table} have the name {min(twice)!r:.60}; each needs a "
                "name of its own"
            )
    return NameMap(names)
