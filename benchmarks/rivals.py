"""What the SQL functions are measured against: the earlier simulator, and the least there is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from benchmarks.shop import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

OLD_WAY = f"""
CREATE FUNCTION public.old_way(p_date timestamp) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    buyer record;
    track record;
    number integer;
    line integer;
    basket integer[];
    prices numeric[];
BEGIN
    SELECT * INTO buyer FROM "Customer" ORDER BY random() LIMIT 1;
    FOR place IN 1 .. 1 + floor(random() * 5)::integer LOOP
        SELECT * INTO track FROM "Track" ORDER BY random() LIMIT 1;
        basket := basket || track."TrackId";
        prices := prices || track."UnitPrice";
    END LOOP;
    SELECT max("InvoiceId") + 1 INTO number FROM "Invoice";
    INSERT INTO "Invoice" ({TABLES["Invoice"]}) OVERRIDING SYSTEM VALUE
    VALUES (number, buyer."CustomerId", p_date, buyer."Address", buyer."City", buyer."State",
            buyer."Country", buyer."PostalCode", (SELECT sum(price) FROM unnest(prices) price));
    FOR place IN 1 .. cardinality(basket) LOOP
        SELECT max("InvoiceLineId") + 1 INTO line FROM "InvoiceLine";
        INSERT INTO "InvoiceLine" ({TABLES["InvoiceLine"]}) OVERRIDING SYSTEM VALUE
        VALUES (line, number, basket[place], prices[place], 1);
    END LOOP;
    RETURN number;
END
$$"""
"""The earlier simulator's function, written anew from its description."""

LEAST = """
CREATE FUNCTION public.least_sale(p_date timestamp)
RETURNS TABLE (generated_invoice_id integer, generated_total numeric) LANGUAGE plpgsql {settings} AS
$$
DECLARE
    size integer := 1 + floor(random() * 5)::integer;
BEGIN
    INSERT INTO public."Invoice" AS i ({invoice}) OVERRIDING SYSTEM VALUE
    VALUES (nextval('public."Invoice_InvoiceId_seq"'), 1 + floor(random() * {customers})::integer,
            p_date, '12 High Street', 'York', NULL, 'United Kingdom', 'YO1 1AA', size * 0.99)
    RETURNING i."InvoiceId", i."Total" INTO generated_invoice_id, generated_total;
    INSERT INTO public."InvoiceLine" ({line}) OVERRIDING SYSTEM VALUE
    SELECT nextval('public."InvoiceLine_InvoiceLineId_seq"'), generated_invoice_id,
           1 + floor(random() * {tracks})::integer, 0.99, 1 FROM generate_series(1, size);
    RETURN NEXT;
END
$$"""
"""Inserts the same rows and looks nothing up: no price, address, duplicate or privilege."""


def install(engine: Engine, settings: str = "") -> None:
    """Make both functions in a shop whose customers and tracks are numbered from 1."""
    with engine.begin() as connection:
        customers, tracks = (
            connection.scalar(text(f'SELECT count(*) FROM "{table}"'))
            for table in ("Customer", "Track")
        )
        least = LEAST.format(
            settings=settings,
            customers=customers,
            tracks=tracks,
            invoice=TABLES["Invoice"],
            line=TABLES["InvoiceLine"],
        )
        connection.execute(text("DROP FUNCTION IF EXISTS public.old_way, public.least_sale"))
        connection.exec_driver_sql(OLD_WAY)
        connection.exec_driver_sql(least)


def one_by_one(engine: Engine, sales: int) -> Callable[[], None]:
    """Return a run of the earlier simulator: a call a sale, in one transaction."""

    def run() -> None:
        with engine.connect() as connection:
            connection.begin()
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor:
                for second in range(sales):
                    moment = datetime(2026, 1, 31) + timedelta(seconds=second)  # noqa: DTZ001
                    cursor.execute("SELECT public.old_way(%s)", [moment])
                    cursor.fetchone()
            connection.rollback()

    return run


def calls(engine: Engine, function: str, count: int) -> Callable[[], None]:
    """Return a run of many calls of a function within one statement."""
    statement = (
        f"SELECT count(*) FROM generate_series(1, {count}) n, "
        f"LATERAL public.{function}(timestamp '2026-01-31' + n * interval '1 second')"
    )

    def run() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
            connection.rollback()

    return run
