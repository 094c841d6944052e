"""A sailboat on the open sea."""

import torch
from torch import Tensor

from arlon_cli.dioramas.ground import lay, mountains
from arlon_cli.dioramas.painter import Kit, Shot, over, smoothstep
from arlon_cli.dioramas.palette import PAINTS
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.water import Sea
from arlon_cli.dioramas.weather import Weather


class Sailboat:
    """The boat rides between two rows of waves."""

    row = 4

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit, horizon=0.18), Weather(kit)
        self.sea = Sea(kit, 0.18)
        self.coast = mountains(kit, 0.21, 0.2, (0.40, 0.48, 0.58), self.sky.side) if kit.random.random() < 0.5 else None
        self.scale = kit.random.uniform(0.36, 0.44)

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        rough = shot.amount("state", "rough")
        image = self.sky.paint(shot, light)
        image = self.weather.flash(shot, light, image)
        if self.coast is not None:
            image = lay(shot, light, image, self.coast, 0.3, 0.6, bottom=0.3)
        image = self.sea.paint(shot, light, image, rough, 0, self.row)
        image = self._boat(shot, light, image, rough)
        image = self.sea.paint(shot, light, image, rough, self.row)
        return self.weather.paint(shot, light, image)

    def _boat(self, shot: Shot, light: Light, image: Tensor, rough: Tensor) -> Tensor:
        x = shot.travel(0.045, 0.125)
        step = 0.06
        lift, left, right = (self.sea.height(shot, rough, self.row, x + d) for d in (0.0, -step, step))
        y = self.sea.line(self.row) - lift - 0.015
        angle = (left - right) / (2 * step) * 0.55 + 0.05 * torch.sin(shot.t * 1.3)
        sx, sy, scale = shot.to_screen(x, y)
        sign = -1.0 if shot.first("direction") == "left" else 1.0
        sail = light.paint(PAINTS[shot.first("colour")]) + 0.03
        jib = over(sail, torch.ones_like(sail) * light.light, 0.55 + 0 * rough)
        hull, deck = light.paint((0.30, 0.17, 0.10)), light.paint((0.80, 0.66, 0.46))
        edge = 2.2 / (shot.size * self.scale)

        def sprite(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            u = u * sign
            cover = lambda d: smoothstep(edge, -edge, d)
            keel = torch.maximum(
                (u - 0.04 * 1).abs() - (0.62 - 0.55 * (v + 0.12).clamp(min=0) ** 1.1 - 0.0 * u), (v + 0.02).abs() - 0.13
            )
            belly = 0.16 * torch.sin(3.1416 * ((v + 1.32) / 1.15).clamp(0, 1))
            main = torch.maximum(torch.maximum(-(u + 0.52 * ((v + 1.40) / 1.2) + belly * 0.5), u - 0.0), v + 0.22)
            main = torch.maximum(main, -(v + 1.40))
            fore = torch.maximum(torch.maximum(u - 0.50 * ((v + 1.15) / 0.95) - 0.05 - belly * 0.4, 0.05 - u), v + 0.24)
            fore = torch.maximum(fore, -(v + 1.15))
            mast = torch.maximum((u - 0.02).abs() - 0.022, (v + 0.75).abs() - 0.72)
            a_keel, a_main, a_fore, a_mast = cover(keel), cover(main), cover(fore), cover(mast)
            shade = 0.80 + 0.30 * ((u + 0.35) * 1.6).clamp(0, 1)
            colour = over(hull, deck, smoothstep(-0.07, -0.10, v))
            colour = over(colour, light.paint((0.25, 0.2, 0.16)), a_mast)
            colour = over(colour, jib * (0.86 + 0.2 * (v + 1.0).clamp(0, 1)), a_fore)
            colour = over(colour, sail * shade, a_main)
            return colour, torch.maximum(torch.maximum(a_keel, a_main), torch.maximum(a_fore, a_mast))

        return shot.stamp(image, sprite, sx, sy, self.scale * scale, self.scale * 1.75, angle)
