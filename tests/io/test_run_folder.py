"""The run folder: refused when taken, metrics without gaps or repeats, nothing half-written."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from attnbn.io.atomic import atomic_file, write_json, write_text
from attnbn.io.errors import InputError, RunError
from attnbn.io.run_folder import Metrics, RunFolder


def test_a_finished_and_an_unfinished_run_are_refused_unless_overwritten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"seed": 1}, overwrite=False)
    folder.release()
    with pytest.raises(InputError, match="an unfinished run .continue it with --resume.*run"):
        RunFolder(tmp_path / "run").begin({"seed": 2}, overwrite=False)
    folder.write_results({"threshold": float("nan")})
    assert folder.finished
    assert folder.results() == {"threshold": None}
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="a finished run.*add --overwrite"):
        RunFolder(tmp_path / "run").begin({"seed": 2}, overwrite=False)
    again = RunFolder(tmp_path / "run")
    again.begin({"seed": 2}, overwrite=True)
    assert again.config() == {"seed": 2}
    assert not again.finished
    assert (tmp_path / "run/notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="it holds other files"):
            RunFolder(tmp_path).begin({}, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_running_run_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = (
        "import sys, time; from attnbn.io.run_folder import RunFolder; f = RunFolder(sys.argv[1]); "
        "f.begin({}, overwrite=False); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match="another process is writing"):
            RunFolder(run).begin({}, overwrite=True)
        with pytest.raises(InputError, match="another process is writing"):
            RunFolder(run).reopen()
        other.kill()
    RunFolder(run).reopen()  # the lock goes with its process


FORKS = """
import os, sys, time
from attnbn.io.run_folder import RunFolder
folder = RunFolder(sys.argv[1])
folder.begin({}, overwrite=False)
child = os.fork()
if not child:
    os.close(1)
    time.sleep(60)
print(child, flush=True)
os._exit(0)
"""


def test_a_forked_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True, check=True
    )
    try:
        RunFolder(tmp_path / "run").reopen()
    finally:
        os.kill(int(done.stdout), 9)


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path, 0)
    for step in range(1, 6):
        first.write({"step": step})
    first.close()
    with path.open("a") as file:
        file.write('{"step": 6, "los')  # killed in the middle of a line
    second = Metrics(path, 3)
    second.write({"step": 4})
    second.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    Metrics(path, 0).close()
    assert path.read_text() == ""


@pytest.mark.parametrize(("text", "message"), [("a: [1", "expected YAML"), ("- 1", "expected the settings of a run")])
def test_a_broken_config_names_its_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=f"{message}.*config.yaml"):
        RunFolder(tmp_path).config()
    with pytest.raises(InputError, match="expected the folder of a run"):
        RunFolder(tmp_path / "none").config()


def test_an_exception_leaves_the_earlier_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "before")
    with pytest.raises(KeyError), atomic_file(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyError
    assert (tmp_path / "a").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", {"x": [float("inf"), 1.5]})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [None, 1.5]}


def test_a_full_disk_is_one_line_with_the_file() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(RunError, match="no space left to write.*x"):
        from attnbn.io.atomic import explained

        with explained("x"), Path("/dev/full").open("w") as file:
            file.write("x")
            file.flush()
