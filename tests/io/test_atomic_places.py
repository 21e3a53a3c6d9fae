"""Files that cannot be written, known before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attnbn.io.atomic import unwritable, write_text


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "there.json"
    write_text(file, "{}")
    for good in (file, tmp_path / "new.json", tmp_path / "a" / "b" / "new.json"):
        assert unwritable(good) is None
    assert unwritable(tmp_path) == "a folder"
    assert unwritable(file / "deeper" / "x.json") == f"one below a file ({file})"
    monkeypatch.chdir(tmp_path)
    assert unwritable("new.json") is None
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert unwritable("a/new.json") == f"one in a folder that is write-protected ({tmp_path})"
    assert not (tmp_path / "a").exists()
