"""A campfire in a clearing at night, burning or smouldering."""

import math

import torch
from torch import Tensor

from arlon_cli.dioramas.ground import forest, hills, lay, plate
from arlon_cli.dioramas.painter import RGB, Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.weather import Weather

FIRELIGHT: RGB = (1.0, 0.52, 0.18)
TENTS: tuple[RGB, ...] = ((0.80, 0.34, 0.14), (0.20, 0.50, 0.56), (0.72, 0.60, 0.26), (0.50, 0.22, 0.40))


class Campfire:
    """Trees stand around a fire of logs in a ring of stones; what is baked knows how much of its light it gets."""

    foot, clearing = 0.66, 0.30  # world y of the fire and of the clearing's far edge

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit, horizon=0.2), Weather(kit)
        side = self.sky.side
        self.x = kit.random.uniform(-0.12, 0.12)
        self.hills = hills(kit, 0.12, 0.22, (0.26, 0.34, 0.42), side) if kit.random.random() < 0.5 else None
        self.far = forest(kit, 0.24, 0.34, (0.16, 0.30, 0.26), side, rows=1)
        trees = forest(kit, 0.30, kit.random.uniform(0.38, 0.52), (0.15, 0.33, 0.19), side, rows=2, gap=0.12)
        x, y = kit.plate_x - self.x, kit.plate_y
        warmth = 0.75 * torch.exp(-((x / 0.75) ** 2) - ((y - 0.36) / 0.34) ** 2)
        self.trees = torch.cat([trees.texture, warmth], 1)
        self.top = trees.top
        self.near = self._clearing(kit)
        self.noise = kit.noise(128, 1.3, highest=0.25)
        tongues = 7
        at = (torch.arange(tongues, device=kit.device) - (tongues - 1) / 2).view(1, -1, 1, 1) / tongues * 2
        self.tongue_x = 0.21 * at + kit.uniform(-0.03, 0.03, 1, tongues, 1, 1)
        self.tongue_tall = (1 - 0.66 * at.abs()) * kit.uniform(0.7, 1.0, 1, tongues, 1, 1)
        self.tongue_wide = kit.uniform(0.070, 0.105, 1, tongues, 1, 1)
        self.tongue_phase = kit.uniform(0, 6.28, 1, tongues, 1, 1)
        self.tongue_pace = kit.uniform(3.5, 6.5, 1, tongues, 1, 1)
        sparks = 34
        self.spark_phase = kit.uniform(0, 1, 1, sparks, 1, 1)
        self.spark_life = kit.uniform(1.6, 3.2, 1, sparks, 1, 1)
        self.spark_x = kit.uniform(-0.15, 0.15, 1, sparks, 1, 1)
        self.spark_out = kit.uniform(-0.22, 0.22, 1, sparks, 1, 1)
        self.spark_size = kit.uniform(0.011, 0.019, 1, sparks, 1, 1)
        self.wind = kit.random.choice((-1, 1)) * kit.random.uniform(0.06, 0.14)

    def _clearing(self, kit: Kit) -> Tensor:
        """Ground, tent, trunks, stones and logs: a plate's texture and channels of firelight and of embers."""
        x, y = kit.plate_x - self.x, kit.plate_y
        noise = kit.noise(128, 1.0, highest=0.45)
        far = ((y - self.clearing) / (1 - self.clearing)).clamp(0.02, 1.3)
        flat = (far + 0.25).sqrt()
        patches = wrapped(noise, x * 0.35 / flat, 1.1 * flat)
        blades = wrapped(noise, x * 1.1 / flat, 2.4 * flat)
        edge = self.clearing + 0.012 * kit.profile(1.0, lowest=3, highest=0.4)
        out = (x.square() + ((y - self.foot) * 2.3).square()).sqrt()
        earth = smoothstep(0.75, 0.35, out + 0.07 * patches)
        turf = over(kit.rgb((0.27, 0.36, 0.17)), kit.rgb((0.36, 0.37, 0.18)), smoothstep(-0.5, 1.0, patches))
        colour = over(turf, kit.rgb((0.44, 0.34, 0.25)), 0.85 * earth) * (1 + 0.16 * blades)
        warmth = 1.5 / (1 + (out / 0.42).square() * 1.2) * (1 + 0.18 * blades)
        snow = smoothstep(0.28, 0.48, out + 0.04 * patches) * (0.9 + 0.12 * blades)
        texture = self._add(kit, None, colour, kit.below(edge), snow, warmth)
        place = kit.random.choice((-1.0, 1.0))
        camp = kit.random.random()
        for sign in (-1.0, 1.0):
            if sign == place and camp < 0.65:
                texture = self._trunk(kit, texture, noise, sign * kit.random.uniform(1.15, 1.3), 0.44)
                texture = self._tent(kit, texture, noise, sign * kit.random.uniform(0.66, 0.74))
            else:
                texture = self._trunk(kit, texture, noise, sign * kit.random.uniform(0.46, 0.58), 0.40)
                texture = self._trunk(kit, texture, noise, sign * kit.random.uniform(0.84, 1.0), 0.55)
        return self._hearth(kit, texture, noise)

    @staticmethod
    def _add(
        kit: Kit,
        under: Tensor | None,
        colour: Tensor,
        cover: Tensor,
        snow: Tensor | float,
        warmth: Tensor | float,
        ember: Tensor | float = 0.0,
    ) -> Tensor:
        """Add a part to the plate."""
        full = torch.zeros_like(kit.plate_x + kit.plate_y)
        part = plate(colour, cover + full, snow + full, 0).texture
        part = torch.cat([part, (warmth + full).clamp(0, 2) * cover, (ember + full) * cover], 1)
        return part if under is None else under * (1 - cover) + part

    @staticmethod
    def _cover(kit: Kit, distance: Tensor) -> Tensor:
        return (0.5 - distance * kit.size / 2).clamp(0, 1)

    def _trunk(self, kit: Kit, texture: Tensor, noise: Tensor, at: float, foot: float) -> Tensor:
        """A tall tree whose side towards the fire is lit."""
        y = kit.plate_y
        size = 0.45 + foot
        lean = kit.random.uniform(-0.06, 0.06)
        x = kit.plate_x - self.x - at - lean * (foot - y)
        half = size * (0.068 + 0.018 * (y + 0.4)) + 0.05 * smoothstep(foot - 0.16, foot + 0.02, y)
        across = (x / half).clamp(-1, 1)
        bark = wrapped(noise, x * 2.2 + at, y * 0.35) + 0.4 * wrapped(noise, x * 3.0, y * 1.2)
        toward = -math.copysign(1.0, at)
        shade = 0.85 + 0.16 * bark + 0.25 * across * self.sky.side
        facing = smoothstep(-0.55, 1.0, across * toward + 0.12 * bark)
        reach = torch.exp(-((y - 0.42) / 0.62).square()) / (1 + (at / 0.75) ** 2) * 1.9
        cover = self._cover(kit, torch.maximum(x.abs() - half, y - foot - 0.03 * across.square().neg() - 0.02))
        return self._add(kit, texture, kit.rgb((0.36, 0.27, 0.21)) * shade, cover, 0.10, facing * reach)

    def _tent(self, kit: Kit, texture: Tensor, noise: Tensor, at: float) -> Tensor:
        """A ridge tent whose mouth looks towards the fire."""
        toward = -math.copysign(1.0, at)
        x, y = (kit.plate_x - self.x - at) * toward, kit.plate_y  # x grows towards the fire
        foot, tall = 0.56, 0.46
        cloth = kit.rgb(kit.random.choice(TENTS))
        up = ((foot - y) / tall).clamp(0, 1)
        fold = 0.05 * wrapped(noise, x * 0.7, y * 0.5)
        # the long side, from the ridge down and away from the fire
        sag = 0.02 * torch.sin(((x + 0.45) / 0.5).clamp(0, 1) * math.pi)
        low, high = -0.44 + 0.17 * up, 0.06 + 0.02 * up
        roof = torch.maximum(torch.maximum(low - x, x - high), torch.maximum(foot - tall + sag - y, y - foot + 0.04))
        shade = 0.80 + 0.18 * up + fold
        texture = self._add(kit, texture, cloth * shade, self._cover(kit, roof), 0.85 * up.sqrt(), 0.20 + 0.12 * up)
        # the front, a triangle, and its dark mouth
        middle = 0.08
        half = 0.26 * (1 - up)
        front = torch.maximum((x - middle).abs() - half, torch.maximum(y - foot, foot - tall - y))
        lit = 0.95 + 0.25 * ((x - middle) / 0.26) + 2.0 * fold
        texture = self._add(kit, texture, cloth * 1.12 * (0.9 + fold), self._cover(kit, front), 0.12, lit)
        mouth = torch.maximum((x - middle - 0.01).abs() - 0.12 * (1 - 1.35 * up), y - foot + 0.005)
        inside = kit.rgb((0.26, 0.17, 0.12)) * (0.8 + 0.6 * (1 - up))
        texture = self._add(kit, texture, inside, self._cover(kit, mouth), 0.0, 0.45 * (1 - up))
        pole = torch.maximum((x - middle).abs() - 0.009, torch.maximum(y - foot, foot - tall - 0.03 - y))
        return self._add(kit, texture, kit.rgb((0.55, 0.42, 0.28)), self._cover(kit, pole), 0.0, 0.7)

    def _hearth(self, kit: Kit, texture: Tensor, noise: Tensor) -> Tensor:
        """A ring of stones, ash, and crossed logs that glow where they meet."""
        x, y = kit.plate_x - self.x, kit.plate_y - self.foot
        ring = 15
        angles = [2 * math.pi * (i + kit.random.uniform(-0.2, 0.2)) / ring for i in range(ring)]
        stones = sorted((math.sin(angle) * 0.12, math.cos(angle) * 0.34) for angle in angles)

        def lay_stones(texture: Tensor, front: bool) -> Tensor:
            for sy, sx in stones:
                if (sy > 0.02) != front:
                    continue
                rx, ry = kit.random.uniform(0.058, 0.078), kit.random.uniform(0.044, 0.056)
                u, v = (x - sx) / rx, (y - sy) / ry
                r = (u.square() + v.square()).sqrt()
                grain = 0.08 * wrapped(noise, x * 1.5, y * 1.5)
                shade = 0.95 + grain + 0.25 * self.sky.side * u - 0.30 * v
                inward = -(u * sx / 0.34 + v * sy / 0.12)
                warmth = 0.35 + 0.95 * (inward + 0.15 - 0.4 * v).clamp(0, 1.2)
                cover = self._cover(kit, (r - 1) * 0.05)
                tone = kit.random.uniform(0.85, 1.1)
                stone = kit.rgb((0.46, 0.44, 0.45)) * tone * shade
                texture = self._add(
                    kit, texture, stone, cover, (0.3 - v).clamp(0, 1) * (0.8 if sy > 0 else 0.4), warmth
                )
            return texture

        ash = smoothstep(0.34, 0.24, (x.square() + (y * 2.7).square()).sqrt())
        grain = wrapped(noise, x * 1.6, y * 1.8)
        glow = smoothstep(-0.3, 1.2, grain) * smoothstep(0.33, 0.14, (x.square() + (y * 2.4).square()).sqrt())
        texture = self._add(kit, texture, kit.rgb((0.24, 0.20, 0.19)) * (1 + 0.15 * grain), ash, 0.0, 1.1, glow * 0.9)
        texture = lay_stones(texture, False)
        for ax, ay, bx, by in (
            (-0.22, -0.03, 0.13, -0.07),
            (0.23, -0.02, -0.12, -0.08),
            (-0.27, 0.07, 0.17, -0.02),
            (0.26, 0.08, -0.15, -0.01),
            (-0.06, 0.10, 0.05, -0.13),
        ):
            ax, bx = ax + kit.random.uniform(-0.03, 0.03), bx + kit.random.uniform(-0.03, 0.03)
            length = math.hypot(bx - ax, by - ay)
            ux, uy = (bx - ax) / length, (by - ay) / length
            along, aside = (x - ax) * ux + (y - ay) * uy, (y - ay) * ux - (x - ax) * uy
            aside = aside * math.copysign(1.0, ux)
            distance = torch.maximum(aside.abs() - 0.036, (along - length / 2).abs() - length / 2)
            bark = wrapped(noise, along * 0.8 + ax, aside * 4.0)
            round_ = 1.0 - 0.9 * (aside / 0.036 + 0.35).square() * 0.4 + 0.14 * bark
            char = smoothstep(0.10, length * 0.75, along)
            wood = over(kit.rgb((0.50, 0.34, 0.22)), kit.rgb((0.20, 0.16, 0.15)), char)
            ember = smoothstep(-0.2, 1.1, bark + 0.4 * char) * smoothstep(0.3, 0.9, char) * 1.2
            warmth = 0.45 + 0.5 * char
            cover = self._cover(kit, distance)
            texture = self._add(kit, texture, wood * round_, cover, 0.5 * (1 - char) * (aside < 0), warmth, ember)
            butt = (((along - 0.006) / 0.016).square() + (aside / 0.034).square()).sqrt()
            ends = kit.rgb((0.66, 0.50, 0.33)) * (0.85 + 0.15 * torch.cos(butt * 12))
            texture = self._add(kit, texture, ends, self._cover(kit, (butt - 1) * 0.016), 0.0, 0.3)
        return lay_stones(texture, True)

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        burning = shot.amount("state", "burning")
        flicker = 0.86 + 0.09 * torch.sin(shot.t * 9.1) * torch.sin(shot.t * 3.7 + 1) + 0.05 * torch.sin(shot.t * 15.3)
        fire = (0.16 + 0.84 * burning) * flicker
        image = self.sky.paint(shot, light)
        if self.hills is not None:
            image = lay(shot, light, image, self.hills, 0.25, 0.5, bottom=0.3)
        image = lay(shot, light, image, self.far, 0.5, 0.30, bottom=0.4)
        image = self._lay(shot, light, image, self.trees, 0.8, shot.strip(self.top, 0.5, 0.8), fire, 0.10)
        image = self._lay(shot, light, image, self.near, 1.0, shot, fire, 0.0)
        image = self._smoke(shot, light, image, burning)
        image = self.weather.paint(shot, light, image)
        image = self._embers(shot, image, burning)
        image = self._flames(shot, image, burning)
        return self._glow(shot, image, fire, burning)

    def _lay(
        self,
        shot: Shot,
        light: Light,
        image: Tensor,
        texture: Tensor,
        depth: float,
        band: Shot,
        fire: Tensor,
        haze: float,
    ) -> Tensor:
        """Paint a plate by the light of the sky and of the fire, which dances."""
        seen = band.place(texture[:, :6], depth)
        colour, cover, warmth = seen[:, :3], seen[:, 3:4], seen[:, 5:]
        if any(span.attributes["weather"] == "snow" for span in shot.scene.spans):
            colour = colour + (0.95 * cover - colour) * (seen[:, 4:5] * light.snow)
        dance = 1 + 0.16 * torch.sin(band.x * 7 + band.y * 4 + shot.t * 6.3) * torch.sin(shot.t * 2.9 - band.x * 3)
        warm = image.new_tensor(FIRELIGHT).view(1, 3, 1, 1) * (1.75 * fire)
        air = light.air(haze)
        warm = warm * (1 - 0.22 * light.snow)
        lit = colour * (light.light * (1 + 0.25 * light.night) + warm * (warmth * dance)) * (1 - air)
        image[:, :, band.rows].mul_(1 - cover).add_(lit)
        image[:, :, band.rows].add_(cover * (light.horizon * air))
        return image

    def _embers(self, shot: Shot, image: Tensor, burning: Tensor) -> Tensor:
        """Glowing cracks in the logs, which breathe."""
        band = shot.strip(self.foot - 0.18, self.foot + 0.2, 1.0)
        ember = band.place(self.near[:, 6:], 1.0)
        breath = wrapped(self.noise, band.x * 0.9 + 0.06 * shot.t, band.y * 0.9 - 0.10 * shot.t)
        heat = ember * (0.78 + 0.30 * breath + 0.10 * torch.sin(shot.t * 2.3)).clamp(0.1, 1.5) * (1.15 - 0.35 * burning)
        glow = torch.cat([heat * 1.25, heat.square() * 0.52, heat**3 * 0.14], 1)
        image[:, :, band.rows] += glow
        return image

    def _flames(self, shot: Shot, image: Tensor, burning: Tensor) -> Tensor:
        """Tongues that lick, lean and tear off."""
        x, y, scale = shot.to_screen(self.x, self.foot - 0.46, 1.0)
        tall = 0.13 + 0.77 * burning
        pace = shot.t * self.tongue_pace + self.tongue_phase
        height = self.tongue_tall * tall * (0.80 + 0.16 * torch.sin(pace) + 0.08 * torch.sin(pace * 1.73))
        lean = 0.10 * torch.sin(shot.t * 1.9 + self.tongue_phase) + self.wind * (0.7 + 0.3 * torch.sin(shot.t * 0.8))

        def sprite(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            up = 0.42 - v  # above the logs
            rise = up.clamp(min=0)
            curl = wrapped(self.noise, u * 0.55 + 0.3, v * 0.42 + shot.t * 0.62)
            tear = wrapped(self.noise, u * 1.1, v * 0.75 + shot.t * 0.95)
            bend = u + 0.075 * curl * (rise / 0.35).clamp(max=1.3)
            s = rise / height
            width = self.tongue_wide * (0.35 + 0.65 * burning) * (0.55 + 1.5 * s) * (1 - s).clamp(min=0) ** 0.8 * 1.2
            width = width + 0.02
            away = (bend - self.tongue_x * (1 - 0.55 * s.clamp(max=1)) * (0.6 + 0.4 * burning) - lean * rise**1.3).abs()
            body = (1 - away / width - 3 * (s - 0.92).clamp(min=0)).amax(1, keepdim=True).clamp(min=-1)
            body = body + 0.30 * tear * (rise / tall).clamp(max=1.0)
            alpha = smoothstep(0.0, 0.28, body) * smoothstep(-0.05, 0.06, up)
            streak = 0.16 * tear + 0.10 * curl
            heat = (0.80 * body + 0.22 + streak - 0.55 * (rise / tall) - 0.8 * (bend / 0.36).square()).clamp(0, 1)
            red = 0.86 + 0.14 * smoothstep(0.0, 0.25, heat)
            green = 0.13 + 0.52 * smoothstep(0.0, 0.5, heat) + 0.30 * smoothstep(0.45, 1.0, heat)
            blue = 0.02 + 0.14 * smoothstep(0.3, 0.6, heat) + 0.48 * smoothstep(0.62, 1.1, heat)
            return torch.cat([red, green, blue], 1), alpha * (0.55 + 0.45 * burning) * 0.96

        return shot.stamp(image, sprite, x, y, 1.2 * scale, 0.86 if shot.first("camera").startswith("zoom") else 0.68)

    def _smoke(self, shot: Shot, light: Light, image: Tensor, burning: Tensor) -> Tensor:
        """A winding plume: thick over embers, thin over flames."""
        soft = shot.coarse()
        x, y = soft.world(1.0)
        up = (self.foot - 0.06 - 0.45 * burning - y).clamp(min=0)
        x = x - self.x
        centre = self.wind * 1.6 * up**1.2 + 0.07 * torch.sin(up * 5.5 - soft.t * 1.3) * (up * 2).clamp(max=1)
        width = 0.045 + 0.17 * up
        puff = wrapped(self.noise, (x - centre) * 0.75, y * 0.5 + soft.t * 0.17)
        body = 1.1 - ((x - centre) / width).square() + 0.55 * puff
        density = smoothstep(0.0, 1.3, body) * smoothstep(0.0, 0.08, up) * torch.exp(-0.75 * up)
        warm = image.new_tensor(FIRELIGHT).view(1, 3, 1, 1) * (0.30 + 0.40 * burning) * torch.exp(-up * 3.0)
        grey = image.new_tensor((0.62, 0.64, 0.68)).view(1, 3, 1, 1) * (light.light * 0.7 + 0.25)
        layers = torch.cat([grey * (1 + 0.14 * puff) + warm, density * (0.72 - 0.50 * burning)], 1)
        layers = shot.fine(layers)
        return over(image, layers[:, :3], layers[:, 3:])

    def _glow(self, shot: Shot, image: Tensor, fire: Tensor, burning: Tensor) -> Tensor:
        """The halo of the fire, and sparks that whirl up."""
        x, y, scale = shot.to_screen(self.x, self.foot - 0.08 - 0.16 * burning, 1.0)
        radius = shot.t.new_tensor([0.30, 0.85]).view(1, 2, 1, 1) * scale
        mist = 1 + 0.8 * shot.amount("weather", "fog", "rain")
        strength = torch.cat([0.16 * fire, 0.20 * fire * mist], 1) + 0.08
        halo = shot.dots(x, y, radius, strength)
        age = torch.remainder(shot.t / self.spark_life + self.spark_phase, 1.0)
        rise = age * (0.55 + 0.75 * burning) + 0.04
        whirl = 0.05 * torch.sin(age * 9 + self.spark_phase * 40) * (0.3 + age)
        at = self.x + self.spark_x * (1 - 0.5 * age) + (self.spark_out + 1.5 * self.wind) * age + whirl
        sx, sy, scale = shot.to_screen(at, self.foot - rise, 1.0)
        twinkle = 0.7 + 0.3 * torch.sin(shot.t * 14 + self.spark_phase * 60)
        alive = smoothstep(0.0, 0.08, age) * smoothstep(1.0, 0.55, age) * twinkle
        few = smoothstep(0.0, 0.1, burning * 1.1 - self.spark_phase + 0.25)
        sparks = shot.dots(sx, sy, self.spark_size * scale, (alive * few).expand_as(sx), tall=1.4)
        image = image + (1 - image).clamp(min=0) * halo * image.new_tensor((1.0, 0.45, 0.12)).view(1, 3, 1, 1)
        return image + sparks * image.new_tensor((1.3, 0.72, 0.26)).view(1, 3, 1, 1)
