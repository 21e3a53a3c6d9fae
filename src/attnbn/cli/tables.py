"""Figures as lines of text, in per cent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnbn.cli.progress import per_cent


def figures_table(figures: Mapping[str, Any]) -> list[str]:
    """What ``evaluate`` found: a row per class, then the means and how the threshold came about."""
    lines = []
    if figures["iou"] is not None:
        width = max(map(len, figures["iou"]))
        lines.append(f"{'class':<{width}}  {'IoU':>7}  {'prec.':>7}  {'recall':>7}  {'AP':>7}")
        for name in figures["iou"]:
            row = [figures[key].get(name) for key in ("iou", "precision", "recall")]
            row.append((figures["ap"] or {}).get(name))
            lines.append(f"{name:<{width}}  " + "  ".join(f"{per_cent(value):>7}" for value in row))
        lines.append("")
    if figures["miou"] is None:
        lines.append("mIoU –: the data set has no masks")
    else:
        lines.append(f"mIoU {per_cent(figures['miou'])} {_threshold(figures)}")
    if figures["given_labels"] is not None:
        lines.append(f"mIoU {per_cent(figures['given_labels']['miou'])} if the labels said which classes are there")
    lines.append(f"mean AP {per_cent(figures['mean_ap'])}, {figures['images']} images")
    return lines


def _threshold(figures: Mapping[str, Any]) -> str:
    if figures["cross_fitted"]:
        low, high = figures["thresholds"]
        return (
            f"cross-fitted on {figures['threshold_split']}, where the threshold was chosen: each half at the other's ({low:.2f}, "
            f"{high:.2f})"
        )
    if figures["threshold_split"] is None:
        given = "as given" if figures.get("threshold_given") else "the default: the run had no split to choose it on"
        return f"at threshold {figures['threshold']:.2f}, {given}"
    return f"at threshold {figures['threshold']:.2f}, chosen on {figures['threshold_split']}"
