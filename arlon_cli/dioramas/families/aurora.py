"""Northern lights over snow."""

import torch
from torch import Tensor

from arlon_cli.dioramas.ground import Plate, forest, lay, mountains, plate
from arlon_cli.dioramas.painter import RGB, Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.sky import Light, Sky
from arlon_cli.dioramas.water import mirror
from arlon_cli.dioramas.weather import Weather

HEM: dict[str, RGB] = {  # the colour of a curtain's bright lower hem
    "green": (0.28, 1.00, 0.38),
    "purple": (0.66, 0.24, 1.00),
    "pink": (1.00, 0.34, 0.66),
    "blue": (0.16, 0.50, 1.00),
}
CROWN: dict[str, RGB] = {  # and what it fades to upwards
    "green": (0.10, 0.62, 0.34),
    "purple": (0.42, 0.10, 0.82),
    "pink": (0.74, 0.14, 0.62),
    "blue": (0.10, 0.20, 0.92),
}


class Aurora:
    """Curtains of light wave above snowy mountains and conifers; every other scene has a lake that mirrors them."""

    shore = 0.40

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit, horizon=0.34), Weather(kit)
        side = self.sky.side
        self.lake = kit.random.random() < 0.5
        foot = self.shore if self.lake else 0.44
        self.far = mountains(kit, foot - 0.03, 0.46, (0.44, 0.50, 0.62), side, snowline=0.95, peaks=6)
        self.trees = forest(kit, foot - 0.06, 0.13, (0.15, 0.26, 0.26), side, rows=2, gap=0.3)
        self.snow = self._snow(kit, 0.56, 0.15, side)
        self.bank = forest(kit, 0.98, kit.random.uniform(0.34, 0.46), (0.14, 0.24, 0.24), side, rows=1)
        self.ripples = kit.noise(128, 1.3, highest=0.22)
        self.rays = kit.noise(128, 1.0, highest=0.16)
        swings = kit.random.choice((-1.0, 1.0))
        self.curtains = [
            (
                at + kit.random.uniform(-0.06, 0.06),
                tall * kit.random.uniform(0.9, 1.1),
                strong,
                swings * kit.random.uniform(0.8, 1.2),
                kit.random.uniform(0, 6.28),
                kit.random.uniform(-0.22, 0.22),
            )
            for at, tall, strong in ((0.10, 0.42, 0.75), (-0.12, 0.60, 1.0), (-0.46, 0.55, 0.6))
        ]

    def _snow(self, kit: Kit, base: float, height: float, side: float) -> Plate:
        """A field of drifted snow."""
        ridge = base - height * (0.4 + 0.4 * kit.profile(2.2, lowest=1, highest=0.03))
        noise = kit.noise(128, 1.7, highest=0.25)
        drift = kit.plate_noise(noise, 0.30, 1.1)
        lit = wrapped(noise, kit.plate_x * 0.30 - 0.03 * side, kit.plate_y * 1.1 - 0.02)
        shade = 0.80 + 0.32 * torch.tanh(drift - lit) + 0.16 * smoothstep(0.10, 0.0, kit.plate_y - ridge)
        white = kit.rgb((0.88, 0.93, 1.0)) * shade
        return plate(white, kit.below(ridge), torch.full_like(shade, 0.3), ridge.min().item())

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        light.sun_y = light.sun_y - 6.0  # no moon tonight
        image = self.sky.paint(shot, light, clouds=0.45)
        hem, crown = shot.mix("colour", HEM.__getitem__), shot.mix("colour", CROWN.__getitem__)
        image = self._curtains(shot, image, hem, crown, 1 - 0.2 * light.snow)
        self._shine(shot, light, hem)
        image = lay(shot, light, image, self.far, 0.3, 0.30, bottom=0.55)
        image = lay(shot, light, image, self.trees, 0.85, 0.05, bottom=0.65)
        if self.lake:
            image = mirror(shot, light, image, self.ripples, self.shore, (0.04, 0.12, 0.22))
        else:
            image = lay(shot, light, image, self.snow, 0.95, 0.0)
        image = lay(shot, light, image, self.bank, 1.2, 0.0, wind=0.006)
        return self.weather.paint(shot, light, image)

    def _shine(self, shot: Shot, light: Light, hem: Tensor) -> None:
        """Tint the light on the land, and the air, by the curtains above."""
        pulse = 0.85 + 0.15 * torch.sin(shot.t * self._pace(shot) * 0.9 + self.curtains[1][4])
        light.light = light.light * 0.62 + hem * 0.30 * pulse
        light.horizon = over(light.horizon * 0.9, hem * 0.5, 0.3)
        light.sun = torch.zeros_like(light.sun)

    @staticmethod
    def _pace(shot: Shot) -> float:
        return 2.0 if shot.first("speed") == "fast" else 0.7

    def _curtains(self, shot: Shot, image: Tensor, hem: Tensor, crown: Tensor, strength: Tensor) -> Tensor:
        soft = shot.coarse()
        x, y = soft.world(0.15)
        time = soft.t * self._pace(shot)
        low, high = torch.zeros_like(y * x * time), torch.zeros_like(y * x * time)
        for at, tall, strong, swing, phase, lean in self.curtains:
            bend = 0.16 * torch.sin(2.1 * x + 0.55 * swing * time + phase)
            fold = 0.08 * torch.sin(5.2 * x - 0.9 * swing * time + 2 * phase + 4 * bend)
            line = at + lean * x + bend + fold
            up = (line - y) / tall
            fan = x / (1.25 - 0.22 * (line - y)) + 0.9 * bend + 0.8 * fold
            drift = 0.035 * swing * time
            ray = wrapped(self.rays, fan * 0.62 + drift + phase, phase + 0.012 * time + 0 * x)
            body = wrapped(self.rays, 0.14 * x + 0.15 * bend - 0.6 * drift + phase, 0.5 + phase + 0.02 * time)
            reach = (1 + 0.30 * ray + 0.25 * body).clamp(min=0.35)
            bright = strong * (0.62 + 0.30 * ray + 0.30 * body).clamp(min=0.06)
            rise = smoothstep(-0.09, 0.07, up)
            glow = bright * rise * torch.exp(-(up / (0.62 * reach)).clamp(min=0))
            veil = 0.10 * strong * torch.exp(-((up - 0.1) * 1.6).square())
            low = low + glow * torch.exp(-(up / 0.40).clamp(min=0)) + veil
            high = high + glow
        top = smoothstep(-1.5, -0.8, y)
        tint = 0.95 * low * hem + 0.85 * high * top * crown + 0.28 * (low - 0.75).clamp(min=0)
        shine = shot.fine(1 - torch.exp(-1.5 * strength * tint))
        return torch.addcmul(image, 1 - image, shine)
