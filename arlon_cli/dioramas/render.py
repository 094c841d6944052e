"""From scenes to frames."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from arlon_cli.dioramas.families.aquarium import Aquarium
from arlon_cli.dioramas.families.aurora import Aurora
from arlon_cli.dioramas.families.balloon import Balloon
from arlon_cli.dioramas.families.bear import Bear
from arlon_cli.dioramas.families.campfire import Campfire
from arlon_cli.dioramas.families.city import City
from arlon_cli.dioramas.families.coast import Coast
from arlon_cli.dioramas.families.lake import Lake
from arlon_cli.dioramas.families.lighthouse import Lighthouse
from arlon_cli.dioramas.families.sailboat import Sailboat
from arlon_cli.dioramas.families.volcano import Volcano
from arlon_cli.dioramas.families.waterfall import Waterfall
from arlon_cli.dioramas.painter import Kit, Shot
from arlon_cli.dioramas.scene import Scene


class Painter(Protocol):
    """Bakes what stands still from a kit, then paints shots."""

    def paint(self, shot: Shot) -> Tensor: ...


PAINTERS: dict[str, Callable[[Kit], Painter]] = {
    "volcano": Volcano,
    "coast": Coast,
    "aquarium": Aquarium,
    "bear": Bear,
    "sailboat": Sailboat,
    "balloon": Balloon,
    "lake": Lake,
    "city": City,
    "waterfall": Waterfall,
    "aurora": Aurora,
    "lighthouse": Lighthouse,
    "campfire": Campfire,
}
CPU_CHUNK, GPU_CHUNK = 8, 256


@torch.no_grad()
def render(scenes: list[Scene], frames: Tensor, size: int = 128, device: torch.device | str | None = None) -> Tensor:
    """Paint the same frames of several scenes: (B, n, 3, size, size) in [0, 1].

    `frames` (n,) are indices, in any order; a frame depends on its scene and index alone. On the CPU few frames are
    painted at a time, which stay in its cache.
    """
    target = torch.device(device) if device is not None else frames.device
    chunk = CPU_CHUNK if target.type == "cpu" else GPU_CHUNK
    clips = []
    for scene in scenes:
        painter = PAINTERS[scene.family](Kit(scene, size, target))
        parts = [
            _finish(shot, painter.paint(shot)) for shot in (Shot(scene, f, size, target) for f in frames.split(chunk))
        ]
        clips.append(torch.cat(parts))
    return torch.stack(clips)


def _finish(shot: Shot, image: Tensor) -> Tensor:
    """A gentle contrast curve and darker corners."""
    image = image.clamp(0, 1)
    image = image + 0.12 * (image * image * (3 - 2 * image) - image)
    return image * (1 - 0.13 * (shot.x.square() + shot.y.square() * 0.9).square() * 0.5)
