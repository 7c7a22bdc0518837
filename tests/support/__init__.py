"""What the tests share: databases to run on, servers, proxies, processes and documents."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
"""The repository."""

# Without this, a failed `assert` in here would not show the values that it compared.
pytest.register_assert_rewrite(*(f"support.{it.stem}" for it in Path(__file__).parent.glob("*.py")))
