"""Attention maps for K classes an image: time and memory, ours against the peers', in units of one forward pass.

Everybody is used as its users do. pytorch-grad-cam: a call per class. torch-cam: one forward pass, then a call per
class for the whole batch. captum: ``LayerGradCam.attribute`` per class. Ours: one call. ``attnbn, any classifier`` is
the same call on torchvision's unchanged model (``AttnBN.from_classifier``), without the closed form. In the same run
the maps are compared raw, before any stretching to [0, 1], relative to the largest value.

Memory is the peak of a fresh process for each cell, above what it held with model and images loaded. The weights are
random: neither time nor agreement depends on them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import measure
import torch
import torchvision
from torch import Tensor, nn

from attnbn.io.atomic import write_json
from attnbn.models.backbones import build_backbone
from attnbn.models.network import AttnBN

LAYERS = {
    "vgg16": "features.29",
    "vgg16_bn": "features.42",
    "resnet18": "layer4",
    "resnet50": "layer4",
    "squeezenet1_1": "features",
}
"""Where each model's F is: after the last convolution's ReLU, before any pooling."""

FORWARD, OURS, ANY = "forward pass", "attnbn", "attnbn, any classifier"
PEERS = {"pytorch-grad-cam": "pytorch_grad_cam", "torch-cam": "torchcam", "captum": "captum"}
TOLERANCE = 1e-5


class Cell:
    """One setting with all that is needed to run it: model, images, and which K classes of each are wanted.

    Args:
        model: A name in :data:`LAYERS`.
        size: Side of the images.
        batch: Images.
        classes: Maps an image.
        device: Where to compute.
    """

    def __init__(self, model: str, size: int, batch: int, classes: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.classifier = torchvision.models.get_model(model).eval()
        if model == "squeezenet1_1":
            self.classifier.classifier[2] = nn.Identity()  # as ours: without the ReLU on the scores
        self.classifier.to(device)
        # the same weights, held once
        backbone = build_backbone(model)
        self.network = AttnBN(backbone.trunk, backbone.head).eval()
        own, theirs = self.network.state_dict(), list(self.classifier.state_dict().values())
        shared = [value.reshape(mine.shape) for mine, value in zip(own.values(), theirs, strict=True)]
        self.network.load_state_dict(dict(zip(own, shared, strict=True)), assign=True)
        self.network.requires_grad_(True)
        self.layer = LAYERS[model]
        self.target = self.classifier.get_submodule(self.layer)
        self.tapped = AttnBN.from_classifier(self.classifier, self.layer)
        self.images = torch.randn(batch, 3, size, size, device=device)
        self.chosen = torch.stack([torch.randperm(1000)[:classes].sort().values for _ in range(batch)]).to(device)
        self.wanted = torch.zeros(batch, 1000, device=device).scatter_(1, self.chosen, 1)

    def forward(self) -> None:
        """What everything is compared with."""
        with torch.no_grad():
            self.network(self.images)

    def ours(self, network: nn.Module) -> Tensor:
        """Raw maps ``B×K×h×w`` by one call."""
        with torch.no_grad():
            maps: Tensor = network(self.images, self.wanted).attention
        return maps.reshape(*self.chosen.shape, *maps.shape[-2:])

    def pytorch_grad_cam(self, raw: bool = False) -> Any:
        """Stretched maps ``B×K×S×S`` as its users get them, or the raw ones that it stretches."""
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        maps = []
        with GradCAM(model=self.classifier, target_layers=[self.target]) as cam:
            for classes in self.chosen.T.tolist():
                targets = [ClassifierOutputTarget(c) for c in classes]
                stretched = cam(input_tensor=self.images, targets=targets)
                seen = cam.activations_and_grads
                kept = [t[0].cpu().numpy() for t in (seen.activations, seen.gradients)] if raw else []
                maps.append(cam.get_cam_image(self.images, self.target, targets, *kept) if raw else stretched)
        return torch.stack([torch.from_numpy(m) for m in maps], 1).relu() if raw else maps

    def torch_cam(self) -> Tensor:
        """Raw maps: a forward pass with its graph, then a call per class."""
        from torchcam.methods import GradCAM

        with GradCAM(self.classifier, target_layer=self.layer) as cam:
            scores = self.classifier(self.images)
            calls = self.chosen.T.tolist()
            maps = [cam(c, scores, normalized=False, retain_graph=i + 1 < len(calls))[0] for i, c in enumerate(calls)]
        return torch.stack(maps, 1)

    def captum(self) -> Tensor:
        """Raw maps: a call per class."""
        from captum.attr import LayerGradCam

        cam = LayerGradCam(self.classifier, self.target)
        maps = [cam.attribute(self.images, classes, relu_attributions=True) for classes in self.chosen.T]
        return torch.cat(maps, 1).detach()

    def methods(self, peers: list[str]) -> dict[str, Callable[[], Any]]:
        """What is measured, by name."""
        theirs = {"pytorch-grad-cam": self.pytorch_grad_cam, "torch-cam": self.torch_cam, "captum": self.captum}
        own = {FORWARD: self.forward, OURS: lambda: self.ours(self.network), ANY: lambda: self.ours(self.tapped)}
        return {**own, **{name: theirs[name] for name in peers}}

    def disagreement(self, peers: list[str]) -> dict[str, float]:
        """Largest difference of each peer's raw maps from ours, as a share of our largest value."""
        maps = self.ours(self.network)
        raw: dict[str, Callable[[], Tensor]] = {
            ANY: lambda: self.ours(self.tapped),
            "pytorch-grad-cam": lambda: self.pytorch_grad_cam(raw=True),
            "torch-cam": self.torch_cam,
            "captum": self.captum,
        }
        top = maps.max()
        return {name: float((raw[name]().to(maps.device) - maps).abs().max() / top) for name in (ANY, *peers)}


