"""How the benchmarks measure: interleaved times, memory of a process, tables ready to paste."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

MIB = 2**20
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def parser(text: str) -> argparse.ArgumentParser:
    """An argument parser with what all benchmarks share."""
    shared = argparse.ArgumentParser(description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    shared.add_argument("--device", default="cpu", help="cpu or cuda")
    shared.add_argument("--threads", type=int, default=0, help="threads of the CPU; 0: PyTorch's choice")
    shared.add_argument("--json", metavar="OUT", help="write every figure to this file")
    shared.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    return shared


def prepare(given: argparse.Namespace) -> torch.device:
    """Threads and seed; the device to measure on."""
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    return torch.device(given.device)


def synchronize(device: torch.device) -> None:
    """Wait for what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    methods: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, patience: float = 60.0
) -> dict[str, list[float]]:
    """Seconds of each method, measured in turns (A B C A B C ...), so that a busy spell of the machine hits all alike.

    The first round warms up and is left out. A method that has used up its patience drops out of further rounds; one
    whose warm-up alone does so is judged by that.

    Args:
        methods: What to measure, by name.
        repeats: Rounds after the warm-up.
        device: Waited for before each look at the clock.
        patience: Seconds a method may take in all.

    Returns:
        A list of at least one time per method, in order of rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats + 1):
        for name, method in methods.items():
            if sum(times[name]) < patience:
                gc.collect()  # peers leave cycles behind; they are not to be collected on another's time
                synchronize(device)
                began = time.perf_counter()
                result = method()
                synchronize(device)
                times[name].append(time.perf_counter() - began)
                del result
    return {name: measured[1:] or measured for name, measured in times.items()}


def ratio(times: Mapping[str, list[float]], name: str, base: str) -> float:
    """Median over rounds of one method's time by another's in the same round."""
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=False))


def resident() -> float | None:
    """Memory of this process in MiB; None where the system does not tell."""
    return _status("VmRSS")


def with_children() -> float | None:
    """Memory in MiB of this process and of those that read for it, what they share counted once.

    Files mapped into memory (libraries) are left out: how much of them counts as ours depends on who else has them mapped.
    """
    processes = (multiprocessing.current_process(), *multiprocessing.active_children())
    parts = [_own_share(process.pid) for process in processes]
    return sum(parts) if all(parts) else resident()


def _own_share(process: int | None) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended, or the system does not tell
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def reset_peak() -> None:
    """Begin a new peak at what is resident now."""
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return  # the peak since the process began is then an upper bound


def peak() -> float | None:
    """Most memory in MiB since :func:`reset_peak`. Not ``ru_maxrss``, which a process inherits from its parent."""
    return _status("VmHWM")


def _status(key: str) -> float | None:
    if not STATUS.exists():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


def slope(samples: Sequence[tuple[int, float]]) -> float:
    """Least-squares growth in MiB per 1,000 of ``(count, MiB)``, the first fifth (warming up) left out."""
    kept = samples[len(samples) // 5 :]
    counts, sizes = [c for c, _ in kept], [s for _, s in kept]
    return 1000 * statistics.linear_regression(counts, sizes).slope


def machine(device: torch.device) -> dict[str, str]:
    """What the figures depend on: cores and threads, accelerator, versions."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {"cpu": f"{cores} cores, {torch.get_num_threads()} threads, {platform.machine()}"}
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    facts["python"] = platform.python_version()
    for package in ("torch", "torchvision", "grad-cam", "torchcam", "captum"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, markdown: bool) -> str:
    """A table of text: aligned, or as Markdown. ``None`` is shown as a dash, floats with three significant digits."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    if markdown:
        rule = ["---" if i == 0 else "---:" for i in range(len(header))]
        return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if 0 < abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
