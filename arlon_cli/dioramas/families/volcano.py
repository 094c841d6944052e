"""A volcano above forests and hills, asleep or erupting."""

import torch
from torch import Tensor

from arlon_cli.dioramas.company import Company
from arlon_cli.dioramas.ground import Plate, forest, hills, lay, mountains, plate
from arlon_cli.dioramas.painter import Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.weather import Weather


class Volcano:
    """Bakes the cone and its lava beds, then paints frames."""

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit), Weather(kit)
        self.company = Company(kit, self.sky)
        side = self.sky.side
        self.top = kit.random.uniform(-0.42, -0.28)
        self.base = 0.42
        self.range = mountains(kit, 0.36, 0.28, (0.40, 0.45, 0.56), side)
        self.cone, self.lava = self._cone(kit, side)
        self.hills = hills(kit, 0.47, 0.12, (0.36, 0.52, 0.22), side)
        conifers = kit.random.random() < 0.5
        self.forest = forest(kit, 0.66, 0.17, (0.13, 0.44, 0.16), side, rows=4, conifers=conifers)
        self.flow = kit.noise(128, 1.3, highest=0.3)
        self.smoke = kit.noise(128, 1.6, highest=0.25)
        embers = 34
        self.phase = kit.uniform(0, 1, 1, embers, 1, 1)
        self.out = kit.uniform(-0.32, 0.32, 1, embers, 1, 1)
        self.up = kit.uniform(0.55, 1.15, 1, embers, 1, 1)
        self.size = kit.uniform(0.014, 0.026, 1, embers, 1, 1)
        self.wind = kit.random.choice((-1, 1)) * kit.random.uniform(0.15, 0.3)

    def _cone(self, kit: Kit, side: float) -> tuple[Plate, Tensor]:
        x, y = kit.plate_x, kit.plate_y
        rough = 0.018 * kit.profile(1.2, lowest=3, highest=0.3)
        spread = kit.random.uniform(0.30, 0.40)
        outside = (x.abs() - 0.085).clamp(min=0)
        ridge = self.base - (self.base - self.top) * torch.exp(-((outside / spread) ** 1.12)) + rough
        ridge = ridge + 0.035 * smoothstep(0.09, 0.0, x.abs())
        down = ((y - self.top) / (self.base - self.top)).clamp(0.02, 1)
        width = 0.085 + spread * (-torch.log(1.001 - down * 0.999)) ** (1 / 1.12)
        across = x / width.clamp(max=1.5)
        noise = kit.noise(128, 1.1, highest=0.4)
        gully = wrapped(noise, across * 0.55, down * 0.12)
        lit = wrapped(noise, across * 0.55 + 0.03 * side, down * 0.12)
        grain = kit.plate_noise(noise, 1.1, 1.1)
        shade = 0.82 + 0.30 * torch.tanh(across * side * 1.6) + 0.26 * torch.tanh(gully - lit) + 0.07 * grain
        rock = over(kit.rgb((0.46, 0.36, 0.33)), kit.rgb((0.30, 0.36, 0.22)), smoothstep(0.55, 1.0, down + 0.1 * gully))
        settle = smoothstep(0.8, 0.2, down + 0.12 * gully) * 0.8 + 0.2
        cone = plate(rock * shade.clamp(0.25, 1.3), kit.below(ridge), settle, self.top - 0.06)
        paths = torch.zeros_like(grain)
        for _ in range(4):
            lean, wave, phase = kit.random.uniform(-0.8, 0.8), kit.random.uniform(2, 4), kit.random.uniform(0, 6)
            length = kit.random.uniform(0.55, 1.0)
            middle = (lean * 0.8 + 0.16 * torch.sin(down * wave * 2 + phase)) * down**0.6
            paths = paths + torch.exp(-(((across - middle) * width / (0.022 + 0.022 * down)) ** 2)) * smoothstep(
                length, length - 0.25, down
            )
        crater = torch.exp(-((x / 0.09) ** 2) - ((y - self.top - 0.03) / 0.035) ** 2)
        lava = torch.cat(
            [(paths + crater).clamp(0, 1.2) * kit.below(ridge), across.expand_as(grain), down.expand_as(grain)], 1
        )
        return cone, lava

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        fire = shot.amount("state", "erupting")
        image = self.sky.paint(shot, light)
        image = self.weather.flash(shot, image)
        image = lay(shot, light, image, self.range, 0.35, 0.55, bottom=0.55)
        image = self.company.fly(shot, light, image)
        ever = any(span.attributes["state"] == "erupting" for span in shot.scene.spans)
        if ever:
            image = self._plume(shot, light, image, fire)
        image = lay(shot, light, image, self.cone, 0.7, 0.16, bottom=0.6)
        if ever:
            image = self._lava(shot, image, fire)
        image = lay(shot, light, image, self.hills, 0.85, 0.12, bottom=0.75)
        if ever:
            glow = torch.exp(-((shot.y - 0.4) ** 2) / 0.08 - shot.x**2 / 0.5) * fire
            image = image + glow * image.new_tensor((0.22, 0.07, 0.01)).view(1, 3, 1, 1)
        image = lay(shot, light, image, self.forest, 1.15, 0.0, wind=0.007)
        return self.weather.paint(shot, light, image)

    def _plume(self, shot: Shot, light: Light, image: Tensor, fire: Tensor) -> Tensor:
        soft = shot.coarse()
        x, y = soft.world(0.7)
        height = (self.top + 0.05 - y).clamp(min=0)
        centre = self.wind * height**1.4 + 0.03 * torch.sin(soft.t * 0.9 + height * 5)
        width = 0.07 + 0.42 * height
        big = wrapped(self.smoke, (x - centre) * 0.55, y * 0.5 + soft.t * 0.13)
        small = wrapped(self.smoke, (x - centre) * 1.1 + 0.4, y * 1.0 + soft.t * 0.24)
        puff = big + 0.5 * small
        body = 1.25 - ((x - centre) / width).abs() * 1.25 + 0.42 * puff
        density = smoothstep(0.0, 0.55, body) * smoothstep(-0.01, 0.05, height) * fire
        lit = (0.5 + 0.28 * puff + 0.35 * (x - centre) / width * self.sky.side).clamp(0, 1)
        ash = over(light.paint((0.13, 0.11, 0.12)), light.paint((0.46, 0.42, 0.42)), lit)
        hot = torch.exp(-height * 5.0) * (0.7 + 0.3 * puff).clamp(0, 1.3)
        colour = ash + hot * image.new_tensor((0.95, 0.36, 0.08)).view(1, 3, 1, 1)
        layers = shot.fine(torch.cat([colour, density], 1))
        return over(image, layers[:, :3], layers[:, 3:])

    def _lava(self, shot: Shot, image: Tensor, fire: Tensor) -> Tensor:
        lava = shot.place(self.lava, 0.7)
        bed, across, down = lava[:, :1], lava[:, 1:2], lava[:, 2:]
        heat = wrapped(self.flow, across * 0.4, down * 0.7 - shot.t * 0.11)
        reach = smoothstep(-0.05, 0.25, fire * 1.3 - down)  # it takes its time to run down
        glow = bed * reach * fire
        colour = over(
            image.new_tensor((1.0, 0.22, 0.02)).view(1, 3, 1, 1),
            image.new_tensor((1.0, 0.85, 0.35)).view(1, 3, 1, 1),
            (0.45 + 0.4 * heat - 0.3 * down).clamp(0, 1),
        )
        image = over(image, colour, (glow * 1.25).clamp(0, 1))
        x0, y0, scale = shot.to_screen(0.0, self.top + 0.02, 0.7)
        age = torch.remainder(shot.t / 1.7 + self.phase, 1.0)
        seconds = age * 1.7
        ex = x0 + self.out * seconds * 0.75 * scale
        ey = y0 - (self.up * seconds - 0.62 * seconds**2) * 0.8 * scale
        strength = (smoothstep(0.0, 0.08, age) * (1 - age)) * fire * 1.4
        hot = shot.dots(ex, ey, self.size * scale, strength, tall=1.3)
        pulse = 0.85 + 0.15 * torch.sin(shot.t * 5.3) * torch.sin(shot.t * 2.1)
        d2 = (shot.x - x0) ** 2 + ((shot.y - y0 + 0.06) * 0.8) ** 2
        fountain = torch.exp(-d2 * 90) * 0.9 + torch.exp(-d2 * 9) * 0.42
        image = image + (hot * 1.2 + fountain * fire * pulse) * image.new_tensor((1.0, 0.48, 0.12)).view(1, 3, 1, 1)
        return image + hot * 0.5
