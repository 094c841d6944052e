"""The painter's tools: noise, views of the world through a moving camera, and strokes blended onto frames.

World and screen share one unit: the picture spans [-1, 1] in x (right) and in y (down). Tensors broadcast as
(frames, channels, rows, columns).
"""

import copy
import math
import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from arlon_cli.dioramas.scene import FPS, Scene

RGB = tuple[float, float, float]

CAMERA_ZOOM, CAMERA_TILT = (0.78, 1.28), 0.04  # the least and most that a camera does
PLATE_X, PLATE_Y = 1.8, 1.15  # half extents of a plate in world units


def smoothstep(low: float | Tensor, high: float | Tensor, value: Tensor) -> Tensor:
    """0 below `low`, 1 above `high`, smooth between."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def over(image: Tensor, colour: Tensor, alpha: Tensor | float) -> Tensor:
    """Paint `colour` onto `image` where `alpha` says."""
    return image + (colour - image) * alpha


class Kit:
    """What a scene's painters bake from: its random numbers, the picture's size and the device."""

    def __init__(self, scene: Scene, size: int, device: torch.device) -> None:
        self.scene = scene
        self.size = size
        self.device = device
        self.random = random.Random(f"look {scene.seed}")
        self.generator = torch.Generator().manual_seed(self.random.getrandbits(62))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Random numbers of this shape, the same on every device."""
        return (torch.rand(shape, generator=self.generator) * (high - low) + low).to(self.device)

    def rgb(self, colour: RGB) -> Tensor:
        return torch.tensor(colour, device=self.device).view(1, 3, 1, 1)

    def noise(self, size: int = 128, slope: float = 1.8, highest: float = 0.25) -> Tensor:
        """Periodic noise (1, 1, size, size) of mean 0 and deviation 1 whose amplitude falls as f^-slope."""
        white = torch.randn(1, size, size, generator=self.generator).to(self.device)
        fy = torch.fft.fftfreq(size, device=self.device)[:, None]
        fx = torch.fft.rfftfreq(size, device=self.device)[None]
        f = (fx.square() + fy.square()).sqrt()
        weight = (f * size).clamp(min=1) ** -slope * torch.exp(-((f / highest) ** 2)) * (f > 0)
        noise = torch.fft.irfft2(torch.fft.rfft2(white) * weight, s=(size, size))
        return (noise / noise.std(dim=(1, 2), keepdim=True))[None]

    def profile(self, slope: float, lowest: float = 1.0, highest: float = 0.2) -> Tensor:
        """A random curve (1, 1, 1, columns of a plate) of mean 0 and deviation 1, the skeleton of a ridge."""
        points = 256
        white = torch.randn(points, generator=self.generator).to(self.device)
        f = torch.fft.rfftfreq(points, device=self.device)
        weight = (f * points).clamp(min=1) ** -slope * torch.exp(-((f / highest) ** 2)) * (f * points >= lowest)
        curve = torch.fft.irfft(torch.fft.rfft(white) * weight, n=points)
        curve = (curve / curve.std()).view(1, 1, points)
        columns = self.plate_x.shape[-1]
        return F.interpolate(curve, size=columns, mode="linear", align_corners=False).view(1, 1, 1, columns)

    @property
    def plate_x(self) -> Tensor:
        """World x (1, 1, 1, columns) of a plate's pixels."""
        columns = round(PLATE_X * self.size)
        return ((torch.arange(columns, device=self.device) + 0.5) / columns * 2 - 1).view(1, 1, 1, -1) * PLATE_X

    @property
    def plate_y(self) -> Tensor:
        """World y (1, 1, rows, 1) of a plate's pixels."""
        rows = round(PLATE_Y * self.size)
        return ((torch.arange(rows, device=self.device) + 0.5) / rows * 2 - 1).view(1, 1, -1, 1) * PLATE_Y

    def below(self, profile: Tensor) -> Tensor:
        """Coverage of what lies below a ridge on a plate, with soft edges whatever its steepness."""
        steepness = torch.gradient(profile, dim=-1)[0] * self.size / 2
        return ((self.plate_y - profile) * self.size / 2 / (1 + steepness.square()).sqrt() + 0.5).clamp(0, 1)

    def plate_noise(self, noise: Tensor, scale_x: float, scale_y: float) -> Tensor:
        """Noise over a plate, `scale` periods to the world's unit."""
        return wrapped(noise, self.plate_x * scale_x, self.plate_y * scale_y)


