"""``attnbn submit``: a run's masks packed for VOC's evaluation server."""

from __future__ import annotations

from collections.abc import Sequence

from attnbn.cli.check_data import bar
from attnbn.cli.options import parser, share
from attnbn.cli.segment_options import add_look, add_network, look_of


def main(arguments: Sequence[str]) -> None:
    """Parse, segment, pack, print."""
    options = parser(
        "submit",
        "Pack a run's masks as VOC's evaluation server takes them: of attention maps, or of a segmentation.",
    )
    add_network(options, "RUN_OR_SEG", "folder of a finished run: a classifier's or a segmentation's")
    options.add_argument("--target", required=True, metavar="voc:PATH", help="VOC's photographs and ImageSets")
    options.add_argument("--split", default="test", help="a list of ImageSets/Segmentation (default test)")
    options.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="the archive: .tar, .tar.gz or .tgz; stopped work goes on beside it",
    )
    options.add_argument(
        "--competition", choices=("comp5", "comp6"), default="comp6",
        help="comp5: trained on VOC's own train and val alone; comp6 (default): anything else too, such as ImageNet weights",
    )  # fmt: skip
    options.add_argument("--threshold", type=share, help="of attention maps, instead of the one the run has stored")
    add_look(options)
    given = options.parse_args(arguments)

    from attnbn.experiments.submit import submit

    with bar() as progress:
        made = submit(
            given.run,
            given.target,
            given.output,
            split=given.split,
            competition=given.competition,
            checkpoint=given.checkpoint,
            threshold=given.threshold,
            **look_of(given),
            device=given.device,
            workers=given.workers,
            batch_size=given.batch_size,
            progress=progress,
        )
    for line in made.notes:
        print(line)
    already = f" ({made.resumed:,} of them were there already)" if made.resumed else ""
    print(f"{made.images:,} masks{already} packed as {made.folder}/NAME.png: {made.path}")
