"""What your own Alembic needs of ours: `include_object`, and `upgrade` on your connection."""

from __future__ import annotations

from chinook_sim.provisioning.migration_runner import include_object, upgrade

__all__ = ["include_object", "upgrade"]
