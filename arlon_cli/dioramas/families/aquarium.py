"""An aquarium: fish among swaying weeds, bubbles and shafts of light."""

from collections.abc import Callable

import torch
from torch import Tensor

from arlon_cli.dioramas.painter import RGB, Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.palette import PAINTS

COUNTS = {"one": 1, "two": 2, "three": 3, "many": 6}


class Aquarium:
    """Fish swim on lanes, in front of rocks, between two rows of weeds."""

    def __init__(self, kit: Kit) -> None:
        self.haze = kit.noise(64, 2.0, highest=0.12)
        self.sand = kit.noise(128, 1.0, highest=0.4)
        self.caustic = kit.noise(128, 1.6, highest=0.12)
        self.rocks = self._rocks(kit)
        count = COUNTS[kit.scene.spans[0].attributes["count"]]
        size = {1: 0.34, 2: 0.28, 3: 0.24, 6: 0.17}[count]
        lanes = [-0.62 + 1.1 * (i + 0.5) / count for i in range(count)]
        kit.random.shuffle(lanes)
        if count == 1:
            lanes = [kit.random.uniform(-0.25, 0.1)]
        self.fish = [
            (
                lane,
                (i + 0.5) / count * 2 * 1.45 + kit.random.uniform(-0.2, 0.2),
                size * kit.random.uniform(0.85, 1.15),
                kit.random.uniform(0, 6.28),
                kit.random.uniform(0.9, 1.15),
            )
            for i, lane in enumerate(lanes)
        ]
        self.tall = kit.random.random() < 0.5  # a deep-bodied or a slender species
        self.stripes = kit.random.choice((0.0, 5.0, 8.0))
        self.weeds = [
            (
                kit.random.uniform(-1.3, 1.3),
                kit.random.uniform(0.45, 0.95),
                kit.random.uniform(0.028, 0.05),
                kit.random.uniform(0, 6.28),
                kit.random.choice(((0.10, 0.50, 0.22), (0.26, 0.55, 0.16), (0.45, 0.22, 0.30))),
            )
            for _ in range(9)
        ]
        bubbles = 22
        self.bubble_x = kit.uniform(-1, 1, 1, 4, 1, 1).repeat(1, 6, 1, 1)[:, :bubbles]
        self.bubble_phase = kit.uniform(0, 1, 1, bubbles, 1, 1)
        self.bubble_size = kit.uniform(0.016, 0.034, 1, bubbles, 1, 1)

    def _rocks(self, kit: Kit) -> Tensor:
        ridge = 0.75 - 0.22 * (0.4 + 0.6 * kit.profile(1.7, lowest=2, highest=0.08))
        noise = kit.noise(128, 1.2, highest=0.35)
        a = kit.plate_noise(noise, 0.6, 0.6)
        b = kit.plate_noise(noise, 0.6, 0.575)
        shade = (0.85 + 0.5 * torch.tanh(a - b)) * (1.15 - 1.2 * (kit.plate_y - ridge).clamp(0, 0.6))
        return torch.cat([kit.rgb((0.30, 0.34, 0.42)) * shade.clamp(0.2, 1.3), torch.ones_like(shade)], 1) * kit.below(
            ridge
        )

    def paint(self, shot: Shot) -> Tensor:
        night = shot.amount("time", "night")
        colour = lambda day, dark: over(shot.rgb(day), shot.rgb(dark), night)
        top, bottom = colour((0.30, 0.78, 0.90), (0.15, 0.22, 0.58)), colour((0.02, 0.22, 0.44), (0.02, 0.05, 0.20))
        self_light = colour((1.0, 1.0, 1.0), (0.56, 0.62, 0.95))
        soft = shot.coarse()
        x, y = soft.world(0.3)
        murk = wrapped(self.haze, x * 0.2 + 0.01 * soft.t, y * 0.2)
        water = over(top, bottom, smoothstep(-1.1, 0.9, y + 0.12 * murk))
        fan = (x + 0.25 * y) / (y + 2.2)
        shafts = wrapped(self.caustic, fan * 0.9 + 0.015 * soft.t, soft.t * 0.02 + 0 * y)
        beam = smoothstep(0.1, 1.6, shafts) * smoothstep(0.9, -1.0, y) * (1 - 0.65 * night)
        image = shot.fine(water + beam * 0.34 * top)
        rocks = shot.place(self.rocks, 0.5)
        image = image * (1 - rocks[:, 3:]) + over(rocks[:, :3] * self_light, bottom * rocks[:, 3:], 0.45)
        image = self._weeds(shot, image, self.weeds[:4], 0.65, 0.82, self_light * 0.7)
        image = self._sand(shot, image, colour, night)
        for fish in self.fish[: len(self.fish) // 2 + 1]:
            image = self._fish(shot, image, fish, self_light, night)
        image = self._weeds(shot, image, self.weeds[4:], 1.1, 1.12, self_light)
        for fish in self.fish[len(self.fish) // 2 + 1 :]:
            image = self._fish(shot, image, fish, self_light, night)
        return self._bubbles(shot, image, self_light)

    def _sand(self, shot: Shot, image: Tensor, colour: Callable[[RGB, RGB], Tensor], night: Tensor) -> Tensor:
        x, y = shot.world(0.9)
        line = 0.70 + 0.03 * torch.sin(x * 2.3)
        v = 0.5 / (y - line + 0.5).clamp(min=0.2)
        grain = wrapped(self.sand, x * v * 0.8, v * 1.6)
        light = wrapped(self.caustic, x * v * 0.5 + 0.03 * shot.t, v * 1.2 - 0.02 * shot.t)
        ripple = torch.exp(-((light / 0.35) ** 2)) * (1 - 0.6 * night)
        sand = colour((0.78, 0.70, 0.50), (0.26, 0.28, 0.46)) * (0.82 + 0.07 * grain + 0.30 * ripple)
        sand = over(sand, colour((0.10, 0.45, 0.58), (0.05, 0.09, 0.28)), smoothstep(0.35, 0.0, y - line) * 0.6)
        return over(image, sand, smoothstep(-0.02, 0.02, y - line))

    def _weeds(self, shot: Shot, image: Tensor, weeds: list, depth: float, foot: float, light: Tensor) -> Tensor:
        x, y = shot.world(depth)
        for at, tall, width, phase, colour in weeds:
            up = (foot - y).clamp(0, tall * 1.01) / tall
            bend = 0.13 * up**1.5 * torch.sin(shot.t * 1.2 + phase + up * 3.0)
            leaf = 0.35 * width * torch.sin(up * 26 + phase)
            body = width * (1 - up).clamp(min=0) ** 0.6
            distance = (x - at - bend - leaf).abs()
            alpha = smoothstep(1.6, -0.4, (distance - body) * shot.size / 2) * (up < 1) * (y < foot + 0.3)
            shade = 0.5 + 0.75 * up + 0.25 * torch.sin(up * 26 + phase)
            image = over(image, shot.rgb(colour) * shade * light, alpha)
        return image

    def _fish(self, shot: Shot, image: Tensor, fish: tuple, light: Tensor, night: Tensor) -> Tensor:
        lane, offset, size, phase, pace = fish
        sign = -1.0 if shot.first("direction") == "left" else 1.0
        reach = 1.45
        wx = torch.remainder(shot.travel(0.09, 0.24, 1e4) * pace + offset, 2 * reach) - reach
        wy = lane + 0.05 * torch.sin(shot.t * 0.9 + phase)
        sx, sy, scale = shot.to_screen(wx, wy, 0.85)
        swift = 2.2 if shot.first("speed") == "fast" else 1.3
        cloth = PAINTS[shot.first("colour")]
        main = shot.rgb(cloth) * light + shot.rgb(cloth) * 0.18 * night
        dark, pale = main * 0.55, over(main, torch.ones_like(light) * light, 0.62)
        deep = 0.62 if self.tall else 0.42
        edge = 2.2 / (shot.size * size)

        def sprite(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            u = u * sign
            wag = torch.sin(shot.t * swift * 4.0 + phase)
            v = v + 0.10 * wag * (0.3 - u).clamp(min=0) ** 2
            body = ((u - 0.05) / 0.72) ** 2 + (v / (deep * (1 - 0.25 * (0.0 - u)).clamp(0.6, 1.2))) ** 2
            a_body = smoothstep(1 + 3 * edge, 1 - 3 * edge, body)
            back = -0.62 - u
            tail = torch.maximum(v.abs() - (0.06 + 0.78 * (back + 0.06)), (u + 0.98 + 0.10 * wag).neg())
            tail = torch.maximum(tail, -back - 0.06)
            fin = torch.maximum((u + 0.02).abs() - 0.42 + 0.6 * (-v - deep * 0.75).clamp(min=0), -v - deep * 1.38)
            fin = torch.maximum(fin, v + deep * 0.6)
            a_tail, a_fin = smoothstep(edge, -edge, tail), smoothstep(edge, -edge, fin)
            shade = 1.12 - 0.42 * smoothstep(-0.5 * deep, 0.9 * deep, v)
            colour = over(main, pale, smoothstep(0.15 * deep, 0.8 * deep, v)) * shade
            if self.stripes:
                band = smoothstep(0.2, 0.8, torch.sin(u * self.stripes + 1.0)) * smoothstep(0.62, 0.3, u)
                colour = over(colour, pale * 1.05, band * 0.8)
            colour = over(dark * 1.3, colour, a_body)
            eye = ((u - 0.47) ** 2 + (v + 0.10) ** 2).sqrt()
            colour = over(
                colour, torch.ones_like(light) * (0.5 + 0.5 * light), smoothstep(0.135 + edge, 0.135 - edge, eye)
            )
            colour = over(colour, torch.zeros_like(light) + 0.03, smoothstep(0.08 + edge, 0.08 - edge, eye))
            return colour, torch.maximum(a_body, torch.maximum(a_tail, a_fin))

        return shot.stamp(image, sprite, sx, sy, size * scale, size * 1.35)

    def _bubbles(self, shot: Shot, image: Tensor, light: Tensor) -> Tensor:
        age = torch.remainder(shot.t * 0.16 + self.bubble_phase, 1.0)
        x = self.bubble_x + 0.03 * torch.sin(age * 22 + self.bubble_phase * 6)
        sx, sy, _ = shot.to_screen(x, 0.95 - 2.1 * age, 0.9)
        fade = torch.ones_like(age) * 0.75
        radius = self.bubble_size * (0.7 + 0.5 * age)
        shine = shot.dots(sx, sy, radius, fade).clamp(0, 0.85)
        return over(image, torch.ones_like(light) * (0.35 + 0.65 * light), shine * 0.8)
