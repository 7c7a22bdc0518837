"""What is different in PostgreSQL and in SQLite."""
