"""What the data check found as lines of text: counts of images and classes, what occurs together, findings by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = 3
"""Findings of a kind that are printed; ``--json`` has all."""
FOLDERS = 4
"""Folders of a class and data set that are printed by name; ``--json`` has all."""
PAIRS = 10
"""Pairs of classes that are printed."""


def check_table(result: Mapping[str, Any]) -> list[str]:
    """The whole table.

    Args:
        result: As :meth:`attnbn.experiments.check_data.Checked.as_json`.
    """
    speed = result["images"] / max(result["seconds"], 0.01)
    lines = [f"read {_images(result['images'])} in {result['seconds']:.1f} s ({speed:,.0f} images/s)", ""]
    lines += _datasets(result["datasets"])
    there = dict.fromkeys(name for part in result["datasets"] for name in part["classes"])
    classes = [name for name in result["classes"] or there if name in there]
    lines += _classes(result["datasets"], classes)
    lines += _taken(result["taken"], result["datasets"], classes)
    lines += _together(result["datasets"])
    lines += _findings(result["findings"])
    counts = result["counts"]
    lines.append(", ".join(f"{number:,} {name[:-1] if number == 1 else name}" for name, number in counts.items()))
    return lines


def _images(number: int) -> str:
    return f"{number:,} image{'' if number == 1 else 's'}"


def _title(part: Mapping[str, Any]) -> str:
    return f"{part['dataset']} {part['split']}" if part["split"] else str(part["dataset"])


def _datasets(parts: list[Mapping[str, Any]]) -> list[str]:
    lines = []
    for number, part in enumerate(parts, start=1):
        facts = [_images(part["images"])]
        facts += [f"{part['masks']:,} masks"] * bool(part["masks"])
        facts += [f"labels from {part['labels_from']}"] * bool(part["labels_from"])
        if part["saliency"]:
            facts.append(f"{part['saliency_maps']:,} usable saliency maps of {part['saliency']}")
        if part["left_out"]:
            facts.append(
                f"left out {part['left_out']:,} of {part['images'] + part['left_out']:,} images with none of the classes"
            )
        lines.append(f"[{number}] {_title(part)}: {', '.join(facts)}")
    return [*lines, ""] if lines else []


def _classes(parts: list[Mapping[str, Any]], names: list[str]) -> list[str]:
    """Images of each class and split; a dash where the data set does not have the class."""
    if not names:
        return []
    width = max(len("class"), *map(len, names))
    lines = [f"{'class':<{width}}" + "".join(f"{f'[{i}]':>9}" for i in range(1, len(parts) + 1))]
    for name in names:
        cells = [part["classes"].get(name) for part in parts]
        lines.append(f"{name:<{width}}" + "".join(f"{'–' if cell is None else f'{cell:,}':>9}" for cell in cells))
    difficult = [sum(part["difficult"].values()) for part in parts]
    if any(difficult):
        lines.append(f"{'unknown':<{width}}" + "".join(f"{number:>9,}" for number in difficult))
    return [*lines, ""]


def _taken(rows: list[Mapping[str, Any]], parts: list[Mapping[str, Any]], names: list[str]) -> list[str]:
    """Of each class and simple data set the images found and taken, by folder where there are few.

    Nothing where all are taken and the folders are the classes: the counts above say that already.
    """
    if all(row["taken"] == row["found"] and row["folder"] in ("", row["label"]) for row in rows):
        return []
    number = {part["dataset"]: f"[{i}]" for i, part in enumerate(parts, start=1)}
    groups: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((names.index(row["label"]), number[row["dataset"]]), []).append(row)
    width = max(map(len, ["class", *names]))
    lines = [f"{'class':<{width}}     {'found':>9}{'taken':>9}  by folder"]
    for (place, which), own in sorted(groups.items()):
        found, taken = sum(row["found"] for row in own), sum(row["taken"] for row in own)
        shown = [f"{row['folder']} {row['taken']:,}" for row in own if row["folder"]]
        few = shown if len(shown) <= FOLDERS + 1 else [*shown[:FOLDERS], f"and {len(shown) - FOLDERS:,} more"]
        lines.append(f"{names[place]:<{width}} {which:<4}{found:>9,}{taken:>9,}  {', '.join(few)}".rstrip())
    total = [sum(row[key] for row in rows) for key in ("found", "taken")]
    return [*lines, f"{'all':<{width}}     {total[0]:>9,}{total[1]:>9,}", ""]


def _together(parts: list[Mapping[str, Any]]) -> list[str]:
    """Classes that occur in one image, over all splits, most frequent first."""
    pairs: dict[tuple[str, str], int] = {}
    for part in parts:
        names = list(part["classes"])
        for i, row in enumerate(part["cooccurrence"]):
            for j, number in enumerate(row[:i]):
                if number:
                    pair = min(names[i], names[j]), max(names[i], names[j])
                    pairs[pair] = pairs.get(pair, 0) + number
    if not pairs:
        return []
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{a} + {b} {number:,}" for (a, b), number in ranked[:PAIRS]]
    more = f", and {len(ranked) - PAIRS:,} more pairs" if len(ranked) > PAIRS else ""
    return [f"together: {', '.join(shown)}{more}", ""]


def _findings(findings: list[Mapping[str, Any]]) -> list[str]:
    """Findings by severity and kind, a count and the first few of each."""
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for finding in findings:
        kinds.setdefault((finding["severity"], finding["kind"]), []).append(finding)
    lines = []
    for (severity, kind), members in kinds.items():
        files = sum(member["files"] for member in members)
        stands = f" ({files:,} files)" if files != len(members) else ""
        lines.append(f"{severity} {kind}: {len(members):,}{stands}")
        lines += [f"  {_where(member)}{member['line']}" for member in members[:SHOWN]]
        if len(members) > SHOWN:
            lines.append(f"  ... and {len(members) - SHOWN:,} more")
    return [*lines, ""] if lines else []


def _where(finding: Mapping[str, Any]) -> str:
    return f"[{finding['split']}] " if finding["split"] else ""
