"""`verify`: check the sales."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from chinook_sim.cli.options import (
    Command,
    common_options,
    day_option,
    option,
    timezone_option,
)
from chinook_sim.cli.param_types import Count, ProfileName
from chinook_sim.cli.transactions import transaction
from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from datetime import date

    from chinook_sim.cli.context import CliContext
    from chinook_sim.verification import Check

__all__ = ["verify"]

logger = logging.getLogger(__name__)


CHECK_FAILED = 1
"""The exit status if a check has failed."""

RUNS_LISTED = 10
"""How many runs with differences the text shows. The JSON has all of them."""


@click.command(cls=Command)
@day_option
@timezone_option
@option("--all", "everything", is_flag=True, help="Check the sales of all days.")
@option(
    "--expect", type=Count("sales expected"), metavar="NUMBER", help="Expected number of sales."
)
@option("--shape", is_flag=True, help="Also check the sales against their profile.")
@option(
    "--profile",
    # The variable may be meant for `generate`, so the profile is loaded only with --shape.
    type=ProfileName(),
    metavar="NAME",
    help="Profile to check against with --shape: a name or a TOML file.",
)
@common_options
def verify(
    settings: CliContext,
    day: date | None,
    timezone: str | None,
    everything: bool,
    expect: int | None,
    shape: bool,
    profile: str | None,
) -> None:
    """Check the sales of a day, D-1 by default.

    The sales are compared with the ledger, run by run. With --all, all sales and runs are checked.

    The exit status is 1 if a check fails. Without --expect, a day without sales fails.
    """
    from chinook_sim import verify as run_checks
    from chinook_sim.sampling.profile_file import load_profile
    from chinook_sim.verification import take_snapshot

    if everything and day is not None:
        raise InvalidInput("--day and --all cannot be combined; give one of them")
    source = click.get_current_context().get_parameter_source("profile")
    if not shape and source is ParameterSource.COMMANDLINE:
        raise InvalidInput("--profile needs --shape; give both or neither")
    declared = load_profile(profile) if shape and profile is not None else None
    location = settings.find_database()
    with transaction(settings, location, writing=False) as connection:
        take_snapshot(connection)
        result = run_checks(
            connection,
            day=day,
            timezone=timezone,
            all_days=everything,
            expect=expect,
            shape=shape,
            profile=declared,
        )
    checks, failed = result.checks, len(result.failed)
    logger.debug("checked: checks %s", len(checks))
    of = "all sales" if everything else f"sales of {result.day}"
    width = max(len(check.name) for check in checks)
    settings.print(
        {
            "database": location.shown,
            "day": None if everything else str(result.day),
            "passed": result.ok,
            "checks": [_record(check) for check in checks],
        },
        [
            f"{of} in {location.shown}",
            "",
            *(line for check in checks for line in _lines(check, width)),
            "",
            f"{failed} of {len(checks)} checks failed" if failed else "all checks passed",
        ],
    )
    if settings.quiet and not settings.as_json:
        # --quiet suppresses the result, not the reasons for exit status 1.
        for check in result.failed:
            settings.warn(f"check failed: {check.name}: {check.figure}")
    if failed:
        raise click.exceptions.Exit(CHECK_FAILED)


def _record(check: Check) -> dict[str, Any]:
    """Return a check as a record for JSON."""
    return {
        "name": check.name,
        "passed": check.passed,
        "remark": check.remark,
        "figure": check.figure,
        "count": check.count,
        **check.measured,
        "ids": list(check.ids),
        "runs": [
            {
                "run": run.run_id,
                "day": str(run.day),
                "differences": {
                    kind: {"count": it.count, "ids": list(it.ids)}
                    for kind, it in run.differences.items()
                },
                "figures": {
                    name: {"expected": _number(it.expected), "found": _number(it.found)}
                    for name, it in run.figures.items()
                },
                "text": run.lines,
            }
            for run in check.runs
        ],
    }


def _number(value: object) -> object:
    """Return a figure for JSON. Amounts are strings, as in all output."""
    return str(value) if isinstance(value, Decimal) else value


def _lines(check: Check, width: int) -> list[str]:
    """Return a check as lines of text, with each run that differs on lines of its own."""
    result = "note" if check.remark else "ok" if check.passed else "FAILED"
    if not check.runs:
        return [f"  {result:6}  {check.name:{width}}  {check.figure}"]
    lines = [f"  {result:6}  {check.name:{width}}  {check.summary}"]
    for run in check.runs[:RUNS_LISTED]:
        lines += [f"            {run.title}", *(f"              {line}" for line in run.lines)]
    more = len(check.runs) - RUNS_LISTED
    return lines + ([f"            and {more:,} more"] if more > 0 else [])
