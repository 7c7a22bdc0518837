"""Which cases of a test run by default, and which only with `--full`.

A test that takes a shop of any kind has a case for each combination of shape, server, migration and
driver. By default each shape is there, and every two of server, migration and driver meet. Of a
test that chooses its shops or has other parameters, each value of each parameter is there, where
shops differ in the server, the spelling and the source of ids. Of what is equally good, those are
taken that the file had least. Tests marked `slow` run with `--full` only; the mark says why.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from conftest import Case


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
    used: dict[str, Counter[Hashable]] = {}
    for name, cases in tests.items():
        seen = used.setdefault(name.partition("::")[0], Counter())
        chosen.update(cases[place] for place in cover([traits(it) for it in cases], seen))
    return [item for item in items if item in chosen]


def cover(cases: Sequence[set[Hashable]], seen: Counter[Hashable]) -> list[int]:
    """Return places of cases that together have every trait, preferring traits seldom seen."""
    missing: set[Hashable] = set().union(*cases)
    chosen = []
    while True:
        place = min(
            range(len(cases)),
            key=lambda it: (-len(cases[it] & missing), sum(seen[trait] for trait in cases[it])),
        )
        chosen.append(place)
        seen.update(cases[place])
        missing -= cases[place]
        if not missing:
            return chosen


def traits(item: pytest.Item) -> set[Hashable]:
    """Return what a case has that some case must have."""
    callspec: Any = getattr(item, "callspec", None)
    if callspec is None:
        return set()
    # The values of a parameter are the same objects in all cases of a test.
    others = {(name, id(value)) for name, value in callspec.params.items() if name != "shop"}
    case: Case | None = callspec.params.get("shop")
    if case is None:
        return others
    shape = case.shape
    if chooses_shops(item):
        ids = "sequence" if shape.ids else "none"
        kinds = {("ids", ids if shape.postgresql else "SQLite"), ("snake_case", shape.snake)}
        return others | kinds | {("server", case.major), ("migrated", case.migrated)}
    pairs = combinations(sorted(others | {("server", case.major), ("migrated", case.migrated)}), 2)
    return {("shape", shape.name), *pairs}


def chooses_shops(item: pytest.Item) -> bool:
    """Whether a test says itself on which shops it runs."""
    return any("shop" in names(mark) for mark in item.iter_markers("parametrize"))


def names(mark: pytest.Mark) -> Iterable[str]:
    """Return the names that a `parametrize` gives values."""
    given = mark.args[0]
    return given.replace(",", " ").split() if isinstance(given, str) else given
