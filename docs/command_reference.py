"""What the reference says about a command, in Markdown, made from click and from examples."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from chinook_sim.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["describe", "find_command", "grouped_options", "split_examples"]

PROGRAM = "chinook-sim"

DESCRIBED_DEFAULT = re.compile(r"\s*\[default: (.+)\]$")
"""A default that is not a constant stands in the help text."""


def find_command(name: str) -> click.Command:
    """Return the command with a name such as "profile show"; "" is the program itself."""
    command: click.Command = cli
    for part in name.split():
        if not isinstance(command, click.Group) or part not in command.commands:
            raise ValueError(f"there is no command {PROGRAM} {name}")
        command = command.commands[part]
    return command


def grouped_options(context: click.Context) -> dict[str, list[click.Option]]:
    """Return the options of a command by heading, in the order of `--help`."""
    groups: dict[str, list[click.Option]] = {"Options": []}  # first, as in `--help`
    for parameter in context.command.get_params(context):
        if isinstance(parameter, click.Option) and not parameter.hidden:
            groups.setdefault(getattr(parameter, "heading", "Options"), []).append(parameter)
    return groups


def split_examples(text: str) -> dict[str, list[str]]:
    """Return the lines of examples by group. A line `# Changes` starts the group Changes."""
    examples: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("# "):
            lines = examples.setdefault(line.removeprefix("# "), [])
        else:
            lines.append(line)
    return examples


def describe(name: str, examples: str) -> Iterator[str]:
    """Yield the lines of the reference of a command.

    Args:
        name: without the program; "" for the program itself.
        examples: commands, below the name of the group whose options they show.

    Raises:
        ValueError: there is no such command, or its groups are not those of the examples.
    """
    command = find_command(name)
    path = f"{PROGRAM} {name}".strip()
    context = click.Context(command, info_name=path, **cli.context_settings)
    groups = grouped_options(context)
    shown = split_examples(examples)
    if groups.keys() != shown.keys():
        raise ValueError(f"{path} has the groups {[*groups]}, and examples of {[*shown]}")
    yield from ("", *(command.help or "").splitlines(), "")
    yield from ("```text", " ".join([path, *command.collect_usage_pieces(context)]), "```", "")
    yield from (f"```{{program}} {path}", "```", "")
    for heading, options in groups.items():
        yield from (f"```{{rubric}} {heading}", ":heading-level: 3", "```", "")
        for option in options:
            yield from _describe_option(option, context)
        yield from ("```{rubric} Examples", ":heading-level: 4", "```", "")
        yield from ("```text", *shown[heading], "```", "")


def _describe_option(option: click.Option, context: click.Context) -> Iterator[str]:
    record = option.get_help_record(context)
    assert record is not None, f"{option.name} is hidden"  # noqa: S101
    text = option.help or ""
    described = DESCRIBED_DEFAULT.search(text)
    default = described[1] if described else option.get_help_extra(context).get("default")
    yield from (f"```{{option}} {record[0]}", "", DESCRIBED_DEFAULT.sub("", text), "")
    if default:
        yield from (f"Default: {default}", "")
    if option.envvar:
        yield from (f"Environment variable: `{option.envvar}`", "")
    yield from ("```", "")
