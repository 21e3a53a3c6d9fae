"""Domains by name, and from which to which a classifier is carried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attnbn.config import DataConfig, RunConfig
from attnbn.data.classes import match_classes, parse_classes
from attnbn.data.open import open_dataset
from attnbn.io.errors import InputError


@dataclass(frozen=True)
class Domain:
    """A data set with a name.

    Attributes:
        name: Short, as tables show it.
        spec: ``KIND:PATH``.
        saliency: Folder of its saliency maps; None where it brings its own or has none.
    """

    name: str
    spec: str
    saliency: str | None = None


@dataclass(frozen=True)
class Direction:
    """From labelled domains to one whose labels only score.

    Attributes:
        sources: One, or several that are put together.
        target: The other.
        together: What several sources are called that have no names of their own.
    """

    sources: tuple[Domain, ...]
    target: Domain
    together: str | None = None

    @property
    def source(self) -> str:
        """The sources' name, or their names."""
        return self.together or "+".join(domain.name for domain in self.sources)

    @property
    def name(self) -> str:
        """``C-M``, as ``--directions`` takes it."""
        return f"{self.source}-{self.target.name}"

    def config(self, base: RunConfig, seed: int) -> RunConfig:
        """The settings with this direction's data.

        A target that the settings leave out stays out: generalisation does not open it.
        """
        specs = [domain.spec for domain in self.sources]
        saliency = [domain.saliency for domain in self.sources]
        single = len(specs) == 1
        with_prior = base.loss.attention > 0
        data = replace(
            base.data,
            source=specs[0] if single else specs,
            saliency=None if not with_prior or not any(saliency) else saliency[0] if single else saliency,  # type: ignore[arg-type]
            target=None if base.data.target is None else self.target.spec,
        )
        return replace(base, data=data, seed=seed)


def parse_domains(words: Sequence[str], saliency: Sequence[str] = ()) -> list[Domain]:
    """``NAME=KIND:PATH`` and ``NAME=FOLDER`` to domains.

    Without a folder of its own a domain ``folders:PATH`` takes ``PATH_saliency`` where there is such a folder.

    Raises:
        InputError: for a word without ``=``, a name twice, an odd name, or saliency of no domain.
    """
    specs = _named(words, "--domains", "NAME=KIND:PATH")
    maps = _named(saliency, "--saliency", "NAME=FOLDER")
    for name in maps:
        if name not in specs:
            raise InputError(f"expected the name of a domain ({', '.join(specs)}), got {name!r}: --saliency")
    if len(specs) < 2:
        raise InputError(f"expected at least two domains, got {len(specs)}: --domains")
    return [Domain(name, spec, maps.get(name) or beside(spec)) for name, spec in specs.items()]


def beside(spec: str) -> str | None:
    """The folder ``PATH_saliency`` of a domain ``folders:PATH``, where there is one."""
    kind, _, path = spec.partition(":")
    folder = Path(f"{path.rstrip('/')}_saliency").expanduser()
    return str(folder) if kind == "folders" and path and folder.is_dir() else None


def _named(words: Sequence[str], option: str, form: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and name and value):
            raise InputError(f"expected {form}, got {word!r}: {option}")
        if not name.replace("_", "").isalnum():
            raise InputError(f"expected a domain's name of letters and digits, got {name!r}: {option}")
        if name in found:
            raise InputError(f"expected each domain once, got {name!r} twice: {option}")
        found[name] = value
    return found


def all_directions(domains: Sequence[Domain], leave_one_out: bool = False) -> list[Direction]:
    """Every domain to every other; or all but one, put together, to that one."""
    if leave_one_out:
        return [Direction(tuple(source for source in domains if source is not target), target) for target in domains]
    return [Direction((source,), target) for source in domains for target in domains if source is not target]


def choose_directions(directions: Sequence[Direction], names: Sequence[str] | None) -> list[Direction]:
    """Those of these names, in their order; all for None.

    Raises:
        InputError: for a name that is none of theirs.
    """
    known = {direction.name: direction for direction in directions}
    for name in names or ():
        if name not in known:
            raise InputError(f"expected directions out of {', '.join(known)}, got {name!r}: --directions")
    return list(directions) if names is None else [known[name] for name in dict.fromkeys(names)]


def common_classes(domains: Sequence[Domain], data: DataConfig) -> tuple[str, ...]:
    """The classes wished for, or those of all domains, which must then agree.

    Raises:
        InputError: naming two domains whose classes differ, and in what.
    """
    wanted = parse_classes(data.classes)
    if wanted is not None:
        return wanted
    own = [
        (domain, open_dataset(domain.spec, split=data.source_split, class_map=data.class_map).classes)
        for domain in domains
    ]
    first, classes = own[0]
    for domain, others in own[1:]:
        try:
            match_classes(classes, others)
        except InputError as error:
            text = (
                str(error)
                .replace("the source has", f"{first.name} has")
                .replace("the target has", f"{domain.name} has")
            )
            raise InputError(text.replace("source and target", f"{first.name} and {domain.name}")) from error
    return classes
