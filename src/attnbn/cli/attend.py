"""``attnbn attend``: maps, overlays and masks for photographs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from attnbn.cli.options import add_passes, add_run, name_broken, parser, passes_of, share


def main(arguments: Sequence[str]) -> None:
    """Parse, attend, print."""
    options = parser("attend", "Write overlays, attention maps and, with --masks, masks for photographs.")
    add_run(options)
    options.add_argument("photographs", nargs="+", metavar="PHOTO_OR_FOLDER")
    options.add_argument(
        "--output", required=True, metavar="DIR", help="where to write; work that was stopped goes on there"
    )
    options.add_argument("--masks", action="store_true", help="write palette PNG masks too")
    options.add_argument("--threshold", type=share, help="of the masks, instead of the one the run has stored")
    add_passes(options)
    options.add_argument("--overwrite", action="store_true", help="take over a folder that another run made")
    given = options.parse_args(arguments)

    from attnbn.inference.attend import attend
    from attnbn.inference.load import load
    from attnbn.training.devices import check_device

    trained = load(given.run, checkpoint=given.checkpoint, device=check_device(given.device))
    done = attend(
        trained.network,
        given.photographs,
        given.output,
        trained.classes,
        size=trained.config.data.size,
        masks=given.masks,
        threshold=trained.threshold if given.threshold is None else given.threshold,
        **passes_of(given),
        identity=trained.identity,
        overwrite=given.overwrite,
        skip_broken=given.skip_broken,
        batch_size=given.batch_size,
        workers=given.workers,
    )
    for line in name_broken(done.broken):
        print(line, file=sys.stderr)
    already = f", {done.skipped} were there already" if done.skipped else ""
    noun = "photograph" if done.written == 1 else "photographs"
    print(f"{done.written} {noun} written to {given.output}{already}")
