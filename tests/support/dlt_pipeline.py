"""What a pipeline does every night, four ways: dlt reads a shop into DuckDB, each time what is new.

It loads once for each line of its input, and answers with a line: to start it takes seconds.

by date    append what is dated after the latest date that was seen
by id      append what has an id above the highest that was seen
window     look again at the last 90 days, and put what is found over what was there
whole      replace everything
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import dlt
from dlt.sources.sql_database import sql_table

DAYS_90 = 91 * 86_400.0

url, directory, table, key, moment = sys.argv[1:]
ways: dict[str, tuple[str | None, float | None, Any]] = {
    "by_date": (moment, None, "append"),
    "by_id": (key, None, "append"),
    "recent": (moment, DAYS_90, "merge"),
    "whole": (None, None, "replace"),
}
warnings.simplefilter("ignore")
for night in sys.stdin:
    for name, (cursor, lag, disposition) in ways.items():
        incremental: Any = None if cursor is None else dlt.sources.incremental(cursor, lag=lag)
        invoices = sql_table(url, table=table, incremental=incremental)
        invoices.apply_hints(primary_key=key, write_disposition=disposition)
        dlt.pipeline(
            name,
            destination=dlt.destinations.duckdb(str(Path(directory) / "copy.duckdb")),
            dataset_name=name,
            pipelines_dir=directory,
        ).run(invoices)
    sys.stdout.write(night)
    sys.stdout.flush()
