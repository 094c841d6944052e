"""Rain, snow, fog and lightning in front of a scene."""

import math

import torch
from torch import Tensor

from arlon_cli.dioramas.painter import Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.sky import Light

VEIL = {"fog": 0.50, "rain": 0.16, "snow": 0.16, "storm": 0.1}


class Weather:
    """What falls, drifts and flashes between the camera and the scene."""

    def __init__(self, kit: Kit) -> None:
        self.slant = kit.random.choice((-1, 1)) * kit.random.uniform(0.1, 0.3)
        self.streaks = self._bake_streaks(kit)
        flakes = 70
        self.flake_x = kit.uniform(-1.1, 1.1, 1, flakes, 1, 1)
        self.flake_y = kit.uniform(0, 2.3, 1, flakes, 1, 1)
        self.flake_size = kit.uniform(0.016, 0.034, 1, flakes, 1, 1)
        self.flake_phase = kit.uniform(0, 2 * math.pi, 1, flakes, 1, 1)
        self.mist = kit.noise(64, 2.2, highest=0.12)
        self.bolts, self.delays, self.which = self._bake_bolts(kit)

    def _bake_streaks(self, kit: Kit) -> Tensor:
        """A periodic tile of slanted drops."""
        size, drops = 128, 34
        axis = torch.arange(size, device=kit.device) / size
        x, y = kit.uniform(0, 1, drops, 1, 1), kit.uniform(0, 1, drops, 1, 1)
        dy = torch.remainder(axis.view(1, -1, 1) - y + 0.5, 1) - 0.5
        dx = torch.remainder(axis.view(1, 1, -1) - x + dy * self.slant + 0.5, 1) - 0.5
        drop = torch.exp(-((dx * size / 0.9) ** 2)) * smoothstep(-0.055, 0.03, dy) * smoothstep(0.055, 0.045, dy)
        return (drop * kit.uniform(0.5, 1, drops, 1, 1)).sum(0).clamp(0, 1)[None, None]

    def _bake_bolts(self, kit: Kit) -> tuple[Tensor, Tensor, Tensor]:
        """Bolts (n, 1, S, S), and for each slot of time a delay and a bolt."""
        bolts, slots = 4, 16
        axis = (torch.arange(kit.size, device=kit.device) + 0.5) / kit.size * 2 - 1
        y = axis.view(1, 1, -1, 1)
        path = kit.uniform(-0.8, 0.8, bolts, 1, 1, 1) + kit.uniform(-0.25, 0.25, bolts, 1, 1, 1) * (y + 1)
        kinks = kit.uniform(-1, 1, bolts, 1, 24)
        zigzag = torch.nn.functional.interpolate(kinks, size=kit.size, mode="linear", align_corners=True)
        distance = (axis.view(1, 1, 1, -1) - path - 0.07 * zigzag.unsqueeze(-1)).abs()
        reach = smoothstep(0.3, 0.2, y - kit.uniform(-0.1, 0.1, bolts, 1, 1, 1))
        bolt = (torch.exp(-((distance / 0.014) ** 2)) + 0.35 * torch.exp(-distance / 0.09)) * reach
        return bolt, kit.uniform(0, 1.2, slots), kit.uniform(0, bolts, slots).long().clamp(max=bolts - 1)

    def lightning(self, shot: Shot) -> tuple[Tensor, Tensor]:
        """The brightness of the flash (n, 1, 1, 1) and the bolt (n, 1, S, S)."""
        period = 2.2
        slot = (shot.t / period).floor()
        index = torch.remainder(slot, len(self.delays)).long().view(-1)
        since = shot.t - slot * period - self.delays[index].view(-1, 1, 1, 1)
        flash = smoothstep(0.0, 0.06, since) * torch.exp(-since.clamp(min=0) * 5.0)
        flicker = 0.8 + 0.2 * torch.cos(since * 30.0)
        flash = flash * flicker * shot.amount("weather", "storm")
        return flash, self.bolts[self.which[index]]

    def flash(self, shot: Shot, image: Tensor) -> Tensor:
        """Lightning in the sky, to be painted before what stands in front of it."""
        if not self._ever(shot, "storm"):
            return image
        flash, bolt = self.lightning(shot)
        return image + (0.30 + bolt) * flash * image.new_tensor((0.85, 0.88, 1.0)).view(1, 3, 1, 1)

    def paint(self, shot: Shot, light: Light, image: Tensor) -> Tensor:
        """Fog, rain and snow in front of everything."""
        if self._ever(shot, "storm"):
            image = image * (1 + 0.5 * self.lightning(shot)[0])
        if self._ever(shot, "fog", "rain", "snow", "storm"):
            thickness = shot.mix("weather", lambda value: VEIL.get(value, 0.0))
            soft = shot.coarse(4)
            x, y = soft.world(0.7)
            drift = wrapped(self.mist, x * 0.22 + 0.03 * soft.t, y * 0.45 + 0.004 * soft.t)
            veil = shot.fine((thickness * (0.78 + 0.26 * drift)).clamp(0, 0.9))
            image = over(image, light.horizon, veil)
        if self._ever(shot, "rain", "storm"):
            image = self._rain(shot, light, image)
        if self._ever(shot, "snow"):
            image = self._snow(shot, light, image)
        return image

    def _rain(self, shot: Shot, light: Light, image: Tensor) -> Tensor:
        amount = shot.amount("weather", "rain", "storm")
        fall = shot.t * 1.9
        drops = wrapped(self.streaks, shot.x * 0.5 - fall * self.slant * 0.5, shot.y * 0.5 - fall * 0.5)
        far = wrapped(self.streaks, shot.x * 0.8 - fall * self.slant * 0.55 + 0.4, shot.y * 0.8 - fall * 0.55)
        colour = over(light.horizon, torch.ones_like(light.horizon), 0.35) * 0.9 + 0.1
        return over(image, colour, (drops * 0.55 + far * 0.3).clamp(0, 0.7) * amount)

    def _snow(self, shot: Shot, light: Light, image: Tensor) -> Tensor:
        speed = self.flake_size * 16
        y = torch.remainder(self.flake_y + shot.t * speed, 2.3) - 1.15
        sway = 0.06 * torch.sin(shot.t * 1.1 + self.flake_phase)
        x = torch.remainder(self.flake_x + 0.06 * self.slant * shot.t + sway + 1.1, 2.2) - 1.1
        flakes = shot.dots(x, y, self.flake_size, torch.ones_like(x)).clamp(0, 1)
        colour = over(torch.ones_like(light.light), light.light + 0.35, 0.45).clamp(0, 1)
        return over(image, colour, flakes * 0.92 * light.snow)

    @staticmethod
    def _ever(shot: Shot, *values: str) -> bool:
        return any(span.attributes["weather"] in values for span in shot.scene.spans)
