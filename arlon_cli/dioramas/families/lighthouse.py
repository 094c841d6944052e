"""A striped lighthouse on a rock in the sea, its lamp turning."""

import math

import torch
from torch import Tensor

from arlon_cli.dioramas.company import Company
from arlon_cli.dioramas.ground import lay, mountains, plate
from arlon_cli.dioramas.painter import RGB, Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.palette import PAINTS
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.water import Sea
from arlon_cli.dioramas.weather import Weather

LAMP_TIME = {"day": 0.30, "dawn": 0.6, "sunset": 0.75, "night": 1.0}
LAMP_WEATHER = {"clear": 0.0, "cloudy": 0.1, "rain": 0.4, "snow": 0.3, "fog": 0.6, "storm": 0.7}
WARM: RGB = (1.0, 0.90, 0.60)


class Lighthouse:
    """The rock and its tower stand between two rows of waves that break on it."""

    row, depth = 4, 0.75
    foot, top, lamp, tip = 0.17, -0.50, -0.61, -0.85  # world y of the shaft's ends, the lamp and the highest point

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit, horizon=0.2), Weather(kit)
        self.company = Company(kit, self.sky)
        self.sea = Sea(kit, 0.2)
        side = self.sky.side
        self.coast = mountains(kit, 0.23, 0.13, (0.40, 0.48, 0.58), side) if kit.random.random() < 0.4 else None
        self.x = kit.random.uniform(-0.22, 0.22)
        self.left, self.right = kit.random.uniform(0.55, 0.85), kit.random.uniform(0.55, 0.85)
        self.phase = kit.random.uniform(0, 6.28)
        self.turning = kit.random.choice((-1.0, 1.0)) * kit.random.uniform(0.9, 1.2)
        texture = self._rock(kit)
        self.windows = [(self.x + 0.01, self.top + at * (self.foot - self.top)) for at in (0.22, 0.52)]
        if kit.random.random() < 0.6:
            texture = self._cottage(kit, texture)
        self.texture = self._tower(kit, texture)
        self.lace = kit.noise(128, 0.9, highest=0.4)
        drops, bursts = 66, 6
        which = torch.arange(drops, device=kit.device).view(1, -1, 1, 1) % bursts
        at = (which + 0.5) / bursts + kit.uniform(-0.05, 0.05, 1, drops, 1, 1)
        self.drop_x = self.x + 0.9 * ((self.left + self.right) * at - self.left)
        self.drop_phase = which * 0.618 + kit.uniform(0, 0.10, 1, drops, 1, 1)
        self.drop_out = kit.uniform(-0.16, 0.16, 1, drops, 1, 1)
        self.drop_up = kit.uniform(0.25, 1.0, 1, drops, 1, 1)
        self.drop_size = kit.uniform(0.020, 0.05, 1, drops, 1, 1)

    def _rock(self, kit: Kit) -> Tensor:
        """Angular boulders with grass on top: a plate's texture and a channel that says where buildings are."""
        stones = 72
        cx, cy = kit.uniform(-1.2, 1.2, 1, stones, 1, 1), kit.uniform(0.05, 0.8, 1, stones, 1, 1)
        tone = kit.uniform(0.78, 1.12, stones)
        noise = kit.noise(128, 1.0, highest=0.45)
        grain = kit.plate_noise(noise, 1.0, 1.0)
        bend = kit.plate_noise(noise, 0.5, 0.5) * 0.02
        dx, dy = kit.plate_x + bend - cx, (kit.plate_y + bend - cy) * 1.25
        away = dx.square() + dy.square()
        near, which = away.min(1, keepdim=True)
        gap = away.scatter_(1, which, 9.0).amin(1, keepdim=True).sqrt() - near.sqrt()
        out, up = dx.gather(1, which), -dy.gather(1, which)
        shade = tone[which] + 0.30 * torch.tanh((out * self.sky.side + up * 1.3) * 11) + 0.07 * grain
        shade = shade * (0.55 + 0.45 * smoothstep(0.0, 0.035, gap))
        wet = smoothstep(0.42, 0.62, kit.plate_y + 0.02 * grain)
        stone = over(kit.rgb((0.58, 0.51, 0.46)), kit.rgb((0.31, 0.30, 0.33)), wet) * shade.clamp(0.3, 1.5)
        x = kit.plate_x - self.x
        reach = torch.where(x < 0, self.left, self.right)
        away = ((x.abs() - 0.22) / (reach - 0.10)).clamp(min=0)
        ridge = self.foot - 0.015 + 0.42 * away**0.8 + kit.profile(1.0, lowest=4, highest=0.3) * (0.008 + 0.03 * away)
        below = kit.plate_y - ridge
        turf = smoothstep(0.08, 0.03, below + 0.02 * torch.sin(x * 31) + 0.5 * away.clamp(max=0.3))
        stone = over(stone, kit.rgb((0.36, 0.48, 0.18)) * (1 + 0.12 * grain), turf * 0.9)
        snow = (0.25 + 0.9 * torch.tanh(up * 14) + 0.15 * grain).clamp(0, 1) * (1 - wet) + turf
        rock = plate(stone, kit.below(ridge), snow, 0).texture
        return torch.cat([rock, torch.zeros_like(rock[:, :1])], 1)

    @staticmethod
    def _build(kit: Kit, under: Tensor, colour: Tensor, distance: Tensor, snow: Tensor | float = 0.0) -> Tensor:
        """Add what lies where a signed distance is negative, part of a building."""
        cover = (0.5 - distance * kit.size / 2).clamp(0, 1)
        part = plate(colour, cover, torch.as_tensor(snow, device=kit.device) + 0 * cover, 0).texture
        return under * (1 - cover) + torch.cat([part, part[:, 3:4]], 1)

    def _cottage(self, kit: Kit, texture: Tensor) -> Tensor:
        """The keeper's house beside the tower."""
        sign = kit.random.choice((-1.0, 1.0))
        x, y = kit.plate_x - self.x - 0.255 * sign, kit.plate_y
        side, foot = self.sky.side, self.foot + 0.05
        wall = torch.maximum(x.abs() - 0.105, (y - foot + 0.07).abs() - 0.08)
        texture = self._build(kit, texture, kit.rgb((0.90, 0.87, 0.80)) * (0.92 + 0.10 * side * (x / 0.1)), wall)
        roof = torch.maximum(x.abs() * 0.8 + (foot - 0.245 - y) * 0.6, y - foot + 0.125)
        roof = torch.maximum(roof - 0.03, x.abs() - 0.135)
        tile = kit.rgb(kit.random.choice(((0.62, 0.26, 0.18), (0.36, 0.38, 0.46))))
        texture = self._build(kit, texture, tile * (0.95 + 0.15 * side * (x / 0.1)), roof, 0.95)
        for at in (-0.045, 0.045):
            pane = torch.maximum((x - at).abs() - 0.020, (y - foot + 0.068).abs() - 0.024)
            texture = self._build(kit, texture, kit.rgb((0.20, 0.20, 0.24)), pane)
            self.windows.append((self.x + 0.255 * sign + at, foot - 0.068))
        return texture

    def _tower(self, kit: Kit, texture: Tensor) -> Tensor:
        """The striped shaft, the gallery, the lantern and its dome."""
        x, y, side = kit.plate_x - self.x, kit.plate_y, self.sky.side
        box = lambda top, bottom, half: torch.maximum(
            x.abs() - half, (y - (top + bottom) / 2).abs() - (bottom - top) / 2
        )
        colour = kit.scene.spans[0].attributes["colour"]
        stripe = kit.rgb((0.96, 0.72, 0.03) if colour == "yellow" else PAINTS[colour])  # to stand out from white
        plain = kit.rgb((0.42, 0.47, 0.54) if colour == "white" else (0.95, 0.94, 0.91))
        tall = self.foot - self.top
        down = ((y - self.top) / tall).clamp(0, 1.1)
        half = 0.100 + 0.045 * down + 0.02 * smoothstep(0.85, 1.05, down)
        across = (x / half).clamp(-1, 1)
        bands = 2.5 if colour == "white" else kit.random.choice((2.5, 3.5))
        twist = 0.7 * torch.asin(across) / math.pi if kit.random.random() < 0.4 else 0 * across
        wave = torch.sin(2 * math.pi * (bands * (down + 0.03 * (1 - across.square()).sqrt()) + twist))
        painted = (0.5 + wave * tall / (2 * math.pi * bands) * kit.size / 2).clamp(0, 1)
        shade = 0.60 + 0.46 * (1 - (across - 0.45 * side).square() / 1.6).clamp(min=0)
        shaft = torch.maximum(x.abs() - half, (y - (self.top + self.foot) / 2 - 0.01).abs() - tall / 2 - 0.01)
        texture = self._build(kit, texture, over(plain, stripe, painted) * shade, shaft)
        dark = kit.rgb((0.17, 0.15, 0.17))
        for _, at in self.windows[:2]:
            texture = self._build(kit, texture, dark, torch.maximum((x - 0.01).abs() - 0.022, (y - at).abs() - 0.034))
        door = torch.maximum(x.abs() - 0.038, self.foot - 0.11 - y + (x / 0.036).square() * 0.02)
        texture = self._build(kit, texture, kit.rgb((0.34, 0.19, 0.11)), torch.maximum(door, y - self.foot - 0.01))
        iron = kit.rgb((0.19, 0.20, 0.24)) * (1 + 0.35 * (x / 0.13 * side).clamp(-1, 1))
        texture = self._build(kit, texture, kit.rgb((0.78, 0.84, 0.84)), box(-0.70, -0.52, 0.070))
        posts = torch.minimum((x.abs() - 0.030).abs(), (x.abs() - 0.070).abs()) - 0.007
        texture = self._build(kit, texture, iron, torch.maximum(posts, box(-0.70, -0.52, 0.08)))
        texture = self._build(kit, texture, iron, box(-0.53, -0.485, 0.145), 0.5)
        texture = self._build(kit, texture, iron, box(-0.588, -0.574, 0.140))
        rails = torch.maximum((torch.remainder(x.abs(), 0.046) - 0.023).abs() - 0.004, box(-0.58, -0.52, 0.140))
        texture = self._build(kit, texture, iron, rails)
        roof = kit.rgb((0.52, 0.22, 0.17)) if colour == "white" else over(stripe, iron, 0.3)
        dome = (((x / 0.098).square() + ((y + 0.69) / 0.105).square()).sqrt() - 1) * 0.09
        shade = 0.75 + 0.4 * (x / 0.09 * side + 0.4).clamp(0, 1)
        texture = self._build(kit, texture, roof * shade, torch.maximum(dome, y + 0.69), smoothstep(-0.71, -0.76, y))
        texture = self._build(kit, texture, iron, box(-0.70, -0.68, 0.100))
        ball = (x.square() + (y + 0.80).square()).sqrt() - 0.020
        return self._build(kit, texture, iron, torch.minimum(box(self.tip, -0.78, 0.008), ball))

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        rough = shot.amount("state", "rough")
        lit = shot.mix("time", LAMP_TIME.__getitem__) + shot.mix("weather", LAMP_WEATHER.__getitem__)
        lit = lit.clamp(0, 1)
        image = self.sky.paint(shot, light)
        image = self.weather.flash(shot, image)
        if self.coast is not None:
            image = lay(shot, light, image, self.coast, 0.3, 0.6, bottom=0.3)
        image = self._beams(shot, image, lit)
        image = self.company.fly(shot, light, image)
        image = self.company.waves(shot, light, image, self.sea, rough, self.row)
        image = self._lay(shot, light, image, lit)
        image = self._surf(shot, light, image, rough)
        image = self.sea.paint(shot, light, image, rough, self.row, self.row + 1)
        image = self._spray(shot, light, image, rough)
        image = self.sea.paint(shot, light, image, rough, self.row + 1)
        image = self._pool(shot, image, lit)
        image = self.weather.paint(shot, light, image)
        return self._glow(shot, light, image, lit)

    def _lay(self, shot: Shot, light: Light, image: Tensor, lit: Tensor) -> Tensor:
        """The rock and the tower; buildings are a little lighter than the night, and lit by their own lamp."""
        band = shot.strip(self.tip - 0.02, 0.75, self.depth)
        seen = band.place(self.texture, self.depth)
        colour, cover, building = seen[:, :3], seen[:, 3:4], seen[:, 5:]
        if any(span.attributes["weather"] == "snow" for span in shot.scene.spans):
            colour = colour + (0.95 * cover - colour) * (seen[:, 4:5] * light.snow)
        _, y, _ = shot.to_screen(0.0, self.top, self.depth)
        spill = lit * light.night * torch.exp(-(((band.y - y) / 0.35) ** 2))
        boost = 0.10 * light.night + building * (
            (0.22 + 0.18 * light.night) * light.overcast.clamp(min=0.6 * light.night) + 0.5 * spill
        )
        air = light.air(0.06)
        image[:, :, band.rows].mul_(1 - cover).add_(colour * (light.light + boost) * (1 - air))
        image[:, :, band.rows].add_(cover * (light.horizon * air))
        return image

    def _beams(self, shot: Shot, image: Tensor, lit: Tensor) -> Tensor:
        """Two beams that turn about the tower's axis, wide and bright when they point our way."""
        soft = shot.coarse()
        lx, ly, scale = soft.to_screen(self.x, self.lamp, self.depth)
        dx, dy = (soft.x - lx) / scale, (soft.y - ly) / scale
        beams = torch.zeros_like(dx * dy)
        for turn in (0.0, math.pi):
            angle = soft.t * self.turning + self.phase + turn
            cos, sin = angle.cos(), angle.sin()  # to the right, towards us
            fall = 0.14 * sin
            norm = (cos.square() + fall.square()).sqrt().clamp(min=0.05)
            r = (dx * cos + dy * fall) / norm.square()
            aside = (dy * cos - dx * fall) / norm
            width = 0.035 + 0.115 * r.clamp(min=0)
            beam = torch.exp(-((aside / width) ** 2) - r.clamp(min=0) / 1.5) * smoothstep(0.0, 0.08, r)
            beams = beams + beam * (0.78 + 0.3 * sin)
        return over(image, image.new_tensor(WARM).view(1, 3, 1, 1), shot.fine(beams * (0.85 * lit)).clamp(0, 0.9))

    def _surf(self, shot: Shot, light: Light, image: Tensor, rough: Tensor) -> Tensor:
        """Foam that washes up the foot of the rock."""
        depth = 0.35 + 0.75 * self.row / 6
        line = self.sea.line(self.row)
        band = shot.strip(line - 0.26, line + 0.1, depth)
        x, y = band.world(depth)
        up = line - self.sea.height(band, rough, self.row, x) - y
        lace = wrapped(self.lace, x * 0.7, y * 0.9 + 0.05 * torch.sin(band.t * 1.3 + x * 5))
        swell = 0.5 + 0.5 * torch.sin(band.t * 1.5 * self.sea.heading - x * 9.0)
        wash = (0.035 + 0.12 * rough) * (0.35 + 0.65 * swell)
        inside = smoothstep(-self.left - 0.10, -self.left + 0.10, x - self.x) * smoothstep(
            self.right + 0.10, self.right - 0.10, x - self.x
        )
        foam = smoothstep(1.0, 0.25, up / wash + 0.30 * lace) * inside * (0.72 + 0.24 * rough)
        white = light.paint((0.95, 0.97, 1.0)) * 0.9 + 0.1 * light.horizon
        image[:, :, band.rows] = over(image[:, :, band.rows], white, foam)
        return image

    def _spray(self, shot: Shot, light: Light, image: Tensor, rough: Tensor) -> Tensor:
        """Bursts of drops where waves hit the rock."""
        age = torch.remainder(shot.t / 2.4 + self.drop_phase, 1.0)
        seconds = age * 2.4
        reach = 0.25 + 0.75 * rough
        rise = (self.drop_up * seconds - 0.55 * seconds.square()) * reach
        x, y, scale = shot.to_screen(self.drop_x + self.drop_out * seconds, self.sea.line(self.row) + 0.03 - rise, 0.85)
        strength = smoothstep(0.0, 0.05, age) * smoothstep(0.75, 0.25, age) * (0.25 + 0.45 * rough)
        size = self.drop_size * (0.7 + 0.8 * seconds) * scale
        band = shot.strip(-0.1, 0.8, 0.85)
        spray = band.dots(x, y, size, strength.expand_as(x)).clamp(0, 0.9)
        white = light.paint((0.97, 0.98, 1.0)) * 0.9 + 0.12 * light.horizon
        image[:, :, band.rows] = over(image[:, :, band.rows], white, spray)
        return image

    def _pool(self, shot: Shot, image: Tensor, lit: Tensor) -> Tensor:
        """The light that a beam throws on the water as it comes round, and the lamp's reflection."""
        x, _, scale = shot.to_screen(self.x, 0.0, self.depth)
        band = shot.strip(0.55, 1.3, 0.9)
        angle = shot.t * self.turning + self.phase + torch.tensor([0.0, math.pi], device=shot.device).view(1, 2, 1, 1)
        cos, sin = angle.cos(), angle.sin().clamp(min=0)
        pools = band.dots(x + 1.3 * cos * scale, 0.82 + 0 * cos, 0.34, sin * 0.75, tall=0.55)
        pools = pools * lit
        seen = image[:, :, band.rows]
        shine = 0.16 + 1.1 * seen.mean(1, keepdim=True)
        image[:, :, band.rows] = seen + pools * shine * image.new_tensor(WARM).view(1, 3, 1, 1)
        return image

    def _glow(self, shot: Shot, light: Light, image: Tensor, lit: Tensor) -> Tensor:
        """The lamp itself, which flashes as a beam passes, and lit windows."""
        x, y, scale = shot.to_screen(self.x, self.lamp, self.depth)
        flash = torch.exp(((shot.t * self.turning + self.phase).sin().abs() - 1) * 14)
        strength = torch.cat([0.95 + 0 * flash, 0.35 + 0.5 * flash, 0.10 + 0.30 * flash], 1).view(-1, 3, 1, 1) * lit
        radius = shot.t.new_tensor([0.065, 0.17, 0.5]).view(1, 3, 1, 1) * scale
        glow = shot.dots(x, y, radius, strength) * (1 - 0.35 * (1 - light.night))
        image = over(image, image.new_tensor(WARM).view(1, 3, 1, 1) + 0.12 * glow, 1 - torch.exp(-1.6 * glow))
        at = image.new_tensor(self.windows).view(1, -1, 2, 1)
        wx, wy, scale = shot.to_screen(at[:, :, :1], at[:, :, 1:], self.depth)
        home = smoothstep(0.45, 0.95, lit) * torch.ones_like(wx)
        band = shot.strip(self.top, self.foot + 0.05, self.depth)
        panes = band.dots(wx, wy, 0.026 * scale, home, tall=1.3)
        image[:, :, band.rows] += panes * image.new_tensor((0.95, 0.66, 0.26)).view(1, 3, 1, 1)
        return image
