"""``python -m attnbn``."""

from attnbn.cli.main import run

if __name__ == "__main__":  # processes that the program starts import this module too
    run()
