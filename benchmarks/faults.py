"""Nothing is lost: commands are killed at random moments, go on, and must end with the bytes of an uninterrupted run.

Each trial carries out a small job, kills it with ``SIGKILL`` (half of the times at a random moment, else just before or in the
middle of a change of a file), lets it go on by the documented way, perhaps kills it again, and compares everything that it
has written, times aside. Finished trials stand in ``DIR/trials.jsonl``: the same command goes on with the rest, another seed
needs another DIR. Other faults (``--faults``) follow once each: a full disk, data that vanish, a loader process that dies,
and so on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

LINES, REFERENCE, GIVEN = "trials.jsonl", "references", "given.json"
LASTING = ("seed", "real")
"""Options by which a trial of the same name and number would be another; with others the same DIR goes on."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    from harm.jobs import ALL
    from harm.others import TRIALS

    faults = [name for name, _, _ in TRIALS]
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--kills", type=int, default=200, help="trials over all commands (200)")
    options.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    options.add_argument("--only", nargs="+", choices=ALL, default=list(ALL), metavar="COMMAND", help=", ".join(ALL))
    options.add_argument("--real", type=int, default=10, help="every so manieth trial starts Python anew; 0: none (10)")
    options.add_argument("--faults", nargs="*", choices=faults, default=faults, metavar="FAULT", help=", ".join(faults))
    options.add_argument(
        "--once", action="store_true", help="one uninterrupted run of each job, not two that are compared"
    )
    options.add_argument("--processes", type=int, default=1, help="trials at a time (1)")
    options.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    options.add_argument(
        "--output", required=True, metavar="DIR", help="folder for everything; results.json in the end"
    )
    return options.parse_args(arguments)


