"""What the tests share: databases to run on, servers, proxies, processes and documents."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
