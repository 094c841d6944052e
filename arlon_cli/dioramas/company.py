"""A scene's second and third subjects: a hot-air balloon in its sky, a sailboat on its water."""

import random

import torch
from torch import Tensor

from arlon_cli.dioramas.painter import Kit, Shot
from arlon_cli.dioramas.palette import PAINTS
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.vessels import balloon, sailboat
from arlon_cli.dioramas.water import Sea

_ROW = 2  # of waves, behind which the boat sails
_REACH = 1.5  # of where they drift, in world units to both sides


class Company:
    """Where a scene's company is and how it looks; its random numbers are its own."""

    def __init__(self, kit: Kit, sky: Sky) -> None:
        company = kit.scene.company
        self.flies, self.sails = company in ("balloon", "both"), company in ("sailboat", "both")
        self.side = sky.side
        draw = random.Random(f"company {kit.scene.seed}")
        self.balloon = _Drift(draw, size=(0.13, 0.18))
        self.boat = _Drift(draw, size=(0.20, 0.26))
        self.height = draw.uniform(-0.66, -0.42)

    def fly(self, shot: Shot, light: Light, image: Tensor) -> Tensor:
        """Paint the balloon, if there is one, onto the image, which is changed and returned."""
        if not self.flies:
            return image
        own = self.balloon
        y = self.height + 0.03 * torch.sin(shot.t * 0.7 + own.phase)
        place = shot.to_screen(own.x(shot), y, 0.6)
        return balloon(shot, light, image, place, colour=own.colour, size=own.size, side=self.side, phase=own.phase)

    def waves(self, shot: Shot, light: Light, image: Tensor, sea: Sea, rough: Tensor, end: int) -> Tensor:
        """Paint the rows of waves up to `end`, and the boat, if there is one, among the far ones; as `Sea.paint`."""
        if not self.sails:
            return sea.paint(shot, light, image, rough, 0, end)
        image = sea.paint(shot, light, image, rough, 0, _ROW)
        x = self.boat.x(shot)
        y, slope = sea.ride(shot, rough, _ROW, x, 0.06)
        image = self._sail(shot, light, image, x, y, slope * 0.4)
        return sea.paint(shot, light, image, rough, _ROW, end)

    def still_water(self, shot: Shot, light: Light, image: Tensor, y: float) -> Tensor:
        """Paint the boat, if there is one, on still water at world y."""
        if not self.sails:
            return image
        return self._sail(shot, light, image, self.boat.x(shot), torch.full_like(shot.t, y), torch.zeros_like(shot.t))

    def _sail(self, shot: Shot, light: Light, image: Tensor, x: Tensor, y: Tensor, angle: Tensor) -> Tensor:
        own = self.boat
        angle = angle + 0.03 * torch.sin(shot.t * 1.3 + own.phase)
        place = shot.to_screen(x, y, 0.8)
        return sailboat(shot, light, image, place, colour=own.colour, size=own.size, sign=own.sign, angle=angle)


class _Drift:
    """Something of one size and colour that drifts slowly to one side."""

    def __init__(self, draw: random.Random, size: tuple[float, float]) -> None:
        self.size = draw.uniform(*size)
        self.colour = draw.choice([colour for colour in PAINTS if colour != "brown"])
        self.phase = draw.uniform(0, 6.28)
        self.sign = draw.choice((-1.0, 1.0))
        self.speed = draw.uniform(0.02, 0.05)
        self.middle = draw.choice((-1.0, 1.0)) * draw.uniform(0.35, 0.75)

    def x(self, shot: Shot) -> Tensor:
        """World x (n, 1, 1, 1); out of sight it starts again."""
        x = self.middle + self.sign * self.speed * (shot.t - shot.middle)
        return torch.remainder(x + _REACH, 2 * _REACH) - _REACH
