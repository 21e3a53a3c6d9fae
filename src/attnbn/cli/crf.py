"""``attnbn crf``: one photograph's probabilities, refined by the dense CRF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from attnbn.cli.options import parser
from attnbn.segment_config import CrfConfig, check_crf

HELP = {
    "iterations": "mean-field updates",
    "bilateral_weight": "weight of the kernel over place and colour",
    "bilateral_xy": "its standard deviation in place, in pixels",
    "bilateral_rgb": "its standard deviation in colour, in units of 0..255",
    "gaussian_weight": "weight of the kernel over place alone",
    "gaussian_xy": "its standard deviation, in pixels",
    "unary": "energy of a probability p: log (-log p) or linear (-p)",
    "shrink": "divide both standard deviations in place by this",
}


def main(arguments: Sequence[str]) -> None:
    """Parse, refine, print."""
    options = parser("crf", "Refine the probabilities of one photograph by a dense CRF, and write the mask.")
    options.add_argument("image", metavar="IMAGE", help="the photograph, H×W")
    options.add_argument(
        "--probabilities", required=True, metavar="P.npz",
        help="with the key probabilities: floats C×H×W that sum to one over C",
    )  # fmt: skip
    options.add_argument("--output", required=True, metavar="MASK.png", help="palette PNG of the most probable labels")
    options.add_argument("--marginals", metavar="OUT.npz", help="also write the refined probabilities")
    for field in fields(CrfConfig):
        kind = str if field.name == "unary" else type(field.default)
        name = "--" + field.name.replace("_", "-")
        options.add_argument(
            name, type=kind, default=field.default, choices=("log", "linear") if kind is str else None,
            metavar=None if kind is str else "X", help=f"{HELP[field.name]} (default {field.default})",
        )  # fmt: skip
    options.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    given = options.parse_args(arguments)
    crf = CrfConfig(**{field.name: getattr(given, field.name) for field in fields(CrfConfig)})
    check_crf(crf, "the CRF")

    from attnbn.experiments.segmentation.crf import refine_file
    from attnbn.training.devices import check_device

    changed = refine_file(
        given.image,
        given.probabilities,
        given.output,
        crf,
        marginals=given.marginals,
        device=check_device(given.device),
    )
    print(f"mask written to {given.output}; the CRF changed {100 * changed:.1f} % of the pixels")
