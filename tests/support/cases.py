"""The databases that tests run on, and the marks that choose among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from support.chinook_variants import OTHER_NAMES, REAL, SHAPES, Shape
from support.postgres_server import MAJORS


@dataclass(frozen=True)
class DatabaseVariant:
    """A database that tests are run on."""

    shape: Shape
    major: int | None
    migrated: bool = False
    real: bool = False

    @property
    def id(self) -> str:
        server = f"-pg{self.major}" if self.major else ""
        return f"{self.shape.name}{server}{'-migrated' if self.migrated else ''}"


def cases(
    *, migrated: bool = False, real: bool = False, shapes: tuple[Shape, ...] = SHAPES
) -> list[DatabaseVariant]:
    """Return every shape, on every server that it can be on."""
    return [
        DatabaseVariant(shape, major, migrated, real)
        for shape in shapes
        for major in (MAJORS if shape.postgresql else (None,))
    ]


def alternating_versions(*, migrated: bool = False) -> list[DatabaseVariant]:
    """Return every shape once, on the servers by turns: for what takes long."""
    majors = {shape: MAJORS[place % 2] for place, shape in enumerate(SHAPES)}
    return [case for case in cases(migrated=migrated) if case.major in (None, majors[case.shape])]


def one_of_each() -> list[DatabaseVariant]:
    """Return one shape on PostgreSQL and one on SQLite: for processes, which take long to start."""
    by_kind = {case.shape.postgresql: case for case in alternating_versions(migrated=True)}
    return list(by_kind.values())


def parameters(chosen: list[DatabaseVariant], *marks: pytest.MarkDecorator) -> list[Any]:
    return [pytest.param(case, id=case.id, marks=marks) for case in chosen]


OTHERS = [
    case
    for case in (*cases(shapes=OTHER_NAMES), *cases(migrated=True, shapes=OTHER_NAMES))
    if case.major in (None, 18)
]
"""The Chinooks with other names than the usual ones."""

# Without a ledger, one on each database: tests/database/test_other_names.py has all of them.
ALL = [
    *cases(),
    *cases(migrated=True),
    *(
        case
        for case in OTHERS
        if case.migrated or case.shape.name in ("sqlite-tutorial", "postgres-lower")
    ),
]

VARIANTS = {case.id: case for case in (*ALL, *OTHERS)}
"""Id → variant, as `postgres-neon-pg16-migrated`."""

DRIVERS = {True: ("postgresql+psycopg", "postgresql+pg8000"), False: ("sqlite",)}
"""Whether it is PostgreSQL → drivers, each with a way of writing of its own."""


def on_variants(chosen: list[DatabaseVariant]) -> pytest.MarkDecorator:
    """Return a mark that runs a test on these databases, in place of all."""
    return pytest.mark.parametrize("shop", parameters(chosen), indirect=True)


on_all_unmigrated = on_variants(cases())
# One server will do where processes are started; test_generate_everywhere.py runs on both.
on_all_unmigrated_but_16 = on_variants([case for case in cases() if case.major != 16])
on_all_postgresql_migrated = on_variants([case for case in cases(migrated=True) if case.major])

# For what takes long.
_MIGRATED, _UNMIGRATED = alternating_versions(migrated=True), alternating_versions()
on_each_shape = on_variants(_MIGRATED)
on_each_shape_unmigrated = on_variants(_UNMIGRATED)
on_each_postgresql_shape = on_variants([case for case in _MIGRATED if case.major])
on_each_postgresql_shape_unmigrated = on_variants([case for case in _UNMIGRATED if case.major])
on_each_sqlite_shape = on_variants([case for case in _MIGRATED if not case.major])
on_each_sqlite_shape_unmigrated = on_variants([case for case in _UNMIGRATED if not case.major])
# Shapes in which nothing gives ids: a migration has most to do.
on_both_databases_unmigrated = on_variants([case for case in _UNMIGRATED if not case.shape.snake])

# For what takes longer still, as processes do.
on_both_databases = on_variants(one_of_each())
on_one_postgresql = on_variants(one_of_each()[:1])
# Both spellings, two ways of making ids, and either server.
_TWO = [VARIANTS["postgres-neon-pg16"], VARIANTS["postgres-snake-identity-pg18"]]
_TWO_MIGRATED = [VARIANTS[f"{case.id}-migrated"] for case in _TWO]
on_two_postgresql_shapes = on_variants(_TWO_MIGRATED)
on_two_postgresql_shapes_unmigrated = on_variants(_TWO)
# And SQLite: for what does not depend on where ids come from.
on_three_shapes = on_variants([*_TWO_MIGRATED, VARIANTS["sqlite-autoincrement-migrated"]])
on_three_shapes_unmigrated = on_variants([*_TWO, VARIANTS["sqlite-autoincrement"]])

needs_real_files = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real Chinook files are not here"
)
