"""A city at work: towers with lit windows above a street full of traffic, some of them across a river."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from arlon_cli.dioramas.company import Company
from arlon_cli.dioramas.ground import Plate, lay, plate
from arlon_cli.dioramas.painter import PLATE_X, RGB, Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.weather import Weather

WALLS: tuple[RGB, ...] = (
    (0.80, 0.40, 0.27),
    (0.88, 0.72, 0.48),
    (0.92, 0.85, 0.72),
    (0.24, 0.54, 0.60),
    (0.27, 0.46, 0.76),
    (0.82, 0.52, 0.54),
    (0.86, 0.62, 0.27),
    (0.46, 0.52, 0.66),
    (0.66, 0.28, 0.22),
    (0.50, 0.70, 0.60),
)
CARS: tuple[RGB, ...] = (
    (0.86, 0.10, 0.10),
    (0.98, 0.80, 0.10),
    (0.12, 0.36, 0.88),
    (0.95, 0.95, 0.94),
    (0.14, 0.60, 0.30),
    (0.96, 0.48, 0.08),
    (0.50, 0.22, 0.66),
)
LAMPS = {"dawn": 0.45, "day": 0.0, "sunset": 0.7, "night": 1.0, "none": 0.0}
GLOOM = {"rain": 0.45, "fog": 0.4, "storm": 0.7, "snow": 0.25}
WET = {"rain": 1.0, "storm": 1.0, "fog": 0.35, "snow": 0.25}
WARM: RGB = (1.0, 0.72, 0.34)
COOL: RGB = (0.86, 0.92, 1.0)
RED: RGB = (1.0, 0.10, 0.06)
KERB, LOOP = 0.545, 3.6  # world y where the road begins, and the length of a lane's endless round


@dataclass(frozen=True)
class Block:
    """A row of buildings: a plate of ground's channels, warm windows and cool ones, at its depth."""

    texture: Tensor
    top: float
    depth: float
    haze: float


@dataclass(frozen=True)
class Lane:
    """Cars: premultiplied colour, coverage, white light, red light, and both lights' smears on the road."""

    texture: Tensor
    top: float
    bottom: float
    pace: float


