"""Databases: where they are, how to connect, which Chinook they hold, and how they differ."""
