"""Single sales: out of a batch, as plain values, and as ORM objects."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from chinook_sim.models import Invoice, InvoiceLine

if TYPE_CHECKING:
    from datetime import datetime

    from chinook_sim.sales.batch import SaleBatch
    from chinook_sim.sales.catalogue import BillingAddress

__all__ = ["Sale", "invoice_of", "sales_of"]


class Sale(NamedTuple):
    """One sale, as plain values; amounts in cents.

    Attributes:
        customer: id of the customer.
        second: second of the day.
        billing: the customer's address.
        total: the sum of the prices.
        lines: id and price of each track.
    """

    customer: int
    second: int
    billing: BillingAddress
    total: int
    lines: list[tuple[int, int]]


def sales_of(batch: SaleBatch) -> list[Sale]:
    """Return the sales of a batch one by one."""
    lines = list(zip(batch.track_ids.tolist(), batch.prices.tolist(), strict=True))
    ends = batch.offsets.tolist()
    return [
        Sale(customer, second, batch.catalogue.billing[position], total, lines[first:last])
        for customer, second, position, total, first, last in zip(
            batch.customer_ids.tolist(),
            batch.seconds.tolist(),
            batch.customers.tolist(),
            batch.totals.tolist(),
            ends[:-1],
            ends[1:],
            strict=True,
        )
    ]


def invoice_of(sale: Sale, moment: datetime) -> Invoice:
    """Return a sale as a transient Invoice with its lines, without ids."""
    return Invoice(
        customer_id=sale.customer,
        invoice_date=moment,
        billing_address=sale.billing.address,
        billing_city=sale.billing.city,
        billing_state=sale.billing.state,
        billing_country=sale.billing.country,
        billing_postal_code=sale.billing.postal_code,
        total=Decimal(sale.total).scaleb(-2),
        lines=[
            InvoiceLine(track_id=track, unit_price=Decimal(cents).scaleb(-2), quantity=1)
            for track, cents in sale.lines
        ],
    )
