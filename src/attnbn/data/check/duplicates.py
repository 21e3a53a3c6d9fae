"""Duplicates as findings: which photograph resembles which, and whether that lets a split leak into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbn.data.check.findings import Finding, Part, Severity
from attnbn.data.check.fingerprints import HASH_BITS, Fingerprint, near_duplicates
from attnbn.data.check.labels import Splits
from attnbn.data.check.photographs import Look


@dataclass(frozen=True)
class Pair:
    """Two photographs that resemble each other.

    Attributes:
        first: The look at the one that stays, on the evaluated side if one is.
        second: At the other, the one to take out.
        finding: What is said about them.
    """

    first: Look
    second: Look
    finding: Finding


def duplicate_pairs(parts: Sequence[Part], looks: Sequence[Look]) -> list[Pair]:
    """Exact and near duplicates among all photographs that could be read.

    Of several photographs of equal pixels each is paired with one other, where possible on the other side of a split.

    Args:
        parts: The splits.
        looks: Their photographs.

    Returns:
        Errors first, in the order of the parts.
    """
    splits = Splits(parts)
    groups: dict[bytes, list[Look]] = {}
    for look in looks:
        if look.fingerprint is not None:
            groups.setdefault(look.fingerprint.pixels, []).append(look)
    unique = list(groups.values())
    pairs = [pair for group in unique if len(group) > 1 for pair in _exact(splits, group)]
    # drawings of a few things on a few grounds resemble each other by design
    unique = [group for group in unique if parts[group[0].part].drawn is None]
    heads = [_print(group[0]) for group in unique]
    for near in near_duplicates(heads, [group[0].part for group in unique]):
        a, b = _worst(splits, unique[near.first], unique[near.second])
        how = f"a {'mirrored ' * near.mirrored}near copy of"
        pairs.append(_pair(splits, a, b, "near-duplicate", how, f" ({near.distance} of {HASH_BITS} bits differ)"))
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(pairs, key=lambda pair: (order[pair.finding.severity], pair.second.part, pair.second.index))


def _print(look: Look) -> Fingerprint:
    assert look.fingerprint is not None
    return look.fingerprint


def _exact(splits: Splits, group: list[Look]) -> list[Pair]:
    """Each photograph after the first, with one that makes it worst: one of every set of parts is enough to ask."""
    pairs = []
    known: dict[frozenset[int], Look] = {}
    for look in group:
        if known:
            partner = max(known.values(), key=lambda other: _rank(splits, other, look))
            same = "the same file as" if _print(partner).file == _print(look).file != b"" else "the same pixels as"
            pairs.append(_pair(splits, partner, look, "duplicate", same))
        known.setdefault(look.parts, look)
    return pairs


def _rank(splits: Splits, a: Look, b: Look) -> tuple[bool, bool]:
    """How bad it is that two photographs are the same: across an evaluated split, across any, within one."""
    pair = splits.across(a.parts, b.parts)
    return splits.severity(pair) == "error", pair is not None


def _worst(splits: Splits, some: list[Look], others: list[Look]) -> tuple[Look, Look]:
    """Of two groups of equal photographs the two that lie worst; one of every set of parts is enough to ask."""
    first, second = ({look.parts: look for look in reversed(group)}.values() for group in (some, others))
    return max(((a, b) for a in first for b in second), key=lambda pair: _rank(splits, *pair))


def _pair(splits: Splits, a: Look, b: Look, kind: str, how: str, detail: str = "") -> Pair:
    """Two photographs and what is said of them: ``how`` the one resembles the other, and a detail of that."""
    parts = splits.parts
    sides = splits.across(a.parts, b.parts)
    severity: Severity = splits.severity(sides)
    if sides is not None and parts[sides[1]].evaluated and not parts[sides[0]].evaluated:
        a, b, sides = b, a, (sides[1], sides[0])  # the one to take out is reported
    mine, other = (sides[1], sides[0]) if sides else (b.part, a.part)
    file, twin = parts[b.part].key(b.index), parts[a.part].key(a.index)
    where = f" in {parts[other].title}" if sides else ""
    remedy = f"take it out of {parts[mine].title}" if sides else "take one out"
    differ = _disagreement(parts[a.part], a.index, parts[b.part], b.index)
    finding = Finding(
        severity, kind, parts[mine].dataset, parts[mine].split, file, "each photograph once",
        f"{how} {twin}{where}{detail}{differ}", remedy, other=f"{parts[other].title}: {twin}",
    )  # fmt: skip
    return Pair(a, b, finding)


def _disagreement(part: Part, index: int, other: Part, twin: int) -> str:
    """The labels of two photographs of one data set, where they differ: one of them is wrong then."""
    if part.dataset != other.dataset:
        return ""
    first, second = (
        ", ".join(name for name, value in zip(p.selection.classes, p.labels[i].tolist(), strict=True) if value == 1)
        for p, i in ((part, index), (other, twin))
    )
    return f", labelled {first}, not {second}" if first and second and first != second else ""
