"""By default some cases of each test run: all differ in something, and nothing is left out."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from support.cases import ALL, DRIVERS, alternating_versions, cases, one_of_each
from support.chinook_variants import OTHER_NAMES, SHAPES
from support.postgres_server import MAJORS
from support.tiers import by_default, cover

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cases import DatabaseVariant


class Item:
    """As much of a test's case as is looked at."""

    def __init__(self, name: str, *marks: pytest.Mark, **parameters: object) -> None:
        self.nodeid = name
        self._marks = marks
        self.callspec = type("CallSpec", (), {"params": parameters})

    def iter_markers(self, name: str) -> Iterator[pytest.Mark]:
        return (mark for mark in self._marks if mark.name == name)

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next(self.iter_markers(name), None)


def choose(*items: Item) -> list[Any]:
    chosen: Any = by_default(items)  # type: ignore[arg-type]
    return [item for item in items if item in chosen]


OWN = pytest.mark.parametrize("shop", []).mark


def chosen_shops(of: list[DatabaseVariant]) -> list[DatabaseVariant]:
    items = [Item("t.py::t[]", OWN, shop=case) for case in of]
    return [it.callspec.params["shop"] for it in choose(*items)]


def test_every_shape_is_there_and_servers_migrations_and_drivers_meet() -> None:
    everything = [(case, driver) for case in ALL for driver in DRIVERS[case.shape.postgresql]]
    items = [Item("t.py::t[]", shop=case, driver=driver) for case, driver in everything]
    found = [(it.callspec.params["shop"], it.callspec.params["driver"]) for it in choose(*items)]
    shapes = {case.shape for case, _ in found}
    assert shapes > {*SHAPES}
    assert len(shapes) == len(SHAPES) + 1
    kinds = [(case.major, case.migrated, driver) for case, driver in found]
    wanted = [(case.major, case.migrated, driver) for case, driver in everything]
    for places in combinations(range(3), 2):
        met, all_pairs = (
            {tuple(kind[place] for place in places) for kind in of} for of in (kinds, wanted)
        )
        assert met == all_pairs
    assert len(found) <= len(everything) / 4


@pytest.mark.parametrize("of", [cases(), alternating_versions(migrated=True), ALL], ids=len)
def test_of_chosen_shops_both_databases_are_there(of: list[DatabaseVariant]) -> None:
    found = chosen_shops(of)
    assert {case.shape.postgresql for case in found} == {True, False}
    assert {case.migrated for case in found} == {case.migrated for case in of}
    assert len(found) == 2


def test_of_tests_on_one_database_half_run_on_each() -> None:
    mark = pytest.mark.one_database.mark
    items = [
        Item(f"t.py::{name}[]", OWN, mark, shop=case) for name in "abcd" for case in one_of_each()
    ]
    found = [it.callspec.params["shop"] for it in choose(*items)]
    assert Counter(found) == dict.fromkeys(one_of_each(), 2)


def test_the_tests_of_a_file_take_shops_by_turns() -> None:
    items = [Item(f"t.py::{name}[]", OWN, shop=case) for name in "abcdefgh" for case in cases()]
    assert {it.callspec.params["shop"] for it in choose(*items)} == {*cases()}


def test_the_tests_of_a_file_take_shapes_with_other_names_by_turns() -> None:
    items = [Item(f"t.py::{name}[]", shop=case) for name in "abcdefgh" for case in ALL]
    shapes = [it.callspec.params["shop"].shape for it in choose(*items)]
    assert {*shapes} >= {*OTHER_NAMES}


def test_the_tests_of_a_file_take_servers_by_turns() -> None:
    items = [Item(f"t.py::{name}[]", server=major) for name in "abcd" for major in MAJORS]
    found = [it.callspec.params["server"] for it in choose(*items)]
    assert len(found) == 4
    assert Counter(found) == dict.fromkeys(MAJORS, 2)


def test_each_value_of_each_parameter_is_there() -> None:
    items = [Item("t.py::t[]", letter=letter, number=it) for letter in "ab" for it in range(5)]
    found = [it.callspec.params for it in choose(*items)]
    assert {it["letter"] for it in found} == {*"ab"}
    assert {it["number"] for it in found} == {*range(5)}
    assert len(found) == 5


def test_a_test_without_parameters_runs() -> None:
    items = [Item("t.py::one"), Item("t.py::two")]
    assert choose(*items) == items
    assert cover([set()], [None], Counter()) == [0]


def test_what_is_slow_does_not_run_and_says_why() -> None:
    why = pytest.mark.slow(reason="it takes long").mark
    items = [Item("t.py::t[1]", n=1), Item("t.py::t[2]", why, n=2)]
    assert choose(*items) == items[:1]
    with pytest.raises(pytest.UsageError, match="says why"):
        choose(Item("t.py::t", pytest.mark.slow.mark))
