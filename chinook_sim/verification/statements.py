"""The queries of the checks, with names in braces; see `CheckQuery`.

Each is a SELECT of the ids of what is wrong.
"""

from __future__ import annotations

TOTALS = (
    "SELECT i.{invoice_id} AS id FROM {invoice} i LEFT JOIN (SELECT l.{line_invoice} AS id, "
    "sum(round(l.{price} * 100) * l.{quantity}) AS cents FROM {line} l {lines_in_scope} "
    "GROUP BY l.{line_invoice}) s ON s.id = i.{invoice_id} WHERE {scope} "
    "AND coalesce(round(i.{total} * 100), -1) <> coalesce(s.cents, -2)"
)

# Not a join, of which SQLite, without statistics, would read all lines first.
OF_LINES = "l.{line_invoice} IN (SELECT i.{invoice_id} FROM {invoice} i WHERE {scope})"

WITHOUT_TRACKS = (
    "SELECT i.{invoice_id} AS id FROM {invoice} i WHERE {scope} AND NOT EXISTS "
    "(SELECT 1 FROM {line} l WHERE l.{line_invoice} = i.{invoice_id})"
)

TRACKS = (
    "SELECT i.{invoice_id} AS id FROM {invoice} i WHERE {scope} AND (SELECT count(*) FROM {line} l "
    "WHERE l.{line_invoice} = i.{invoice_id}) NOT BETWEEN 1 AND 5"
)

TRACKS_AND_ADDED = (
    # Beside those that runs added to it later, where no invoice with fewer was left.
    "WITH added AS (SELECT c.subject_id AS id, count(*) AS tracks FROM {change} c "
    "JOIN {run} r ON r.run_id = c.run_id "
    "WHERE c.kind = 'update' AND c.subject = 'invoice' AND r.undone_at IS NULL "
    "GROUP BY c.subject_id) "
    "SELECT i.{invoice_id} AS id FROM {invoice} i LEFT JOIN added a ON a.id = i.{invoice_id} "
    "WHERE {scope} AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = i.{invoice_id}) "
    "NOT BETWEEN 1 AND 5 + coalesce(a.tracks, 0)"
)

REPEATED_TRACKS = (
    "SELECT DISTINCT t.id FROM (SELECT l.{line_invoice} AS id FROM {line} l WHERE {of_lines} "
    "GROUP BY l.{line_invoice}, l.{line_track} HAVING count(*) > 1) t"
)

WITHOUT_CUSTOMER = (
    "SELECT i.{invoice_id} AS id FROM {invoice} i WHERE {scope} AND NOT EXISTS "
    "(SELECT 1 FROM {customer} c WHERE c.{customer_id} = i.{invoice_customer})"
)

WITHOUT_TRACK = (
    "SELECT l.{line_id} AS id FROM {line} l WHERE {of_lines} "
    "AND NOT EXISTS (SELECT 1 FROM {track} t WHERE t.{track_id} = l.{line_track})"
)

WITHOUT_RUN = (
    "SELECT p.first_id AS id FROM {run_invoices} p WHERE NOT EXISTS "
    "(SELECT 1 FROM {run} r WHERE r.run_id = p.run_id) "
    "UNION ALL SELECT c.subject_id FROM {change} c WHERE NOT EXISTS "
    "(SELECT 1 FROM {run} r WHERE r.run_id = c.run_id)"
)

WITHOUT_INVOICE = (
    "SELECT l.{line_id} AS id FROM {line} l WHERE NOT EXISTS "
    "(SELECT 1 FROM {invoice} i WHERE i.{invoice_id} = l.{line_invoice})"
)

QUANTITIES = (
    "SELECT DISTINCT i.{invoice_id} AS id FROM {line} l "
    "JOIN {invoice} i ON i.{invoice_id} = l.{line_invoice} WHERE {scope} AND l.{quantity} <> 1"
)

PRICES_NOW = (
    "SELECT DISTINCT i.{invoice_id} AS id FROM {line} l "
    "JOIN {invoice} i ON i.{invoice_id} = l.{line_invoice} "
    "JOIN {track} t ON t.{track_id} = l.{line_track} WHERE {scope} "
    "AND coalesce(round(l.{price} * 100), -1) <> coalesce(round(t.{track_price} * 100), -2)"
)

