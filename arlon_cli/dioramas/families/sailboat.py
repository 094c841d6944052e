"""A sailboat on the open sea."""

import torch
from torch import Tensor

from arlon_cli.dioramas.company import Company
from arlon_cli.dioramas.ground import lay, mountains
from arlon_cli.dioramas.painter import Kit, Shot
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.vessels import sailboat
from arlon_cli.dioramas.water import Sea
from arlon_cli.dioramas.weather import Weather


class Sailboat:
    """The boat rides between two rows of waves."""

    row = 4

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit, horizon=0.18), Weather(kit)
        self.company = Company(kit, self.sky)
        self.sea = Sea(kit, 0.18)
        self.coast = mountains(kit, 0.21, 0.2, (0.40, 0.48, 0.58), self.sky.side) if kit.random.random() < 0.5 else None
        self.scale = kit.random.uniform(0.36, 0.44)

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        rough = shot.amount("state", "rough")
        image = self.sky.paint(shot, light)
        image = self.weather.flash(shot, image)
        if self.coast is not None:
            image = lay(shot, light, image, self.coast, 0.3, 0.6, bottom=0.3)
        image = self.company.fly(shot, light, image)
        image = self.sea.paint(shot, light, image, rough, 0, self.row)
        image = self._boat(shot, light, image, rough)
        image = self.sea.paint(shot, light, image, rough, self.row)
        return self.weather.paint(shot, light, image)

    def _boat(self, shot: Shot, light: Light, image: Tensor, rough: Tensor) -> Tensor:
        x = shot.travel(0.045, 0.125)
        y, slope = self.sea.ride(shot, rough, self.row, x, 0.06)
        angle = slope * 0.55 + 0.05 * torch.sin(shot.t * 1.3)
        sign = -1.0 if shot.first("direction") == "left" else 1.0
        place = shot.to_screen(x, y - 0.015)
        colour = shot.first("colour")
        return sailboat(shot, light, image, place, colour=colour, size=self.scale, sign=sign, angle=angle)
