"""Rectified flow as in Open-Sora v1.2: the one statement of its convention.

A timestep t lies in [0, 1000] and 1000 is noise: x_t = (1 − t/1000) x_0 + (t/1000) noise. The network predicts
v = x_0 − noise, and a step from t to t' < t is z ← z + v (t − t')/1000.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x_t (B, C, T, H, W), timestep (B,), x_mask (B, T) or None) -> v (B, C, T, H, W)"""

NUM_TIMESTEPS = 1000.0


@dataclass(frozen=True)
class RectifiedFlow:
    """The path between latents and noise, how it is learned, and how it is walked.

    `shift` > 1 spends more steps near the noise: t ← shift·t / (1 + (shift − 1)·t), t as a share of 1000; 1 spends
    them evenly.
    """

    shift: float = 1.0

    @classmethod
    def for_video(cls, height: int, width: int, num_frames: int) -> Self:
        """Open-Sora's shift for a video of this size in pixels and frames; 512×512 and one latent frame have 1."""
        latent_frames = max(1, num_frames // 17 * 5)
        return cls(math.sqrt(height * width / 512**2) * math.sqrt(latent_frames))

    def transform(self, timestep: Tensor) -> Tensor:
        """The timestep transform, [0, 1000] -> [0, 1000]."""
        share = timestep / NUM_TIMESTEPS
        return NUM_TIMESTEPS * self.shift * share / (1 + (self.shift - 1) * share)

    def timesteps(self, num_steps: int, start_timestep: float = NUM_TIMESTEPS) -> list[float]:
        """Where each step begins: first at `start_timestep`, evenly spaced before the transform; the last ends at 0.

        Raises ValueError for no steps or a start outside (0, 1000].
        """
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}; sampling takes at least 1.")
        if not 0 < start_timestep <= NUM_TIMESTEPS:
            raise ValueError(f"start_timestep is {start_timestep}; it lies above 0 and at most at {NUM_TIMESTEPS:g}.")
        share = start_timestep / NUM_TIMESTEPS
        first = share / (self.shift - (self.shift - 1) * share)  # what the transform takes to start_timestep
        even = torch.tensor([first * (1 - step / num_steps) for step in range(num_steps)], dtype=torch.float64)
        return self.transform(NUM_TIMESTEPS * even).tolist()

    def add_noise(self, x_0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t of latents and noise (B, ...) at timestep (B,)."""
        share = (timestep.to(x_0.dtype) / NUM_TIMESTEPS).view(-1, *[1] * (x_0.dim() - 1))
        return (1 - share) * x_0 + share * noise

    def initial(self, noise: Tensor, condition: Tensor | None, start_timestep: float) -> Tensor:
        """Where sampling starts (4.4): noise that holds F (B, C, T, H, W) as far as t₀ leaves room for it.

        Raises ValueError where there is no F and t₀ is not 1000.
        """
        if condition is None:
            if start_timestep != NUM_TIMESTEPS:
                raise ValueError(f"Without a condition, sampling starts at 1000 and not at {start_timestep:g}.")
            return noise
        return self.add_noise(condition, noise, noise.new_full((len(noise),), start_timestep))

    def loss(
        self, network: Network, x_0: Tensor, noise: Tensor, timestep: Tensor, x_mask: Tensor | None = None
    ) -> Tensor:
        """Squared error of v for each sample, (B,) in float32, over its frames to generate.

        x_0 and noise are (B, C, T, H, W). Frames where x_mask (B, T) is False are given clean and do not count; each
        sample needs one that does.
        """
        x_t = self.add_noise(x_0, noise, timestep)
        if x_mask is not None:
            x_t = _where(x_mask, x_t, x_0)
        v = network(x_t, timestep, x_mask).float()
        error = (v - (x_0 - noise).float()).square().mean(dim=(1, 3, 4))  # (B, T)
        if x_mask is None:
            return error.mean(dim=1)
        return (error * x_mask).sum(dim=1) / x_mask.sum(dim=1)

    def sample(
        self,
        network: Network,
        z: Tensor,
        timesteps: list[float],
        *,
        guidance_scale: float = 1.0,
        x_mask: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Walk from z (B, C, T, H, W) at `timesteps[0]` to 0 and yield z after each step; the last one is x_0.

        Frames where x_mask (B, T) is False are clean in z already and stay as they are. With a guidance scale g other
        than 1, `network` gets every sample twice in one batch, first all to be conditioned, then all not to be:
        v = v_un + g (v_cond − v_un).
        """
        guided = guidance_scale != 1.0
        network_mask = x_mask.repeat(2, 1) if guided and x_mask is not None else x_mask
        for timestep, following in zip(timesteps, [*timesteps[1:], 0.0], strict=True):
            x_t = torch.cat([z, z]) if guided else z
            v = network(x_t, x_t.new_full((len(x_t),), timestep, dtype=torch.float32), network_mask).to(z.dtype)
            if guided:
                conditional, unconditional = v.chunk(2)
                v = unconditional + guidance_scale * (conditional - unconditional)
            stepped = z + v * ((timestep - following) / NUM_TIMESTEPS)
            z = stepped if x_mask is None else _where(x_mask, stepped, z)
            yield z


def _where(x_mask: Tensor, x: Tensor, given: Tensor) -> Tensor:
    return torch.where(x_mask[:, None, :, None, None], x, given)
