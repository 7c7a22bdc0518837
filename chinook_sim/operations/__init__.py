"""What users ask for: generate, backfill, live, undo, align and the factory."""
