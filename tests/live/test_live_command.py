"""`chinook-sim live`, and what it and `live` refuse."""

from __future__ import annotations

import json
import math
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from chinook_sim import InvalidInput, live

if TYPE_CHECKING:
    from support.command import Command


def test_a_bare_machine_gets_a_live_shop(command: Command) -> None:
    done = command("live", "--for", "1s", "--rate", "30", "--seed", "7", "--profile", "realistic")
    assert done.returncode == 0, done.stderr
    assert "sales to chinook.db" in done.stdout
    assert "p99 ms" in done.stdout
    assert "profile           realistic" in done.stdout
    told = json.loads(command("live", "--for", "1", "--rate", "30", "--json").stdout)
    assert told["left_out"] == told["connections_lost"] == 0
    assert told["p50_ms"] <= told["p99_ms"]
    assert told["stream"].startswith("live-")
    assert command("verify", "--all").returncode == 0
    assert command("undo", "live-00000000").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "0"), "the rate must be"),
        (("--rate", "-1"), "the rate must be"),
        (("--rate", "nan"), "the rate must be"),
        (("--rate", "inf"), "the rate must be"),
        (("--rate", "10001"), "the rate must be"),
        (("--rate", "x"), "the rate must be"),
        (("--rate", "٣"), "the rate must be"),
        (("--rate", "1_0"), "the rate must be"),
        (("--rate", " 10"), "the rate must be"),
        (("--for", "0s"), "duration must be such as 90s"),
        (("--for", "10" + "m10"), "duration must be such as 90s"),
        (("--for", "-5s"), "duration must be such as 90s"),
        (("--for", "5 s"), "duration must be such as 90s"),
        (("--mix", "90:8"), "mix must be sales:updates:cancellations"),
        (("--mix", "90:8:-2"), "mix must be sales:updates:cancellations"),
        (("--mix", "0:0:0"), "mix must have a number above 0"),
        (("--mix", "a:b:c"), "mix must be sales:updates:cancellations"),
        (("--seed", "x"), "the seed"),
        (("--timezone", "Mars"), "time zone"),
        (("--profile", "unreal"), "unknown profile"),
    ],
)
def test_the_command_refuses_what_cannot_be(
    arguments: tuple[str, ...], said: str, command: Command
) -> None:
    done = command("live", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": True},
        {"rate": "x"},
        {"rate": "20"},
        {"rate": 10**400},
        {"duration": 0},
        {"duration": -1},
        {"duration": math.inf},
        {"duration": "10"},
        {"duration": True},
        {"mix": (True, 0, 0)},
        {"mix": "90:8:2"},
        {"mix": (1, 2)},
        {"mix": (1, 2, -1)},
        {"mix": (0, 0, 0)},
        {"mix": (1.5, 1, 1)},
        {"seed": -1},
        {"timezone": "Mars"},
        {"profile": "unreal"},
        {"stop": 5},
        {"stop": Event},
        {"engine": create_async_engine("sqlite+aiosqlite://")},
        {"engine": "sqlite://"},
    ],
)
def test_what_cannot_be_is_refused_at_once(wrong: dict[str, Any]) -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(InvalidInput):
        live(**{"engine": engine, "rate": 20, **wrong})
