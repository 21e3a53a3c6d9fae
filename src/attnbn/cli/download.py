"""``attnbn download``: a data set from its official address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbn.cli.options import Parser, parser
from attnbn.cli.progress import bar


def main(arguments: Sequence[str]) -> None:
    """Parse, say what will be fetched, fetch, print."""
    given = _options().parse_args(arguments)

    from attnbn.data.download import fetch, source

    wanted, to = source(given.name), Path(given.to).expanduser()
    print(f"{wanted.title} ({wanted.terms})")
    for archive in wanted.archives:
        print(f"  {archive.url}, {archive.size / 1e9:.1f} GB", flush=True)
    with bar() as progress:
        done = fetch(wanted, to, keep=given.keep, progress=progress)
    opened = f"; open it as {wanted.spec.format(to)}" if wanted.spec else ""
    print(f"{'unpacked to' if done else 'nothing to do, it is there already:'} {to / wanted.makes}{opened}")


def _options() -> Parser:
    options = parser("download", "Fetch a data set from its official address, test its checksum, and unpack it.")
    options.add_argument(
        "name",
        metavar="NAME",
        help="voc2012, voc2007, sbd, caltech101 or caltech256; imagenet and msrc say how to get them",
    )
    options.add_argument(
        "--to", required=True, metavar="DIR", help="the folder that will hold it; a transfer that broke goes on there"
    )
    options.add_argument("--keep", action="store_true", help="keep the archives beside it")
    return options
