"""The SQL of the documentation, as a reader would run it.

Blocks begin with ```sql and some words: `sqlite` or `postgresql` if they are for one database only,
`snake_case` if they are not in CamelCase, and others by which tests find them. Two are for
PostgreSQL without saying so: `functions`, and `pg_cron`, which needs an extension.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.orm import Session

from support import ROOT
from support.cases import DatabaseVariant, on_variants
from support.chinook_variants import SHAPES, TABLES, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from support.databases import ChinookDatabase

README = ROOT / "README.md"
DOCUMENTS = (README, *sorted((ROOT / "docs").rglob("*.md")))

_CAMEL, _SNAKE = SHAPES[0], SHAPES[1]
_COLUMNS = {word.split(":")[0] for columns in TABLES.values() for word in columns.split()}
_NAMES = {_SNAKE.spell(name): _CAMEL.spell(name) for name in (*TABLES, *_COLUMNS)}

SQLITE_SNAKE = Shape("sqlite-snake", "", snake=True, ids="")

SPELLINGS = [
    DatabaseVariant(SHAPES[0], 16, migrated=True),
    DatabaseVariant(SHAPES[3], 18, migrated=True),
    DatabaseVariant(SHAPES[4], None, migrated=True),
    DatabaseVariant(SQLITE_SNAKE, None, migrated=True),
]
"""CamelCase and snake_case, on each database."""

spellings = on_variants(SPELLINGS)


class Block(NamedTuple):
    """A block of code: its language, the words after that, and the code."""

    language: str
    words: tuple[str, ...]
    code: str

    def is_for(self, shop: ChinookDatabase) -> bool:
        """Whether it is for this database."""
        if "pg_cron" in self.words:
            return False
        if {"postgresql", "functions"} & {*self.words}:
            return shop.shape.postgresql
        return not (shop.shape.postgresql and "sqlite" in self.words)

    def sql(self, shop: ChinookDatabase, values: Mapping[str, object]) -> str:
        """Return it in the names of a shop, with values in the place of `:name`."""
        code = self.code
        if "snake_case" in self.words and not shop.shape.snake:
            code = "'".join(
                part if position % 2 else re.sub(r"\w+", lambda it: _NAMES.get(it[0], it[0]), part)
                for position, part in enumerate(code.split("'"))
            )
        elif shop.shape.snake:
            code = re.sub(r'"(\w+)"', lambda it: shop.shape.spell(it[1]), code)
            # Of columns in JSON too, whose tables are always in CamelCase.
            code = re.sub(r"(?<=['.])(\w+)(?=')", self._column(shop), code)
        return re.sub(r"(?<![:\w]):([a-z]\w*)", lambda it: _literal(values[it[1]]), code)

    @staticmethod
    def _column(shop: ChinookDatabase) -> Callable[[re.Match[str]], str]:
        return lambda it: shop.shape.spell(it[1]) if it[1] in _COLUMNS else it[1]


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"


def all_blocks(document: Path) -> list[Block]:
    """Return the blocks of a document, in their order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(kind, tuple(rest.split()), code)
        for kind, rest, code in re.findall(r"^```(\w+)(.*)\n((?:.*\n)*?)^```$", text, re.MULTILINE)
    ]


def blocks(document: Path, language: str, *words: str) -> list[Block]:
    """Return the blocks of a language that have these words, among others, in their order."""
    return [
        block
        for block in all_blocks(document)
        if block.language == language and {*words} <= {*block.words}
    ]


class Reader:
    """Somebody with a shell of the database, in which a session stays open."""

    def __init__(self, shop: ChinookDatabase, connection: Any) -> None:
        self._shop = shop
        self._connection = connection

    def run(self, block: Block, **values: object) -> list[list[tuple[Any, ...]]]:
        """Run the statements of a block; return what each of them answered."""
        code = block.sql(self._shop, values)
        if self._shop.server is None:
            return [self._connection.execute(part).fetchall() for part in _statements(code)]
        cursor = self._connection.execute(code)
        answers = []
        while True:
            answers.append(cursor.fetchall() if cursor.description else [])
            if not cursor.nextset():
                return answers


@contextmanager
def reading(shop: ChinookDatabase) -> Iterator[Reader]:
    """Open a session that commits each statement by itself."""
    if shop.server is not None:
        with shop.server.connect(shop.url.database or "") as connection:
            yield Reader(shop, connection)
        return
    with closing(sqlite3.connect(shop.path, isolation_level=None)) as lite:
        # As docs/reference/digest.md has it.
        lite.create_function(
            "sha256", 1, lambda text: hashlib.sha256(bytes.fromhex(text)).hexdigest()
        )
        yield Reader(shop, lite)


def _statements(code: str) -> Iterator[str]:
    statement = ""
    for line in code.splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    assert not statement.strip(), f"no end: {statement}"


def do(shop: ChinookDatabase, what: Any, *arguments: Any, **wanted: Any) -> Any:
    with Session(shop.engine) as session, session.begin():
        return what(session, *arguments, **wanted)
