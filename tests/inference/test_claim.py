"""Whose a folder of results is: what is refused, and that the message says whose it is instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnbn.inference.claim import claim
from attnbn.io.errors import InputError

IDENTITY = {"run": "/runs/a", "checkpoint": "last", "step": 5, "sha256": "0f"}


def taken(folder: Path, overwrite: bool = False, **made_by: Any) -> None:
    claim(folder / "made.json", made_by, command="attnbn attend", overwrite=overwrite).announce()


@pytest.mark.parametrize(
    ("identity", "others", "message"),
    [
        ({"run": "/runs/b"}, {}, "made by the run /runs/a"),
        ({"run": "/runs/b"}, {"flip": True}, "made by the run /runs/a; flip differ"),
        ({"step": 9}, {}, "made by the same run's checkpoint last of step 5"),
        ({"checkpoint": "best"}, {}, "made by the same run's checkpoint last of step 5"),
        ({"sha256": "1f"}, {}, "made by the same run before it was trained anew"),
        ({"size": 64}, {}, "identity differ"),
        ({}, {"flip": True, "scales": [2]}, "scales, flip differ"),
    ],
)
def test_the_other_run_is_named(tmp_path: Path, identity: dict[str, Any], others: dict[str, Any], message: str) -> None:
    before = {"identity": IDENTITY, "scales": [1], "flip": False}
    now = {**before, "identity": IDENTITY | identity, **others}
    taken(tmp_path / "out", **before)
    taken(tmp_path / "out", **before)
    with pytest.raises(InputError) as error:
        taken(tmp_path / "out", **now)
    assert f"got those of another ({message}): choose another --output or say --overwrite: " in str(error.value)
    taken(tmp_path / "out", overwrite=True, **now)
    taken(tmp_path / "out", **now)


def test_a_damaged_manifest_is_another_making(tmp_path: Path) -> None:
    taken(tmp_path, identity=IDENTITY)
    (tmp_path / "made.json").write_text("{")
    with pytest.raises(InputError, match=r"\(identity differ\)"):
        taken(tmp_path, identity=IDENTITY)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_and_a_runs_own_folder_are_never_taken(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"expected --output to be a folder, got a file: .*file$"):
        taken(tmp_path / "file", overwrite, identity=IDENTITY)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 0")
    with pytest.raises(InputError, match=r"got that of a run, which is kept; choose another --output: .*run$"):
        taken(tmp_path / "run", overwrite, identity=IDENTITY)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]
