"""Land, baked once per scene into plates: mountains, hills and forests."""

from dataclasses import dataclass

import torch
from torch import Tensor

from arlon_cli.dioramas.painter import RGB, Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.sky import Light


@dataclass(frozen=True)
class Plate:
    """`texture` (1, 5, rows, columns): premultiplied colour, coverage, and how much snow settles there.

    Nothing is painted above world y `top`.
    """

    texture: Tensor
    top: float


def plate(colour: Tensor, coverage: Tensor, snow: Tensor, top: float) -> Plate:
    """Join colour (1, 3, ...), coverage and snow (1, 1, ...) into a plate."""
    shape = torch.broadcast_shapes(colour.shape[2:], coverage.shape[2:], snow.shape[2:])
    colour, coverage, snow = (part.expand(1, -1, *shape) for part in (colour, coverage, snow))
    return Plate(torch.cat([colour.clamp(0, 1) * coverage, coverage, snow.clamp(0, 1) * coverage], dim=1), top)


def lay(
    shot: Shot,
    light: Light,
    image: Tensor,
    plate: Plate,
    depth: float,
    haze: float,
    bottom: float = 2.0,
    wind: float = 0.0,
) -> Tensor:
    """Paint a plate, lit and behind so much air, onto the image, which is changed and returned.

    Below world y `bottom` other things will hide it; `wind` sways what grows on it.
    """
    band = shot.strip(plate.top, bottom, depth)
    seen = band.place(plate.texture, depth, _sway(band, plate.top, wind) if wind else None)
    colour, coverage = seen[:, :3], seen[:, 3:4]
    if any(span.attributes["weather"] == "snow" for span in shot.scene.spans):
        colour = colour + (0.95 * coverage - colour) * (seen[:, 4:5] * light.snow)
    air = light.air(haze)
    image[:, :, band.rows].mul_(1 - coverage).add_(colour * (light.light * (1 - air)))
    image[:, :, band.rows].add_(coverage * (light.horizon * air))
    return image


def _sway(shot: Shot, top: float, wind: float) -> Tensor:
    """World x to look aside by: most at the tree tops."""
    lift = ((top + 0.5 - shot.y) / 0.5).clamp(0, 1)
    return wind * (1 + shot.amount("weather", "storm")) * lift * torch.sin(shot.t * 1.7 + shot.x * 4.0)


def mountains(
    kit: Kit, base: float, height: float, colour: RGB, side: float, snowline: float = 0.0, peaks: int = 8
) -> Plate:
    """Peaks up to `height` above `base`, lit from a side; snow reaches `snowline` · height down from the tops."""
    at = (torch.arange(peaks, device=kit.device) + 0.5) / peaks * 3.8 - 1.9
    at = (at + kit.uniform(-0.2, 0.2, peaks)).view(1, peaks, 1, 1)
    tall = kit.uniform(0.5, 1.0, 1, peaks, 1, 1) * height
    slope = kit.uniform(0.75, 1.25, 1, peaks, 1, 1) * (0.45 + height)
    rough = kit.profile(1.0, lowest=5, highest=0.35)
    tops, which = (tall - (kit.plate_x - at).abs() * slope).max(1, keepdim=True)
    foothills = height * (0.22 + 0.10 * kit.profile(1.8, lowest=2, highest=0.05))
    ridge = base - torch.maximum(tops, foothills) - 0.035 * height**0.5 * rough
    noise = kit.noise(128, 1.25, highest=0.35)
    below = kit.plate_y - ridge
    rock = kit.plate_noise(noise, 0.55, 0.4)
    lit = wrapped(noise, kit.plate_x * 0.55 - 0.025 * side, kit.plate_y * 0.4 + 0.012)
    spur = 0.5 * below * rock + 0.05 * rough
    facet = torch.tanh((kit.plate_x - at.view(-1)[which] + spur) * side * 16)
    shade = (0.80 + 0.19 * facet + 0.24 * torch.tanh(1.3 * (rock - lit))).clamp(0.35, 1.2)
    paint = kit.rgb(colour) * shade * (1 + 0.05 * rock)
    cap = smoothstep(-0.03, 0.03, snowline * height * (0.75 + 0.35 * rock + 0.25 * facet) - below - 0.02)
    white = kit.rgb((0.95, 0.96, 1.0)) * (0.30 + 0.70 * shade.clamp(max=1))
    settle = 0.35 + 0.5 * smoothstep(-0.5, 0.8, rock + 0.4 * facet)
    return plate(over(paint, white, cap), kit.below(ridge), settle, ridge.min().item())


