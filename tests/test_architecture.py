"""The import table of ARCHITECTURE.md, and the public surface."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chinook_sim

PACKAGE = Path(chinook_sim.__file__).parent

ERRORS = {"errors"}
MODELS = {"models"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "models": set(),
    "interrupts": ERRORS,
    "refusals": {"errors"},
    "sampling": set(),
    "standin_words": set(),
    "pinned": set(),
    "naming": {"pinned"} | MODELS | ERRORS,
    "window": ERRORS,
    "catalogue": {"naming"} | MODELS | ERRORS,
    "batch": {"sampling", "catalogue", "curves", "profile"},
    "fingerprints": set(),
    "curves": {"sampling"},
    "profile": {"sampling"} | ERRORS,
    "writers": {"batch", "fingerprints", "ledger", "naming", "rights", "window", "writers"}
    | MODELS
    | ERRORS,
    "rights": {"naming"} | MODELS,
    "references": {"naming"} | MODELS | ERRORS,
    "content": {"content", "naming"} | MODELS,
    "changes": {"content", "references", "sampling", "sets", "window", "writers"} | MODELS,
    "people": set(),
    "sets": set(),
    "shop": {"content", "people", "sampling", "sets", "writers"} | MODELS,
    "request": {"batch", "changes", "ledger", "profile", "sampling", "window"} | ERRORS,
    "ledger": {"batch", "fingerprints", "sampling"} | MODELS | ERRORS,
    "listing": {"ledger"} | MODELS | ERRORS,
    "lineage": {"ledger", "naming", "pinned"} | MODELS | ERRORS,
    "simulate": {
        "writers",
        "interrupts",
        "batch",
        "catalogue",
        "changes",
        "ledger",
        "naming",
        "pinned",
        "refusals",
        "request",
        "rights",
        "shop",
    }
    | MODELS
    | ERRORS,
    "alignment": {"simulate", "ledger", "batch", "fingerprints", "window", "writers"}
    | MODELS
    | ERRORS,
    "undoing": {
        "simulate",
        "shop",
        "alignment",
        "listing",
        "ledger",
        "content",
        "references",
        "batch",
        "window",
        "writers",
    }
    | MODELS
    | ERRORS,
    "history": {
        "simulate",
        "request",
        "ledger",
        "catalogue",
        "naming",
        "pinned",
        "profile",
        "window",
    }
    | ERRORS,
    "arrivals": {"sampling"} | ERRORS,
    "merging": {"batch", "fingerprints", "ledger"} | MODELS,
    "stream": {
        "arrivals",
        "batch",
        "catalogue",
        "changes",
        "ledger",
        "merging",
        "naming",
        "pinned",
        "profile",
        "refusals",
        "rights",
        "request",
        "sampling",
        "simulate",
        "window",
    }
    | ERRORS,
    "factory": {
        "request",
        "simulate",
        "writers",
        "batch",
        "catalogue",
        "naming",
        "profile",
        "window",
    }
    | MODELS
    | ERRORS,
    "verification": {"verification", "naming", "pinned", "profile", "rights", "window"}
    | MODELS
    | ERRORS,
    "standin": {"standin_words", "people", "naming"} | MODELS | ERRORS,
    "loading": ERRORS,
    "migrate": {"naming", "rights"} | MODELS | ERRORS,
    "neon": ERRORS,
    "settings": {"neon"} | ERRORS,
    "connecting": {"pinned", "settings"} | ERRORS,
    "pytest_plugin": {"initialise", "naming"},
    "initialise": {
        "connecting",
        "ledger",
        "loading",
        "migrate",
        "naming",
        "settings",
        "standin",
        "window",
    }
    | MODELS
    | ERRORS,
    "__main__": {"cli"},
}


def modules() -> list[Path]:
    return [
        path
        for path in PACKAGE.rglob("*.py")
        if path.stem != "env" and path.relative_to(PACKAGE).parts[0] != "cli"
    ]


def imported(path: Path) -> set[str]:
    """Return the modules of ours that a file imports when it is used, not only for types."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    return {
        node.module.split(".")[1]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and id(node) not in only_types
        and (node.module or "").startswith("chinook_sim.")
        and node.module
    }


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    name = relative.parts[0].removesuffix(".py")
    if name == "__init__":
        assert imported(path) == set()
    else:
        assert imported(path) <= ALLOWED[name]


def test_every_module_stands_in_the_architecture() -> None:
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = set(re.findall(r"`(\w+)/?`", text))
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()} - {
        "__init__",
        "__main__",
    } <= table


def test_what_is_exported_exists_and_nothing_else_is() -> None:
    for name in chinook_sim.__all__:
        assert getattr(chinook_sim, name) is not None
    assert dir(chinook_sim) == sorted(chinook_sim.__all__)
    # A module of the same name would take its place as soon as anybody imports the module.
    assert not {path.stem for path in PACKAGE.iterdir()} & set(chinook_sim.__all__)
    with pytest.raises(AttributeError, match="generate_d2"):
        _ = chinook_sim.generate_d2


def test_help_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys\nfrom chinook_sim.cli import cli\n"
        "cli.main(['generate', '--help'], standalone_mode=False)\n"
        "slow = {'sqlalchemy', 'numpy', 'faker', 'alembic', 'psycopg'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
