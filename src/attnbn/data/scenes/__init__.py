"""The embedded scenes, drawn from a seed: painted toys, one in a studio and many at dusk, and one each in three looks."""

from attnbn.data.scenes.dataset import open_scenes

__all__ = ["open_scenes"]
