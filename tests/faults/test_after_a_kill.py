"""What a kill leaves behind is told from what is whole, goes when the work goes on, and lets nobody in who should not be."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors

from attnbn.cli.main import main
from attnbn.data.dataset import ImageDataset
from attnbn.data.readers import DEATH, is_death
from attnbn.data.sample import Sample
from attnbn.inference.attend import attend
from attnbn.inference.claim import claim
from attnbn.inference.predict import predict
from attnbn.inference.shards import Shard
from attnbn.io.atomic import remove_parts_of
from attnbn.io.errors import InputError, RunError
from attnbn.io.folder_lock import LOCK, FolderLock, alone_in
from attnbn.io.run_folder import RunFolder
from attnbn.models.network import Output
from attnbn.training.checkpoint import Checkpoint, CheckpointFolder, read_checkpoint
from attnbn.training.streams import Stream

HOLDS = """
import sys
from pathlib import Path
from attnbn.io.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), shared=sys.argv[2] == "shared")
lock.take("busy")
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that holds a folder's lock."""

    def __init__(self, folder: Path, how: str = "alone") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Holder:
        assert self.process.stdout is not None and self.process.stdout.readline() == "held\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("left", [[LOCK], [LOCK, "checkpoints/"], [".config.yaml.x1.part", LOCK, "checkpoints/"]])
def test_a_run_killed_before_it_began_is_begun_anew(left: list[str], tmp_path: Path) -> None:
    for name in left:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("")
    folder = RunFolder(tmp_path)
    folder.begin({"seed": 1}, overwrite=False)
    assert names(tmp_path) == [LOCK, "checkpoints", "config.yaml"]
    folder.release()


def test_but_not_where_anything_else_is(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "mine").mkdir(parents=True)
    with pytest.raises(InputError, match="it holds other files"):
        RunFolder(tmp_path).begin({}, overwrite=True)


def test_half_written_files_of_a_run_go_when_it_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin({}, overwrite=False)
    folder.release()
    for name in (".metrics.jsonl.a.part", ".results.json.b.part", ".notes.c.part"):
        (tmp_path / name).write_text("half")
    folder.reopen()
    assert [name for name in names(tmp_path) if name.endswith(".part")] == [".notes.c.part"]
    folder.release()


def test_a_folder_overwritten_is_unfinished_from_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.begin({}, overwrite=False)
    folder.write_results({})

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    monkeypatch.setattr("attnbn.io.run_folder.shutil.rmtree", killed)
    with pytest.raises(SystemExit):
        folder.begin({}, overwrite=True)
    assert not folder.finished
    folder.release()


