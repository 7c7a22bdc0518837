"""Which cases of a test run by default, and which only with `--full`.

A test that takes a shop of any kind has a case for each combination of shape, server, migration and
driver. By default each shape with usual names is there, one with other names, and every two of
server, migration and driver meet. Of a test that chooses its shops or has other parameters, each
value of each parameter is there, and PostgreSQL and SQLite; one of the two if it is marked
`one_database`. The tests of a file take shapes and servers by turns. A test with the fixture
`server` and no shop runs on one of the servers; the tests of a file take them by turns. Tests
marked `slow` run with `--full` only; the mark says why.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from support.chinook_variants import OTHER_NAMES
from support.postgres_server import MAJORS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from support.cases import DatabaseVariant

SHOPS = {"shop", "case"}
"""Parameters that are a shop, or say which one a test makes."""


def by_default(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the items that run without `--full`, in their order."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        slow = item.get_closest_marker("slow")
        if slow is None:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
        elif not slow.kwargs.get("reason"):
            raise pytest.UsageError(f"{item.nodeid}: a slow test says why: reason=...")
    chosen: set[pytest.Item] = set()
    used: dict[str, Counter[DatabaseVariant | int | None]] = {}
    for name, cases in tests.items():
        seen = used.setdefault(name.partition("::")[0], Counter())
        turns = [shop_of(it) or server_of(it) for it in cases]
        places = cover([traits(it) for it in cases], turns, seen)
        chosen.update(cases[place] for place in places)
    return [item for item in items if item in chosen]


def cover(
    cases: Sequence[set[Hashable]],
    shops: Sequence[DatabaseVariant | int | None],
    seen: Counter[DatabaseVariant | int | None],
) -> list[int]:
    """Return places of few cases that have every trait, and shops and servers seldom seen."""
    firsts = range(len(cases)) if any(shops) else (0,)
    found = [_cover(cases, shops, seen, first) for first in firsts]
    chosen = min(found, key=lambda it: (len(it), sum(seen[shops[place]] for place in it)))
    seen.update(shops[place] for place in chosen)
    return chosen


def _cover(
    cases: Sequence[set[Hashable]],
    shops: Sequence[DatabaseVariant | int | None],
    seen: Counter[DatabaseVariant | int | None],
    first: int,
) -> list[int]:
    """Return what has the most traits that are missing, again and again, after a first one."""
    missing = set().union(*cases) - cases[first]
    chosen = [first]
    while missing:
        place = min(range(len(cases)), key=lambda it: (-len(cases[it] & missing), seen[shops[it]]))
        chosen.append(place)
        missing -= cases[place]
    return chosen


def shop_of(item: pytest.Item) -> DatabaseVariant | None:
    """Return the shop of a case, if it has one."""
    callspec: Any = getattr(item, "callspec", None)
    given = callspec.params if callspec else {}
    case: DatabaseVariant | None = given.get("shop") or given.get("case")
    return case


def server_of(item: pytest.Item) -> int | None:
    """Return the major version of the fixture `server`, if a case has it."""
    callspec: Any = getattr(item, "callspec", None)
    major = callspec.params.get("server") if callspec else None
    return major if major in MAJORS else None


def traits(item: pytest.Item) -> set[Hashable]:
    """Return what a case has that some case must have."""
    callspec: Any = getattr(item, "callspec", None)
    if callspec is None:
        return set()
    # The values of a parameter are the same objects in all cases of a test.
    others: set[Hashable] = {
        (name, id(value))
        for name, value in callspec.params.items()
        if name not in SHOPS and not (name == "server" and value in MAJORS)
    }
    case = shop_of(item)
    if case is None:
        return others
    if chooses_shops(item):
        if item.get_closest_marker("one_database") is None:
            others.add(("PostgreSQL", case.shape.postgresql))
        return others | {("migrated", case.migrated)}
    three = [*others, ("server", case.major), ("migrated", case.migrated)]
    pairs = map(frozenset, combinations(three, 2))
    shape = "other names" if case.shape in OTHER_NAMES else case.shape.name
    return {("shape", shape), *pairs}


def chooses_shops(item: pytest.Item) -> bool:
    """Whether a test says itself on which shops it runs."""
    return any(SHOPS & {*names(mark)} for mark in item.iter_markers("parametrize"))


def names(mark: pytest.Mark) -> Iterable[str]:
    """Return the names that a `parametrize` gives values."""
    given = mark.args[0]
    return given.replace(",", " ").split() if isinstance(given, str) else given
