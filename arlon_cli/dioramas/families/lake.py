"""A mountain lake that mirrors its shores."""

from torch import Tensor

from arlon_cli.dioramas.company import Company
from arlon_cli.dioramas.ground import forest, lay, mountains
from arlon_cli.dioramas.painter import Kit, Shot
from arlon_cli.dioramas.sky import Sky
from arlon_cli.dioramas.water import mirror
from arlon_cli.dioramas.weather import Weather


class Lake:
    """Snow-capped peaks, a wooded shore and their reflections."""

    shore = 0.26

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit, horizon=0.24), Weather(kit)
        self.company = Company(kit, self.sky)
        side = self.sky.side
        self.far = mountains(kit, 0.24, 0.78, (0.46, 0.53, 0.68), side, snowline=0.5, peaks=6)
        self.near = mountains(kit, 0.28, 0.40, (0.36, 0.42, 0.40), side, snowline=0.25)
        self.trees = forest(kit, 0.20, 0.13, (0.12, 0.38, 0.18), side, rows=2, gap=0.3)
        self.bank = forest(kit, 1.08, 0.30, (0.09, 0.28, 0.13), side, rows=1) if kit.random.random() < 0.5 else None
        self.ripples = kit.noise(128, 1.3, highest=0.22)

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        image = self.sky.paint(shot, light)
        image = self.weather.flash(shot, image)
        image = lay(shot, light, image, self.far, 0.3, 0.45, bottom=0.4)
        image = lay(shot, light, image, self.near, 0.6, 0.22, bottom=0.4)
        image = self.company.fly(shot, light, image)
        image = lay(shot, light, image, self.trees, 1.0, 0.06, bottom=0.4)
        image = mirror(shot, light, image, self.ripples, self.shore, (0.04, 0.22, 0.32))
        image = self.company.still_water(shot, light, image, self.shore + 0.14)
        if self.bank is not None:
            image = lay(shot, light, image, self.bank, 1.2, 0.0, wind=0.008)
        return self.weather.paint(shot, light, image)
