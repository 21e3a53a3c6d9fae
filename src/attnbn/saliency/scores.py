"""From a picture to a score of each superpixel: five unsupervised cues, averaged, relearned and made even.

Each cue measures in its own way how little a superpixel belongs to the picture's border, and each fails on its own kinds of
photograph; their mean fails on fewer than any of them.
"""

from __future__ import annotations

import numpy as np

from attnbn.saliency.background import COLOUR_SCALE, affinity, background_of, balance, distances, two_rings
from attnbn.saliency.barrier import barrier_distance
from attnbn.saliency.bootstrap import relearned
from attnbn.saliency.ranking import rank, stretched
from attnbn.saliency.regions import Floats, Indices, Regions, regions_of

COMPACTNESS = 10.0
"""Of the superpixels, in CIE-Lab units."""
CENTRE_SHARE, CENTRE_SCALE = 0.5, 0.3
"""How much of the rough map the preference for the middle takes away far from it; its deviation, in sides."""
APPEARANCE_SHARE = 0.7
"""Of the photograph's own classifier against the rough map."""
EVEN_SCALE, EVEN_FLOOR, EVEN_HOLD = 5.0, 0.02, 0.3
"""The last evening-out: the colour distance it bridges, the least tie of neighbours, and how strongly scores are held."""
BACKGROUND_WEIGHT, BACKGROUND_FLOOR = 5.0, 0.1
"""In Eq. 9 of robust background: of its background term, and the least tie of neighbours, as Zhu et al. have them."""


def score(colours: Floats, grid: tuple[int, int]) -> tuple[Floats, float]:
    """Score a picture.

    Args:
        colours: CIE-Lab ``H×W×3``; ``grid`` divides it into square cells of an even side.
        grid: Rows and columns of superpixels.

    Returns:
        ``H×W`` in [0, 1], even over superpixels, stretched: the least is 0 and the largest 1 (all 0 where nothing is secluded);
        and how secluded the most secluded superpixel is, in CIE-Lab units: what must be crossed from the border to reach it.
    """
    regions = regions_of(colours, grid, compactness=COMPACTNESS)
    unlike = distances(regions.colour)
    pairs = two_rings(regions)
    rough, seclusion = rough_scores(regions, unlike, pairs, barrier(colours, regions))
    if not seclusion:  # nothing but rounding to learn from
        return np.zeros(regions.labels.shape), 0.0
    own = relearned(rough, standardised(np.concatenate([regions.colour, regions.texture], 1)), regions.area)
    mixed = APPEARANCE_SHARE * own + (1 - APPEARANCE_SHARE) * rough
    return stretched(evened(mixed, unlike, pairs))[regions.labels], seclusion


def rough_scores(regions: Regions, unlike: Floats, pairs: Indices, barriers: Floats) -> tuple[Floats, float]:
    """The mean of the cues, with a weak preference for the middle.

    Args:
        regions: The picture's, K of them.
        unlike: ``K×K``, distances between mean colours.
        pairs: ``E×2``, neighbours and theirs.
        barriers: ``K``, minimum barrier distances.

    Returns:
        ``K`` in [0, 1], stretched; and the largest geodesic distance from the border.
    """
    background = background_of(regions, unlike)
    ties = affinity(unlike, pairs, COLOUR_SCALE, BACKGROUND_FLOOR)
    robust = balance(ties, BACKGROUND_WEIGHT * background.share, stretched(background.contrast))
    cues = [robust, *rank(regions, unlike, pairs), background.depth, barriers]
    mean = np.mean([stretched(cue) for cue in cues], 0)
    return stretched(mean * centred(regions)), float(background.depth.max())


def centred(regions: Regions) -> Floats:
    """The preference for the middle, ``K`` in [1 - CENTRE_SHARE, 1]; a picture's sides count alike."""
    height, width = regions.labels.shape
    away = regions.place * max(height, width) / (height, width) - 0.5
    near: Floats = np.exp(-(away**2).sum(1) / (2 * CENTRE_SCALE**2))
    return 1 - CENTRE_SHARE + CENTRE_SHARE * near


def barrier(colours: Floats, regions: Regions) -> Floats:
    """Minimum barrier distances of superpixels, ``K``, summed over channels; found at half the resolution."""
    height, width, channels = colours.shape
    half = colours.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))
    found = barrier_distance(half, rounds=2).sum(-1, keepdims=True)
    return regions.mean(found.repeat(2, 0).repeat(2, 1))[:, 0]


def standardised(features: Floats) -> Floats:
    """Columns of mean 0 and deviation 1; a constant column becomes 0."""
    deviation = features.std(0)
    standard: Floats = (features - features.mean(0)) / np.where(deviation > 1e-3, deviation, np.inf)
    return standard


def evened(scores: Floats, unlike: Floats, pairs: Indices) -> Floats:
    """Scores drawn towards those of neighbours of like colour."""
    ties = affinity(unlike, pairs, EVEN_SCALE, EVEN_FLOOR)
    if not len(pairs):  # one superpixel
        return scores
    ties /= ties.sum(1).mean()
    return balance(ties, EVEN_HOLD * (1 - scores), EVEN_HOLD * scores)
