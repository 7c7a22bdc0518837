"""Live streams: sales that arrive at random times."""
