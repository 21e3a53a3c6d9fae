"""What is refused before anything of a comparison is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbn.adapt_config import ROWS
from attnbn.data.open import place_of
from attnbn.experiments.adaptation.directions import Direction, Domain
from attnbn.io.errors import InputError
from attnbn.io.json_file import read_object
from attnbn.io.run_folder import RESULTS


def check_domains(domains: Sequence[Domain]) -> None:
    """No data set stands under two names: what is tested on would be trained on.

    Raises:
        InputError: naming both.
    """
    places: dict[tuple[str, str], Domain] = {}
    for domain in domains:
        first = places.setdefault(place_of(domain.spec), domain)
        if first is not domain:
            raise InputError(
                f"expected another data set for each domain, {first.name} and {domain.name} are both {domain.spec}"
            )


def check_earlier_domains(output: Path, domains: Sequence[Domain]) -> None:
    """The folder holds no comparison in which a domain's name means other data, or of other domains altogether.

    Raises:
        InputError: naming a domain and both its data sets, or all domains.
    """
    file = output / RESULTS
    if not file.is_file():
        return
    stored = read_object(file, "the results of a comparison", largest=None).get("domains", [])
    try:
        earlier = {str(domain["name"]): str(domain["spec"]) for domain in stored}
    except (KeyError, TypeError) as error:
        raise InputError(f"expected the domains of a comparison, could not read them ({error!r}): {file}") from None
    now = {domain.name: domain.spec for domain in domains}
    for name in now:
        if name in earlier and place_of(earlier[name]) != place_of(now[name]):
            raise InputError(
                f"the folder holds a comparison whose domain {name} is {earlier[name]}, now {now[name]}; choose another "
                f"--output or add --overwrite: {output}"
            )
    if earlier and not set(earlier) & set(now):
        raise InputError(
            f"the folder holds a comparison of the domains {', '.join(earlier)}, now {', '.join(now)}; choose another "
            f"--output: {output}"
        )


def check_classes(classes: Sequence[str], metric: str, domains: Sequence[Domain]) -> None:
    """There is something to tell apart.

    Raises:
        InputError: for accuracy over less than two classes, where every image would count as right.
    """
    if metric == "accuracy" and len(classes) < 2:
        names = ", ".join(classes) or "none"
        raise InputError(
            f"expected at least two classes to tell apart, got {names}; name the folder that holds a folder for each class, or "
            f"more of --data.classes: {', '.join(domain.spec for domain in domains)}"
        )


def check_saliency(directions: Sequence[Direction], rows: Sequence[str]) -> None:
    """Rows with L_ac have saliency of every domain that is a source.

    Raises:
        InputError: naming the domain and the rows.
    """
    guided = [row for row in rows if "attention" in ROWS[row].terms]
    for direction in directions if guided else ():
        for domain in direction.sources:
            if domain.saliency is None and not domain.spec.startswith("scenes:"):
                raise InputError(
                    f"expected saliency maps of the domain {domain.name} for the rows {', '.join(guided)}: give --saliency "
                    f"{domain.name}=FOLDER (with --data.source: --data.saliency FOLDER): {domain.spec}"
                )
