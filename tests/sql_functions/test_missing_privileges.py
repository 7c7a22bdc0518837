"""The privileges that each SQL function needs; with one less, one line names the GRANT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.cases import on_each_postgresql_shape
from support.roles import Role, climb, sequences, spelled

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

SALES = (
    "SELECT ON [Customer]",
    "SELECT ON [Track]",
    "SELECT ON [Invoice]",
    "INSERT ON [Invoice]",
    "SELECT ON [InvoiceLine]",
    "INSERT ON [InvoiceLine]",
)
CHANGES = ("SELECT ON [Invoice]", "UPDATE ON [Invoice]", "SELECT ON [InvoiceLine]")
FUNCTIONS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    # call → rights, and the sequences used
    "simulate_new_sale('2026-01-31 10:00')": (SALES, (0, 1)),
    "simulate_sales('2026-01-31', 5)": (
        (
            *SALES,
            "SELECT ON chinook_sim_run",
            "INSERT ON chinook_sim_run",
            "INSERT ON chinook_sim_run_invoices",
        ),
        (0, 1),
    ),
    "simulate_update_sale('2025-03-30 10:00')": (
        (*CHANGES, "SELECT ON [Track]", "INSERT ON [InvoiceLine]"),
        (1,),
    ),
    "simulate_delete_sale('2025-03-30 10:00')": (
        (*CHANGES, "DELETE ON [Invoice]", "DELETE ON [InvoiceLine]"),
        (),
    ),
}


@on_each_postgresql_shape
@pytest.mark.parametrize("call", FUNCTIONS)
def test_each_function_says_which_rights_it_lacks(
    shop: ChinookDatabase, role: Role, call: str
) -> None:
    rights, used = FUNCTIONS[call]
    needed = spelled(shop, *rights)
    needed |= {f"USAGE ON SEQUENCE {sequences(shop)[place]}" for place in used}

    def work() -> Any:
        with role.connect() as connection, connection.begin():
            found = connection.exec_driver_sql(f"SELECT * FROM public.{call}").one()
            assert found[0] is not None
            return found

    climb(role, work, needed)
