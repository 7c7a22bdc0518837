"""Setting a database up: migrations, the stand-in Chinook, and copies of a real one."""
