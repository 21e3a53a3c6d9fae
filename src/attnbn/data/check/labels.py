"""What the labels of all parts say together: counts, co-occurrence, classes without images, photographs listed twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from attnbn.data.check.findings import Finding, Part, Severity
from attnbn.data.check.taken import is_source


def cooccurrence(labels: Tensor) -> Tensor:
    """How many photographs show both of two classes.

    Args:
        labels: ``len×N`` in {0, 1}, NaN = unknown, which counts as absent.

    Returns:
        int64 ``N×N``; on the diagonal the photographs of each class.
    """
    present = (labels == 1).double()
    return (present.T @ present).long()


def class_findings(parts: Sequence[Part], table: str | None = None) -> list[Finding]:
    """Classes without a photograph: an error in what one trains on, else a warning.

    Args:
        parts: The splits.
        table: The table that names the classes: then one finding stands for all that a split lacks.
    """
    found = []
    for part in parts:
        if len(part.labels) and bool(part.labels.isnan().all()):
            continue  # the labels could not be read, which is said already
        counts = zip(part.selection.classes, (part.labels == 1).sum(0).tolist(), strict=True)
        groups: dict[bool, list[str]] = {True: [], False: []}
        for name, count in counts:
            groups[count > 0].append(name)
        there, missing = groups[True], groups[False]
        severity: Severity = "error" if part.trained_on else "warning"
        if missing and table is not None:
            found.append(absent_of_table(table, missing, there, part.dataset, part.split, severity))
            continue
        remedy = "add some, choose another split, or name the classes wanted with --classes"
        found += [
            Finding(severity, "class-absent", part.dataset, part.split, part.dataset,
                    f"photographs of class {name!r}", "none", remedy)
            for name in missing
        ]  # fmt: skip
    return found


def absent_of_table(
    table: str,
    missing: Sequence[str],
    there: Sequence[str],
    spec: str,
    split: str | None,
    severity: Severity = "error",
) -> Finding:
    """The finding for all classes of a table that have no photograph.

    Args:
        table: Its name.
        missing: These classes.
        there: The others, at least one where ``--classes`` is to help.
        spec: The data set, or several.
        split: Its split.
        severity: Of the finding.
    """
    ways = [f"check and train with --classes {','.join(there)}"] if there else []
    ways += (
        ["name another source beside it that has them"]
        if is_source(spec)
        else ["choose another split"]
        if split
        else []
    )
    return Finding(severity, "class-absent", spec, split, spec, f"photographs of every class of the table {table}",
                   f"none of {_listed(missing)}", ", or ".join(ways) or "choose another data set")  # fmt: skip


def agreement_findings(parts: Sequence[Part]) -> list[Finding]:
    """Classes that one data set has and another lacks; training refuses them unless the classes wanted are named."""
    classes: dict[str, set[str]] = {}
    for part in parts:
        classes.setdefault(part.dataset, set()).update(part.selection.classes)
    if not classes:
        return []
    everywhere = set.intersection(*classes.values())
    common = [name for name in parts[0].selection.classes if name in everywhere]
    wanted = f"--classes {','.join(common)}" if common else "rename classes with --class-map"
    return [
        Finding("error", "classes-differ", dataset, None, dataset, "the same classes in all data sets",
                f"some of its own: {_listed(sorted(extra))}", f"check and train with {wanted}")
        for dataset, own in classes.items()
        if (extra := own - everywhere)
    ]  # fmt: skip


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Splits:
    """How the parts relate: which share photographs, and which photographs lie on two sides of a split.

    Args:
        parts: All parts.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self._keys = [{part.key(i): i for i in range(len(part.names))} for part in parts]
        self._apart = torch.zeros(len(parts), len(parts), dtype=torch.bool)
        for a, b in combinations(range(len(parts)), 2):
            self._apart[a, b] = self._apart[b, a] = not (self._made_of(a, b) or self._made_of(b, a))

    def _made_of(self, whole: int, piece: int) -> bool:
        """Whether one part holds all of another on purpose: ``trainval`` or ``train_aug``, but not ``train`` ⊃ ``val``."""
        if not self._keys[piece].keys() <= self._keys[whole].keys():
            return False
        outer, inner = self.parts[whole], self.parts[piece]
        return outer.is_union or not outer.trained_on or not inner.evaluated

    def across(self, some: frozenset[int], others: frozenset[int]) -> tuple[int, int] | None:
        """Two parts on different sides, if photographs of these parts lie so; one that is evaluated comes first."""
        pairs = [(a, b) for a in sorted(some) for b in sorted(others) if a != b and self._apart[a, b]]
        return max(pairs, key=lambda pair: self._is_leak(*pair), default=None)

    def severity(self, pair: tuple[int, int] | None) -> Severity:
        """Of one photograph on both sides: an error where figures are computed on one of them."""
        return "error" if pair is not None and self._is_leak(*pair) else "warning"

    def _is_leak(self, a: int, b: int) -> bool:
        return self.parts[a].evaluated or self.parts[b].evaluated

    def findings(self) -> list[Finding]:
        """Splits that list the same files."""
        found = []
        for a, b in combinations(range(len(self.parts)), 2):
            shared = self._keys[a].keys() & self._keys[b].keys()
            if shared and self._apart[a, b]:
                first = min(shared)
                found.append(Finding(
                    self.severity((a, b)), "split-overlap", self.parts[a].dataset, self.parts[a].split, first,
                    f"no photograph of it in {self.parts[b].title} too", f"{len(shared):,} in both",
                    "take them out of one", len(shared), other=self.parts[b].title,
                ))  # fmt: skip
        return found