def units(kills: int, only: Sequence[str]) -> list[tuple[str, int]]:
    """Which job is killed, and the number of its trial: commands in turn, the jobs of a command in turn."""
    from harm.jobs import VARIANTS

    counts: Counter[str] = Counter()
    found = []
    for command in islice(cycle(only), kills):
        names = VARIANTS.get(command, (command,))
        name = names[counts[command] % len(names)]
        counts[command] += 1
        found.append((name, counts[command] - 1))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is not yet done; 1 if anything is not as it should be."""
    from harm.others import carry_out

    given = parse(arguments)
    output = Path(given.output).absolute()
    output.mkdir(parents=True, exist_ok=True)
    claim(output, {name: getattr(given, name) for name in LASTING})
    campaign = Campaign(given, output)
    campaign.prepare()
    ended = campaign.kill()
    results = campaign.results()
    if given.faults:
        others = output / "others.jsonl"
        carry_out(campaign.jobs, campaign.references, others, given.seed, given.faults, set(read(others)))
        results["others"] = list(read(others).values())
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    show(results, markdown=given.markdown)
    bad = not ended or results["kills"]["identical"] < given.kills
    return int(bad or any(not one["good"] for one in results.get("others", ())))


def claim(output: Path, given: dict[str, Any]) -> None:
    """Refuse a folder whose trials were made otherwise.

    Raises:
        SystemExit: naming what was given then.
    """
    file = output / GIVEN
    before = json.loads(file.read_text()) if file.is_file() else None
    if before is None and not (output / LINES).is_file():
        file.write_text(json.dumps(given) + "\n")
    elif before != given:
        told = ", ".join(f"--{name} {value}" for name, value in (before or {}).items()) or "unknown options"
        raise SystemExit(f"expected another --output, for this one holds trials of {told}: {output}")


class Campaign:
    """The kills: prepared once, shared among processes, each trial kept as a line when it is done.

    Args:
        given: The command line.
        output: Folder for everything.
    """

    def __init__(self, given: argparse.Namespace, output: Path) -> None:
        from harm.jobs import jobs

        self.given, self.output = given, output
        self.lines = output / LINES
        self.jobs = jobs(output / "inputs")
        self.units = units(given.kills, given.only)
        self.references: dict[str, Any] = {}

    def prepare(self) -> None:
        """Inputs, and of each job an uninterrupted run."""
        from harm.jobs import prepare
        from harm.killing import refer
        from harm.others import TRIALS
        from harm.processes import run

        work = self.output / "prepare"
        work.mkdir(exist_ok=True)
        prepare(self.output / "inputs", lambda words: run(words, work).status)
        names = list(dict.fromkeys(name for name, _ in self.units))
        own = [job for fault, _, jobs in TRIALS for job in jobs if fault in self.given.faults]
        names = list(dict.fromkeys([*names, *(job for job in own if job.split(",")[0] in self.given.only)]))
        for name in names:
            how = {"real": bool(self.given.real), "once": self.given.once}
            self.references[name] = refer(self.jobs[name], self.output / REFERENCE / name, **how)
            reference = self.references[name]
            print(f"{name}: {reference.seconds:.1f} s, changes {reference.changes} files unharmed", flush=True)

    def kill(self) -> bool:
        """The trials that are not done yet, in several processes; whether each of these ended well."""
        done = read(self.lines)
        todo = [unit for unit in self.units if unit not in done]
        fork = multiprocessing.get_context("fork")
        workers = [fork.Process(target=self._some, args=(todo[i :: self.given.processes], i))
                   for i in range(self.given.processes)]  # fmt: skip
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return not any(worker.exitcode for worker in workers)

    def _some(self, todo: list[tuple[str, int]], place: int) -> None:
        from harm.killing import trial

        parent = os.getppid()
        for name, number in todo:
            if os.getppid() != parent:
                return
            folder = self.output / "work" / str(place) / name
            real = bool(self.given.real) and number % self.given.real == self.given.real - 1
            line = trial(self.jobs[name], number, self.given.seed, self.references[name], folder, real=real)
            if line["faults"]:
                kept = self.output / "failed" / f"{name}-{number}"
                shutil.rmtree(kept, ignore_errors=True)
                kept.parent.mkdir(exist_ok=True)
                shutil.move(folder, kept)
            with self.lines.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(told(line), flush=True)

    def results(self) -> dict[str, Any]:
        """Figures of all trials that were asked for."""
        done = read(self.lines)
        lines = [done[unit] for unit in self.units if unit in done]
        rows = [
            _row(name, [line for line in lines if line["job"] == name])
            for name in dict.fromkeys(name for name, _ in self.units)
        ]
        asked = {"seed": self.given.seed, "asked": len(self.units)}
        return {**asked, "rows": rows, "kills": _row("all", lines), "trials": lines}


def _row(name: str, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    kills = [kill for line in lines for kill in line["kills"]]
    how = Counter(kill["how"] for kill in kills)
    return {
        "job": name, "trials": len(lines), "kills": len(kills), **{key: how[key] for key in ("time", "file", "torn")},
        "alone": sum(not kill["group"] for kill in kills), "real": sum(line["real"] for line in lines),
        "identical": sum(not line["faults"] for line in lines),
    }  # fmt: skip


def read(lines: Path) -> dict[tuple[str, Any], dict[str, Any]]:
    """The trials that are done, by command and number or fault; a line that was cut off is not."""
    found = {}
    for text in lines.read_text().splitlines() if lines.is_file() else ():
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            found[line["job"], line.get("trial", line.get("fault"))] = line
    return found


def told(line: dict[str, Any]) -> str:
    """A trial in a line."""
    shown = "; ".join(
        f"{kill['how']} {kill['at']:.4g}{' all' if kill['group'] else ' alone'}" for kill in line["kills"]
    )
    outcome = "identical" if not line["faults"] else "NOT AS IT SHOULD BE: " + "; ".join(line["faults"])[:2000]
    real = " (started anew)" if line["real"] else ""
    return f"{line['job']} {line['trial']}{real}: killed at {shown}, {line['seconds']:.1f} s: {outcome}"


def show(results: dict[str, Any], *, markdown: bool) -> None:
    """The tables."""
    import measure

    header = [
        "command",
        "trials",
        "kills",
        "at a moment",
        "before a change",
        "in a write",
        "process alone",
        "anew",
        "identical",
    ]
    keys = ["job", "trials", "kills", "time", "file", "torn", "alone", "real", "identical"]
    rows = [[row[key] for key in keys] for row in [*results["rows"], results["kills"]]]
    print(measure.table(header, rows, markdown=markdown))
    print(f"{results['kills']['identical']} of {results['asked']} trials ended with the same bytes")
    if others := results.get("others"):
        print()
        lines = [
            [one["fault"], one["job"], one["outcome"] if one["good"] else f"WRONG: {one['outcome']}"] for one in others
        ]
        print(measure.table(["fault", "command", "outcome"], lines, markdown=markdown))


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":  # processes are forked from this one, which must have no other thread
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    began = time.monotonic()
    status = main()
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    sys.exit(status)