@pytest.mark.parametrize("call", ["rename", "unlink", "rmdir"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_old_checkpoints_go_whole_and_later_where_a_kill_prevented_it(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed just before the n-th call of the system of this kind, while two old ones are removed."""

    class Killed(BaseException):
        pass

    made = [0]
    true = getattr(os, call)

    def killed(*words: Any, **more: Any) -> Any:
        made[0] += 1
        if made[0] == number + 1:
            raise Killed
        return true(*words, **more)

    for step in (1, 2, 3, 4):
        CheckpointFolder(tmp_path, keep=9).save(Checkpoint(step, {"x": torch.zeros(1)}, {}))
    folder = CheckpointFolder(tmp_path)
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(os, call, killed)
        folder.drop_older(4)
        assert made[0] == number == 2 and call != "unlink"  # two folders of two files each: never as many
    for old in folder:
        read_checkpoint(old)  # with all its files
    folder.recover()
    folder.drop_older(4)
    assert names(tmp_path) == ["step-00000003", "step-00000004"]


def test_a_lock_is_one_process_or_all_that_share_it(tmp_path: Path) -> None:
    mine, shared = FolderLock(tmp_path), FolderLock(tmp_path, shared=True)
    with Holder(tmp_path):
        for lock in (mine, shared):
            with pytest.raises(InputError, match=f"^busy: {tmp_path}$"):
                lock.take("busy")
    with Holder(tmp_path, "shared"):
        shared.take("busy")
        with pytest.raises(InputError, match="busy"):
            mine.take("busy")
        shared.release(remove=True)
        assert names(tmp_path) == [LOCK]  # it is still the other's
    mine.take("busy")
    mine.take("busy")
    mine.release(remove=True)
    assert names(tmp_path) == [] and not mine.held


def test_a_second_process_is_refused_before_it_changes_anything(tmp_path: Path) -> None:
    with Holder(tmp_path):
        with pytest.raises(InputError, match="another process is writing to this folder"):
            claim(tmp_path / "made.json", {}, command="attnbn attend", overwrite=True)
        with pytest.raises(InputError, match="another process is writing to this folder"), alone_in(tmp_path):
            raise AssertionError
    with (
        Holder(tmp_path, "shared"),
        claim(tmp_path / "made.json", {}, command="attnbn attend", overwrite=False, shard=Shard(0, 2)) as claimed,
    ):
        claimed.announce()
    assert names(tmp_path) == [LOCK, "made.json"]
    with claim(tmp_path / "made.json", {}, command="attnbn attend", overwrite=False):
        pass
    assert names(tmp_path) == ["made.json"]


def test_no_lock_where_there_can_be_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("attnbn.io.folder_lock.fcntl.flock", none)
    with pytest.raises(RunError, match="could not write .No locks available."):
        RunFolder(tmp_path).begin({}, overwrite=False)
    with claim(tmp_path / "out" / "made.json", {}, command="attnbn attend", overwrite=False) as claimed:
        claimed.announce()
    assert "made.json" in names(tmp_path / "out")


def test_only_the_parts_of_these_files_go(tmp_path: Path) -> None:
    for name in (".a[1].json.x.part", ".a1.json.x.part", ".b.json.x.part", "a[1].json"):
        (tmp_path / name).write_text("x")
    remove_parts_of(tmp_path / "a[1].json", tmp_path / "none" / "c.json")
    assert names(tmp_path) == [".a1.json.x.part", ".b.json.x.part", "a[1].json"]


class Company(nn.Module):
    """Scores that depend on the other images of a batch, as rounding does, only visibly."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 2, 8, stride=8)

    def forward(self, images: Tensor, attend: Any = None) -> Output:
        features = self.trunk(images).relu() + images.mean()
        scores = features.mean((-2, -1))
        chosen = attend(scores) if callable(attend) else attend
        maps = None if chosen is None else features[chosen != 0]
        return Output(features, scores, maps)


@pytest.mark.parametrize("killed_after", [1, 2, 3, 5])
def test_work_that_goes_on_looks_at_the_same_batches(killed_after: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = Company()
    for number in range(7):
        pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy()
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    settings: dict[str, Any] = {"size": 32, "batch_size": 3}
    attend(net, [tmp_path / "photos"], tmp_path / "whole", ("a", "b"), **settings)

    class Killed(Exception):
        pass

    def kill(done: int, _: int) -> None:
        if done == killed_after:
            raise Killed

    with pytest.raises(Killed):
        attend(net, [tmp_path / "photos"], tmp_path / "out", ("a", "b"), **settings, progress=kill)
    counted: list[tuple[int, int]] = []
    done = attend(
        net, [tmp_path / "photos"], tmp_path / "out", ("a", "b"), **settings, progress=lambda *one: counted.append(one)
    )
    assert (done.written, done.skipped) == (7 - killed_after, killed_after)
    assert counted[-1] == (7 - killed_after, 7 - killed_after)
    for file in (tmp_path / "whole").rglob("*.*"):
        assert (tmp_path / "out" / file.relative_to(tmp_path / "whole")).read_bytes() == file.read_bytes(), file


class Unreadable(ImageDataset):
    """Six photographs of which the second and the last cannot be read."""

    def __init__(self) -> None:
        super().__init__(("a", "b"), [f"p{i}" for i in range(6)], None, has_masks=False, title="six")

    def __getitem__(self, index: int) -> Sample:
        if index in (1, 5):
            raise InputError(f"expected a photograph, got rubbish: p{index}.jpg")
        return Sample(
            tv_tensors.Image(torch.full((3, 32, 32), index, dtype=torch.uint8)), None, None, None, self.names[index]
        )


def test_of_company_that_cannot_be_read_nothing_is_said() -> None:
    broken: list[str] = []
    how: dict[str, Any] = {"size": 32, "indices": range(6), "batch_size": 3}
    assert [one.name for one in predict(Company(), Unreadable(), only={2, 3}, **how)] == ["p2", "p3"]
    with pytest.raises(InputError, match="p5.jpg"):
        list(predict(Company(), Unreadable(), only={2, 5}, **how))
    found = predict(Company(), Unreadable(), only={2, 5}, skip_broken=True, broken=broken, **how)
    assert [one.name for one in found] == ["p2"] and len(broken) == 1


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        pixels = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8).numpy()
        file = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    words = [
        "--config", "demo-grad-cam", "--data.target", f"folders:{tmp_path / 'data'}", "--data.selection_split", "null",
        "--data.size", "32", "--training.steps", "4", "--training.batch_size", "2",
        "--training.checkpoint_every", "2", "--training.checkpoint_share", "1",
        "--device", "cpu", "--workers", "0", "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    assert main(["train", *words]) == 0
    (tmp_path / "run" / "results.json").unlink()  # as if it had been killed before the end
    lost = tmp_path / "data" / "a" / "2.png"
    lost.rename(tmp_path / "away.png")
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "expected the target data to be as before, with 6 images, got 5; bring back what is missing" in said
    (tmp_path / "away.png").rename(lost.with_name("9.png"))
    assert main(["train", "--resume", str(tmp_path / "run")]) == 2
    assert "got 6 under other names" in capsys.readouterr().err
    lost.with_name("9.png").rename(lost)
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0


def test_a_stream_knows_its_data_by_names_and_order() -> None:
    class Named(list[int]):
        names = ("a", "b")

    def stream(items: Any) -> Stream:
        return Stream("s", items, lambda item, seed: item, list, seed=0, batch_size=1)

    turned = Named([1, 2])
    turned.names = ("b", "a")  # type: ignore[assignment]
    assert stream(Named([1, 2])).data == stream(Named([3, 4])).data != stream(turned).data
    assert json.loads(json.dumps(stream([1, 2]).data))["images"] == 2


DEATHS = """
import multiprocessing, os, signal
from attnbn.data.readers import read_ahead
from attnbn.io.errors import RunError
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter as Loader

def cut_short(*_, **__):  # as it goes when a reader dies while it hands a tensor over
    signal.signal(signal.SIGCHLD, hear)
    raise ConnectionResetError(104, "Connection reset by peer")

batches = read_ahead(range(1000), 2)
next(batches)
reader = multiprocessing.active_children()[0].pid
hear = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
os.kill(reader, signal.SIGKILL)
os.waitid(os.P_PID, reader, os.WEXITED | os.WNOWAIT)
Loader._try_get_data = cut_short
try:
    list(batches)
except RunError as error:
    signal.raise_signal(signal.SIGCHLD)  # PyTorch hears of the death only now
    print(error)
"""


def test_the_death_of_readers_is_said_once() -> None:
    done = subprocess.run([sys.executable, "-c", DEATHS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{DEATH}\n", "")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are looked up in /proc")
def test_a_training_whose_reader_is_killed_ends_with_one_line(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable, "-m", "attnbn", "train", "--config", "demo-grad-cam", "--data.target", "scenes:target?count=40",
            "--data.selection_split", "null", "--data.size", "32", "--training.steps", "100000", "--training.batch_size", "4",
            "--training.log_every", "1", "--device", "cpu", "--workers", "2", "--output", str(tmp_path / "run"),
        ],
        env=dict(os.environ, OMP_NUM_THREADS="1"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    readers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(readers) == 2
    os.kill(int(readers[0]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1:]) == (1, [f"attnbn: {DEATH}"])
    assert "fewer --workers" in DEATH and "Traceback" not in said and said.count("attnbn:") == 1


@pytest.mark.parametrize(
    ("error", "death"),
    [
        (RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly"), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (EOFError(), True),
        (RuntimeError("Caught RuntimeError in DataLoader worker process 0."), False),
        (FileNotFoundError("Caught FileNotFoundError in DataLoader worker process 0."), False),
        (RuntimeError("expected a tensor"), False),
    ],
)
def test_the_death_of_a_reader_is_told_from_its_errors(error: BaseException, death: bool) -> None:
    assert is_death(error) is death
