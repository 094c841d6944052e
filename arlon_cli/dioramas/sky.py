"""Light and sky: what the time of day and the weather make of a scene's colours."""

import math

import torch
from torch import Tensor

from arlon_cli.dioramas.painter import RGB, Kit, Shot, over, smoothstep, wrapped

ZENITH: dict[str, RGB] = {
    "dawn": (0.44, 0.52, 0.78),
    "day": (0.13, 0.38, 0.82),
    "sunset": (0.24, 0.13, 0.42),
    "night": (0.035, 0.06, 0.19),
}
MIDDLE: dict[str, RGB] = {
    "dawn": (0.86, 0.70, 0.80),
    "day": (0.40, 0.66, 0.94),
    "sunset": (0.84, 0.30, 0.32),
    "night": (0.08, 0.135, 0.32),
}
HORIZON: dict[str, RGB] = {
    "dawn": (1.00, 0.85, 0.72),
    "day": (0.80, 0.90, 0.97),
    "sunset": (1.00, 0.62, 0.22),
    "night": (0.17, 0.25, 0.46),
}
OVERCAST: dict[str, RGB] = {
    "dawn": (0.76, 0.68, 0.74),
    "day": (0.66, 0.70, 0.75),
    "sunset": (0.62, 0.42, 0.44),
    "night": (0.17, 0.22, 0.34),
}
LIGHT: dict[str, RGB] = {
    "dawn": (1.00, 0.86, 0.84),
    "day": (1.04, 1.02, 0.96),
    "sunset": (1.02, 0.64, 0.46),
    "night": (0.40, 0.49, 0.74),
}
GLOW: dict[str, RGB] = {
    "dawn": (1.00, 0.90, 0.70),
    "day": (1.00, 0.97, 0.85),
    "sunset": (1.00, 0.66, 0.26),
    "night": (0.62, 0.72, 0.95),
}
CLOUD_LIT: dict[str, RGB] = {
    "dawn": (1.00, 0.88, 0.82),
    "day": (1.00, 1.00, 1.00),
    "sunset": (1.00, 0.62, 0.40),
    "night": (0.32, 0.40, 0.58),
}
CLOUD_SHADE: dict[str, RGB] = {
    "dawn": (0.66, 0.58, 0.72),
    "day": (0.66, 0.74, 0.86),
    "sunset": (0.46, 0.24, 0.36),
    "night": (0.10, 0.14, 0.27),
}
OVERCAST_AMOUNT = {"clear": 0.0, "cloudy": 0.25, "rain": 0.85, "snow": 0.8, "fog": 0.75, "storm": 1.0, "none": 0.0}
CLOUD_LEVEL = {"clear": 1.9, "cloudy": 0.15, "rain": -0.5, "snow": -0.4, "fog": 0.3, "storm": -0.7, "none": 2.0}
HAZE = {"clear": 0.0, "cloudy": 0.04, "rain": 0.22, "snow": 0.25, "fog": 0.50, "storm": 0.12, "none": 0.0}
DIM = {"clear": 1.0, "cloudy": 0.93, "rain": 0.72, "snow": 0.92, "fog": 0.85, "storm": 0.62, "none": 1.0}


class Light:
    """The light of some frames: colours (n, 3, 1, 1) and amounts (n, 1, 1, 1)."""

    def __init__(self, shot: Shot, side: float) -> None:
        self.overcast = shot.mix("weather", OVERCAST_AMOUNT.__getitem__)
        self.dim = shot.mix("weather", DIM.__getitem__)
        self.haze = shot.mix("weather", HAZE.__getitem__)
        self.night = shot.amount("time", "night")
        grey = shot.mix("time", OVERCAST.__getitem__) * (
            1 - (0.52 - 0.27 * self.night) * shot.amount("weather", "storm")
        )
        grey = grey * (1 + 0.4 * self.night * shot.amount("weather", "fog"))  # moonlit fog: what stands in it is darker
        self.zenith = over(shot.mix("time", ZENITH.__getitem__), grey * 0.8, self.overcast)
        self.middle = over(shot.mix("time", MIDDLE.__getitem__), grey * 0.92, self.overcast)
        self.horizon = over(shot.mix("time", HORIZON.__getitem__), grey * 1.06, self.overcast * 0.9)
        light = shot.mix("time", LIGHT.__getitem__)
        pale = over(light.mean(1, keepdim=True) * 0.96, light, 0.7 * self.night)  # a night stays blue
        self.light = over(light, pale, self.overcast * 0.75) * over(
            self.dim, torch.ones_like(self.dim), 0.5 * self.night
        )
        self.glow = shot.mix("time", GLOW.__getitem__)
        self.cloud_lit = over(shot.mix("time", CLOUD_LIT.__getitem__), grey * 1.1, self.overcast * 0.9)
        self.cloud_shade = over(shot.mix("time", CLOUD_SHADE.__getitem__), grey * 0.62, self.overcast * 0.9)
        self.sun = 1 - smoothstep(0.3, 0.9, self.overcast)
        low = {"dawn": -side * 0.5, "day": side * 0.55, "sunset": side * 0.42, "night": -side * 0.5}
        self.sun_x = shot.mix("time", low.__getitem__)
        self.sun_y = shot.mix("time", {"dawn": 0.02, "day": -0.72, "sunset": 0.0, "night": -0.62}.__getitem__)
        self.snow = shot.amount("weather", "snow")
        self.t = shot.t

    def paint(self, colour: Tensor | RGB, haze: float = 0.0) -> Tensor:
        """The colour of a surface (n, 3, 1, 1) under this light, seen through so much air."""
        if isinstance(colour, tuple):
            colour = torch.tensor(colour, device=self.light.device).view(1, 3, 1, 1)
        return over(colour * self.light, self.horizon, self.air(haze))

    def air(self, distance: float) -> Tensor:
        """How much of the horizon's colour lies over things at a distance in [0, 1]."""
        return (distance * 0.55 + self.haze * (0.25 + 1.2 * distance)).clamp(0, 0.96)


