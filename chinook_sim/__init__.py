"""Yesterday's sales for the Chinook music shop: a live source for data pipelines.

from sqlalchemy.orm import Session
from chinook_sim import generate_d1

with Session(engine) as session, session.begin():
    batch = generate_d1(session, 100)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from chinook_sim._version import __version__ as __version__

if TYPE_CHECKING:
    from chinook_sim.database.introspection import recognise
    from chinook_sim.database.name_file import load_names
    from chinook_sim.errors import (
        BatchFailed,
        CatalogueUnusable,
        ChinookSimError,
        CommitUnanswered,
        DatabaseUnavailable,
        IdsExhausted,
        InvalidInput,
        KeyTaken,
        MigrationRefused,
        NoLedger,
        NotAChinook,
        UndoRefused,
    )
    from chinook_sim.ledger.history import InvoiceHistory, invoice_history
    from chinook_sim.models import (
        Album,
        Artist,
        Base,
        Customer,
        Employee,
        Genre,
        Invoice,
        InvoiceLine,
        MediaType,
        Playlist,
        Track,
    )
    from chinook_sim.operations.align import Alignment, align
    from chinook_sim.operations.backfill import backfill
    from chinook_sim.operations.factory import SaleFactory
    from chinook_sim.operations.generate import generate_d1, simulate_changes
    from chinook_sim.operations.live.api import LiveStream, live
    from chinook_sim.operations.live.worker import LiveBatch
    from chinook_sim.operations.undo import UndoResult, undo
    from chinook_sim.provisioning.initialise import InitialiseResult, initialise
    from chinook_sim.provisioning.migration_runner import upgrade
    from chinook_sim.sales.summary import BatchSummary
    from chinook_sim.sampling.profile import Peak, Profile
    from chinook_sim.sampling.profile_file import load_profile
    from chinook_sim.verification.query import Check
    from chinook_sim.verification.verify import VerifyResult, verify

__all__ = [
    "Album",
    "Alignment",
    "Artist",
    "Base",
    "BatchFailed",
    "BatchSummary",
    "CatalogueUnusable",
    "Check",
    "ChinookSimError",
    "CommitUnanswered",
    "Customer",
    "DatabaseUnavailable",
    "Employee",
    "Genre",
    "IdsExhausted",
    "InitialiseResult",
    "InvalidInput",
    "Invoice",
    "InvoiceHistory",
    "InvoiceLine",
    "KeyTaken",
    "LiveBatch",
    "LiveStream",
    "MediaType",
    "MigrationRefused",
    "NoLedger",
    "NotAChinook",
    "Peak",
    "Playlist",
    "Profile",
    "SaleFactory",
    "Track",
    "UndoRefused",
    "UndoResult",
    "VerifyResult",
    "align",
    "backfill",
    "generate_d1",
    "initialise",
    "invoice_history",
    "live",
    "load_names",
    "load_profile",
    "recognise",
    "simulate_changes",
    "undo",
    "upgrade",
    "verify",
]

_HOMES = {
    "operations.align": {"Alignment", "align"},
    "operations.backfill": {"backfill"},
    "sales.summary": {"BatchSummary"},
    "errors": {
        "BatchFailed",
        "CatalogueUnusable",
        "ChinookSimError",
        "CommitUnanswered",
        "DatabaseUnavailable",
        "IdsExhausted",
        "InvalidInput",
        "KeyTaken",
        "MigrationRefused",
        "NoLedger",
        "NotAChinook",
        "UndoRefused",
    },
    "operations.factory": {"SaleFactory"},
    "ledger.history": {"InvoiceHistory", "invoice_history"},
    "database.introspection": {"recognise"},
    "database.name_file": {"load_names"},
    "sampling.profile": {"Peak", "Profile"},
    "sampling.profile_file": {"load_profile"},
    "operations.generate": {"generate_d1", "simulate_changes"},
    "operations.live.api": {"LiveStream", "live"},
    "operations.live.worker": {"LiveBatch"},
    "operations.undo": {"UndoResult", "undo"},
    "provisioning.initialise": {"InitialiseResult", "initialise"},
    "provisioning.migration_runner": {"upgrade"},
    "verification.query": {"Check"},
    "verification.verify": {"VerifyResult", "verify"},
}


def __getattr__(name: str) -> object:
    # On first use: SQLAlchemy and NumPy take longer to import than `chinook-sim --help` to answer.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "models")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
