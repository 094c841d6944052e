"""Hot-air balloons above rolling hills."""

import torch
from torch import Tensor

from arlon_cli.dioramas.ground import forest, hills, lay, mountains
from arlon_cli.dioramas.painter import Kit, Shot
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.vessels import balloon
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
        place, colour = shot.to_screen(wx, wy, 0.9), shot.first("colour")
        return balloon(shot, light, image, place, colour=colour, size=size, side=self.sky.side, phase=phase)
