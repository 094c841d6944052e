"""A broad waterfall over a cliff, among forests, with mist and ripples on its pool."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from arlon_cli.dioramas.company import Company
from arlon_cli.dioramas.ground import Plate, forest, lay, mountains, plate
from arlon_cli.dioramas.painter import PLATE_X, PLATE_Y, RGB, Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.weather import Weather

LIP, FOOT = -0.36, 0.42  # world y where the water leaves the cliff and where it meets the pool
LAUNCH, GRAVITY = 0.28, 0.75  # how fast the water falls


class Waterfall:
    """Water falls through a notch in the cliff into a pool that mirrors it."""

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit, horizon=0.0), Weather(kit)
        self.company = Company(kit, self.sky)
        side = self.sky.side
        self.centre, self.half = kit.random.uniform(-0.15, 0.15), kit.random.uniform(0.34, 0.46)
        self.conifers = kit.random.random() < 0.5
        self.far = mountains(kit, -0.2, 0.5, (0.44, 0.52, 0.66), side, snowline=0.45, peaks=7)
        self.wood = forest(kit, -0.36, 0.16, (0.17, 0.46, 0.20), side, rows=2, conifers=self.conifers)
        self.rock = kit.noise(128, 1.2, highest=0.35)
        self.cliff, self.fall = self._cliff(kit)
        self.bank = self._bank(kit)
        self.water = kit.noise(128, 0.9, highest=0.35)
        self.smoke = kit.noise(64, 1.8, highest=0.2)
        self.ripples = kit.noise(128, 1.3, highest=0.22)
        drops = 36
        self.drop_x = self.centre + self.half * kit.uniform(-1.05, 1.05, 1, drops, 1, 1)
        self.drop_out = kit.uniform(-0.12, 0.12, 1, drops, 1, 1)
        self.drop_up = kit.uniform(0.20, 0.50, 1, drops, 1, 1)
        self.drop_phase = kit.uniform(0, 1, 1, drops, 1, 1)

    def _cliff(self, kit: Kit) -> tuple[Plate, Tensor]:
        """The cliff with its trees, and the fall: inside (1), time of falling, across, strands, gaps."""
        x, y = kit.plate_x, kit.plate_y
        away = (x - self.centre).abs()
        rough = kit.profile(1.3, lowest=4, highest=0.3)
        ridge = LIP + 0.02 - 0.26 * smoothstep(self.half * 0.9, self.half + 0.4, away)
        ridge = ridge + 0.03 * rough * smoothstep(self.half - 0.1, self.half + 0.1, away)
        tall, flat = kit.plate_noise(self.rock, 0.95, 0.30), kit.plate_noise(self.rock, 0.35, 1.5)
        moved = wrapped(self.rock, x * 0.95 - 0.03 * self.sky.side, y * 0.30 + 0.012)
        ledge = wrapped(self.rock, x * 0.35 - 0.01 * self.sky.side, y * 1.5 + 0.05)
        shade = 0.92 + 0.32 * torch.tanh(1.6 * (tall - moved)) + 0.22 * torch.tanh(flat - ledge)
        shade = shade * (1 - 0.30 * torch.exp(-(((away - self.half) / 0.10) ** 2)))
        stone = over(kit.rgb((0.52, 0.42, 0.35)), kit.rgb((0.36, 0.37, 0.41)), smoothstep(-0.8, 0.9, flat + 0.4 * tall))
        moss = smoothstep(0.15, 0.85, 0.7 * tall - 0.7 * flat + 0.6 * (away - self.half)) * 0.75
        grass = smoothstep(0.10, 0.02, y - ridge + 0.03 * flat) * smoothstep(self.half, self.half + 0.1, away)
        colour = over(stone, kit.rgb((0.24, 0.45, 0.15)), torch.maximum(moss, grass)) * shade.clamp(0.30, 1.35)
        settle = torch.maximum(grass, smoothstep(0.2, 1.2, ledge - flat + 0.3)) * 0.9
        texture = plate(colour, kit.below(ridge), settle, 0).texture
        places: list[tuple[float, float, float]] = []
        tops = ridge.flatten()
        for _ in range(30):
            at = kit.random.uniform(-1.8, 1.8)
            if abs(at - self.centre) > self.half + 0.04:
                column = min(len(tops) - 1, int((at / PLATE_X + 1) / 2 * len(tops)))
                places.append((at, tops[column].item() + 0.05, kit.random.uniform(0.14, 0.24)))
        for _ in range(44):
            at = kit.random.uniform(-1.8, 1.8)
            if abs(at - self.centre) > self.half + 0.16:
                places.append((at, FOOT + kit.random.uniform(-0.10, 0.04), kit.random.uniform(0.16, 0.28)))
        self._trees(kit, texture, places, (0.15, 0.46, 0.16))
        boulders = [
            (
                self.centre + sign * (self.half + kit.random.uniform(-0.08, 0.2)),
                FOOT + 0.03,
                kit.random.uniform(0.06, 0.11),
            )
            for sign in (-1, 1, -1, 1, -1, 1)
        ]
        self._boulders(kit, texture, boulders)
        lip = LIP + 0.018 * kit.profile(1.5, lowest=3, highest=0.2)
        fallen = (y - lip).clamp(min=0)
        spread = self.half * (1 + 0.16 * fallen) + 0.012 * kit.plate_noise(self.rock, 0.02, 0.35)
        inside = ((spread - away) / 0.06).clamp(-3, 6) - 14 * smoothstep(0.015, -0.015, y - lip)
        seconds = ((LAUNCH**2 + 2 * GRAVITY * fallen).sqrt() - LAUNCH) / GRAVITY
        across = (x - self.centre) / (1 + 0.16 * fallen)
        strands = wrapped(self.rock, across * 1.5 + 0.3, 0.02 * seconds)
        gaps = torch.zeros_like(inside)
        for _ in range(4):
            at = self.centre + kit.random.uniform(-0.8, 0.8) * self.half
            start = kit.random.uniform(LIP + 0.1, FOOT - 0.2)
            wide, long = kit.random.uniform(0.025, 0.05), kit.random.uniform(0.10, 0.22)
            below = (y - start).clamp(min=0)
            shadow = smoothstep(0.0, 0.02, y - start) * torch.exp(-below / long)
            gaps = torch.maximum(gaps, shadow * torch.exp(-(((x - at) / (wide * (1 - 0.3 * below))) ** 2)))
        parts = (inside, seconds, across, strands, gaps)
        return Plate(texture, -1.0), torch.cat([part.expand_as(inside) for part in parts], dim=1)

    def _trees(self, kit: Kit, texture: Tensor, places: list[tuple[float, float, float]], hue: RGB) -> None:
        """Paint trees (x, foot, height), the highest feet first, onto a plate's texture."""
        leaves, side = kit.plate_noise(self.rock, 2.1, 2.1), self.sky.side
        for at, foot, size in sorted(places, key=lambda place: place[1]):
            columns, rows = self._window(kit, at - 0.5 * size, at + 0.5 * size, foot - 1.1 * size, foot + 0.06)
            x, y, leaf = kit.plate_x[..., columns], kit.plate_y[:, :, rows], leaves[:, :, rows, columns]
            if x.numel() == 0 or y.numel() == 0:
                continue
            up, off = (foot - y) / size, (x - at) / size
            if self.conifers:
                tier = torch.remainder(up * 4.5, 1.0)
                distance = (off.abs() - (0.36 * (1 - up) * (1.12 - 0.35 * tier))).maximum(-up)
            else:
                crown = ((off / 0.40).square() + ((up - 0.60) / 0.42).square()).sqrt() - 1 + 0.14 * leaf
                trunk = torch.maximum(off.abs() - 0.05, (up - 0.15).abs() - 0.18)
                distance = torch.minimum(crown * 0.4, trunk)
            cover = (0.5 - distance * size * kit.size / 2).clamp(0, 1)
            shade = 0.62 + 0.55 * up + 0.75 * off * side + 0.20 * leaf
            tint = kit.random.uniform(-0.06, 0.08)
            tree = kit.rgb((hue[0] + tint, hue[1] + tint * 0.6, hue[2])) * shade.clamp(0.22, 1.5)
            tree = over(tree, kit.rgb((0.28, 0.20, 0.14)), (up < 0.16).float() * (not self.conifers))
            settle = (0.35 + 0.7 * up + 0.3 * leaf).clamp(0, 1)
            here = texture[:, :, rows, columns]
            here.mul_(1 - cover).add_(torch.cat([tree.clamp(0, 1) * cover, cover, settle * cover], dim=1))

    def _boulders(self, kit: Kit, texture: Tensor, places: list[tuple[float, float, float]]) -> None:
        """Paint round rocks (x, y, radius) onto a plate's texture."""
        grain, side = kit.plate_noise(self.rock, 1.3, 1.3), self.sky.side
        for at, height, size in sorted(places, key=lambda place: place[1]):
            columns, rows = self._window(
                kit, at - 1.6 * size, at + 1.6 * size, height - 1.3 * size, height + 1.3 * size
            )
            x, y, rough = kit.plate_x[..., columns], kit.plate_y[:, :, rows], grain[:, :, rows, columns]
            if x.numel() == 0 or y.numel() == 0:
                continue
            off, up = (x - at) / (1.3 * size), (height - y) / (0.9 * size)
            cover = ((1 - (off.square() + up.square()).sqrt() + 0.10 * rough) * size * kit.size / 2 + 0.5).clamp(0, 1)
            shade = (0.75 + 0.38 * up + 0.32 * off * side + 0.14 * rough).clamp(0.25, 1.4)
            stone = over(
                kit.rgb((0.46, 0.42, 0.40)), kit.rgb((0.26, 0.44, 0.17)), smoothstep(0.35, 0.9, up + 0.25 * rough)
            )
            settle = smoothstep(0.0, 0.6, up)
            here = texture[:, :, rows, columns]
            here.mul_(1 - cover).add_(torch.cat([(stone * shade).clamp(0, 1) * cover, cover, settle * cover], dim=1))

    @staticmethod
    def _window(kit: Kit, left: float, right: float, top: float, bottom: float) -> tuple[slice, slice]:
        """The columns and rows of a plate that hold a rectangle of the world."""
        columns, rows = kit.plate_x.shape[3], kit.plate_y.shape[2]

        def span(low: float, high: float, half: float, count: int) -> slice:
            first, last = ((edge / half + 1) / 2 * count for edge in (low, high))
            return slice(max(0, math.floor(first) - 1), max(0, min(count, math.ceil(last) + 1)))

        return span(left, right, PLATE_X, columns), span(top, bottom, PLATE_Y, rows)

    def _bank(self, kit: Kit) -> Plate:
        """Grass, trees and boulders on both shores of the pool."""
        x, y = kit.plate_x, kit.plate_y
        away = (x - self.centre).abs()
        rough = kit.profile(1.5, lowest=3, highest=0.2)
        ridge = FOOT + 0.02 + 1.05 * (1.18 - away) + 0.035 * rough
        grain, fine = kit.plate_noise(self.rock, 0.6, 1.3), kit.plate_noise(self.rock, 1.6, 2.6)
        shade = (0.95 + 0.16 * grain + 0.12 * fine - 0.25 * (y - ridge).clamp(0, 1)).clamp(0.3, 1.4)
        edge = smoothstep(0.06, 0.01, y - ridge + 0.01 * fine)
        colour = over(kit.rgb((0.30, 0.56, 0.18)), kit.rgb((0.45, 0.40, 0.33)), edge) * shade
        texture = plate(colour, kit.below(ridge), 0.85 - 0.4 * edge + 0.1 * fine, 0).texture
        trees: list[tuple[float, float, float]] = []
        boulders: list[tuple[float, float, float]] = []
        for sign in (-1, 1):
            for _ in range(9):
                out = kit.random.uniform(0.74, 1.7)
                foot = min(1.3, FOOT + 0.10 + 1.05 * max(0.0, 1.18 - out) + kit.random.uniform(0.0, 0.35))
                trees.append((self.centre + sign * out, foot, 0.22 + 0.34 * (foot - FOOT)))
            for _ in range(5):
                out = kit.random.uniform(0.55, 1.15)
                foot = FOOT + 0.02 + 1.05 * (1.18 - out)
                boulders.append((self.centre + sign * out, foot, 0.03 + 0.12 * kit.random.random() * (foot - 0.2)))
        self._boulders(kit, texture, boulders)
        self._trees(kit, texture, trees, (0.13, 0.42, 0.13))
        return Plate(texture, FOOT - 0.40)

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        image = self.sky.paint(shot, light)
        image = lay(shot, light, image, self.far, 0.25, 0.45, bottom=0.1)
        image = self.company.fly(shot, light, image)
        image = lay(shot, light, image, self.wood, 0.65, 0.22, bottom=-0.05)
        image = lay(shot, light, image, self.cliff, 1.0, 0.05, bottom=FOOT + 0.12, wind=0.003)
        image = self._falling(shot, light, image)
        image = self._pool(shot, light, image)
        image = self._mist(shot, light, image)
        image = lay(shot, light, image, self.bank, 1.0, 0.0, wind=0.006)
        return self.weather.paint(shot, light, image)

    @staticmethod
    def _white(light: Light) -> Tensor:
        """White water, which gathers what light there is."""
        return over(light.paint((0.98, 1.0, 1.02)), light.light.amax(1, keepdim=True), 0.4) + 0.14 * light.night

    def _falling(self, shot: Shot, light: Light, image: Tensor) -> Tensor:
        band = shot.strip(LIP - 0.06, FOOT + 0.04, 1.0)
        inside, seconds, across, strands, gaps = band.place(self.fall, 1.0).split(1, dim=1)
        run = (seconds - shot.t) * 0.27
        broad = wrapped(self.water, across * 1.15, run)
        fine = wrapped(self.water, across * 2.9 + 0.37, run * 1.3 + 0.5)
        streak = 0.55 * broad + 0.55 * fine
        body = inside + 0.5 * strands + (0.15 * broad + 0.3 * fine) * (0.2 + 0.8 * seconds)
        thin = smoothstep(0.0, 1.0, 1.55 + streak * (0.25 + 0.75 * seconds) + 0.35 * strands - 1.9 * gaps)
        cover = smoothstep(0.0, 0.9, body) * thin
        blue = light.paint((0.30, 0.58, 0.68)) * 0.9 + 0.1 * light.middle
        foam = smoothstep(-1.1, 1.0, streak + 0.3 * strands + 0.55 * seconds - 0.35)
        colour = over(blue, self._white(light), foam * 0.95)
        image[:, :, band.rows] = over(image[:, :, band.rows], colour, cover * 0.96)
        return image

    def _pool(self, shot: Shot, light: Light, image: Tensor) -> Tensor:
        band = shot.strip(FOOT, 2.0, 1.0)
        line = shot.to_screen(0.0, FOOT)[1]
        x, y = band.world(1.0)
        off, below = x - self.centre, (y - FOOT).clamp(min=0)
        far = 0.16 / (below + 0.13)
        flow = wrapped(self.ripples, off * far * 1.2, far * 1.9 + 0.20 * shot.t)
        # Rings spread from where the water plunges in.
        outside = (off.abs() - self.half * 0.8).clamp(min=0)
        reach = (outside.square() + (below * 1.9).square() + 1e-4).sqrt()
        ring = (
            torch.sin(30 * reach - 4.2 * shot.t + 1.6 * flow) * torch.exp(-reach * 1.5) * smoothstep(0.05, 0.2, reach)
        )
        wave = 0.8 * flow + 0.9 * ring
        u = band.x + wave * (0.006 + 0.03 * below)
        v = line - (band.y - line).clamp(min=0) * 1.05 - wave * (0.008 + 0.05 * below)
        u, v = torch.broadcast_tensors(u, v)
        seen = F.grid_sample(
            image, torch.stack([u[:, 0], v[:, 0]], -1), mode="bilinear", padding_mode="reflection", align_corners=False
        )
        deep = light.paint((0.04, 0.34, 0.38))
        water = over(seen * 0.9, deep, (0.34 + 0.30 * below - 0.05 * wave).clamp(0, 0.7))
        water = water + (light.horizon * 0.5 + light.light * 0.3) * (0.15 * wave.clamp(0, 2))
        lace = wrapped(self.water, off * far * 0.75, far * 1.3 + 0.16 * shot.t)
        near = torch.exp(-outside * 4.0 - below * 4.2)
        foam = smoothstep(0.35, 1.15, 1.75 * near + 0.42 * lace + 0.28 * ring)
        water = over(water, self._white(light), foam * 0.92)
        cover = ((band.y - line) * shot.size / 2 + 0.5).clamp(0, 1)
        image[:, :, band.rows] = over(image[:, :, band.rows], water, cover)
        return image

    def _mist(self, shot: Shot, light: Light, image: Tensor) -> Tensor:
        """Mist that rises from the pool, a rainbow in it when the sun shines, and spray."""
        soft = shot.coarse(2)
        x, y = soft.world(1.0)
        off, up = x - self.centre, FOOT + 0.02 - y
        billow = wrapped(self.smoke, off * 0.7 + 0.02 * soft.t, y * 0.9 + 0.14 * soft.t)
        billow = billow + 0.6 * wrapped(self.smoke, off * 1.5 - 0.03 * soft.t, y * 1.8 + 0.24 * soft.t)
        height = torch.where(up > 0, up / 0.24, up / 0.09)
        shape = torch.exp(-height.square() - (off / (self.half * 1.35)) ** 4)
        mist = (shape * (0.62 + 0.34 * billow)).clamp(0, 0.92)
        bow = ((off - 0.25 * self.sky.side).square() + (y - FOOT - 0.12).square()).sqrt()
        place = (bow - 0.50) / 0.075
        hues = torch.cat([torch.exp(-((place - at) ** 2) * 2.6) for at in (0.75, 0.0, -0.75)], dim=1)
        day = (
            light.sun
            * shot.amount("time", "day", "dawn")
            * shot.amount("weather", "clear")
            * smoothstep(-0.05, 0.12, up)
            * smoothstep(0.62, 0.35, up)
        )
        hues = hues * day * (0.15 * torch.exp(-((off / (self.half * 1.9)) ** 4)))
        layers = shot.fine(torch.cat([mist, hues], dim=1))
        image = over(image, self._white(light), layers[:, :1]) + layers[:, 1:] * light.glow
        age = torch.remainder(shot.t / 0.9 + self.drop_phase, 1.0)
        seconds = age * 0.9
        dx, dy, scale = shot.to_screen(
            self.drop_x + self.drop_out * seconds, FOOT + 0.03 - self.drop_up * seconds + 0.5 * seconds.square()
        )
        spray = shot.dots(dx, dy, 0.016 * scale, smoothstep(0.0, 0.1, age) * (1 - age) * 0.9)
        return over(image, self._white(light), spray.clamp(0, 0.9))
