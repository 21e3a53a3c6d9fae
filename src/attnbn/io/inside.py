"""Results stay in the folder that they are written to, whatever photographs are called and whatever links lie there."""

from __future__ import annotations

import os
from pathlib import Path

from attnbn.io.errors import InputError


def check_inside(folder: str | os.PathLike[str], *files: Path) -> None:
    """Refuse to write where a ``..`` in a name, or a link somewhere below the folder, leads out of it.

    The folder itself may be a link, as to a larger disk. A file that is a link is none to mind: what is written takes the
    link's place, and what it points to stays as it is.

    Args:
        folder: Of the results.
        files: What is about to be written below it.

    Raises:
        InputError: One would lie elsewhere.
    """
    home = os.path.realpath(folder)
    for parent in dict.fromkeys(file.parent for file in files):
        there = os.path.realpath(parent)
        if there != home and not there.startswith(os.path.join(home, "")):
            raise InputError(
                f"expected results to stay in {folder}, a name or a link leads to {there}; take the link away (the output "
                f"folder itself may be one): {parent}"
            )
