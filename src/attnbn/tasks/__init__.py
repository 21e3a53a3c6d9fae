"""Tasks: which networks, which losses, which batches."""
