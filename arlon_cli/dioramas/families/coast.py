"""A rocky coast seen from above: surf washes over boulders."""

import torch
from torch import Tensor

from arlon_cli.dioramas.painter import Kit, Shot, over, smoothstep, wrapped
from arlon_cli.dioramas.sky import Sky
from arlon_cli.dioramas.weather import Weather

EXTENT = 2.0  # half extent of the baked map, in world units


class Coast:
    """A map of heights, rocks and their shading, baked once; the water level moves over it."""

    def __init__(self, kit: Kit) -> None:
        self.sky, self.weather = Sky(kit), Weather(kit)
        self.land = self._bake(kit)
        self.foam = kit.noise(128, 0.9, highest=0.4)
        self.swell = kit.noise(128, 1.7, highest=0.2)
        self.clouds = kit.noise(64, 2.2, highest=0.1)

    def _bake(self, kit: Kit) -> Tensor:
        """Colour (3), height above the sea and distance to sea along the fall: (1, 5, side, side)."""
        side = round(EXTENT * kit.size)
        axis = ((torch.arange(side, device=kit.device) + 0.5) / side * 2 - 1) * EXTENT
        x, y = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
        turn = torch.tensor(kit.random.uniform(0, 6.283))
        self.out = (turn.cos().item(), turn.sin().item())  # towards the sea
        noise, grain = kit.noise(128, 1.7, highest=0.2), kit.noise(128, 0.8, highest=0.45)
        bays = wrapped(noise, x * 0.22, y * 0.22)
        toward = x * self.out[0] + y * self.out[1]
        slope = -toward * 0.9 + 0.30 * bays - 0.05
        boulders, tone = torch.zeros_like(slope), torch.zeros_like(slope)
        for cells, lift in ((5, 0.55), (9, 0.42), (16, 0.26)):
            bump, cell = self._stones(kit, x, y, cells)
            here = smoothstep(0.65, -0.05, slope) * smoothstep(-0.85, -0.15, slope)
            boulders = torch.maximum(boulders, bump * lift * here)
            tone = torch.where(bump * lift * here >= boulders, cell, tone)
        fine = wrapped(grain, x * 0.7, y * 0.7)
        height = slope + boulders + 0.03 * fine
        dy, dx = torch.gradient(height, dim=(2, 3))
        relief = (dx + dy) * side / (2 * EXTENT)
        shade = (0.95 - 0.42 * torch.tanh(relief * 0.55) + 0.06 * fine).clamp(0.3, 1.45)
        rock = over(
            kit.rgb((0.28, 0.25, 0.24)), kit.rgb((0.56, 0.48, 0.40)), smoothstep(-0.15, 0.35, height + 0.25 * tone)
        )
        grass = over(
            kit.rgb((0.30, 0.42, 0.16)),
            kit.rgb((0.45, 0.50, 0.22)),
            smoothstep(-1, 1, wrapped(noise, x * 0.6, y * 0.6)),
        )
        inland = smoothstep(0.55, 0.72, slope + 0.08 * fine) * (1 - smoothstep(0.15, 0.3, boulders))
        colour = over(rock, grass, inland) * shade
        return torch.cat([colour.clamp(0, 1), height, slope], 1)

    def _stones(self, kit: Kit, x: Tensor, y: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        """Rounded boulders on a jittered grid: their height in [0, 1] and a tone for each."""
        period = 2 * EXTENT / cells
        jitter = kit.uniform(-0.28, 0.28, 2, cells * 2, cells * 2)
        radius = kit.uniform(0.30, 0.62, cells * 2, cells * 2)
        tones = kit.uniform(-1, 1, cells * 2, cells * 2)
        cx, cy = (
            (x / period * 1.0 + cells / 2).expand(1, 1, y.shape[2], x.shape[3]),
            (y / period + cells / 2).expand(1, 1, y.shape[2], x.shape[3]),
        )
        best, tone = torch.zeros_like(cx), torch.zeros_like(cx)
        for oy in (-1, 0, 1):
            for ox in (-1, 0, 1):
                ix, iy = (cx.floor() + ox).long() % (2 * cells), (cy.floor() + oy).long() % (2 * cells)
                px, py = cx.floor() + ox + 0.5 + jitter[0][iy, ix], cy.floor() + oy + 0.5 + jitter[1][iy, ix]
                d = ((cx - px) ** 2 + (cy - py) ** 2).sqrt() / radius[iy, ix]
                bump = (1 - d.square()).clamp(min=0).sqrt()
                tone = torch.where(bump > best, tones[iy, ix], tone)
                best = torch.maximum(best, bump)
        return best, tone

    def _soft(self, shot: Shot) -> tuple[Tensor, Tensor]:
        """The swell of the sea and the shadows of clouds, painted coarsely."""
        soft = shot.coarse()
        x, y = soft.world(1.0, 0.0)
        swell = wrapped(self.swell, x * 0.28 + self.out[0] * 0.02 * soft.t, y * 0.28 + self.out[1] * 0.02 * soft.t)
        shadow = wrapped(self.clouds, x * 0.12 + 0.02 * soft.t, y * 0.12)
        layers = shot.fine(torch.cat([swell, shadow], 1))
        return layers[:, :1], layers[:, 1:]

    def paint(self, shot: Shot) -> Tensor:
        light = self.sky.light(shot)
        rough = shot.amount("state", "rough")
        x, y = shot.world(1.0, 0.0)
        gx, gy = torch.broadcast_tensors(x / EXTENT, y / EXTENT)
        grid = torch.stack([gx[:, 0], gy[:, 0]], -1)
        seen = torch.nn.functional.grid_sample(
            self.land.expand(len(grid), -1, -1, -1), grid, padding_mode="border", align_corners=False
        )
        land, height, slope = seen[:, :3], seen[:, 3:4], seen[:, 4:5]
        swell, shadow = self._soft(shot)
        # Waves run up the shore: a train of crests along the fall of the land, bent by the swell.
        run = slope * 6.5 + 1.3 * swell + shot.t * 1.15
        rise = 0.5 + 0.5 * torch.sin(shot.t * 1.15 + 1.5 * swell)
        level = -0.06 + (0.10 + 0.14 * rough) * rise
        depth = level - height
        foam = wrapped(self.foam, x * 0.42 + 0.012 * shot.t, y * 0.42 + 0.03 * swell)
        lace = wrapped(self.foam, x * 0.85 - 0.02 * shot.t, y * 0.85 + 0.5)
        froth = 0.6 * foam + 0.55 * lace
        wet = smoothstep(-0.22, -0.02, depth)
        ground = land * (1 - 0.48 * wet)
        deep, shallow = (
            land.new_tensor((0.015, 0.13, 0.33)).view(1, 3, 1, 1),
            land.new_tensor((0.08, 0.50, 0.58)).view(1, 3, 1, 1),
        )
        water = over(shallow, deep, smoothstep(0.0, 0.62, depth + 0.05 * swell))
        water = water * (1 + 0.10 * swell + 0.07 * froth)
        seen_through = torch.exp(-depth.clamp(min=0) * 9.0) * 0.55
        image = over(ground, water, smoothstep(-0.015, 0.015, depth) * (1 - seen_through))
        crest = torch.exp(-((torch.remainder(run / 6.2832, 1.0) - 0.5) * 5.0).square())
        surf = smoothstep(0.75, 0.05, depth) * smoothstep(-0.03, 0.01, depth)
        breaking = surf * crest * (0.75 + 0.45 * rough)
        edge = torch.exp(-((depth - 0.02) / 0.05).square()) * 0.9
        residue = smoothstep(0.40 + 0.15 * rough, 0.05, depth) * smoothstep(-0.02, 0.02, depth) * (0.38 + 0.25 * rough)
        far = (
            smoothstep(0.86, 1.0, crest)
            * smoothstep(0.3, 0.6, depth)
            * smoothstep(0.2, 1.0, froth)
            * (0.25 + 0.6 * rough)
        )
        white = (breaking + edge + residue) * (0.62 + 0.42 * froth) + far
        image = over(image, torch.ones_like(light.light) * 0.98, smoothstep(0.18, 0.75, white) * 0.95)
        image = image * (light.light * 0.95 + 0.03)
        glint = smoothstep(1.1, 2.2, swell + 0.5 * froth) * smoothstep(0.2, 0.4, depth) * light.sun
        image = image + light.glow * glint * 0.16
        image = image * (1 - 0.28 * smoothstep(0.4, 1.4, shadow) * (0.4 + 0.6 * light.overcast))
        return self.weather.paint(shot, light, image)
