"""The embedded scenes: painted toys in a studio (source) and out at dusk (target), drawn from a seed."""

from attnbn.data.scenes.dataset import open_scenes

__all__ = ["open_scenes"]
