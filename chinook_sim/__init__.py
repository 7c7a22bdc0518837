"""Yesterday's sales for the Chinook music shop: a live source for data pipelines.

from sqlalchemy.orm import Session
from chinook_sim import generate_d1

with Session(engine) as session, session.begin():
    batch = generate_d1(session, 100)
"""

from chinook_sim.batch import BatchSummary
from chinook_sim.errors import (
    BatchFailed,
    CatalogueUnusable,
    ChinookSimError,
    DatabaseUnavailable,
    IdsExhausted,
    InvalidInput,
    NotAChinook,
)
from chinook_sim.factory import SaleFactory
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
from chinook_sim.simulate import generate_d1

__all__ = [
    "Album",
    "Artist",
    "Base",
    "BatchFailed",
    "BatchSummary",
    "CatalogueUnusable",
    "ChinookSimError",
    "Customer",
    "DatabaseUnavailable",
    "Employee",
    "Genre",
    "IdsExhausted",
    "InvalidInput",
    "Invoice",
    "InvoiceLine",
    "MediaType",
    "NotAChinook",
    "Playlist",
    "SaleFactory",
    "Track",
    "generate_d1",
    "recognise",
]
