"""Class names: which classes a run has, and how the names of two data sets are brought together.

Nothing is intersected silently: where two domains disagree, the person says what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attnbn.data.dataset import ImageDataset
from attnbn.io.errors import InputError
from attnbn.io.text import is_text

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""PASCAL VOC's twenty classes in the order of its mask ids 1 to 20."""

ROLES = ("source", "target")
"""What the domains of a run are called where there is one of each."""


@dataclass(frozen=True)
class Selection:
    """Which of a data set's own classes are used, and as what.

    Attributes:
        classes: The classes of the run, in order.
        index: For each of the data set's own classes its place in ``classes``, or None where it is not used.
    """

    classes: tuple[str, ...]
    index: tuple[int | None, ...]

    @property
    def is_subset(self) -> bool:
        """Whether some of the data set's own classes are not used."""
        return None in self.index


class Partial(tuple[str, ...]):
    """Classes wanted of several data sets together: one of them may lack some, and then has no image of these."""

    __slots__ = ()


def parse_classes(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """``data.classes`` as a person writes it: a list, ``"cat,dog"``, or None for those of the data sets.

    Raises:
        InputError: No class, an empty name, something that is no name, or the same class twice.
    """
    if value is None:
        return None
    names = value.split(",") if isinstance(value, str) else list(value)
    if not all(isinstance(name, str) for name in names):
        odd = next(name for name in names if not isinstance(name, str))
        raise InputError(f"expected class names, got {odd!r}; put it in quotes: data.classes")
    names = [name.strip() for name in names]
    if not names or not all(names):
        raise InputError(f"expected class names as cat,dog or a list, got {value!r}: data.classes")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise InputError(f"expected each class once, got {_listed(twice)} twice: data.classes")
    return Partial(names) if isinstance(value, Partial) else tuple(names)


def select_classes(
    own: Sequence[str],
    wanted: Sequence[str] | None,
    class_map: Mapping[str, str] | None,
    where: str,
) -> Selection:
    """Map a data set's own classes to those of the run.

    Args:
        own: The data set's class names, each once.
        wanted: The classes of the run; None: all of the data set's, renamed. Of :class:`Partial` ones some may be missing.
        class_map: The data set's names -> names of the run; several names may become one class.
        where: The data set, for messages.

    Raises:
        InputError: A wanted class is not in the data set (none of them, where they are :class:`Partial`), or is wanted twice.
    """
    renamed = [(class_map or {}).get(name, name) for name in own]
    classes = parse_classes(wanted) or tuple(dict.fromkeys(renamed))
    check_names(classes, where)
    missing = [name for name in classes if name not in renamed]
    if missing and not (isinstance(wanted, Partial) and len(missing) < len(classes)):
        raise InputError(
            f"no class {missing[0]!r} in the data set{_closest(missing[0], renamed)}; "
            f"correct data.classes or rename with data.class_map: {where}"
        )
    place = {name: i for i, name in enumerate(classes)}
    return Selection(classes, tuple(place.get(name) for name in renamed))


def check_names(classes: Sequence[str], where: str) -> None:
    """Refuse class names that no table, picture or settings file can hold.

    Raises:
        InputError: A name with a line end, a control character, or bytes that are no text (a folder's name may).
    """
    for name in classes:
        if not is_text(name):
            raise InputError(f"expected class names of text in one line, got {name!r}; rename it: {where}")


def match_classes(
    source: Sequence[str] | None,
    target: Sequence[str] | None,
    wanted: str | Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """The classes of a run over two domains.

    Args:
        source: Class names of the source as its data set has them; None where there is no source.
        target: Likewise of the target.
        wanted: The classes to use, as in ``data.classes``; None: the domains must agree exactly.
        class_map: Names in the data sets -> names of the run.

    Returns:
        ``wanted`` in its own order; else the target's classes in its order (the source's where there is no target).

    Raises:
        InputError: The domains differ, a wanted class is missing from one of them, a class is wanted twice, or the
            map renames a class that no domain has.
    """
    domains = {what: names for what, names in (("source", source), ("target", target)) if names is not None}
    everything = [name for names in domains.values() for name in names]
    for name in class_map or {}:
        if name not in everything:
            where = " or ".join(domains)
            raise InputError(f"no class {name!r} to rename in {where}{_closest(name, everything)}: data.class_map")
    renamed = {
        what: tuple(dict.fromkeys((class_map or {}).get(name, name) for name in names))
        for what, names in domains.items()
    }
    chosen = parse_classes(wanted)
    if chosen is None:
        check_agreement(renamed)
        return list(renamed.values())[-1] if renamed else ()
    for what, names in renamed.items():
        for name in chosen:
            if name not in names:
                raise InputError(
                    f"no class {name!r} in the {what}{_closest(name, names)}; "
                    f"correct it or rename with --data.class_map: data.classes"
                )
    return chosen


def check_agreement(domains: Mapping[str, Sequence[str]]) -> None:
    """The classes of all domains are the same, in any order.

    Args:
        domains: What each is called in messages -> its classes.

    Raises:
        InputError: Naming each class that not all have, and the domains that have it.
    """
    holders: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(name for names in domains.values() for name in names):
        having = tuple(what for what, names in domains.items() if name in names)
        if len(having) < len(domains):
            holders.setdefault(having, []).append(name)
    if not holders:
        return
    only = [
        f"only {_together([f'the {w}' if w in ROLES else w for w in having])} {'has' if len(having) == 1 else 'have'} "
        f"{_listed(names)}"
        for having, names in holders.items()
    ]
    raise InputError(
        f"the classes of {_together(list(domains))} differ: {'; '.join(only)}; "
        f"choose those wanted with --data.classes or rename with --data.class_map"
    )


def check_presence(dataset: ImageDataset, what: str) -> None:
    """Every class has at least one positive image; nothing is checked where labels were not read.

    Args:
        dataset: The data set.
        what: Its part in the run, e.g. ``source``.

    Raises:
        InputError: Naming the classes without an image, and the domain.
    """
    if dataset.labels is None:
        return
    counts = (dataset.labels == 1).sum(0).tolist()
    absent = [name for name, count in zip(dataset.classes, counts, strict=True) if count == 0]
    if absent:
        noun = "class" if len(absent) == 1 else "classes"
        raise InputError(
            f"expected images of every class in the {what}, got none of {noun} {_listed(absent)}; "
            f"add some, choose another split, or leave it out with --data.classes: {dataset.title}"
        )


def _closest(name: str, available: Sequence[str]) -> str:
    """What a mistyped name may have meant, else what there is."""
    unique = list(dict.fromkeys(available))
    folded = {candidate.casefold(): candidate for candidate in unique}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
    if close:
        return f" (closest: {', '.join(folded[c] for c in close)})"
    return f" (it has {_listed(unique)})" if unique else " (it has no classes)"


def _together(names: Sequence[str]) -> str:
    """``A, B and C``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a message, cut where there are very many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
