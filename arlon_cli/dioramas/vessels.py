"""A sailboat and a hot-air balloon, wherever they are to be seen."""

import math

import torch
from torch import Tensor

from arlon_cli.dioramas.painter import Shot, over, smoothstep
from arlon_cli.dioramas.palette import PAINTS
from arlon_cli.dioramas.sky import Light

Place = tuple[Tensor, Tensor, Tensor]
"""Screen x, y and scale, (n, 1, 1, 1) each, as of `Shot.to_screen`"""


def sailboat(
    shot: Shot, light: Light, image: Tensor, place: Place, *, colour: str, size: float, sign: float, angle: Tensor
) -> Tensor:
    """A boat with a main sail of a colour and a pale jib, that heads to the left where `sign` is negative."""
    sx, sy, scale = place
    sail = light.paint(PAINTS[colour]) + 0.03
    jib = over(sail, torch.ones_like(sail) * light.light, 0.55)
    hull, deck = light.paint((0.30, 0.17, 0.10)), light.paint((0.80, 0.66, 0.46))
    edge = 2.2 / (shot.size * size)

    def sprite(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        u = u * sign
        cover = lambda d: smoothstep(edge, -edge, d)
        keel = torch.maximum((u - 0.04).abs() - (0.62 - 0.55 * (v + 0.12).clamp(min=0) ** 1.1), (v + 0.02).abs() - 0.13)
        belly = 0.16 * torch.sin(3.1416 * ((v + 1.32) / 1.15).clamp(0, 1))
        main = torch.maximum(torch.maximum(-(u + 0.52 * ((v + 1.40) / 1.2) + belly * 0.5), u), v + 0.22)
        main = torch.maximum(main, -(v + 1.40))
        fore = torch.maximum(torch.maximum(u - 0.50 * ((v + 1.15) / 0.95) - 0.05 - belly * 0.4, 0.05 - u), v + 0.24)
        fore = torch.maximum(fore, -(v + 1.15))
        mast = torch.maximum((u - 0.02).abs() - 0.022, (v + 0.75).abs() - 0.72)
        a_keel, a_main, a_fore, a_mast = cover(keel), cover(main), cover(fore), cover(mast)
        shade = 0.80 + 0.30 * ((u + 0.35) * 1.6).clamp(0, 1)
        colour = over(hull, deck, smoothstep(-0.07, -0.10, v))
        colour = over(colour, light.paint((0.25, 0.2, 0.16)), a_mast)
        colour = over(colour, jib * (0.86 + 0.2 * (v + 1.0).clamp(0, 1)), a_fore)
        colour = over(colour, sail * shade, a_main)
        return colour, torch.maximum(torch.maximum(a_keel, a_main), torch.maximum(a_fore, a_mast))

    return shot.stamp(image, sprite, sx, sy, size * scale, size * 1.75, angle)


def balloon(
    shot: Shot, light: Light, image: Tensor, place: Place, *, colour: str, size: float, side: float, phase: float
) -> Tensor:
    """A balloon of a colour, striped with white, lit from one `side`; it sways by its `phase`, and glows at night."""
    sx, sy, scale = place
    angle = 0.05 * torch.sin(shot.t * 0.9 + phase)
    lamp = 0.5 + 0.5 * torch.sin(shot.t * 2.3 + phase)
    burner = light.night * (0.35 + 0.35 * smoothstep(0.3, 0.8, lamp))
    cloth = PAINTS[colour]
    main = light.paint(cloth, 0.04) + image.new_tensor(cloth).view(1, 3, 1, 1) * burner
    stripe_colour = (0.98, 0.92, 0.78) if colour != "white" else (0.62, 0.66, 0.74)
    other = light.paint(stripe_colour, 0.04) + image.new_tensor(stripe_colour).view(1, 3, 1, 1) * burner * 0.8
    basket = light.paint((0.42, 0.26, 0.12))
    edge = 2.2 / (shot.size * size)

    def sprite(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        narrow = 1 - 0.42 * smoothstep(0.05, 1.2, v)
        r = ((u / narrow) ** 2 + (v * torch.where(v > 0, 0.80, 1.0)) ** 2).sqrt()
        envelope = smoothstep(1 + edge, 1 - edge, r) * smoothstep(1.12 + edge, 1.12 - edge, v)
        around = torch.asin((u / narrow / (1 - (v * 0.7).clamp(-0.95, 0.95) ** 2).sqrt()).clamp(-0.98, 0.98))
        stripes = smoothstep(-0.25, 0.25, torch.sin(around * 5.0 + math.pi / 2))
        shade = 0.72 + 0.38 * torch.exp(-((u - 0.4 * side) ** 2 + (v + 0.4) ** 2) * 0.9)
        colour = over(other, main, stripes) * shade
        crate = torch.maximum(u.abs() - 0.17, (v - 1.52).abs() - 0.13)
        ropes = torch.maximum((u.abs() - 0.30 + 0.30 * (v - 1.05)).abs() - 0.022, (v - 1.22).abs() - 0.20)
        a_crate, a_ropes = smoothstep(edge, -edge, crate), smoothstep(edge, -edge, ropes) * 0.8
        colour = over(colour, basket, torch.maximum(a_crate, a_ropes))
        return colour, torch.maximum(envelope, torch.maximum(a_crate, a_ropes))

    return shot.stamp(image, sprite, sx, sy, size * scale, size * 1.9, angle)
