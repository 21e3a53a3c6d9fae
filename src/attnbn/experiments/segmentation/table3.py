"""Table 3: classifiers trained as in Table 1, and from each its cues, a segmentation grown from them, and masks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from attnbn.data.class_maps import resolve_class_map
from attnbn.data.open import open_dataset
from attnbn.experiments.parallel import Job
from attnbn.experiments.reproduce import Reproduction
from attnbn.experiments.rows import Run, plan, run_all, score
from attnbn.experiments.runner import stretches_of, versions
from attnbn.experiments.segmentation.masks import COMPARED, MaskStage, Outcome, carry_out, write_report
from attnbn.inference.claim import as_stored
from attnbn.inference.saliency import write_saliency
from attnbn.inference.saliency_sources import list_sources
from attnbn.io.atomic import write_json
from attnbn.io.run_folder import METRICS
from attnbn.saliency.files import SaliencyFolder
from attnbn.saliency.open import open_saliency
from attnbn.segment_config import SegmentConfig, check_segment_config
from attnbn.training.loop import Progress

RESULTS, REPORT = "masks.json", "masks.html"
"""Beside ``results.json`` and ``report.html``, which are the classifiers'."""


@dataclass
class MaskReproduction:
    """A study that goes on to masks.

    Attributes:
        classifiers: Its first part.
        segmentations: Settings of each row's segmentation; data and seed are set to the classifier's.
        saliency: Of the target's photographs, for the background's cues: a folder or a detector; None: low attention.
    """

    classifiers: Reproduction
    segmentations: Mapping[str, SegmentConfig]
    saliency: str | None = None

    def run(self) -> dict[str, Any]:
        """Train what is not yet trained, then make masks of it, and write ``masks.json`` and ``masks.html``.

        Returns:
            The content of ``masks.json``: ``rows`` (a line per row and seed), ``split``, ``gain`` (of the last row over the
            first in mean mIoU), ``versions``, ``command``.

        Raises:
            InputError: As :meth:`~attnbn.experiments.reproduce.Reproduction.run`; nothing is trained then.
            RunError: The same.
            Interrupted: The same; the same command goes on.
        """
        one = self.classifiers
        runs = plan(one.configs, one.output, one.study.name, one.seeds)
        saliency = self.saliency
        if saliency is not None:
            open_saliency(saliency)  # what is missing is to be found before hours of training
        split = one.scored_split
        stages = {run: self._stage(run, split) for run in runs}
        for stage in stages.values():
            check_segment_config(stage.settings)
        one.run()
        if saliency is not None:
            folder = self._saliency(saliency, runs[0])
            stages = {run: replace(stage, saliency=folder) for run, stage in stages.items()}
        jobs = []
        for run, stage in stages.items():
            jobs.append(
                Job(
                    carry_out,
                    (stage,),
                    stage.run / METRICS,
                    _steps(stage.config),
                    one.display.watch(f"{run.row} masks, seed {run.seed}"),
                )
            )
        done = run_all(jobs, one.processes, runs[0].config.device)
        return self._write(stages, dict(zip(runs, done, strict=True)), split)

    def _stage(self, run: Run, split: str) -> MaskStage:
        folder = run.folder.with_name(f"{run.folder.name}-masks")
        segmentation, own = self.segmentations[run.row], run.config.data
        data = replace(
            segmentation.data,
            target=own.target,
            target_split=own.target_split,
            class_map=resolve_class_map(own.class_map),
        )
        config = replace(segmentation, data=data, seed=run.seed, device=run.config.device)
        return MaskStage(run.folder, folder, config, split)

    def _saliency(self, spec: str, run: Run) -> str:
        """A detector's maps of all photographs, made once for all rows; a folder as it is."""
        source = open_saliency(spec)
        if isinstance(source, SaliencyFolder):
            return spec
        folder = self.classifiers.output / "saliency"
        target = run.config.data.target
        assert target is not None
        watch = self.classifiers.display.watch("saliency of the target")
        begun: list[tuple[float, int]] = []

        def made(done: int, of: int) -> None:
            if not begun:
                begun.append((time.monotonic(), done))
            seconds, more = time.monotonic() - begun[0][0], done - begun[0][1]
            watch(Progress(done, of, {}, more / seconds if more else 0.0))

        write_saliency(source, list_sources([target], folder), folder, scale=0.5, progress=made)
        return str(folder)

    def _write(
        self, stages: Mapping[Run, MaskStage], figures: Mapping[Run, dict[str, Any]], split: str
    ) -> dict[str, Any]:
        one = self.classifiers
        attention = {run: score(run, split) for run in stages}
        rows: list[dict[str, Any]] = []
        outcomes = []
        for row in one.rows:
            own = [run for run in stages if run.row == row.name]
            outcomes.append(
                Outcome(
                    row.label,
                    [stages[run] for run in own],
                    [attention[run] for run in own],
                    [figures[run] for run in own],
                    row.published_masks,
                )
            )
            for run in own:
                line = {"row": row.name, "label": row.label, "seed": run.seed, "published": row.published_masks}
                line |= {key: figures[run][key] for key in ("miou", "iou", "before_crf", "images", "seconds")}
                line["attention"] = {key: attention[run][key] for key in ("miou", "given_labels")}
                line["cues"] = {key: figures[run]["cues"][key] for key in ("miou", "coverage", "classes")}
                rows.append(line)
        means = [statistics.mean(r["miou"] for r in rows if r["row"] == row.name) for row in one.rows]
        results = {
            "study": one.study.name,
            "split": split,
            "rows": rows,
            "gain": means[-1] - means[0] if len(means) > 1 else None,
            "settings": {row: _compared(config) for row, config in self.segmentations.items()},
            "versions": versions(),
            "command": one.command,
        }
        write_json(one.output / RESULTS, results)
        lead = one.study.lead + one.study.caveat
        write_report(outcomes, one.output / REPORT, title=one.study.title, lead=lead, command=one.command)
        return results


def _steps(config: SegmentConfig) -> int:
    data = config.data
    assert data.target is not None
    images = 1 if config.training.steps else len(open_dataset(data.target, split=data.target_split))
    return stretches_of(config, images)[-1].stop


def _compared(config: SegmentConfig) -> dict[str, Any]:
    return {key: value for key, value in as_stored(asdict(config)).items() if key in COMPARED}
