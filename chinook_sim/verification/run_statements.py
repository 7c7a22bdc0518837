"""The SQL that reads what the ledger says of runs."""

from __future__ import annotations

__all__ = [
    "ACTIVE",
    "CHANGED",
    "DAYS",
    "MADE",
    "RANGES_OF_RUNS",
    "SALES_OF_DAY",
    "UNDONE",
    "WITHOUT_IDS",
]

MADE_SALES = "r.kind NOT IN ('align', 'baseline')"

ACTIVE = f"r.undone_at IS NULL AND {MADE_SALES}"

UNDONE = f"r.undone_at IS NOT NULL AND {MADE_SALES}"

MADE = "SELECT i.{invoice_id} FROM {made} WHERE {scope} AND {compared}"

DAYS = "SELECT DISTINCT r.day AS day FROM {run} r WHERE {scope} AND r.sales > 0"

RANGES_OF_RUNS = (
    "SELECT p.run_id, p.first_id, p.last_id, p.step, "
    "CASE WHEN {compared} THEN p.fingerprints END AS fingerprints, "
    "CASE WHEN {compared} THEN 1 ELSE 0 END AS compared, "
    "r.day, r.sales, r.lines, r.revenue, r.digest, r.last_invoice_id "
    "FROM {run_invoices} p JOIN {run} r ON r.run_id = p.run_id WHERE {scope} ORDER BY p.first_id"
)


WITHOUT_IDS = (
    "SELECT r.run_id, r.day, r.sales FROM {run} r WHERE {scope} AND {compared} AND r.sales > 0 "
    "AND NOT EXISTS (SELECT 1 FROM {run_invoices} p WHERE p.run_id = r.run_id)"
)


CHANGED = (
    "SELECT c.subject_id AS id, c.before AS kept FROM "
    "(SELECT min(c.change_id) AS change_id FROM {change} c JOIN {run} r ON r.run_id = c.run_id "
    "WHERE r.undone_at IS NULL AND c.subject = 'invoice' GROUP BY c.subject_id) f "
    "JOIN {change} c ON c.change_id = f.change_id ORDER BY c.subject_id"
)


SALES_OF_DAY = (
    "SELECT i.{invoice_id} FROM {made} WHERE {scope} AND {compared} UNION "
    "SELECT i.{invoice_id} FROM {invoice} i WHERE i.{date} >= :start AND i.{date} < :end"
)
