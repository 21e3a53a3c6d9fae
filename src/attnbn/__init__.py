"""attnbn: pixel-level attention for multi-label images, learned from image-level labels and a foreground prior.

The names below are imported when they are first used, so that ``import attnbn`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbn.attention import class_attention
    from attnbn.experiments.train import train
    from attnbn.inference.attend import attend
    from attnbn.inference.evaluate import evaluate
    from attnbn.inference.load import load
    from attnbn.losses import adversarial_loss, attention_loss, classification_loss, domain_loss
    from attnbn.models.discriminator import Discriminator, Frozen
    from attnbn.models.network import AttnBN
    from attnbn.segmentation.crf import dense_crf
    from attnbn.segmentation.cues import make_cues
    from attnbn.segmentation.growing import grow_seeds

_PLACES = {
    "AttnBN": "attnbn.models.network",
    "Discriminator": "attnbn.models.discriminator",
    "Frozen": "attnbn.models.discriminator",
    "adversarial_loss": "attnbn.losses",
    "attend": "attnbn.inference.attend",
    "attention_loss": "attnbn.losses",
    "class_attention": "attnbn.attention",
    "classification_loss": "attnbn.losses",
    "dense_crf": "attnbn.segmentation.crf",
    "domain_loss": "attnbn.losses",
    "evaluate": "attnbn.inference.evaluate",
    "grow_seeds": "attnbn.segmentation.growing",
    "load": "attnbn.inference.load",
    "make_cues": "attnbn.segmentation.cues",
    "train": "attnbn.experiments.train",
}

__all__ = [
    "AttnBN",
    "Discriminator",
    "Frozen",
    "adversarial_loss",
    "attend",
    "attention_loss",
    "class_attention",
    "classification_loss",
    "dense_crf",
    "domain_loss",
    "evaluate",
    "grow_seeds",
    "load",
    "make_cues",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'attnbn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
