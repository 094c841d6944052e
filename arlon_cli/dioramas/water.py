"""Water: an open sea with rolling waves, and still water that mirrors what stands above it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from arlon_cli.dioramas.painter import RGB, Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.sky import Light


class Sea:
    """Rows of waves from the horizon to the camera; `rough` in [0, 1] raises them and whitens their crests."""

    def __init__(self, kit: Kit, horizon: float, rows: int = 7) -> None:
        self.horizon = horizon
        self.rows = rows
        self.deep: RGB = (0.02, 0.16, 0.33)
        self.shallow: RGB = (0.10, 0.45, 0.55)
        self.phase = kit.uniform(0, 2 * math.pi, rows, 3).tolist()
        self.heading = kit.random.choice((-1.0, 1.0))
        self.ripples = kit.noise(128, 1.2, highest=0.3)

    def line(self, row: int) -> float:
        """World y of a row's mean height."""
        return self.horizon + (1.0 - self.horizon) * ((row + 0.25) / self.rows) ** 1.35 * 0.98

    def height(self, shot: Shot, rough: Tensor, row: int, x: Tensor) -> Tensor:
        """How far the surface of a row rises at world x, in world units."""
        near = (row + 1) / self.rows
        a, b, c = self.phase[row]
        k = 9.0 / (0.35 + near)
        speed = (1.0 + 0.5 * rough) * self.heading
        first = torch.sin(k * x - 1.5 * speed * shot.t + a)
        second = torch.sin(1.9 * k * x - 2.3 * shot.t * self.heading + b)
        third = torch.sin(0.45 * k * x + 0.9 * shot.t + c)
        wave = 0.55 * first + 0.22 * second + 0.6 * third
        peaked = wave + 0.28 * wave.square() - 0.2
        return (0.012 + 0.052 * near) * (0.35 + 0.95 * rough) * peaked

    def ride(self, shot: Shot, rough: Tensor, row: int, x: Tensor, step: float) -> tuple[Tensor, Tensor]:
        """World y of a row's surface at world x, and how it slopes down to the right over `step` to both sides."""
        lift, left, right = (self.height(shot, rough, row, x + d) for d in (0.0, -step, step))
        return self.line(row) - lift, (left - right) / (2 * step)

    def paint(
        self, shot: Shot, light: Light, image: Tensor, rough: Tensor, start: int = 0, end: int | None = None
    ) -> Tensor:
        """Paint rows `start` to `end` of waves onto the image, which is changed and returned."""
        deep = light.paint(self.deep) * (1 - 0.25 * rough)
        shallow = over(light.paint(self.shallow), light.middle, 0.25)
        mirror = over(light.horizon, light.middle, 0.5)
        white = light.paint((0.95, 0.97, 1.0)) * 0.9 + 0.1 * light.horizon
        end = self.rows if end is None else end
        for row in range(start, end):
            near = row / (self.rows - 1)
            depth = 0.35 + 0.75 * near
            reach = 1.4 * (0.012 + 0.052 * (row + 1) / self.rows)
            below_next = 1.6 if row + 1 == end else self.line(row + 1) + 2 * reach
            band = shot.strip(self.line(row) - reach, below_next, depth, self.horizon)
            x, y = band.world(depth, self.horizon)
            below = y - (self.line(row) - self.height(band, rough, row, x))
            scale = 0.8 - 0.5 * near
            v = (y - self.horizon) * (2.6 - 1.4 * near) + row * 0.37
            ripple = wrapped(self.ripples, x * scale + 0.02 * (-1) ** row * band.t, v)
            fall = smoothstep(0.0, 0.10 + 0.16 * near, below)
            body = over(shallow, deep, (fall + 0.16 * ripple).clamp(0, 1))
            sheen = (0.60 - 0.48 * near) * (0.6 + 0.5 * ripple).clamp(0, 1) * (1 - 0.5 * rough)
            body = over(body, mirror, sheen.clamp(0, 0.85)) + self._glitter(band, light, near, ripple)
            foam = smoothstep(0.05 * (0.4 + near), 0.0, below) * smoothstep(0.5, 1.6, ripple + 1.25 * rough)
            body = over(body, white, (foam * (0.1 + 0.85 * rough)).clamp(0, 0.95))
            coverage = (below * shot.size / 2 + 0.5).clamp(0, 1)
            image[:, :, band.rows] = over(image[:, :, band.rows], body, coverage)
        return image

    def _glitter(self, shot: Shot, light: Light, near: float, ripple: Tensor) -> Tensor:
        width = 0.10 + 0.25 * near
        path = torch.exp(-(((shot.x - light.sun_x) / width) ** 2))
        return (
            light.glow
            * path
            * smoothstep(0.1, 1.2, ripple)
            * light.sun
            * (0.75 - 0.25 * near)
            * (1 - 0.35 * light.night)
        )


def mirror(shot: Shot, light: Light, image: Tensor, ripples: Tensor, shore: float, deep: RGB) -> Tensor:
    """Replace what lies below world y `shore` by still water that mirrors the picture above it."""
    x, _ = shot.world(1.0)
    line = shot.to_screen(0.0, shore)[1]
    below = (shot.y - line).clamp(min=0)
    v = 0.16 / (below + 0.12)
    wave = wrapped(ripples, x * v * 1.5 + 0.02 * shot.t, v * 2.2 + 0.16 * shot.t)
    wave2 = wrapped(ripples, x * v * 2.3 - 0.03 * shot.t, v * 3.1 + 0.11 * shot.t + 0.5)
    wave = 0.6 * (wave + wave2)
    u = shot.x + wave * (0.004 + 0.03 * below)
    v = line - below * 1.02 - wave * (0.006 + 0.05 * below)
    u, v = torch.broadcast_tensors(u, v)
    seen = F.grid_sample(
        image, torch.stack([u[:, 0], v[:, 0]], -1), mode="bilinear", padding_mode="reflection", align_corners=False
    )
    water = over(seen * 0.92, light.paint(deep), (0.20 + 0.45 * below + 0.05 * wave).clamp(0, 0.8))
    water = water + light.horizon * (0.10 * wave.clamp(0, 2)) * smoothstep(0.0, 0.15, below)
    path = torch.exp(-(((shot.x - light.sun_x) / (0.08 + 0.2 * below)) ** 2)) * smoothstep(0.2, 1.3, wave)
    water = water + light.glow * path * light.sun * 0.7
    return over(image, water, ((shot.y - line) * shot.size / 2 + 0.5).clamp(0, 1))
