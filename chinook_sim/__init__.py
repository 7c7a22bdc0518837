"""Yesterday's sales for the Chinook music shop: a live source for data pipelines.

from sqlalchemy.orm import Session
from chinook_sim import generate_d1

with Session(engine) as session, session.begin():
    batch = generate_d1(session, 100)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chinook_sim.alignment import align
    from chinook_sim.batch import BatchSummary
    from chinook_sim.errors import (
        BatchFailed,
        CatalogueUnusable,
        ChinookSimError,
        CommitUnanswered,
        DatabaseUnavailable,
        IdsExhausted,
        InvalidInput,
        KeyTaken,
        NoLedger,
        NotAChinook,
        UndoRefused,
    )
    from chinook_sim.factory import SaleFactory
    from chinook_sim.history import backfill
    from chinook_sim.lineage import InvoiceHistory, invoice_history
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
    from chinook_sim.naming import recognise
    from chinook_sim.profile import Peak, Profile, load_profile
    from chinook_sim.simulate import generate_d1, simulate_changes
    from chinook_sim.stream import LiveBatch, LiveStream, live
    from chinook_sim.undoing import UndoResult, undo

__version__ = "0.1.0"

__all__ = [
    "Album",
    "Artist",
    "Base",
    "BatchFailed",
    "BatchSummary",
    "CatalogueUnusable",
    "ChinookSimError",
    "CommitUnanswered",
    "Customer",
    "DatabaseUnavailable",
    "Employee",
    "Genre",
    "IdsExhausted",
    "InvalidInput",
    "Invoice",
    "InvoiceHistory",
    "InvoiceLine",
    "KeyTaken",
    "LiveBatch",
    "LiveStream",
    "MediaType",
    "NoLedger",
    "NotAChinook",
    "Peak",
    "Playlist",
    "Profile",
    "SaleFactory",
    "Track",
    "UndoRefused",
    "UndoResult",
    "align",
    "backfill",
    "generate_d1",
    "invoice_history",
    "live",
    "load_profile",
    "recognise",
    "simulate_changes",
    "undo",
]

_HOMES = {
    "alignment": {"align"},
    "history": {"backfill"},
    "batch": {"BatchSummary"},
    "errors": {
        "BatchFailed",
        "CatalogueUnusable",
        "ChinookSimError",
        "CommitUnanswered",
        "DatabaseUnavailable",
        "IdsExhausted",
        "InvalidInput",
        "KeyTaken",
        "NoLedger",
        "NotAChinook",
        "UndoRefused",
    },
    "factory": {"SaleFactory"},
    "lineage": {"InvoiceHistory", "invoice_history"},
    "naming": {"recognise"},
    "profile": {"Peak", "Profile", "load_profile"},
    "simulate": {"generate_d1", "simulate_changes"},
    "stream": {"LiveBatch", "LiveStream", "live"},
    "undoing": {"UndoResult", "undo"},
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
