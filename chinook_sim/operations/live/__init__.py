"""Sales that never stop."""
