"""The run folder: refused when taken, metrics without gaps or repeats, nothing half-written."""

from __future__ import annotations

import errno
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "expected YAML"),
        ("- 1", "expected the settings of a run"),
        ("", "got an empty file; bring it back from a copy, or train the run again"),
    ],
)
def test_a_broken_config_names_its_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=f"{message}.*config.yaml"):
        RunFolder(tmp_path).config()
    with pytest.raises(InputError, match="expected the folder of a run"):
        RunFolder(tmp_path / "none").config()


@pytest.mark.parametrize("text", ['{"steps": 5, "thr', "", "[1]"])
def test_broken_results_name_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    remedy = "delete the file and give the same command again .* goes on from its last checkpoint: .*results.json"
    with pytest.raises(InputError, match=remedy):
        RunFolder(tmp_path).results()


def test_metrics_that_a_crash_took_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path, 0)
    assert first.lacking(10) is None
    for step in range(10, 60, 10):
        first.write({"step": step, "terms": {}})
        first.write({"step": step, "validation": {}})
    first.close()
    whole = Metrics(path, 57)
    assert whole.lacking(10) is None and whole.lacking(0) is None
    whole.close()
    assert Metrics(path, 57).lacking(1) is None  # written every ten steps, whatever is set since
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(
        "".join(lines[:6]) + "\0" * 4096
    )  # what some file systems leave of lines that had not reached the disk
    cut = Metrics(path, 57)
    assert cut.lacking(10) == (
        f"metrics.jsonl lacks the lines from step 31 to 57; the training is not touched, its curves have a gap: {path}"
    )
    cut.close()
    assert path.read_text() == "".join(lines[:6])
    path.unlink()
    gone = Metrics(path, 10)
    assert "lacks the lines from step 1 to 10;" in str(gone.lacking(10))
    assert gone.lacking(20) is None
    gone.close()


def test_what_is_written_outlasts_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contents reach the disk before the name does, and the name before anything counts on it."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        done.append("folder" if Path(name).is_dir() else "lines" if name.endswith(".jsonl") else "contents")
        fsync(descriptor)

    def renamed(source: str, target: str) -> None:
        done.append("rename")
        replace(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_text(tmp_path / "a.json", "1")
    assert done == ["contents", "rename", "folder"]
    done.clear()
    metrics = Metrics(tmp_path / "metrics.jsonl", 0)
    metrics.write({"step": 1})
    assert done == ["contents", "rename", "folder"]
    metrics.sync()
    assert done[3:] == ["lines"]
    metrics.close()


def test_an_exception_leaves_the_earlier_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "before")
    with pytest.raises(KeyError), atomic_file(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyError
    assert (tmp_path / "a").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


GROWS = """
import resource, sys
from pathlib import Path
from attnbn.io.errors import RunError
from attnbn.io.run_folder import Metrics

metrics = Metrics(Path(sys.argv[1]), 0)
metrics.write({"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (16, resource.RLIM_INFINITY))
try:
    metrics.write({"step": 2})
except RunError as error:
    print(error)
metrics.close()
"""


def test_metrics_that_cannot_grow_name_their_file_and_lose_the_half_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", GROWS, str(path)], capture_output=True, text=True, check=True)
    remedy = "raise the limit on the size of files (ulimit -f) or give another place"
    assert (done.stdout, done.stderr) == (f"could not write (File too large), {remedy}: {path}\n", "")
    assert path.read_text() == '{"step": 1}\n{"st'
    Metrics(path, 1).close()
    assert path.read_text() == '{"step": 1}\n'


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", {"x": [float("inf"), 1.5]})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [None, 1.5]}


def test_a_read_only_disk_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("attnbn.io.atomic.open", refuse, raising=False)
    monkeypatch.setattr(Path, "unlink", refuse)  # of a file that is not there, too
    with pytest.raises(RunError, match=f"check the folder's permissions: {tmp_path / 'a'}"):
        write_text(tmp_path / "a", "text")


def test_a_full_disk_is_one_line_with_the_file() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(RunError, match="no space left to write.*x"):
        from attnbn.io.atomic import explained

        with explained("x"), Path("/dev/full").open("w") as file:
            file.write("x")
            file.flush()
