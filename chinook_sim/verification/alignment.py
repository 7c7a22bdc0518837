"""Checking that the history is where `align` moved it."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from chinook_sim.verification.dialect import dialect_of
from chinook_sim.verification.query import SHOWN, Check, CheckQuery, counted, listed
from chinook_sim.verification.recorded_runs import FINGERPRINT, date_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["check_alignment"]

_RUN = (
    "SELECT r.run_id, r.day, r.parameters FROM {run} r "
    "WHERE r.kind = 'align' AND r.undone_at IS NULL"
)

_RANGES = (
    "SELECT p.first_id, p.last_id, p.step, p.fingerprints FROM {run_invoices} p "
    "WHERE p.run_id = :run ORDER BY p.first_id"
)

# What was cancelled since was where the alignment had moved it.
_DATED = (
    "SELECT i.{invoice_id} AS id, {date_text} AS moment FROM {made} WHERE r.run_id = :run "
    "UNION ALL SELECT c.subject_id, {date_before_text} FROM {change} c "
    "JOIN {run} u ON u.run_id = c.run_id "
    "WHERE u.undone_at IS NULL AND c.kind = 'cancellation' AND EXISTS "
    "(SELECT 1 FROM {run_invoices} p WHERE p.run_id = :run AND c.subject_id "
    "BETWEEN p.first_id AND p.last_id AND (c.subject_id - p.first_id) % p.step = 0) "
    "AND NOT EXISTS (SELECT 1 FROM {invoice} i WHERE i.{invoice_id} = c.subject_id)"
)


def check_alignment(connection: Connection) -> list[Check]:
    """Check the dates of the invoices that an active alignment moved, if there is one."""
    query = CheckQuery(connection, "1 = 1", {})
    (run, *_) = query.rows(_RUN) or (None,)
    if run is None:
        return []
    dialect = dialect_of(connection)
    moved = CheckQuery(
        connection,
        "1 = 1",
        {"run": run.run_id},
        date_text=dialect.timestamp_text("i.{date}"),
        date_before_text=dialect.timestamp_text("{date_before}"),
    )
    dates = {int(row.id): str(row.moment) for row in moved.rows(_DATED)}
    digest = hashlib.sha256()
    for number in sorted(dates):
        digest.update(f"{number} {dates[number]}\n".encode())
    name = "aligned history matches the ledger"
    if digest.hexdigest() == json.loads(run.parameters)["digest"]:
        return [Check(name, True, "0 invoices differ")]
    midnight = datetime.combine(date_of(run.day), datetime.min.time())
    missing, elsewhere = [], []
    for row in moved.rows(_RANGES):
        ids = range(row.first_id, row.last_id + 1, row.step)
        missing += [number for number in ids if number not in dates]
        if row.fingerprints is None:
            continue
        seconds = np.frombuffer(row.fingerprints, dtype=FINGERPRINT)["second"].astype(np.int32)
        for number, second in zip(ids, seconds.tolist(), strict=True):
            moment = midnight + timedelta(seconds=second)
            if dates.get(number, str(moment)) != str(moment):
                elsewhere.append(number)
    parts = [
        f"{counted(len(numbers), f'invoice {what}', f'invoices {what}')}: "
        f"{listed(len(numbers), numbers[:SHOWN])}"
        for numbers, what in ((missing, "missing"), (elsewhere, "with another date"))
        if numbers
    ]
    wrong = sorted(missing + elsewhere)
    figure = "; ".join(parts) or "some differ; the ledger does not have the dates of each"
    return [Check(name, False, figure, len(wrong), tuple(wrong[:SHOWN]))]
