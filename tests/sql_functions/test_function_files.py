"""The files of the SQL functions: each one is read by a revision, and is what it installs."""

from __future__ import annotations

from chinook_sim.provisioning.migration_runner import read_functions, revision_of
from support import ROOT

MIGRATIONS = ROOT / "migrations"


def test_each_file_is_the_text_of_a_revision() -> None:
    files = {
        (path.parent.name, path.stem): read_functions(path.parent.name, path.stem)[path.stem]
        for path in (MIGRATIONS / "functions").glob("*/*.sql")
    }
    first, second, third, last = (revision_of(name) for name in ("0004", "0006", "0007", "0010"))

    assert files == {
        **{("0004", name): function for name, function in first.FUNCTIONS.items()},
        **{("0006", name): function for name, function in second.FUNCTIONS.items()},
        **{
            ("0007", name): function
            for name, function in (third.INTERNAL | third.REPLACED | third.OVERLOADS).items()
        },
        **{("0010", name): function for name, function in last.FUNCTIONS.items()},
    }


def test_a_replaced_function_keeps_parameters_and_result() -> None:
    first, second, third, last = (revision_of(name) for name in ("0004", "0006", "0007", "0010"))

    assert set(last.FUNCTIONS) < set(second.FUNCTIONS)
    assert set(third.REPLACED) < set(second.FUNCTIONS) == set(first.FUNCTIONS)
    for earlier, later in (
        (first.FUNCTIONS, second.FUNCTIONS),
        (second.FUNCTIONS, third.REPLACED),
        (second.FUNCTIONS, last.FUNCTIONS),
    ):
        for name, function in later.items():
            assert function[:3] == earlier[name][:3]


def test_the_file_of_an_overload_names_its_type() -> None:
    for file, function in revision_of("0007").OVERLOADS.items():
        assert file == f"{function.name}.{function.parameters.partition(' ')[2]}"


def test_no_revision_has_the_body_of_a_function() -> None:
    for revision in (MIGRATIONS / "versions").glob("*.py"):
        assert "\nBEGIN" not in revision.read_text(encoding="utf-8")
