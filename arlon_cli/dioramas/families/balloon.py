"""Hot-air balloons above rolling hills."""

import math

import torch
from torch import Tensor

from arlon_cli.dioramas.ground import forest, hills, lay, mountains
from arlon_cli.dioramas.painter import Kit, Shot, over, smoothstep
from arlon_cli.dioramas.palette import PAINTS
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.weather import Weather

COUNTS = {"one": 1, "two": 2, "three": 3}


class Balloon:
    """One to three balloons of one colour, striped with white."""

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit, horizon=0.35), Weather(kit)
        side = self.sky.side
        self.range = mountains(kit, 0.42, 0.30, (0.42, 0.50, 0.64), side, snowline=kit.random.choice((0.0, 0.35)))
        self.far = hills(kit, 0.50, 0.14, (0.46, 0.60, 0.28), side)
        self.near = hills(kit, 0.68, 0.14, (0.34, 0.54, 0.18), side)
        self.trees = forest(kit, 0.95, 0.17, (0.14, 0.42, 0.15), side, rows=2, conifers=False)
        count = COUNTS[kit.scene.spans[0].attributes["count"]]
        size = (0.33, 0.25, 0.21)[count - 1]
        places = [(0.0, -0.25), (0.62, -0.45), (-0.6, -0.02)]
        kit.random.shuffle(places)
        if count == 1:
            places = [(0.0, -0.2)]
        self.balloons = [
            (
                x + kit.random.uniform(-0.08, 0.08),
                y + kit.random.uniform(-0.08, 0.08),
                size * kit.random.uniform(0.9, 1.1),
                kit.random.uniform(0, 6.28),
            )
            for x, y in places[:count]
        ]

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        image = self.sky.paint(shot, light)
        image = lay(shot, light, image, self.range, 0.35, 0.5, bottom=0.65)
        image = lay(shot, light, image, self.far, 0.6, 0.25, bottom=0.85)
        image = lay(shot, light, image, self.near, 0.85, 0.08, bottom=1.3)
        image = lay(shot, light, image, self.trees, 1.15, 0.0)
        for x, y, size, phase in self.balloons:
            image = self._balloon(shot, light, image, x, y, size, phase)
        return self.weather.paint(shot, light, image)

    def _balloon(
        self, shot: Shot, light: Light, image: Tensor, x: float, y: float, size: float, phase: float
    ) -> Tensor:
        travel = shot.travel(0.035, 0.11, 2.0)
        wx = torch.remainder(travel + x + 2.0, 4.0) - 2.0
        wy = y + 0.05 * torch.sin(shot.t * 0.7 + phase)
        sx, sy, scale = shot.to_screen(wx, wy, 0.9)
        angle = 0.05 * torch.sin(shot.t * 0.9 + phase)
        lamp = 0.5 + 0.5 * torch.sin(shot.t * 2.3 + phase)
        burner = light.night * (0.35 + 0.35 * smoothstep(0.3, 0.8, lamp))
        cloth = PAINTS[shot.first("colour")]
        main = light.paint(cloth, 0.04) + image.new_tensor(cloth).view(1, 3, 1, 1) * burner
        stripe_colour = (0.98, 0.92, 0.78) if shot.first("colour") != "white" else (0.62, 0.66, 0.74)
        other = light.paint(stripe_colour, 0.04) + image.new_tensor(stripe_colour).view(1, 3, 1, 1) * burner * 0.8
        basket = light.paint((0.42, 0.26, 0.12))
        edge = 2.2 / (shot.size * size)
        side = self.sky.side

        def sprite(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            narrow = 1 - 0.42 * smoothstep(0.05, 1.2, v)
            r = ((u / narrow) ** 2 + (v * torch.where(v > 0, 0.80, 1.0)) ** 2).sqrt()
            envelope = smoothstep(1 + edge, 1 - edge, r) * smoothstep(1.12 + edge, 1.12 - edge, v)
            angle = torch.asin((u / narrow / (1 - (v * 0.7).clamp(-0.95, 0.95) ** 2).sqrt()).clamp(-0.98, 0.98))
            stripes = smoothstep(-0.25, 0.25, torch.sin(angle * 5.0 + math.pi / 2))
            shade = 0.72 + 0.38 * torch.exp(-((u - 0.4 * side) ** 2 + (v + 0.4) ** 2) * 0.9)
            colour = over(other, main, stripes) * shade
            crate = torch.maximum(u.abs() - 0.17, (v - 1.52).abs() - 0.13)
            ropes = torch.maximum((u.abs() - 0.30 + 0.30 * (v - 1.05)).abs() - 0.022, (v - 1.22).abs() - 0.20)
            a_crate, a_ropes = smoothstep(edge, -edge, crate), smoothstep(edge, -edge, ropes) * 0.8
            colour = over(colour, basket, torch.maximum(a_crate, a_ropes))
            return colour, torch.maximum(envelope, torch.maximum(a_crate, a_ropes))

        return shot.stamp(image, sprite, sx, sy, size * scale, size * 1.9, angle)
