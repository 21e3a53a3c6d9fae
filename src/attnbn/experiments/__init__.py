"""Experiments: from settings to a finished run folder, and several runs to a table."""
