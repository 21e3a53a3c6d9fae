"""The training loop, its checkpoints, streams and schedules. It knows no loss."""