def wrapped(texture: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Sample a periodic texture (1, C, h, w) at (u, v), in periods, of any shapes that broadcast to (n, 1, H, W)."""
    h, w = texture.shape[-2:]
    u, v = u - u.floor(), v - v.floor()
    u, v = torch.broadcast_tensors(u * (2 * w / (w + 2)) + (2 / (w + 2) - 1), v * (2 * h / (h + 2)) + (2 / (h + 2) - 1))
    grid = torch.stack([u[:, 0], v[:, 0]], dim=-1)
    padded = F.pad(texture, (1, 1, 1, 1), mode="circular").expand(len(grid), -1, -1, -1)
    return F.grid_sample(padded, grid, mode="bilinear", padding_mode="border", align_corners=False)


class Shot:
    """A few frames of a scene: their times and states, and where the camera looks.

    `t` is seconds (n, 1, 1, 1), `x` (1, 1, 1, S) and `y` (1, 1, S, 1) the screen.
    """

    def __init__(self, scene: Scene, frames: Tensor, size: int, device: torch.device) -> None:
        self.scene = scene
        self.frames = frames
        self.size = size
        self.device = device
        self.t = (frames.to(device, torch.float32) / FPS).view(-1, 1, 1, 1)
        axis = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
        self.x, self.y = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
        self.rows = slice(0, size)
        self.middle = scene.num_frames / 2 / FPS
        self.pan, self.zoom, self.tilt = self._camera()

    def rgb(self, colour: RGB) -> Tensor:
        return torch.tensor(colour, device=self.device).view(1, 3, 1, 1)

    def coarse(self, factor: int = 2) -> "Shot":
        """The same frames on a coarser screen, for soft things."""
        return Shot(self.scene, self.frames, self.size // factor, self.device)

    def strip(self, top: float, bottom: float, depth: float, centre: float = 0.2) -> "Shot":
        """The rows of the screen where the world between two heights, at a depth, may be; `rows` says which."""
        lowest, highest = CAMERA_ZOOM[0] ** depth, CAMERA_ZOOM[1] ** depth
        sway = CAMERA_TILT * depth if self.first("camera") == "drift" else 0.0
        if not self.first("camera").startswith("zoom") and self.first("camera") != "drift":
            lowest = highest = 1.0
        low = centre + (top - centre) * (highest if top < centre else lowest) - sway
        high = centre + (bottom - centre) * (highest if bottom > centre else lowest) + sway
        first = min(max(math.floor((low + 1) * self.size / 2) - 1, 0), self.size - 1)
        last = min(max(math.ceil((high + 1) * self.size / 2) + 1, first + 1), self.size)
        part = copy.copy(self)
        part.rows = slice(first, last)
        part.y = self.y[:, :, first:last]
        return part

    def fine(self, coarse: Tensor) -> Tensor:
        """Bring what was painted on a coarse screen to this one."""
        return F.interpolate(coarse, size=(self.size, self.size), mode="bilinear", align_corners=False)

    def mix(self, attribute: str, table: Callable[[str], float | Sequence[float]]) -> Tensor:
        """A number or colour for every value of an attribute, blended where it changes: (n, 1 or 3, 1, 1)."""
        values = [torch.tensor(table(span.attributes[attribute]), device=self.device) for span in self.scene.spans]
        blended = values[0].float().view(1, -1, 1, 1)
        for span, value in zip(self.scene.spans[1:], values[1:], strict=True):
            seconds = (span.settled - span.start) / FPS
            blended = over(blended, value.view(1, -1, 1, 1), smoothstep(0.0, seconds, self.t - span.start / FPS))
        return blended.expand(len(self.t), -1, 1, 1)

    def amount(self, attribute: str, *values: str) -> Tensor:
        """How much the attribute has one of these values: (n, 1, 1, 1) in [0, 1]."""
        return self.mix(attribute, lambda value: float(value in values))

    def first(self, attribute: str) -> str:
        """The value of an attribute that never changes."""
        return self.scene.spans[0].attributes[attribute]

    def _camera(self) -> tuple[Tensor, Tensor, Tensor]:
        kind = self.first("camera")
        still = torch.zeros_like(self.t)
        swing = torch.tanh((self.t - self.middle) * 0.14)  # fast in the middle, never out of the world
        if kind in ("pan left", "pan right"):
            return swing * (0.42 if kind == "pan right" else -0.42), still + 1, still
        if kind in ("zoom in", "zoom out"):
            return still, torch.exp(0.24 * (swing if kind == "zoom in" else -swing)), still
        if kind == "drift":
            sway = CAMERA_TILT * torch.sin(self.t * 0.3)
            return 0.16 * torch.sin(self.t * 0.45), 1 + 0.07 * torch.sin(self.t * 0.37), sway
        return still, still + 1, still

    def world(self, depth: float, centre: float = 0.2) -> tuple[Tensor, Tensor]:
        """World (x, y) of the screen's pixels at a depth: 0 is infinitely far, 1 the subject, more is nearer."""
        scale = self.zoom**-depth
        return self.x * scale + self.pan * depth, (self.y - centre) * scale + centre + self.tilt * depth

    def to_screen(self, x: Tensor | float, y: Tensor | float, depth: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """Screen (x, y) and scale of a point in the world: the inverse of `world`."""
        scale = self.zoom**depth
        return (x - self.pan * depth) * scale, (y - 0.2 - self.tilt * depth) * scale + 0.2, scale

    def place(self, plate: Tensor, depth: float, sway: Tensor | None = None) -> Tensor:
        """See a baked plate (1, C, rows, columns) through the camera: (n, C, S, S)."""
        x, y = self.world(depth)
        if sway is not None:
            x = x + sway
        x, y = torch.broadcast_tensors(x / PLATE_X, y / PLATE_Y)
        grid = torch.stack([x[:, 0], y[:, 0]], dim=-1)
        return F.grid_sample(
            plate.expand(len(grid), -1, -1, -1), grid, mode="bilinear", padding_mode="border", align_corners=False
        )

    def travel(self, slow: float, fast: float, reach: float = 1.5) -> Tensor:
        """World x of something that moves on, by its direction and speed; out of sight it starts again."""
        speed = fast if self.first("speed") == "fast" else slow
        sign = -1 if self.first("direction") == "left" else 1
        return torch.remainder(sign * speed * (self.t - self.middle) + reach, 2 * reach) - reach

    def dots(self, x: Tensor, y: Tensor, radius: Tensor | float, strength: Tensor, tall: float = 1.0) -> Tensor:
        """Soft round dots: x, y, radius, strength (n, k, 1, 1) or (n, k, C, 1) to their sum (n, C, S, S)."""
        columns = torch.exp(-(((self.x - x) / radius) ** 2))  # (n, k, 1, S)
        rows = torch.exp(-(((self.y - y) / (radius * tall)) ** 2))  # (n, k, S, 1)
        rows = rows.transpose(2, 3) * strength  # (n, k, C, S)
        return torch.einsum("nkcy,nkx->ncyx", rows, columns[:, :, 0].expand(len(rows), -1, -1))

    def stamp(
        self,
        image: Tensor,
        sprite: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        x: Tensor,
        y: Tensor,
        scale: Tensor | float,
        reach: float,
        angle: Tensor | float = 0.0,
    ) -> Tensor:
        """Paint a small thing at screen (x, y), (n, 1, 1, 1) each, touching only the pixels within `reach` of it.

        `sprite` gets its own coordinates (n, 1, k, k), in units of `scale`, turned by `angle`, and returns
        (colour (n, 3, k, k), coverage (n, 1, k, k)). Changes and returns `image`.
        """
        size = self.size
        k = min(size, math.ceil(reach * size) + 2)
        column = ((x + 1) * size / 2 - k / 2).round().clamp(0, size - k).long().expand(len(image), -1, -1, -1)
        row = ((y + 1) * size / 2 - k / 2).round().clamp(0, size - k).long().expand(len(image), -1, -1, -1)
        steps = torch.arange(k, device=self.device)
        columns, rows = column + steps.view(1, 1, 1, k), row + steps.view(1, 1, k, 1)
        dx, dy = (columns + 0.5) / size * 2 - 1 - x, (rows + 0.5) / size * 2 - 1 - y
        angle = torch.as_tensor(angle, device=self.device)
        cos, sin = angle.cos() / scale, angle.sin() / scale
        colour, alpha = sprite(dx * cos + dy * sin, dy * cos - dx * sin)
        index = (rows * size + columns).view(len(image), 1, k * k).expand(-1, 3, -1)
        flat = image.view(len(image), 3, size * size)
        patch = flat.gather(2, index)
        flat.scatter_(2, index, over(patch, colour.flatten(2), alpha.flatten(2)))
        return image
