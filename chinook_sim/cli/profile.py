"""`profile`: show the profiles of sales."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chinook_sim.cli.options import Command, common_options
from chinook_sim.cli.output import bar, sparkline
from chinook_sim.cli.param_types import ProfileFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chinook_sim.cli.context import CliContext
    from chinook_sim.sampling.profile import Profile

__all__ = ["profile"]

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

CHINOOK = {"customers": 59, "tracks": 3_503}
"""How many of each the real Chinook has, to show what an exponent means."""


@click.group()
def profile() -> None:
    """Show what a profile looks like."""


@profile.command(cls=Command, short_help="Show the distributions of a profile.")
@click.argument("shape", metavar="NAME", type=ProfileFile())
@common_options
def show(settings: CliContext, shape: Profile) -> None:
    """Show the distributions of a profile: `uniform`, `realistic`, or a TOML file."""
    from chinook_sim.sampling.profile import relative

    # Rounded: more digits mean nothing.
    weekdays, months = (
        [round(factor, 4) for factor in relative(weights)]
        for weights in (shape.weekdays, shape.months)
    )
    hours, baskets = (
        [round(factor / len(weights), 4) for factor in relative(weights)]
        for weights in (shape.hours, shape.baskets)
    )
    record = {
        "name": shape.name,
        "hours": hours,
        "weekdays": weekdays,
        "months": months,
        "growth": shape.growth,
        "since": str(shape.since),
        "customers": shape.customers,
        "tracks": shape.tracks,
        "baskets": baskets,
        "peaks": [peak._asdict() for peak in shape.peaks],
    }
    settings.print(
        record,
        [
            shape.name,
            "",
            f"  hours      {sparkline(hours)}",
            f"             {'0     6     12    18':24}",
            "",
            *bars("weekdays", DAYS, weekdays, "{:.2f}"),
            "",
            *bars("months", MONTHS, months, "{:.2f}"),
            "",
            *bars("tracks", [f"{size}" for size in range(1, 6)], baskets, "{:.0%}"),
            "",
            f"  growth     {shape.growth * 100:+.10g}% a year"
            + (f", from {shape.since} on" if shape.growth else ""),
            *(f"  {what:9}  {popularity(what, getattr(shape, what))}" for what in CHINOOK),
            *(
                f"  {'peaks' if number == 0 else '':9}  {peak.day} x {peak.factor:g}"
                for number, peak in enumerate(shape.peaks)
            ),
        ],
    )


def bars(title: str, names: Sequence[str], values: Sequence[float], shown: str) -> list[str]:
    """Draw values as horizontal bars, scaled to the largest."""
    most = max(values)
    labels = [title, *[""] * len(names)]
    return [
        f"  {label:9}  {name:3}  {shown.format(value):>4}  {bar(value / most)}"
        for label, name, value in zip(labels, names, values, strict=False)
    ]


def popularity(what: str, exponent: float) -> str:
    """Describe an exponent of Zipf's law."""
    if not exponent:
        return "uniform"
    weights = [rank**-exponent for rank in range(1, CHINOOK[what] + 1)]
    first, tenth = (sum(weights[:top]) / sum(weights) for top in (1, len(weights) // 10))
    return (
        f"Zipf {exponent:g}: of {len(weights):,}, the first is chosen {first:.1%} of the time, "
        f"the first tenth {tenth:.0%}"
    )