PRICES_THEN = (
    # Which change of a price each run had seen last; 0 for none, where the ledger says nothing.
    "WITH known AS (SELECT r.run_id, coalesce(r.prices_known, 0) AS as_of FROM {run} r "
    "WHERE r.undone_at IS NULL AND r.kind IN ('generate', 'changes', 'live')), "
    "made AS (SELECT i.{invoice_id} AS id, max(coalesce(r.prices_known, 0)) AS as_of "
    "FROM {made} WHERE r.undone_at IS NULL AND r.kind IN ('generate', 'live') AND {scope} "
    "GROUP BY i.{invoice_id}), "
    # A line of a track whose price ever changed: what the run that wrote it knew.
    "written AS (SELECT l.{line_id} AS id, coalesce("
    "(SELECT n.as_of FROM {change} c JOIN known n ON n.run_id = c.run_id "
    "WHERE c.kind = 'update' AND c.subject = 'invoice' AND c.subject_id = l.{line_invoice} "
    "AND EXISTS (SELECT 1 FROM {kept_lines} WHERE {kept_line_id} = l.{line_id}) "
    "AND NOT EXISTS (SELECT 1 FROM {lines_before} WHERE {kept_line_id} = l.{line_id})), "
    "m.as_of) AS as_of FROM {line} l JOIN {invoice} i ON i.{invoice_id} = l.{line_invoice} "
    "LEFT JOIN made m ON m.id = l.{line_invoice} WHERE {scope} "
    "AND l.{line_track} IN (SELECT p.subject_id FROM {change} p WHERE p.subject = 'track')) "
    "SELECT DISTINCT i.{invoice_id} AS id FROM {line} l "
    "JOIN {invoice} i ON i.{invoice_id} = l.{line_invoice} "
    "JOIN {track} t ON t.{track_id} = l.{line_track} LEFT JOIN written w ON w.id = l.{line_id} "
    "WHERE {scope} AND CASE WHEN l.{line_track} NOT IN "
    "(SELECT p.subject_id FROM {change} p WHERE p.subject = 'track') "
    "THEN coalesce(round(l.{price} * 100), -1) <> coalesce(round(t.{track_price} * 100), -2) "
    # Of a sale that no run recorded any price will do that the track ever had.
    "WHEN w.as_of IS NULL THEN round(l.{price} * 100) <> round(t.{track_price} * 100) "
    "AND NOT EXISTS (SELECT 1 FROM {change} c WHERE c.subject = 'track' "
    "AND c.subject_id = l.{line_track} AND round(l.{price} * 100) "
    "IN (round({price_before} * 100), round({price_after} * 100))) "
    # What it was before the first change that was not known yet, or what it is.
    "ELSE round(l.{price} * 100) <> coalesce((SELECT round({price_before} * 100) FROM {change} c "
    "WHERE c.subject = 'track' AND c.subject_id = l.{line_track} AND c.change_id > w.as_of "
    "ORDER BY c.change_id LIMIT 1), round(t.{track_price} * 100)) END"
)

_LATE_OF = (
    # The runs that can have late sales on the day.
    "(SELECT i.{invoice_id} FROM {made} WHERE r.undone_at IS NULL AND r.digest IS NOT NULL "
    "AND r.day BETWEEN :day AND :latest AND r.parameters LIKE '%\"late_days\"%' AND r.day "
)

OF_THE_DAY = (
    # What is dated on the day and did not come late on another, and what came late on this one.
    "i.{date} >= :earliest AND i.{date} < :end AND CASE WHEN i.{date} >= :start "
    "THEN i.{invoice_id} NOT IN " + _LATE_OF + "> :day) "
    "ELSE i.{invoice_id} IN " + _LATE_OF + "= :day) END"
)

CANCELLED_SINCE = (
    # A sale of a run counts with the run's day, whatever its date; any other with its own.
    "SELECT c.subject_id AS id FROM {change} c JOIN {run} u ON u.run_id = c.run_id "
    "WHERE u.undone_at IS NULL AND c.kind = 'cancellation' AND CASE WHEN EXISTS "
    "(SELECT 1 FROM {run_invoices} p JOIN {run} r ON r.run_id = p.run_id WHERE {in_a_run}) "
    "THEN EXISTS (SELECT 1 FROM {run_invoices} p JOIN {run} r ON r.run_id = p.run_id "
    "WHERE r.day = :day AND {in_a_run}) "
    "ELSE {date_before} >= :start AND {date_before} < :end END"
)

IN_A_RUN = (
    "c.subject_id BETWEEN p.first_id AND p.last_id AND (c.subject_id - p.first_id) % p.step = 0 "
    "AND r.undone_at IS NULL AND r.digest IS NOT NULL"
)

LATEST = (
    # Of several changes of one thing the last is what can be seen. The last of all are found in
    # one go: asked for each change by itself, it would take the square of their number.
    "WITH latest AS (SELECT max(c.change_id) AS change_id FROM {change} c "
    "JOIN {run} r ON r.run_id = c.run_id WHERE {of_them} GROUP BY c.subject_id), "
    # By itself, as otherwise those of other days are compared first, and left out then.
    "chosen AS MATERIALIZED (SELECT c.change_id FROM latest "
    "JOIN {change} c ON c.change_id = latest.change_id "
    "JOIN {run} r ON r.run_id = c.run_id WHERE {scope}) "
    "SELECT c.subject_id AS id FROM chosen JOIN {change} c ON c.change_id = chosen.change_id "
    "JOIN {run} r ON r.run_id = c.run_id WHERE "
)

