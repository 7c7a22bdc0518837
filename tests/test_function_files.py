"""The files of the SQL functions: each one is read by a revision, and is what it installs."""

from __future__ import annotations

from pathlib import Path

from chinook_sim.provisioning.migration_runner import read_functions, revision_of

FUNCTIONS = Path(__file__).parents[1] / "migrations" / "functions"


def test_each_file_is_the_text_of_a_revision() -> None:
    files = {
        (path.parent.name, path.stem): read_functions(path.parent.name, path.stem)[path.stem]
        for path in FUNCTIONS.glob("*/*.sql")
    }
    first, second, third = (revision_of(name) for name in ("0004", "0006", "0007"))

    assert files == {
        **{("0004", name): text for name, text in first.FUNCTIONS.items()},
        ("0006", "simulate_sales"): second.functions()["simulate_sales"],
        **{("0007", name): text for name, text in (third.INTERNAL | third.REPLACED).items()},
    }


def test_a_replaced_function_keeps_parameters_and_result() -> None:
    earlier = read_functions("0004", "simulate_sales", "simulate_update_sale")
    later = read_functions("0006", "simulate_sales") | read_functions(
        "0007", "simulate_update_sale"
    )

    for name, (parameters, result, _) in earlier.items():
        assert later[name][:2] == (parameters, result)
