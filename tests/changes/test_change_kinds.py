"""The kinds of changes: each is known by one name wherever its number is given or reported."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from chinook_sim import BatchSummary, generate_d1, simulate_changes
from chinook_sim.cli.generate import generate
from chinook_sim.kinds import SUBJECTS, ChangeCounts, ChangeKind

FIELDS = [kind.field for kind in ChangeKind]


def test_counts_have_a_field_for_each_kind() -> None:
    assert [field.name for field in fields(ChangeCounts)] == FIELDS
    assert not ChangeCounts()
    for name in FIELDS:
        assert ChangeCounts(**{name: 1})


@pytest.mark.parametrize("function", [generate_d1, simulate_changes])
def test_functions_take_a_number_for_each_kind(function: object) -> None:
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    assert [name for name in parameters if name in FIELDS] == FIELDS


def test_summary_and_command_have_a_number_for_each_kind() -> None:
    assert {field.name for field in fields(BatchSummary)} >= set(FIELDS)
    assert {option.name for option in generate.params} >= set(FIELDS)


def test_kinds_are_the_texts_of_the_ledger() -> None:
    assert [f"{kind}" for kind in ChangeKind] == [
        "update",
        "cancellation",
        "sign-up",
        "move",
        "price",
    ]
    assert {kind.subject for kind in ChangeKind} == set(SUBJECTS)
