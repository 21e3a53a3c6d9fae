"""``adapt``: every row's settings chosen on the source, trained with every seed, and tested on the other domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attnbn.adapt_config import ROWS, AdaptConfig, check_comparison, settings_of, trials_of
from attnbn.experiments.adaptation.checks import check_classes, check_domains, check_earlier_domains, check_saliency
from attnbn.experiments.adaptation.directions import Direction, Domain, common_classes
from attnbn.experiments.adaptation.page import write_page
from attnbn.experiments.adaptation.plan import Case, Planner
from attnbn.experiments.adaptation.results import best_on_source, diverged, entry, oracle, summarize, trial_line
from attnbn.experiments.adaptation.transfer import Tests, open_tests, test_run
from attnbn.experiments.apart import check_output
from attnbn.experiments.parallel import Job
from attnbn.experiments.rows import DIVERGED, Display, check_earlier, check_study_folder, job, preflight, run_all
from attnbn.experiments.runner import versions
from attnbn.experiments.settings import flat
from attnbn.io.atomic import remove_parts_of, write_json
from attnbn.io.errors import InputError
from attnbn.io.folder_lock import alone_in
from attnbn.io.run_folder import RESULTS, RunFolder

PAGE = "report.html"


@dataclass
class Adaptation:
    """A comparison under way.

    Attributes:
        config: Settings of all runs.
        directions: From where to where.
        output: Folder for everything.
        seeds: One training of each row and direction per seed; trials are made with the first.
        overwrite: Start anew even if the folder holds runs.
        processes: Trainings at a time, on the CPU.
        name: What is compared: the recipe's name.
        command: What made it, for the report.
        display: Where to speak.
    """

    config: AdaptConfig
    directions: Sequence[Direction]
    output: Path
    seeds: Sequence[int] = (0,)
    overwrite: bool = False
    processes: int = 1
    name: str = "adapt"
    command: str = ""
    display: Display = field(default_factory=Display)

    def __post_init__(self) -> None:
        self._figures: dict[Path, dict[str, Any]] = {}
        self._tests: dict[tuple[str, int], Tests] = {}
        self._trained: set[Path] = set()

    def run(self) -> dict[str, Any]:
        """Train what is not yet trained, and write ``results.json`` and ``report.html``.

        Returns:
            The content of ``results.json``.

        Raises:
            InputError: for data or settings that cannot be used, or a folder that holds something else; nothing is trained then.
            RunError: A training failed; what is finished stays, and the same command goes on with the rest.
            Interrupted: After Ctrl-C, with a checkpoint written; the same.
        """
        if not self.seeds:
            raise InputError("expected at least one seed, got none: --seeds")
        check_comparison(self.config)
        check_study_folder(self.output, self.name)
        domains = self._domains()
        check_domains(domains)
        if not self.overwrite:
            check_earlier_domains(self.output, domains)
        self.classes = common_classes(domains, self.config.data)  # opens them: a wrong path is told as one
        check_classes(self.classes, self.config.compare.metric, domains)
        check_saliency(self.directions, self.config.compare.rows)
        self.planner = Planner(self.config, self.classes, self.output)
        first = self._cases(self.seeds[:1])
        self._check([*first, *self._cases(self.seeds[1:])])
        with alone_in(self.output):
            return self._carry_out(first)

    def _carry_out(self, first: Sequence[Case]) -> dict[str, Any]:
        """All of it, in a folder that is ours; ``first`` are the cases of the first seed."""
        remove_parts_of(self.output / RESULTS, self.output / PAGE)
        if self.overwrite or not (self.output / RESULTS).is_file():  # earlier results stay until there are new ones
            write_json(self.output / RESULTS, self._head() | {"complete": False})
        self._do(first)
        chosen = self._choose(first)
        rest = [
            case
            for (row, direction), one in chosen.items()
            for case in self.planner.cases(row, direction, self.seeds[1:], [one.trial])
        ]
        self._do(rest)
        results = self._results(first, chosen, rest)
        write_json(self.output / RESULTS, results)
        self._page(results, chosen)
        return results

    def _cases(self, seeds: Sequence[int]) -> list[Case]:
        rows = [row for row in ROWS if row in self.config.compare.rows]
        return [case for d in self.directions for row in rows for case in self.planner.cases(row, d, seeds)]

    def _check(self, cases: Sequence[Case]) -> None:
        """Open everything that any of them will read, before the first is trained: each seed holds out other images."""
        seen: set[tuple[str, str, int]] = set()
        for case in cases:
            check_earlier(case.run, self.overwrite)
            check_output(case.tested)
            self._open(case)
            key = (case.run.row, case.direction.name, case.seed)
            if key not in seen:
                seen.add(key)
                preflight(case.run)
        for line in self._notes():
            self.display.say(line)

    def _open(self, case: Case) -> Tests:
        key = (case.direction.name, case.seed)
        if key not in self._tests:
            self._tests[key] = open_tests(case.tested, self.classes, self.config.compare.metric)
        return self._tests[key]

    def _notes(self) -> list[str]:
        """What a person should know of the images that are tested on, once for each direction and seed."""
        return [
            f"{name}, seed {seed}, tested on {len(tests.target)} images: {line}"
            for (name, seed), tests in self._tests.items()
            for line in tests.doubts
        ]

    def _do(self, cases: Sequence[Case]) -> None:
        """Train each run once and test it in every direction that has it."""
        todo: dict[Path, list[Case]] = {}
        for case in cases:
            todo.setdefault(case.run.folder, []).append(case)
        finished = [folder for folder in todo if self._finished(folder)]
        for folder in finished:
            self._test(todo.pop(folder))
        waiting = list(todo.values())
        if finished:
            self.display.say(f"{len(finished)} of {len(finished) + len(waiting)} runs are finished already")

        def done(place: int, result: dict[str, Any]) -> None:
            group = waiting[place]
            if DIVERGED in result:
                self._figures.update({case.folder: diverged(self.config.compare.metric) for case in group})
                self.display.say(f"a trial of {group[0].row} is out: {result[DIVERGED]}")
                return
            self._trained.add(group[0].run.folder)
            for line in self._test(group):
                self.display.say(f"{line}, {result['seconds']:.0f} s")

        run_all([self._job(group[0]) for group in waiting], self.processes, self.config.device, done)

    def _finished(self, folder: Path) -> bool:
        return RunFolder(folder).finished and (not self.overwrite or folder in self._trained)

    def _job(self, case: Case) -> Job:
        title = f"{case.run.row} {case.trial} seed {case.seed}"
        on_trial = case.seed == self.seeds[0] and len(trials_of(self.config.compare, case.row)) > 1
        return job(case.run, self.overwrite, self.display.watch(title), preflight(case.run), on_trial)

    def _test(self, cases: Sequence[Case]) -> list[str]:
        lines = []
        for case in cases:
            # where frozen layers' outputs are kept makes no difference to what is looked at
            data = {
                key: value
                for key, value in flat(asdict(case.tested)).items()
                if key.startswith("data.") and key != "data.cache"
            }
            figures = test_run(case.run.folder, self._open(case), case.folder, {**data, "seed": case.seed})
            self._figures[case.folder] = figures
            value = figures[self.config.compare.metric]
            shown = "no figure" if value is None else f"{100 * value:.1f} %"
            lines.append(f"{case.direction.name} {case.row} {case.trial} seed {case.seed}: {shown} on the target")
        return lines

    def _choose(self, cases: Sequence[Case]) -> dict[tuple[str, Direction], Case]:
        groups: dict[tuple[str, Direction], list[Case]] = {}
        for case in cases:
            groups.setdefault((case.row, case.direction), []).append(case)
        return {
            key: best_on_source(group, [self._figures[case.folder] for case in group]) for key, group in groups.items()
        }

    def _results(
        self, first: Sequence[Case], chosen: dict[tuple[str, Direction], Case], rest: Sequence[Case]
    ) -> dict[str, Any]:
        metric = self.config.compare.metric
        picked = [
            case for key, one in chosen.items() for case in (one, *(c for c in rest if (c.row, c.direction) == key))
        ]
        entries = [entry(case, self._figures[case.folder], metric) for case in picked]
        several = len(first) > len(chosen)
        trials = [trial_line(case, self._figures[case.folder], metric, case in chosen.values()) for case in first]
        return self._head() | {
            "complete": True,
            "rows": entries,
            "summary": summarize(entries, self.config.compare),
            "trials": trials if several else [],
            "oracle": oracle(trials) if several else [],
            "notes": self._notes(),
        }

    def _head(self) -> dict[str, Any]:
        """What is known before anything is trained; in the folder it says whose it is."""
        return {
            "study": self.name,
            "title": self.config.compare.title,
            "classes": list(self.classes),
            "metric": self.config.compare.metric,
            "domains": [asdict(domain) for domain in self._domains()],
            "settings": settings_of(self.config),
            "versions": versions(),
            "command": self.command,
        }

    def _domains(self) -> list[Domain]:
        return list(dict.fromkeys(domain for d in self.directions for domain in (*d.sources, d.target)))

    def _page(self, results: dict[str, Any], chosen: dict[tuple[str, Direction], Case]) -> None:
        views = []
        for direction in self.directions:
            cases = {row: case for (row, d), case in chosen.items() if d == direction}
            views.append((direction, cases, self._tests[(direction.name, self.seeds[0])]))
        write_page(self.output / PAGE, results, self.config.compare, views, self.config.device)
