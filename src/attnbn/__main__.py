"""``python -m attnbn``."""

from attnbn.cli.main import run

run()