class City:
    """Three rows of buildings, a river for some, a street with lamps, and two lanes of traffic."""

    def __init__(self, kit: Kit) -> None:
        self.river = kit.random.random() < 0.45
        self.shore = 0.27 if self.river else 0.52
        self.sky, self.weather = Sky(kit, horizon=0.3), Weather(kit)
        self.company = Company(kit, self.sky)
        self.beacons: list[tuple[float, float, float]] = []
        focus, drop = kit.random.uniform(-0.35, 0.35), self.shore - 0.27
        base = self.shore + 0.02
        self.blocks = (
            self._block(kit, base, (0.42, 0.95 + drop), (0.13, 0.24), (0.042, 0.050), 0.35, 0.50, focus),
            self._block(kit, base, (0.36, 1.02 + drop), (0.20, 0.32), (0.050, 0.060), 0.60, 0.24, focus),
            self._block(kit, base, (0.20 + drop, 0.66 + drop), (0.26, 0.44), (0.064, 0.076), 0.90, 0.05, -focus),
        )
        self.lamp_x = (torch.arange(6, device=kit.device) * 0.72 - 1.8).view(1, -1, 1, 1) + kit.random.uniform(0, 0.4)
        self.signal = kit.random.choice((-1, 1)) * kit.random.uniform(0.15, 0.6)
        self.street = self._street(kit)
        self.lanes = (self._lane(kit, 0.705, 0.20, 4, 0.85), self._lane(kit, 0.945, 0.285, 3, 1.1))
        self.ripples = kit.noise(128, 1.3, highest=0.22)
        spots = torch.tensor(sorted(self.beacons, key=lambda spot: spot[1])[:6], device=kit.device)
        self.beacon_x, self.beacon_y, self.beacon_depth = (part.view(1, -1, 1, 1) for part in spots.unbind(1))

    def _block(
        self,
        kit: Kit,
        base: float,
        tall: tuple[float, float],
        wide: tuple[float, float],
        pitch: tuple[float, float],
        depth: float,
        haze: float,
        focus: float,
    ) -> Block:
        draw = kit.random
        texture = torch.zeros(1, 7, kit.plate_y.shape[2], kit.plate_x.shape[3], device=kit.device)
        lots: list[tuple[float, float, float]] = []
        x = -1.95
        while x < 1.9:
            width = draw.uniform(*wide)
            near = math.exp(-(((x + width / 2 - focus) / 0.7) ** 2))
            height = tall[0] + (tall[1] - tall[0]) * draw.random() ** 1.2 * (0.5 + 0.5 * near)
            lots.append((x, width, height))
            x += width * draw.uniform(0.86, 1.12)
        draw.shuffle(lots)
        last = -1
        for x, width, height in lots:
            wall = draw.choice([i for i in range(len(WALLS)) if i != last])
            last = wall
            self._building(kit, texture, x, width, base - height, base, WALLS[wall], pitch, depth)
        return Block(texture, base - tall[1] - 0.24, depth, haze)

    def _building(
        self,
        kit: Kit,
        texture: Tensor,
        left: float,
        width: float,
        top: float,
        base: float,
        wall: RGB,
        pitch: tuple[float, float],
        depth: float,
    ) -> None:
        """Paint one building onto a block's texture."""
        draw, pixel = kit.random, 2 / kit.size
        columns = texture.shape[-1]
        start = max(0, math.floor((left - 0.05 + PLATE_X) / pixel))
        end = min(columns, math.ceil((left + width + 0.05 + PLATE_X) / pixel))
        if end - start < 2:
            return
        x, y = kit.plate_x[..., start:end], kit.plate_y
        middle, right, height = left + width / 2, left + width, base - top

        def box(a: float, b: float, line: Tensor | float) -> Tensor:
            across = ((x - a) / pixel + 0.5).clamp(0, 1) * ((b - x) / pixel + 0.5).clamp(0, 1)
            return across * ((y - line) / pixel + 0.5).clamp(0, 1)

        style = draw.choice(("flat", "flat", "setback", "setback", "slant", "dome", "spire"))
        line: Tensor | float = top
        if style == "slant":
            line = top + 0.35 * draw.choice((-1, 1)) * (x - middle) + 0.17 * width
        elif style == "dome":
            line = top + 0.45 * width * (1 - (1 - ((x - middle) / (0.5 * width)).square()).clamp(min=0).sqrt())
        cover = box(left, right, line)
        roof = y - line
        if style in ("setback", "spire"):
            first, second = top + 0.26 * height, top + 0.09 * height
            inner, middle_part = (0.33 * width, 0.17 * width)
            cover = torch.maximum(box(left, right, first), box(left + middle_part, right - middle_part, second))
            cover = torch.maximum(cover, box(left + inner, right - inner, top))
            edge = torch.where((x - middle).abs() < width / 2 - middle_part, second, first)
            roof = y - torch.where((x - middle).abs() < width / 2 - inner, top, edge)
        mast = 0.0
        if style == "spire" or (style == "flat" and draw.random() < 0.35):
            mast = 0.2 if style == "spire" else 0.10
            thin = (0.016 * ((y - top + mast) / mast).clamp(0.25, 1)) if style == "spire" else 0.008
            needle = ((thin - (x - middle).abs()) / pixel + 0.5).clamp(0, 1)
            cover = torch.maximum(cover, needle * (y > top - mast) * (y < top + 0.02))
            if depth > 0.5 and abs(middle) < 1.2:
                self.beacons.append((middle, top - mast, depth))
        elif depth > 0.5 and abs(middle) < 1.2:
            self.beacons.append((middle, top - 0.01, depth))
        down = ((y - top) / height).clamp(0, 1)
        corner = left + width * draw.choice((0.27, 0.33, 0.67, 0.73))
        bright, dim = 1.12, 0.62
        faces = (dim, bright) if self.sky.side > 0 else (bright, dim)
        shade = over(torch.tensor(faces[0]), torch.tensor(faces[1]), ((x - corner) / pixel + 0.5).clamp(0, 1))
        shade = shade * (1.10 - 0.34 * down)
        # Windows: so many to a floor, each lit or not.
        across, floors = max(2, round(width / pitch[0])), math.ceil(height / pitch[1]) + 1
        u, v = (x - left) / width * across, (y - top) / pitch[1]
        table = kit.uniform(0, 1, 3, floors, across)
        row, column = v.floor().long().clamp(0, floors - 1)[0, 0, :, 0], u.floor().long().clamp(0, across - 1)[0, 0, 0]
        cell = table[:, row][:, :, column][:, None, None]
        kind = draw.choice(("grid", "grid", "floors", "ribs"))
        half_u, half_v = {"grid": (0.30, 0.30), "floors": (0.46, 0.25), "ribs": (0.26, 0.44)}[kind]
        soft_u, soft_v = pixel / (width / across) / 2, pixel / pitch[1] / 2
        pane = smoothstep(half_u + soft_u, half_u - soft_u, (u - u.floor() - 0.5).abs())
        pane = pane * smoothstep(half_v + soft_v, half_v - soft_v, (v - v.floor() - 0.5).abs())
        pane = pane * smoothstep(0.25 * pitch[1], 0.5 * pitch[1], roof) * cover
        glass = over(kit.rgb((0.13, 0.22, 0.36)), kit.rgb((0.62, 0.80, 0.95)), cell[2] * (0.9 - 0.5 * down))
        colour = over(kit.rgb(wall) * shade, glass * (0.55 + 0.45 * shade), pane * 0.72)
        colour = over(colour, kit.rgb(wall) * 0.45, smoothstep(0.012, 0.0, roof) * 0.5)
        occupied = (cell[0] < draw.uniform(0.35, 0.65)).float() * (0.55 + 0.45 * cell[2])
        cool = (cell[1] > draw.uniform(0.55, 0.9)).float()
        settle = smoothstep(0.06, 0.015, roof) * 0.95 + 0.12
        new = torch.cat(
            [
                colour.clamp(0, 1) * cover,
                cover,
                settle.expand_as(cover) * cover,
                pane * occupied * (1 - cool),
                pane * occupied * cool,
            ],
            dim=1,
        )
        here = texture[..., start:end]
        here.mul_(1 - cover).add_(new)

    def _street(self, kit: Kit) -> Plate:
        """Pavement, road, lamp posts, a traffic light, and trees or a railing."""
        x, y, pixel = kit.plate_x, kit.plate_y, 2 / kit.size
        noise = kit.noise(128, 1.2, highest=0.35)
        grain = kit.plate_noise(noise, 0.5, 1.5)

        def fill(distance: Tensor) -> Tensor:
            return (0.5 - distance / pixel).clamp(0, 1)

        walk = kit.rgb((0.66, 0.62, 0.58)) * (0.97 + 0.05 * grain)
        tar = kit.rgb((0.27, 0.28, 0.32)) * (1 + 0.07 * grain) * (0.92 + 0.25 * (y - KERB))
        colour = over(walk, tar, fill(KERB - y))
        colour = over(colour, kit.rgb((0.84, 0.80, 0.74)), fill((y - KERB).abs() - 0.010))
        dash = torch.remainder(x, 0.40) - 0.2
        colour = over(colour, kit.rgb((0.92, 0.90, 0.80)), fill(dash.abs() - 0.10) * fill((y - 0.735).abs() - 0.009))
        colour = over(colour, walk, fill(0.99 - y))
        colour = over(colour, kit.rgb((0.84, 0.80, 0.74)), fill((y - 0.99).abs() - 0.012))
        settle = 0.75 - 0.45 * fill(KERB - y) * fill(y - 0.98) + 0.15 * grain
        coverage = fill(0.46 - y).expand(1, 1, y.shape[2], x.shape[3])
        if self.river:
            bars = fill((torch.remainder(x, 0.075) - 0.0375).abs() - 0.006) * fill((y - 0.43).abs() - 0.045)
            rail = torch.maximum(fill((y - 0.385).abs() - 0.009), bars)
            colour, coverage = over(colour, kit.rgb((0.32, 0.44, 0.42)), rail * fill(y - 0.46)), coverage.maximum(rail)
        else:
            gap = torch.remainder(x - self.lamp_x[0, 0, 0, 0].item() + 0.36, 0.72)
            for at, size in ((0.16, 0.075), (0.55, 0.090)):
                away = torch.remainder(gap - at + 0.36, 0.72) - 0.36
                leaves = kit.plate_noise(noise, 2.2, 2.2)
                crown = ((away / size).square() + ((y - 0.34) / (size * 1.25)).square()).sqrt() - 1 + 0.10 * leaves
                trunk = fill(away.abs() - 0.010) * fill((y - 0.42).abs() - 0.07)
                colour = over(colour, kit.rgb((0.30, 0.20, 0.13)), trunk)
                lit = 0.85 + 0.30 * self.sky.side * away / size - 2.2 * (y - 0.34) + 0.22 * leaves
                leafy = fill(crown * size)
                colour = over(colour, kit.rgb((0.20, 0.52, 0.20)) * lit.clamp(0.3, 1.5), leafy)
                coverage = coverage.maximum(trunk).maximum(leafy)
                settle = over(settle, 0.6 - 3 * (y - 0.34), leafy)
        iron = kit.rgb((0.16, 0.18, 0.21))
        away = torch.remainder(x - self.lamp_x[0, 0, 0, 0].item() + 0.36, 0.72) - 0.36
        post = fill(away.abs() - 0.009) * fill((y - 0.31).abs() - 0.21)
        post = post.maximum(fill((away - 0.035).abs() - 0.045) * fill((y - 0.10).abs() - 0.009))
        box = fill((x - self.signal).abs() - 0.045) * fill((y - 0.19).abs() - 0.115)
        post = post.maximum(box).maximum(fill((x - self.signal).abs() - 0.010) * fill((y - 0.40).abs() - 0.12))
        return plate(over(colour, iron, post), coverage.maximum(post), settle * (1 - post), 0.06)

    def _lane(self, kit: Kit, ground: float, length: float, cars: int, pace: float) -> Lane:
        """Cars on a lane's round; `length` is half of a car's, and `ground` the world y of their wheels."""
        draw, fine = kit.random, 3
        top, bottom = ground - 0.95 * length, ground + 0.55 * length
        columns, rows = round(LOOP * kit.size / 2), max(2, round((bottom - top) * kit.size / 2))
        x = ((torch.arange(columns * fine, device=kit.device) + 0.5) / (columns * fine) * LOOP).view(1, 1, 1, -1)
        y = top + (bottom - top) * (torch.arange(rows * fine, device=kit.device) + 0.5).view(1, 1, -1, 1) / (
            rows * fine
        )
        texture = torch.zeros(1, 8, rows * fine, columns * fine, device=kit.device)
        paints = draw.sample(CARS, cars)
        bus = draw.randrange(cars)
        for car in range(cars):
            long = 1.5 if car == bus else 1.0
            at = (car + 0.5 + draw.uniform(-0.12, 0.12)) / cars * LOOP
            u = (torch.remainder(x - at + LOOP / 2, LOOP) - LOOP / 2) / length
            v = (ground - y) / length
            self._car(texture, kit, u, v, paints[car], long, car == bus)
        texture = F.avg_pool2d(texture, fine)
        return Lane(texture, top, bottom, pace)

    def _car(self, texture: Tensor, kit: Kit, u: Tensor, v: Tensor, paint: RGB, long: float, bus: bool) -> None:
        """A car or bus that drives to the right; u and v are in units of a car's half length, v up from the road."""
        roof = 0.86 if bus else 0.70
        taper = ((v - 0.40) / 0.30).clamp(0, 1)
        body = torch.maximum(
            u.abs() - (long - 0.04 - 0.10 * ((v - 0.30) / 0.2).square() * (not bus)), (v - 0.30).abs() - 0.17
        )
        if bus:
            cabin = torch.maximum(u.abs() - long + 0.02 * v, (v - 0.5).abs() - 0.36)
            pane = torch.maximum((torch.remainder(u, 0.30) - 0.15).abs() - 0.125, (v - 0.62).abs() - 0.12)
            pane = torch.maximum(pane, u.abs() - long + 0.07)
        else:
            cabin = torch.maximum((u + 0.08).abs() - (0.66 - 0.27 * taper), (v - 0.54).abs() - (roof - 0.54))
            pane = torch.maximum((u + 0.08).abs() - (0.57 - 0.27 * taper), (v - 0.54).abs() - 0.10)
            pane = torch.maximum(pane, 0.03 - (u + 0.08).abs())
        hub = torch.minimum((u - 0.60 * long).square(), (u + 0.60 * long).square()) + (v - 0.15).square()
        wheel = hub.sqrt() - 0.165
        shape = (torch.minimum(torch.minimum(body, cabin), wheel) < 0).float()
        shade = 0.72 + 0.45 * ((v - 0.1) / 0.6).clamp(0, 1) - 0.15 * ((v < 0.24) & (v > 0.1)).float()
        colour = kit.rgb(paint) * shade + 0.12 * (v > roof - 0.06).float()
        colour = over(colour, kit.rgb((0.30, 0.44, 0.56)) * (0.55 + 0.7 * (v - 0.3)), (pane < 0).float())
        colour = over(colour, kit.rgb((0.07, 0.07, 0.08)), (wheel < 0).float())
        colour = over(colour, kit.rgb((0.72, 0.74, 0.76)), (hub < 0.006).float())
        under = smoothstep(long + 0.08, long - 0.2, u.abs()) * smoothstep(-0.12, -0.02, v) * (v < 0.16) * 0.6
        cover = torch.maximum(shape, under * (1 - shape))
        ahead, behind = u - long + 0.05, -u - long + 0.05
        white = torch.exp(-(((u - long + 0.06) / 0.10) ** 2) - ((v - 0.34) / 0.09) ** 2) * 1.5
        beam = torch.exp(-(((v - 0.22 + 0.10 * ahead) / (0.08 + 0.16 * ahead.clamp(min=0))) ** 2)) * (ahead > 0)
        white = white + 0.45 * beam * torch.exp(-ahead.clamp(min=0) * 2.2)
        if bus:
            white = white + 0.65 * (pane < 0).float()
        red = torch.exp(-(((u + long - 0.05) / 0.09) ** 2) - ((v - 0.36) / 0.10) ** 2) * 1.5
        smear = torch.exp(-((v + 0.1).abs() / 0.30)) * (v < 0.05)
        white_road = smear * torch.exp(-(((ahead - 0.12) / 0.22) ** 2))
        red_road = smear * torch.exp(-(((behind - 0.02) / 0.14) ** 2))
        new = torch.cat([colour.clamp(0, 1) * shape, cover, white, red, white_road, red_road], dim=1)
        texture[:, :4].mul_(1 - cover)
        texture.add_(new)

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        gloom = shot.mix("weather", lambda value: GLOOM.get(value, 0.0))
        wet = shot.mix("weather", lambda value: WET.get(value, 0.0))
        lamps = (shot.mix("time", LAMPS.__getitem__) + gloom).clamp(0, 1)
        image = self.sky.paint(shot, light)
        image = self.weather.flash(shot, image)
        height = (self.shore - shot.y).clamp(min=0)
        image = image + torch.exp(-height * 2.6) * (lamps * light.night) * shot.rgb((0.30, 0.17, 0.15))
        image = self.company.fly(shot, light, image)
        for block in self.blocks:
            image = self._buildings(shot, light, image, block, lamps)
        image = self._beacons(shot, image, lamps)
        if self.river:
            image = self._water(shot, light, image)
        above = F.avg_pool2d(image, (max(1, shot.size // 14), 2))
        ambient = Light(shot, self.sky.side)
        ambient.light = light.light + lamps * shot.rgb((0.32, 0.27, 0.22)) * (1 - 0.5 * light.light)
        image = lay(shot, ambient, image, self.street, 1.0, 0.0)
        image = self._shine(shot, image, above, lamps, wet)
        image = self._lights(shot, image, lamps)
        for lane in self.lanes:
            image = self._traffic(shot, ambient, image, lane, lamps, wet)
        return self.weather.paint(shot, light, image)

    def _buildings(self, shot: Shot, light: Light, image: Tensor, block: Block, lamps: Tensor) -> Tensor:
        band = shot.strip(block.top, self.shore + 0.03, block.depth)
        seen = band.place(block.texture, block.depth)
        x, y = band.world(block.depth)
        colour, coverage = seen[:, :3], seen[:, 3:4]
        colour = colour + (0.95 * coverage - colour) * (seen[:, 4:5] * light.snow)
        # The night's glow from the streets lifts the walls, most near the ground.
        street = torch.exp(-((self.shore - y).clamp(min=0) * 2.2)) * lamps * (1 - 0.6 * light.light)
        lift = light.light + 0.12 * lamps * light.night + street * shot.rgb((0.40, 0.25, 0.17))
        air = light.air(block.haze)
        lit = colour * (lift * (1 - air)) + coverage * (light.horizon * air)
        twinkle = torch.sin(61 * x + 1.1 * shot.t) * torch.sin(47 * y - 0.8 * shot.t)
        order = torch.sin(37 * x + 1.0) * torch.sin(29 * y + 0.35 * shot.t)
        burning = (smoothstep(-0.12, 0.14, lamps * 1.6 - 0.62 + 0.42 * order) * lamps.sqrt()) * (0.86 + 0.30 * twinkle)
        panes = seen[:, 5:7] * (burning * ((1 - 0.75 * air) * (0.75 + 0.3 * light.night)))
        windows = torch.einsum("nkyx,kc->ncyx", panes, torch.tensor((WARM, COOL), device=shot.device))
        here = image[:, :, band.rows]
        here.mul_(1 - coverage).add_(lit).add_(windows)
        return image

    def _beacons(self, shot: Shot, image: Tensor, lamps: Tensor) -> Tensor:
        x = (self.beacon_x - shot.pan * self.beacon_depth) * shot.zoom**self.beacon_depth
        y = (self.beacon_y - 0.2 - shot.tilt * self.beacon_depth) * shot.zoom**self.beacon_depth + 0.2
        blink = 0.25 + 0.75 * torch.sin(shot.t * 2.6 + self.beacon_x * 9).clamp(min=0)
        red = shot.rgb(RED).view(1, 1, 3, 1)
        return image + shot.dots(x, y, 0.022, blink * lamps * red)

    def _water(self, shot: Shot, light: Light, image: Tensor) -> Tensor:
        """The river, which mirrors the towers."""
        band = shot.strip(self.shore, 0.50, 1.0)
        line = shot.to_screen(0.0, self.shore)[1]
        below = (band.y - line).clamp(min=0)
        x, _ = band.world(1.0)
        wave = wrapped(self.ripples, x * 0.55 + 0.04 * shot.t, below * 5.5 - 0.10 * shot.t)
        wave = 0.6 * wave + 0.6 * wrapped(self.ripples, x * 1.1 - 0.05 * shot.t + 0.3, below * 8.0 - 0.16 * shot.t)
        pooled = F.avg_pool2d(image, (2, 1))
        seen = self._mirrored(pooled, band.x + wave * (0.004 + 0.05 * below), line - below * 2.3 - wave * 0.035)
        water = over(seen * 0.88, light.paint((0.05, 0.24, 0.36)), (0.22 + 0.5 * below - 0.06 * wave).clamp(0, 0.6))
        water = water + light.horizon * 0.10 * wave.clamp(0, 2)
        cover = ((band.y - line) * shot.size / 2 + 0.5).clamp(0, 1)
        image[:, :, band.rows] = over(image[:, :, band.rows], water, cover)
        return image

    @staticmethod
    def _mirrored(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
        u, v = torch.broadcast_tensors(u, v)
        grid = torch.stack([u[:, 0], v[:, 0]], dim=-1)
        return F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _shine(self, shot: Shot, image: Tensor, above: Tensor, lamps: Tensor, wet: Tensor) -> Tensor:
        """The street shows the lights above it, and all of the city when it is wet."""
        band = shot.strip(KERB, 2.0, 1.0)
        line = shot.to_screen(0.0, KERB)[1]
        below = (band.y - line).clamp(min=0)
        x, _ = band.world(1.0)
        wave = wrapped(self.ripples, x * 0.7, below * 3.0 + 0.20 * shot.t)
        seen = self._mirrored(above, band.x + wave * (0.01 + 0.02 * wet), line - 0.05 - below * 2.0)
        sheen = (0.10 + 0.10 * lamps + 0.42 * wet) * (0.85 + 0.25 * wave * wet) * smoothstep(0.0, 0.03, below)
        image[:, :, band.rows] = over(image[:, :, band.rows], seen, sheen.clamp(0, 0.75)) + seen * (0.16 * lamps * wet)
        return image

    def _lights(self, shot: Shot, image: Tensor, lamps: Tensor) -> Tensor:
        """Street lamps, their pools of light, and the traffic light."""
        frames, posts = len(shot.t), self.lamp_x.shape[1]
        warm = (shot.rgb(WARM).view(1, 1, 3, 1) * lamps).expand(-1, posts, -1, -1)
        x, y, scale = shot.to_screen(self.lamp_x + 0.07, 0.115)
        ground = shot.to_screen(self.lamp_x + 0.07, 0.60)[1]
        pools = shot.dots(x, ground, 0.20 * scale, warm * 0.20, tall=0.45)
        phase = torch.remainder(shot.t, 7.0)
        green = smoothstep(0.0, 0.15, phase) * smoothstep(4.0, 3.85, phase)
        amber = smoothstep(3.85, 4.0, phase) * smoothstep(5.0, 4.85, phase)
        hues = torch.tensor((RED, (1.0, 0.65, 0.05), (0.10, 1.0, 0.45)), device=shot.device).view(1, 3, 3, 1)
        signal = torch.cat([1 - green - amber, amber, green], dim=1) * hues * 1.1
        heights = torch.tensor((0.115, 0.19, 0.265), device=shot.device).view(1, 3, 1, 1)
        signal_x, signal_y, _ = shot.to_screen(self.signal, heights)
        across = torch.cat([x, x, signal_x.expand(-1, 3, -1, -1)], dim=1)
        down = torch.cat([y.expand(-1, posts, -1, -1)] * 2 + [signal_y], dim=1)
        sizes = torch.tensor([0.030] * posts + [0.15] * posts + [0.032] * 3, device=shot.device).view(1, -1, 1, 1)
        strength = torch.cat([warm * 1.1, warm * 0.20, signal.expand(frames, -1, -1, -1)], dim=1)
        return image + shot.dots(across, down, sizes * scale, strength) + pools

    def _traffic(self, shot: Shot, light: Light, image: Tensor, lane: Lane, lamps: Tensor, wet: Tensor) -> Tensor:
        speed = (0.62 if shot.first("speed") == "fast" else 0.20) * lane.pace
        sign = -1 if shot.first("direction") == "left" else 1
        band = shot.strip(lane.top, lane.bottom, 1.0)
        x, y = band.world(1.0)
        u = (sign * x - speed * (shot.t - shot.middle)) / LOOP
        v = ((y - lane.top) / (lane.bottom - lane.top)).clamp(0.002, 0.998)
        inside = (y > lane.top) & (y < lane.bottom)
        seen = wrapped(lane.texture, u, v) * inside
        coverage = seen[:, 3:4]
        air = light.air(0.0)
        body = seen[:, :3] * ((light.light + 0.05) * (1 - air)) + (coverage * air) * light.horizon
        white = seen[:, 4:5] * (0.10 + 0.90 * lamps) + seen[:, 6:7] * lamps * (0.15 + 0.5 * wet)
        red = seen[:, 5:6] * (0.30 + 0.70 * lamps) + seen[:, 7:8] * lamps * (0.2 + 0.7 * wet)
        here = image[:, :, band.rows]
        here.mul_(1 - coverage).add_(body)
        here.add_(white * shot.rgb((1.0, 0.92, 0.68))).add_(red * shot.rgb(RED))
        return image