class Sky:
    """A gradient sky with sun, moon, stars and drifting clouds, down to the horizon at world y."""

    def __init__(self, kit: Kit, horizon: float = 0.25) -> None:
        self.horizon = horizon
        self.side = kit.random.choice((-1.0, 1.0))
        self.wind = kit.random.choice((-1, 1)) * kit.random.uniform(0.015, 0.03)
        billows = kit.noise(128, 1.9, highest=0.2)
        wisps = kit.noise(128, 1.5, highest=0.25)
        shift = (round(-self.side * 4), 4)
        self.billows = torch.cat([billows, billows.roll(shift, dims=(3, 2))], dim=1)
        self.wisps = torch.cat([wisps, wisps.roll(shift, dims=(3, 2))], dim=1)
        stars = 46
        self.star_x = kit.uniform(-1, 1, 1, stars, 1, 1)
        self.star_y = kit.uniform(-1, horizon, 1, stars, 1, 1)
        self.star_size = kit.uniform(0.010, 0.020, 1, stars, 1, 1)
        self.star_phase = kit.uniform(0, 2 * math.pi, 1, stars, 1, 1)

    def light(self, shot: Shot) -> Light:
        return Light(shot, self.side)

    def paint(self, shot: Shot, light: Light, clouds: float = 1.0) -> Tensor:
        """The whole picture filled with sky: (n, 3, S, S)."""
        soft = shot.coarse()
        height = (self.horizon - soft.y).clamp(min=0) / (1 + self.horizon)
        image = over(light.horizon, light.middle, smoothstep(0.0, 0.45, height))
        image = over(image, light.zenith, smoothstep(0.25, 1.0, height))
        dx, dy = soft.x - light.sun_x, soft.y - light.sun_y
        d2 = dx * dx + dy * dy
        halo = 0.55 * torch.exp(-d2 * 3.0) + 0.6 * torch.exp(-d2 * 16.0)
        image = over(image, light.glow, (halo * light.sun * (1 - 0.72 * light.night)).clamp(0, 1))
        stars = light.night * light.sun
        density, shade = self._clouds(soft, clouds)
        cloud = over(light.cloud_shade, light.cloud_lit, shade)
        cloud = over(cloud, light.glow, (halo * 0.5 * light.sun * (1 - light.night)).clamp(0, 1))
        layers = shot.fine(torch.cat([over(image, cloud, density), density], dim=1))
        image, density = layers[:, :3], layers[:, 3:]
        twinkle = 0.6 + 0.4 * torch.sin(shot.t * 2.2 + self.star_phase)
        sparks = shot.dots(self.star_x - 0.05 * shot.pan, self.star_y, self.star_size, twinkle * 1.1)
        image = image + sparks * stars * (1 - density)
        return self._disc(shot, light, image, density)

    def _clouds(self, soft: Shot, clouds: float) -> tuple[Tensor, Tensor]:
        x, y = soft.world(0.12)
        height = (self.horizon - y).clamp(min=0)
        v = 0.62 / (height + 0.42)
        u = x * v * 0.34
        big = wrapped(self.billows, u + self.wind * soft.t, v * 0.85)
        small = wrapped(self.wisps, u * 1.7 + self.wind * 1.6 * soft.t + 0.3, v * 1.4 + 0.006 * soft.t)
        both = big + 0.45 * small
        level = soft.mix("weather", CLOUD_LEVEL.__getitem__) + (1 - clouds) * 2
        density = smoothstep(level, level + 1.1, both[:, :1]) * smoothstep(0.0, 0.25, height) * 0.94
        shade = (0.55 + 0.5 * (both[:, :1] - both[:, 1:]) - 0.10 * (both[:, :1] - level)).clamp(0, 1)
        return density, shade

    def _disc(self, shot: Shot, light: Light, image: Tensor, density: Tensor) -> Tensor:
        dx, dy = shot.x - light.sun_x, shot.y - light.sun_y
        radius = 0.105
        edge = 2.5 / shot.size
        distance = (dx * dx + dy * dy).sqrt()
        sun = smoothstep(radius + edge, radius - edge, distance) * light.sun * (1 - 0.8 * density)
        colour = over(light.glow, torch.ones_like(light.glow), 0.45)
        bite = ((dx - 0.055) ** 2 + (dy + 0.03) ** 2).sqrt()
        crescent = 1 - light.night * smoothstep(0.09 + edge, 0.09 - edge, bite)
        return over(image, colour, sun * crescent)