def hills(kit: Kit, base: float, height: float, colour: RGB, side: float) -> Plate:
    """Rolling hills with meadows and darker groves."""
    ridge = base - height * (0.5 + 0.45 * kit.profile(2.2, lowest=1, highest=0.03))
    below = kit.plate_y - ridge
    noise = kit.noise(128, 1.5, highest=0.3)
    patches, fine = kit.plate_noise(noise, 0.45, 1.5), kit.plate_noise(noise, 1.3, 3.1)
    slope = torch.gradient(ridge, dim=-1)[0] * kit.size / 2
    shade = (1.02 + 0.35 * torch.tanh(-side * slope * 2.5) + 0.08 * fine) * (1.10 - 0.6 * below.clamp(0, 0.6))
    grove = smoothstep(0.55, 0.85, patches + 0.3 * fine)
    field = over(kit.rgb(colour), kit.rgb((0.62, 0.62, 0.28)), smoothstep(0.5, 1.2, -patches) * 0.35)
    paint = over(field, kit.rgb((0.10, 0.27, 0.12)), grove * 0.75) * shade
    settle = smoothstep(-0.8, 0.8, fine) * 0.35 + 0.6 - 0.45 * grove
    return plate(paint, kit.below(ridge), settle, ridge.min().item())


def forest(
    kit: Kit, base: float, tree: float, colour: RGB, side: float, rows: int = 3, conifers: bool = True, gap: float = 0.6
) -> Plate:
    """Rows of trees, each nearer, larger and lighter than the one behind; `base` is the foot of the first."""
    shape = torch.broadcast_shapes(kit.plate_x.shape, kit.plate_y.shape)[2:]
    layers = torch.zeros(1, 5, *shape, device=kit.device)
    noise = kit.noise(128, 0.9, highest=0.4)
    for row in range(rows):
        size = tree * (1 + 0.25 * row)
        foot = base + tree * gap * row
        count = int((8.0 if conifers else 6.5) / size)
        at = (torch.arange(count, device=kit.device).view(1, -1, 1, 1) + 0.5) / count * 3.8 - 1.9
        at = at + kit.uniform(-0.35, 0.35, 1, count, 1, 1) * 3.8 / count
        tall = kit.uniform(0.55, 1.0, 1, count, 1, 1) * size
        away = kit.plate_x - at
        if conifers:
            jag = 0.12 * size * (1 - torch.remainder(away.abs() / (0.085 * size), 1.0))
            top, which = (tall - away.abs() * 3.0 + jag * (away.abs() > 0.03 * size)).max(1, keepdim=True)
        else:
            dome = (1 - (away / (0.55 * size)).square()).clamp(min=0).sqrt()
            top, which = (tall * (0.25 + 0.75 * dome)).max(1, keepdim=True)
        line = foot - top.clamp(min=0.22 * size)
        across = ((kit.plate_x - at.view(-1)[which]) / (0.4 * size)).clamp(-1, 1)
        leaves = kit.plate_noise(noise, 0.28 / size, 0.28 / size)
        below = (kit.plate_y - line) / size
        shade = 0.80 + 0.11 * row + 0.20 * leaves + 0.22 * across * side - 0.62 * below.clamp(0, 0.9)
        trees = plate(kit.rgb(colour) * shade.clamp(0.16, 1.4), kit.below(line), 0.75 - 0.9 * below + 0.3 * leaves, 0)
        layers = layers * (1 - trees.texture[:, 3:4]) + trees.texture
    return Plate(layers, base - tree * 1.12)
