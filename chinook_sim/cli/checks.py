"""`verify`: checks on the sales."""

from __future__ import annotations

import click

from chinook_sim.cli.common import (
    Common,
    common,
    day_option,
    option,
    read_day,
    read_number,
    read_timezone,
    timezone_option,
)
from chinook_sim.cli.transactions import transaction
from chinook_sim.errors import InvalidInput

__all__ = ["verify"]

CHECK_FAILED = 1
"""The exit status."""


@click.command()
@day_option
@timezone_option
@option("--all", "everything", is_flag=True, help="Check all sales, of whatever day.")
@option("--expect", metavar="NUMBER", help="How many sales there must be.")
@option("--shape", is_flag=True, help="Check the shape as well that the sales' profile declares.")
@option("--profile", metavar="NAME", help="Check for this shape: a name, or a TOML file.")
@common
def verify(
    settings: Common,
    day: str | None,
    timezone: str | None,
    everything: bool,
    expect: str | None,
    shape: bool,
    profile: str | None,
) -> None:
    """Check the sales of a day, by default D-1, with SQL of its own.

    Exit status 1 if any check fails. Without --expect, a day without sales fails.
    """
    from chinook_sim.profile import load_profile
    from chinook_sim.request import COUNT_LIMIT
    from chinook_sim.verification import verify_all, verify_day
    from chinook_sim.verification.distribution import verify_shape
    from chinook_sim.window import d1

    if everything and day is not None:
        raise InvalidInput("--all checks every day; leave out --day, or --all")
    wanted = None if expect is None else read_number("the number expected", expect, COUNT_LIMIT)
    chosen, zone = read_day(day), read_timezone(timezone)
    # From the environment it may be meant for `generate`; and only `--shape` takes it up.
    declared = load_profile(profile) if shape and profile is not None else None
    location = settings.find()
    with transaction(settings, location, writing=False) as connection:
        if everything:
            of, checks = "all sales", verify_all(connection, expect=wanted)
        else:
            chosen = chosen or d1(connection, zone)
            of, checks = f"sales of {chosen}", verify_day(connection, chosen, expect=wanted)
        if shape:
            checks += verify_shape(connection, declared, day=None if everything else chosen)
    failed = sum(not check.passed for check in checks)
    width = max(len(check.name) for check in checks)
    settings.print(
        {
            "database": location.shown,
            "day": None if everything else str(chosen),
            "passed": not failed,
            "checks": [
                {"name": check.name, "passed": check.passed, "figure": check.figure}
                for check in checks
            ],
        },
        [
            f"{of} in {location.shown}",
            "",
            *(
                f"  {'ok    ' if check.passed else 'FAILED'}  {check.name:{width}}  {check.figure}"
                for check in checks
            ),
            "",
            f"{failed} of {len(checks)} checks failed" if failed else "all checks passed",
        ],
    )
    if failed:
        raise click.exceptions.Exit(CHECK_FAILED)
