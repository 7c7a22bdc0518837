"""Every SQL statement of the documentation runs, on both databases and in both spellings."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from datetime import date
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest

from chinook_sim import generate_d1, simulate_changes, undo
from support import ROOT
from support.cases import on_variants
from support.documents import DOCUMENTS, README, SPELLINGS, blocks, do, reading, spellings

if TYPE_CHECKING:
    from pathlib import Path

    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)

WITH_SQL = [path for path in DOCUMENTS if blocks(path, "sql")]

LINKED = (*DOCUMENTS, *(ROOT / f"{it}.md" for it in ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING")))


def test_every_document_is_known() -> None:
    assert {"README.md", "load-it-right.md", "digest.md"} <= {path.name for path in DOCUMENTS}
    labels = {word for path in DOCUMENTS for block in blocks(path, "sql") for word in block.words}
    # What says for which database a block is must not be misspelled.
    assert labels == {
        *("sqlite", "postgresql", "snake_case", "functions", "pg_cron", "ledger", "warehouse"),
        *("changes", "triggers", "horizon", "digest", "input", "run", "checks", "latest"),
    }


@spellings
@pytest.mark.parametrize("document", WITH_SQL, ids=lambda path: path.name)
def test_every_statement_runs(shop: ChinookDatabase, document: Path) -> None:
    run = do(shop, generate_d1, 20, updates=3, cancellations=2).run_id
    values = {
        "run_id": run,
        "day": DAY,
        "last_id": 25,
        "overlap": 10,
        "last_horizon": "3",
        "since": DAY,
        "last_load": f"{DAY} 00:00:00",
    }
    with reading(shop) as reader:
        for block in blocks(document, "sql"):
            if block.is_for(shop):
                reader.run(block, **values)


@spellings
def test_the_changes_of_a_night_are_listed(shop: ChinookDatabase) -> None:
    do(shop, generate_d1, 30)
    made = do(shop, generate_d1, 5, updates=4, cancellations=3, new_customers=2, price_changes=2)
    undone = do(shop, simulate_changes, updates=2)
    do(shop, undo, undone.run_id)
    document = ROOT / "docs" / "how-to" / "simulate-changes.md"
    (block,) = (it for it in blocks(document, "sql", "changes") if it.is_for(shop))
    with reading(shop) as reader:
        (rows,) = reader.run(block)
    assert [row[0] for row in rows] == ["cancellation"] * 3 + ["update"] * 4
    assert all(after is None for kind, _, _, after in rows if kind == "cancellation")
    totals = dict(shop.rows("SELECT [InvoiceId], [Total] FROM [Invoice]"))
    for kind, invoice, before, after in rows:
        assert (kind == "update") == (invoice in totals)
        if kind == "update":
            assert float(before) < float(after) == float(totals[invoice])
    assert made.updates == 4


@spellings
def test_the_digest_follows_from_the_sales(shop: ChinookDatabase) -> None:
    document = ROOT / "docs" / "reference" / "digest.md"
    (worked,) = blocks(document, "text", "digest")
    (inputs,) = blocks(document, "sql", "input")
    formula, of_run = (
        it for it in blocks(document, "sql", "digest") if it.is_for(shop) and it != inputs
    )
    # By hand, in the tables, and in the ledger; late sales have negative seconds.
    made = do(shop, generate_d1, 2100, day=DAY, seed=7, late=0.1)
    (ledger,) = (it for it in blocks(document, "sql") if not it.words)
    with reading(shop) as reader:
        reader.run(inputs)
        assert reader.run(formula, day=DAY) == [[(worked.code.strip(),)]]
        reader.run(of_run, run_id=made.run_id)
        assert reader.run(formula, day=DAY) == [[(made.digest,)]]
        ((row,),) = reader.run(ledger, run_id=made.run_id)
    assert (str(row[0]), row[1]) == (str(DAY), made.digest)


@on_variants(SPELLINGS[2:3])
def test_digest_and_fingerprints_in_python(shop: ChinookDatabase) -> None:
    document = ROOT / "docs" / "reference" / "digest.md"
    scope: dict[str, Any] = {}
    said = StringIO()
    with redirect_stdout(said):
        for block in blocks(document, "python"):
            exec(block.code, scope)
    scope["connection"].close()
    worked = [it.code.strip() for it in blocks(document, "text")]
    assert said.getvalue().split() == worked

    made = do(shop, generate_d1, 50, day=DAY, seed=7, late=0.1)
    lines: dict[int, list[tuple[int, int]]] = {}
    for invoice, track, price in shop.rows(
        "SELECT [InvoiceId], [TrackId], [UnitPrice] FROM [InvoiceLine] ORDER BY [InvoiceLineId]"
    ):
        lines.setdefault(invoice, []).append((track, round(price * 100)))
    names = ("Address", "City", "State", "Country", "PostalCode")
    rows = shop.rows(
        "SELECT [InvoiceId], [CustomerId], CAST(strftime('%s', [InvoiceDate]) - "
        f"strftime('%s', '{DAY}') AS INTEGER), {', '.join(f'[Billing{it}]' for it in names)} "
        f"FROM [Invoice] WHERE [InvoiceId] >= {made.invoice_ids[0]} ORDER BY [InvoiceId]"
    )
    sales = [(customer, second, lines[invoice]) for invoice, customer, second, *_ in rows]
    assert min(second for _, second, _ in sales) < 0
    assert scope["digest"](DAY, sales) == made.digest
    prints = b"".join(
        scope["fingerprint"](customer, second, billing, lines[invoice])
        for invoice, customer, second, *billing in rows
    )
    assert shop.rows(
        f"SELECT fingerprints FROM chinook_sim_run_invoices WHERE run_id = '{made.run_id}'"
    ) == [(prints,)]


def prose(document: Path) -> str:
    """Return a document without its blocks of code."""
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", LINKED, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    text = re.sub(
        r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        if "://" in name:
            continue
        target = document.parent / name if name else document
        assert target.exists(), link
        if target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}
            assert not anchor or anchor in known, link


def test_every_page_is_in_the_navigation() -> None:
    pages = {path.relative_to(ROOT / "docs") for path in DOCUMENTS if path != README}
    listed = [
        f"{line}.md"
        for tree in re.findall(
            r"```\{toctree\}(.*?)```", (ROOT / "docs/index.md").read_text("utf-8"), re.DOTALL
        )
        for line in tree.split()
        if "/" in line
    ]
    assert sorted(listed) == sorted(str(it) for it in pages if str(it) != "index.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_lines_of_prose_are_short(document: Path) -> None:
    text = re.sub(
        r"^ *```.*?^ *```$",
        "",
        document.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    assert not [
        line for line in text.splitlines() if len(line) > 100 and not line.lstrip().startswith("|")
    ]
