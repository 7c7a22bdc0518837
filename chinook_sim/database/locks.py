"""Keys of the advisory locks that are held until a transaction ends.

They are "chinoo" in ASCII and one more byte. Locks on keys of the ledger have hashes as theirs.
"""

from __future__ import annotations

__all__ = ["ID_LOCK", "MIGRATION_LOCK", "PRICE_LOCK"]

ID_LOCK = 0x6368696E6F6F6B
"""Held by everything that takes ids by MAX or moves a sequence forward. The SQL functions have the
same number in revision 0004."""

MIGRATION_LOCK = 0x6368696E6F6F6D
"""Keeps a second upgrade waiting."""

PRICE_LOCK = 0x6368696E6F6F70
"""Held while prices change, so that their changes are numbered in the order in which they are
committed, and `Catalogue.as_of` says which ones were seen."""
