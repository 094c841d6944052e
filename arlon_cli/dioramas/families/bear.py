"""A teddy bear that bobs among the waves."""

import torch
from torch import Tensor

from arlon_cli.dioramas.company import Company
from arlon_cli.dioramas.painter import CAMERA_ZOOM, Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.palette import PAINTS
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.water import Sea
from arlon_cli.dioramas.weather import Weather


class Bear:
    """The bear floats upright between two rows of waves, and paddles."""

    row = 4

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit, horizon=0.0), Weather(kit)
        self.company = Company(kit, self.sky)
        self.sea = Sea(kit, 0.0, rows=7)
        self.fur = kit.noise(64, 0.8, highest=0.45)
        self.scale = kit.random.uniform(0.50, 0.58)

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        rough = shot.amount("state", "rough")
        image = self.sky.paint(shot, light)
        image = self.weather.flash(shot, image)
        image = self.company.fly(shot, light, image)
        image = self.company.waves(shot, light, image, self.sea, rough, self.row)
        image = self._bear(shot, light, image, rough)
        image = self.sea.paint(shot, light, image, rough, self.row)
        return self.weather.paint(shot, light, image)

    def _bear(self, shot: Shot, light: Light, image: Tensor, rough: Tensor) -> Tensor:
        x = shot.travel(0.03, 0.10)
        y, slope = self.sea.ride(shot, rough, self.row, x, 0.10)
        y = y - 0.26 - 0.01 * torch.sin(shot.t * 2.0)
        angle = slope * 0.5 + 0.07 * torch.sin(shot.t * 1.4)
        sx, sy, scale = shot.to_screen(x, y)
        cloth = PAINTS[shot.first("colour")]
        fur = light.paint(cloth)
        pale = over(fur, light.paint((1.0, 0.88, 0.70)), 0.62 + 0 * rough)
        dark = light.paint((0.08, 0.05, 0.04))
        paints = torch.cat([fur, pale, dark], dim=3)[:, :, 0].transpose(1, 2)
        sign = -1.0 if shot.first("direction") == "left" else 1.0
        side = self.sky.side
        edge = 2.2 / (shot.size * self.scale)
        paddle = torch.sin(shot.t * (3.4 if shot.first("speed") == "fast" else 2.0))

        camera = shot.first("camera")
        reach = 1.12 * (
            CAMERA_ZOOM[1] if "zoom" in camera else 1.08 if camera == "drift" else 1.0
        )  # waves hide the rest

        def sprite(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            def blob(cx: Tensor | float, cy: Tensor | float, rx: float, ry: float) -> tuple[Tensor, Tensor]:
                r = (((u - cx) / rx) ** 2 + ((v - cy) / ry) ** 2).sqrt()
                return smoothstep(1 + edge / rx, 1 - edge / rx, r), 1.10 - 0.40 * r.clamp(0, 1) ** 2

            tuft = 1 + 0.10 * wrapped(self.fur, u * 0.9, v * 0.9)
            glow = 1 + 0.14 * side * u - 0.10 * v
            alpha = torch.zeros_like(u)
            shares = torch.zeros(len(u), 3, *u.shape[2:], device=u.device)  # of fur, pale and dark in a pixel's colour
            shares[:, 0] = 1
            look = 0.07 * sign
            parts: list[tuple[Tensor | float, Tensor | float, float, float, int]] = [
                (0.0, 0.62, 0.46, 0.62, 0),
                (-0.50, 0.42 - 0.20 * paddle, 0.17, 0.30, 0),
                (0.50, 0.42 + 0.20 * paddle, 0.17, 0.30, 0),
                (0.0, 0.66, 0.29, 0.42, 1),
                (-0.40, -0.52, 0.20, 0.20, 0),
                (0.40, -0.52, 0.20, 0.20, 0),
                (-0.40, -0.52, 0.11, 0.11, 1),
                (0.40, -0.52, 0.11, 0.11, 1),
                (0.0, -0.18, 0.52, 0.46, 0),
                (look, 0.0, 0.24, 0.19, 1),
                (look, -0.075, 0.085, 0.06, 2),
                (-0.18 + look, -0.24, 0.065, 0.075, 2),
                (0.18 + look, -0.24, 0.065, 0.075, 2),
            ]
            for cx, cy, rx, ry, paint in parts:
                cover, round_ = blob(cx, cy, rx, ry)
                shares.mul_(1 - cover)[:, paint].add_((cover * round_)[:, 0])
                alpha = torch.maximum(alpha, cover)
            colour = torch.einsum("npyx,npc->ncyx", shares * (tuft * glow), paints)
            return colour, alpha

        return shot.stamp(image, sprite, sx, sy, self.scale * scale, self.scale * reach, angle)
