"""Photographs to scores and maps: prediction, its files, its figures; sharded and resumable."""
