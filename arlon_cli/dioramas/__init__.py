"""The procedural, captioned world that the embedded model is trained on."""

from arlon_cli.dioramas.captions import caption, vocabulary
from arlon_cli.dioramas.mentions import mentioned
from arlon_cli.dioramas.render import render
from arlon_cli.dioramas.scene import (
    ATTRIBUTES,
    COUNTED,
    FAMILIES,
    HELD_OUT,
    SCENE_FRAMES,
    DioramaSpan,
    Scene,
    sample_scene,
)

__all__ = [
    "ATTRIBUTES",
    "COUNTED",
    "FAMILIES",
    "HELD_OUT",
    "SCENE_FRAMES",
    "DioramaSpan",
    "Scene",
    "caption",
    "mentioned",
    "render",
    "sample_scene",
    "vocabulary",
]
