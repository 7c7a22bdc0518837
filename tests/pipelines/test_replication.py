"""A real reader of the log, another server's subscription, while a shop is open."""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from chinook_sim import live
from support import ROOT
from support.cases import VARIANTS, on_variants
from support.chinook_variants import build_postgresql
from support.postgres_server import MAJORS, PASSWORD
from support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chinook_sim.operations.live.worker import LiveBatch
    from support.databases import ChinookDatabase, DatabaseTemplates

# One row for every change that arrives, in the order of their arrival.
NOTED = """
CREATE TABLE seen (
    number bigserial PRIMARY KEY, operation text, relation text, before jsonb, after jsonb
);
CREATE TABLE marker (number int PRIMARY KEY);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.seen (operation, relation, before, after)
    VALUES (lower(TG_OP), TG_TABLE_NAME, to_jsonb(OLD), to_jsonb(NEW));
    RETURN NULL;
END
$$;
"""


@contextmanager
def following(templates: DatabaseTemplates, shop: ChinookDatabase) -> Iterator[ChinookDatabase]:
    """Give a shop a reader: a database on a server of another version that subscribes to it."""
    assert shop.server is not None
    (other,) = (templates.server(major) for major in MAJORS if major != shop.server.major)
    name, source = other.create_database(), shop.url.database
    copy = type(shop)(shop.shape, other.url(name), other)
    build_postgresql(shop.shape, other, name)
    tables = ("[Invoice]", "[InvoiceLine]")
    shop.execute(
        "CREATE TABLE marker (number int PRIMARY KEY)",
        f"CREATE PUBLICATION followed FOR TABLE {', '.join(tables)}, marker",
    )
    where = f"host=127.0.0.1 port={shop.server.port} dbname={source} user=postgres"
    copy.execute(NOTED)
    for table in tables:
        # By default no trigger fires for what a subscription brings.
        copy.execute(
            f"CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION note()",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER note",
        )
    copy.execute(
        f"CREATE SUBSCRIPTION {source} CONNECTION '{where} password={PASSWORD}' "
        f"PUBLICATION followed WITH (copy_data = false)"
    )
    try:
        yield copy
    finally:
        copy.execute(f"DROP SUBSCRIPTION {source}")
        copy.close()


def catch_up(shop: ChinookDatabase, copy: ChinookDatabase) -> None:
    """Wait until the reader has everything that was committed up to now."""
    shop.execute("INSERT INTO marker VALUES (1)")
    until = time.monotonic() + 60
    while not copy.rows("SELECT * FROM marker"):
        assert time.monotonic() < until, "the reader does not follow"
        time.sleep(0.05)


@on_variants(
    [VARIANTS["postgres-neon-pg16-migrated"], VARIANTS["postgres-snake-identity-pg18-migrated"]]
)
@pytest.mark.slow(reason="a replication slot and a long stream")
def test_a_reader_of_the_log_sees_every_live_change_once(
    templates: DatabaseTemplates, shop: ChinookDatabase
) -> None:
    assert shop.server is not None
    with following(templates, shop) as copy:
        batches: list[LiveBatch] = []
        with TcpProxy(shop.server.port) as wire:
            engine = create_engine(shop.url.set(port=wire.port), poolclass=NullPool)
            for batch in live(engine, 200, seed=7, mix=(6, 3, 1)):
                batches.append(batch)
                if len(batches) == 30:
                    break
                if len(batches) % 2 == 0:
                    wire.arm(turn=len(batches) % 25 + 1, side="answer")
            engine.dispose()
        catch_up(shop, copy)
        seen = copy.rows("SELECT relation, operation, before, after FROM seen ORDER BY number")
        tables = ("[Invoice]", "[InvoiceLine]")
        for table in tables:
            everything = f"SELECT * FROM {table} ORDER BY 1"
            assert copy.rows(everything) == shop.rows(everything)
    assert sum(it.lost for it in batches) >= 5
    invoice, line, key = (
        shop.sql(f"[{name}]").strip('"') for name in ("Invoice", "InvoiceLine", "InvoiceId")
    )
    arrived: dict[tuple[str, str], Counter[int]] = {}
    for relation, operation, before, after in seen:
        arrived.setdefault((relation, operation), Counter())[(after or before)[key]] += 1
    changes = changes_of(shop, key)
    made = [number for it in batches for number in it.made.invoice_ids]
    assert arrived[invoice, "insert"] == Counter(made)
    assert arrived[invoice, "update"] == Counter(number for number, _ in changes["update"])
    assert arrived[invoice, "delete"] == Counter(number for number, _ in changes["cancellation"])
    assert arrived[line, "delete"] == Counter(dict(changes["cancellation"]))
    assert arrived[line, "insert"].total() == sum(it.made.lines for it in batches) + len(
        changes["update"]
    )
    assert (line, "update") not in arrived
    assert len(changes["update"]) > 10
    assert len(changes["cancellation"]) > 3


def changes_of(shop: ChinookDatabase, key: str) -> dict[str, list[tuple[int, int]]]:
    """Return the changes of each kind, as the ledger has them: invoices, and lines before."""
    found: dict[str, list[tuple[int, int]]] = {}
    rows: list[tuple[str, int, Any]] = shop.rows(
        "SELECT kind, subject_id, CAST(before AS jsonb) FROM chinook_sim_change"
    )
    for kind, number, before in rows:
        assert before["Invoice"][0][key] == number
        found.setdefault(kind, []).append((number, len(before["InvoiceLine"])))
    return found


GUIDE = ROOT / "docs" / "how-to" / "replication.md"

TABLES = "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = '{}'"


@on_variants(
    [VARIANTS["postgres-neon-pg16-migrated"], VARIANTS["postgres-snake-int-pg18-migrated"]]
)
def test_the_documented_publications_leave_the_ledger_out(shop: ChinookDatabase) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    named, block, query = re.findall(r"```sql postgresql\n(.*?)```", guide, re.DOTALL)
    named = re.sub(r'"(\w+)"', lambda name: shop.shape.spell(name[1]), named)
    shop.execute("CREATE PUBLICATION everything FOR ALL TABLES", named, block)
    everything = {name for _, name in shop.rows(TABLES.format("everything"))}
    ours = {name for name in everything if name.startswith("chinook_sim_")}
    assert {name for _, name in shop.rows(query)} == everything - ours
    assert {name for _, name in shop.rows(TABLES.format("sales"))} == {
        shop.sql(f"[{name}]").strip('"') for name in ("Invoice", "InvoiceLine")
    }
    assert len(ours) == 5
    # The names are listed, and the pattern matches these and no others.
    assert ours == set(re.findall(r"^\| `(chinook_sim_\w+)`", guide, re.MULTILINE))
    (pattern,) = re.findall(r"^table.exclude.list=(.*)$", guide, re.MULTILINE)
    excluded = re.compile(pattern.replace(r"\\", "\\"))
    assert {name for name in everything if excluded.fullmatch(f"public.{name}")} == ours
