"""What a sale is, and how sales are written in bulk."""
