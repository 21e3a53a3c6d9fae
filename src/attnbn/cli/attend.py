"""``attnbn attend``: maps, overlays and masks for photographs."""

from __future__ import annotations

from collections.abc import Sequence

from attnbn.cli.options import add_output, add_passes, add_run, add_skip_broken, parser, passes_of, share
from attnbn.cli.outcome import say_done, say_unfinished
from attnbn.cli.progress import bar


def main(arguments: Sequence[str]) -> None:
    """Parse, attend, print."""
    options = parser("attend", "Write overlays, attention maps and, with --masks, masks for photographs.")
    add_run(options)
    add_skip_broken(options)
    options.add_argument("photographs", nargs="+", metavar="PHOTO_OR_FOLDER")
    add_output(options, "a folder that another run made")
    options.add_argument("--masks", action="store_true", help="write palette PNG masks too")
    options.add_argument("--threshold", type=share, help="of the masks, instead of the one the run has stored")
    add_passes(options)
    given = options.parse_args(arguments)

    from attnbn.inference.attend import attend
    from attnbn.inference.load import load
    from attnbn.training.devices import own_device

    trained = load(given.run, checkpoint=given.checkpoint, device=own_device(given.device))
    say_unfinished(trained.unfinished)
    with bar() as progress:
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
            progress=progress,
        )
    say_done(done, "photograph", given.output)
