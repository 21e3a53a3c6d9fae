"""The commands that are stopped: small jobs that take a second or two each, and what they read.

Every job runs in a folder of its own, writes to ``out`` there and names what it reads by absolute paths. So an uninterrupted
run and one that was killed are given the same words and must leave the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from PIL import Image

OUT = "out"
SOURCE, TARGET = "scenes:source?count=20", "scenes:target?count=14"
_TRAINING = ["--training.batch_size", "4", "--data.size", "64", "--device", "cpu"]
_OFTEN = ["--training.checkpoint_every", "3", "--training.checkpoint_share", "1", "--training.log_every", "2"]


@dataclass(frozen=True)
class Job:
    """A command and its words.

    Attributes:
        name: As it is called in tables.
        words: The command line.
        resumes: The words before ``--resume FOLDER``; empty: the same command again goes on.
    """

    name: str
    words: tuple[str, ...]
    resumes: tuple[str, ...] = ()

    def again(self, folder: Path) -> list[str]:
        """What a person types after it was stopped: ``--resume`` once there is a run, else the same command."""
        begun = self.resumes and (folder / OUT / "config.yaml").is_file()
        return [*self.resumes, "--resume", OUT] if begun else list(self.words)


def jobs(inputs: Path) -> dict[str, Job]:
    """All jobs by name, on what :func:`prepare` has written."""
    photos, run, seg = inputs / "photos", inputs / "run", inputs / "seg"
    train = ["train", "--data.source", SOURCE, "--data.target", TARGET, "--training.steps", "24", *_TRAINING, *_OFTEN]
    validated = ["--data.selection_split", "dev", "--training.validate_every", "8"]
    files = [
        "--data.source",
        f"folders:{photos}",
        "--data.saliency",
        str(inputs / "maps"),
        "--data.target",
        f"folders:{photos}",
    ]
    adapt = ["adapt", "--config", str(inputs / "adapt.yaml"), "--directions", "S-D"]
    lists = {
        "train": [*train, "--config", "demo-attnbn", *validated, "--workers", "1"],
        "train, two phases": [*train, "--config", "demo-finetune", "--data.selection_split", "null"],
        "train, files": [*train, "--config", "demo-attnbn", *files, "--data.selection_split", "null", "--workers", "1"],
        "segment train": [
            "segment", "train", "--config", "demo-dsrg", "--cues", str(inputs / "cues"), "--data.target", TARGET,
            "--training.steps", "20", "--data.selection_split", "dev", "--training.validate_every", "8",
            "--dsrg.crf.iterations", "2", *_TRAINING, *_OFTEN,
        ],
        "adapt": [*adapt, "--processes", "1"],
        "adapt, two processes": [*adapt, "--processes", "2"],
        "attend": ["attend", str(run), str(photos), "--masks", "--device", "cpu", "--batch-size", "3", "--workers", "1"],
        "saliency": ["saliency", str(photos), "--detector", "unsupervised", "--threads", "1", "--workers", "2"],
        "cues": ["cues", str(run), "--target", TARGET, "--split", "train", "--grid", "16", "--device", "cpu",
                 "--batch-size", "3"],
        "segment predict": [
            "segment", "predict", str(seg), "--target", TARGET, "--split", "train", "--probabilities", "--device", "cpu",
            "--batch-size", "3",
        ],
    }  # fmt: skip
    resumes = {"train": ("train",), "segment": ("segment", "train")}
    return {
        name: Job(name, (*words, "--output", OUT), () if name == "segment predict" else resumes.get(words[0], ()))
        for name, words in lists.items()
    }


ALL = ("train", "segment train", "adapt", "attend", "saliency", "cues", "segment predict")
"""What ``--only`` may name; the other jobs are variants of these."""
VARIANTS = {
    "train": ("train", "train, two phases", "train, files"),
    "adapt": ("adapt", "adapt", "adapt", "adapt, two processes"),
}
"""Jobs that a command's trials go through in turn."""


def prepare(inputs: Path, main: Callable[[list[str]], int]) -> None:
    """Write what the jobs read, unless it is there: photographs, saliency maps, a classifier, cues, a segmentation."""
    if (inputs / "complete").is_file():
        return
    shutil.rmtree(inputs, ignore_errors=True)
    inputs.mkdir(parents=True)
    _draw(inputs / "photos", inputs / "maps")
    (inputs / "adapt.yaml").write_text(yaml.safe_dump(_ADAPT, sort_keys=False))
    source = [
        "--data.source",
        SOURCE,
        "--data.target",
        TARGET,
        "--data.selection_split",
        "null",
        "--training.steps",
        "12",
    ]
    segment = [
        "--cues",
        str(inputs / "cues"),
        "--data.target",
        TARGET,
        "--training.steps",
        "6",
        "--dsrg.crf.iterations",
        "2",
    ]
    quick = ["--inference.crf.iterations", "2"]
    for words in (
        ["train", "--config", "demo-attnbn", *source, *_TRAINING, "--output", str(inputs / "run")],
        [
            "cues",
            str(inputs / "run"),
            "--target",
            TARGET,
            "--split",
            "train",
            "--grid",
            "8",
            "--output",
            str(inputs / "cues"),
        ],
        ["segment", "train", "--config", "demo-dsrg", *segment, *quick, *_TRAINING, "--output", str(inputs / "seg")],
    ):
        if status := main(words):
            raise SystemExit(f"{' '.join(words)} ended with {status}")
    (inputs / "complete").touch()


_ADAPT = {
    "kind": "adapt",
    "device": "cpu",
    "data": {"hold_out": 0.3, "test_split": "test", "size": 32},
    "model": {"backbone": "small", "upsample": 4, "discriminator_width": 4},
    "loss": {"attention": 1, "background": 1, "adversarial": 0.01},
    "training": {
        "steps": 8,
        "lr": 0.02,
        "head_lr": 20,
        "batch_size": 4,
        "checkpoint_every": 2,
        "checkpoint_share": 1,
        "log_every": 1,
    },
    "compare": {
        "title": "Two looks",
        "metric": "accuracy",
        "rows": ["source", "attnbn"],
        "domains": {name[0].upper(): f"scenes:{name}?count=40" for name in ("studio", "dusk")},
        "trials": {"source": [{}, {"training.lr": 0.01}], "attnbn": [{}, {"loss.attention": 2}]},
    },
}


def _draw(photos: Path, maps: Path) -> None:
    """The drawn source as files, a folder per class, with its saliency maps beside."""
    from attnbn.data.open import open_dataset

    drawn = open_dataset("scenes:source?count=12", split="train")
    assert drawn.labels is not None
    for index, name in enumerate(drawn.names):
        sample = drawn[index]
        assert sample.saliency is not None
        kind = drawn.classes[int(torch.nonzero(drawn.labels[index] == 1)[0])]
        pixels = sample.image.permute(1, 2, 0).numpy(), (sample.saliency[0] * 255).byte().numpy()
        for folder, suffix, values in zip((photos, maps), ("jpg", "png"), pixels, strict=True):
            file = folder / kind / f"{Path(name).name}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(file)


def as_json(path: Path) -> dict[str, object]:
    """A file's JSON."""
    value: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return value