INVOICES_CHANGED = (
    "c.subject = 'invoice' AND c.kind IN ('update', 'cancellation') AND r.undone_at IS NULL"
)

CUSTOMERS_CHANGED = "c.subject = 'customer' AND r.undone_at IS NULL"

# That a price was put back is one more change of it, of the run that was undone.
PRICES_CHANGED = "c.subject = 'track'"

OF_A_DAY = (
    # Of runs of the day, or of sales of it. The ids are listed, as a sale may be gone.
    "(r.day = :day OR c.subject_id IN "
    "(SELECT i.{invoice_id} FROM {invoice} i WHERE i.{date} >= :start AND i.{date} < :end) "
    "OR c.subject_id IN (WITH RECURSIVE n (id, last_id, step) AS "
    "(SELECT p.first_id, p.last_id, p.step FROM {run_invoices} p "
    "JOIN {run} m ON m.run_id = p.run_id "
    "WHERE m.day = :day AND m.undone_at IS NULL AND m.kind NOT IN ('align', 'baseline') "
    "UNION ALL SELECT n.id + n.step, n.last_id, n.step FROM n WHERE n.id + n.step <= n.last_id) "
    "SELECT n.id FROM n))"
)

STILL_THERE = (
    "c.kind = 'cancellation' "
    "AND EXISTS (SELECT 1 FROM {invoice} i WHERE i.{invoice_id} = c.subject_id)"
)

UPDATED_DIFFERS = (
    "c.kind = 'update' AND (NOT EXISTS (SELECT 1 FROM {invoice} i "
    "WHERE i.{invoice_id} = c.subject_id AND round(i.{total} * 100) = round({kept_total} * 100) "
    "AND {same_bill}) "
    "OR (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = c.subject_id) "
    "<> (SELECT count(*) FROM {kept_lines}) OR EXISTS (SELECT 1 FROM {kept_lines} "
    "WHERE NOT EXISTS (SELECT 1 FROM {line} l WHERE l.{line_id} = {kept_line_id} "
    "AND l.{line_invoice} = c.subject_id AND l.{line_track} = {kept_line_track} "
    "AND round(l.{price} * 100) = round({kept_price} * 100) AND l.{quantity} = {kept_quantity})) "
    # `align` may have moved it before or after.
    "OR (EXISTS (SELECT 1 FROM {invoice} i WHERE i.{invoice_id} = c.subject_id "
    "AND {date_now} <> {date_after}) AND NOT EXISTS (SELECT 1 FROM {run} a "
    "JOIN {run_invoices} p ON p.run_id = a.run_id WHERE a.kind = 'align' "
    "AND c.subject_id BETWEEN p.first_id AND p.last_id "
    "AND (c.subject_id - p.first_id) % p.step = 0)))"
)

CHAIN = (
    # Each change that is followed by one that did not find, word for word, what it had left.
    "SELECT c.subject_id AS id, c.after AS kept, n.found FROM (SELECT c.change_id, "
    "lead(c.change_id) OVER w AS later, lead(c.before) OVER w AS found "
    "FROM {change} c JOIN {run} r ON r.run_id = c.run_id WHERE {of_them} "
    "WINDOW w AS (PARTITION BY c.subject_id ORDER BY c.change_id)) n "
    "JOIN {change} c ON c.change_id = n.change_id JOIN {run} r ON r.run_id = c.run_id "
    "WHERE {scope} AND n.later IS NOT NULL AND coalesce(c.after, '') <> n.found"
)

ADDRESS_DIFFERS = (
    "NOT EXISTS (SELECT 1 FROM {customer} t WHERE t.{customer_id} = c.subject_id "
    "AND {same_address}) "
    # Who moved to one address twice is moved back by undoing the first time alone.
    "AND NOT EXISTS (SELECT 1 FROM {change} b JOIN {run} u ON u.run_id = b.run_id "
    "JOIN {customer} t ON t.{customer_id} = b.subject_id WHERE b.subject = 'customer' "
    "AND b.subject_id = c.subject_id AND b.change_id < c.change_id "
    "AND u.undone_at >= r.created_at AND {same_address_before})"
)

PRICE_DIFFERS = (
    "NOT EXISTS (SELECT 1 FROM {track} t WHERE t.{track_id} = c.subject_id "
    "AND round(t.{track_price} * 100) = round({price_after} * 100))"
)