def memory(cell: Cell, name: str, device: torch.device) -> float | None:
    """Peak in MiB that a method needs on top of model and images; in a process that has run nothing else."""
    method = cell.methods([name] if name in PEERS else [])[name]
    if device.type == "cuda":
        method()  # its libraries take their own workspace once
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        method()
        return (torch.cuda.max_memory_allocated() - held) / measure.MIB
    if name in PEERS:
        __import__(PEERS[name])  # what a library itself takes is not counted
    measure.reset_peak()
    before = measure.resident()
    method()
    after = measure.peak()
    return None if before is None or after is None else after - before


def _memory_apart(given: argparse.Namespace, batch: int, classes: int, name: str) -> float | None:
    command = [sys.executable, __file__, "--one", name, "--model", given.model, "--size", str(given.size)]
    command += ["--batches", str(batch), "--classes", str(classes), "--device", given.device]
    command += ["--threads", str(given.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    value: float | None = json.loads(done.stdout.splitlines()[-1])
    return value


def measure_cell(given: argparse.Namespace, batch: int, classes: int, device: torch.device) -> list[dict[str, Any]]:
    """All figures of one setting, a record per method."""
    cell = Cell(given.model, given.size, batch, classes, device)
    methods = cell.methods(given.peers)
    differs = cell.disagreement(given.peers)
    times = measure.interleaved(methods, given.repeats, device, given.patience)
    records: list[dict[str, Any]] = []
    for name in methods:
        records.append(
            {
                "batch": batch,
                "classes": classes,
                "method": name,
                "seconds": statistics.median(times[name]),
                "times": times[name],
                "of_forward": measure.ratio(times, name, FORWARD),
                "of_ours": measure.ratio(times, name, OURS),
                "memory": _memory_apart(given, batch, classes, name) if given.memory else None,
                "differs": differs.get(name),
            }
        )
    ours = next(r["memory"] for r in records if r["method"] == OURS)
    for record in records:
        record["memory_of_ours"] = record["memory"] / ours if record["memory"] is not None and ours else None
    return records


def show(records: list[dict[str, Any]], *, markdown: bool) -> str:
    """The table of all cells."""
    header = ["batch × classes", "method", "s", "of forward", "of attnbn", "MiB", "of attnbn", "differs by"]
    keys = ("method", "seconds", "of_forward", "of_ours", "memory", "memory_of_ours", "differs")
    rows = [[f"{r['batch']} × {r['classes']}", *(r[key] for key in keys)] for r in records]
    return measure.table(header, rows, markdown=markdown)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="vgg16", choices=list(LAYERS))
    options.add_argument("--size", type=int, default=224, help="side of the images")
    options.add_argument("--classes", type=int, nargs="+", default=[1, 3, 20], help="maps an image")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="images")
    options.add_argument("--repeats", type=int, default=7, help="rounds after the warm-up")
    options.add_argument("--patience", type=float, default=60, help="seconds after which a slow method's rounds end")
    options.add_argument("--no-memory", dest="memory", action="store_false", help="times only")
    installed = [name for name, module in PEERS.items() if find_spec(module)]
    options.add_argument("--peers", nargs="*", default=installed, choices=list(PEERS), help="against whom")
    options.add_argument("--one", help=argparse.SUPPRESS)  # the process of one method's memory
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print; 1 if any maps differ."""
    given = parse(arguments)
    device = measure.prepare(given)
    if given.one is not None:
        cell = Cell(given.model, given.size, given.batches[0], given.classes[0], device)
        print(json.dumps(memory(cell, given.one, device)))
        return 0
    facts = measure.machine(device)
    print(f"{given.model} at {given.size}²: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    records = []
    for batch in given.batches:
        for classes in given.classes:
            cell_records = measure_cell(given, batch, classes, device)
            if not given.markdown:
                print(show(cell_records, markdown=False), flush=True)
            records += cell_records
    if given.markdown:
        print(show(records, markdown=True))
    if given.json:
        settings = {key: value for key, value in vars(given).items() if key != "one"}
        write_json(given.json, {"settings": settings, "machine": facts, "cells": records})
    worst = max((r["differs"] for r in records if r["differs"] is not None), default=0.0)
    agree = worst <= TOLERANCE
    print(f"maps {'agree' if agree else 'DIFFER'}: largest difference {worst:.1e} of the largest value")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
