"""The causal 3-D VAE of the `diorama` preset: 4 frames and 8×8 pixels to one latent position, in one pass or streamed.

Encoder and decoder are each the sum of a linear map of 4×8×8 patches, started as their principal components, and a
small network that works at a quarter of the resolution and below and adds what the linear map misses. What the
decoder draws glides from one latent to the next: left to itself, it shows the same frame four times, and jumps.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.config import VideoVAEConfig
from arlon_cli.errors import InputError
from arlon_cli.models.layers import CausalConv3d, Downsample, RMSNorm, Stream, Upsample

_PATCH = (4, 8, 8)
_FIRST_LOGVAR = -9.0  # the posterior starts narrow beside the channels of least variance


class VideoVAE(nn.Module):
    """Pixels (B, 3, T, H, W) in [-1, 1] to latents (B, C, T/4, H/8, W/8) and back.

    Latent k sees frames up to 4k + 3, and frames 4k to 4k + 3 come from latents up to k. Latents are normalised per
    channel, (mean - shift) · scale, with scale = variance^(-1/4): spreads come closer, and are not made equal.
    """

    temporal_ratio, spatial_ratio = _PATCH[0], _PATCH[1]
    shift: Tensor
    scale: Tensor

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.linear_encoder = Downsample(3, channels, _PATCH)
        self.linear_decoder = Upsample(channels, 3, _PATCH)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.glide = Glide(self.temporal_ratio)
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    @property
    def decoder_context(self) -> int:
        """Latents before a chunk that its frames depend on: two frames a block, at 1, 2 and 4 to one, and a glide."""
        return -(-self.config.num_res_blocks * 7 // 2) + 1

    def posterior(self, pixels: Tensor, stream: Stream | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | pixels), (B, C, T/4, H/8, W/8) each, not normalised.

        Raises InputError where T is no multiple of 4, or H or W no multiple of 8.
        """
        if any(size % unit for size, unit in zip(pixels.shape[2:], _PATCH, strict=True)):
            t, h, w = pixels.shape[2:]
            raise InputError(
                f"The VAE takes multiples of 4 frames and of 8x8 pixels, not {t} frames of {w}x{h} pixels."
            )
        x = pixels.movedim(1, -1)
        mean, logvar = self.encoder(x, stream).chunk(2, dim=-1)
        mean = self.linear_encoder(x) + mean
        return mean.movedim(-1, 1), logvar.clamp(-30, 20).movedim(-1, 1)

    def reconstruct(self, z: Tensor, stream: Stream | None = None) -> Tensor:
        """Pixels (B, 3, 4T, 8H, 8W) of latents (B, C, T, H, W) that are not normalised; not clamped."""
        z = z.movedim(1, -1)
        return self.glide(self.linear_decoder(z) + self.decoder(z, stream), stream).movedim(-1, 1)

    def encode(self, pixels: Tensor, stream: Stream | None = None) -> Tensor:
        """Latents (B, C, T/4, H/8, W/8): the posterior's mean, normalised. Raises InputError as `posterior` does."""
        mean, _ = self.posterior(pixels, stream)
        return (mean - _per_channel(self.shift)) * _per_channel(self.scale)

    def decode(self, latents: Tensor, stream: Stream | None = None) -> Tensor:
        """Pixels (B, 3, 4T, 8H, 8W) of normalised latents (B, C, T, H, W); they may pass [-1, 1] a little."""
        return self.reconstruct(latents / _per_channel(self.scale) + _per_channel(self.shift), stream)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Latents of consecutive chunks of one video, each any multiple of 4 frames; together those of the whole."""
        stream: Stream = {}
        for pixels in chunks:
            yield self.encode(pixels, stream)

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pixels of consecutive chunks of one video's latents, each of any length; together those of the whole."""
        stream: Stream = {}
        for latents in chunks:
            yield self.decode(latents, stream)

    @torch.no_grad()
    def set_statistics(self, latents_mean: Tensor, latents_var: Tensor) -> None:
        """State the mean and variance (C,) of latents that are not normalised."""
        self.shift.copy_(latents_mean)
        self.scale.copy_(latents_var.cpu().double() ** -0.25)

    @property
    def latents_var(self) -> Tensor:
        """The variance (C,) that was stated of latents that are not normalised."""
        return self.scale.float() ** -4

    @torch.no_grad()
    def init_from_patches(self, pixels: Tensor) -> None:
        """Start the linear maps as the principal components of the 4×8×8 patches of pixels (B, 3, T, H, W).

        One factor scales all components, so that their mean variance is 1 and their proportions stay.
        """
        patches = self.linear_encoder.fold(pixels.movedim(1, -1)).flatten(0, 3).cpu().double()
        mean = patches.mean(0)
        centred = patches - mean
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(patches))  # ascending
        channels = self.config.latent_channels
        directions = directions[:, -channels:].flip(1)  # (768, C)
        spread = variances[-channels:].mean().clamp_min(1e-8).sqrt()
        self.linear_encoder.linear.weight.copy_(directions.T / spread)
        self.linear_encoder.linear.bias.copy_(-(mean @ directions) / spread)
        self.linear_decoder.linear.weight.copy_(directions * spread)
        self.linear_decoder.linear.bias.copy_(mean)


class Encoder(nn.Module):
    """Pixels (B, 4T, 8H, 8W, 3) to a correction of the mean, and the log-variance, side by side (B, T, H, W, 2C)."""

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.layers = nn.ModuleList(
            [
                Downsample(3, fine, (1, 4, 4)),
                *(ResBlock(fine) for _ in range(config.num_res_blocks)),
                Downsample(fine, middle, (2, 2, 2)),
                *(ResBlock(middle) for _ in range(config.num_res_blocks)),
                Downsample(middle, coarse, (2, 1, 1)),
                *(ResBlock(coarse) for _ in range(config.num_res_blocks)),
                RMSNorm(coarse),
            ]
        )
        self.head = nn.Linear(coarse, 2 * config.latent_channels)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias[: config.latent_channels] = 0.0
            self.head.bias[config.latent_channels :] = _FIRST_LOGVAR

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        return self.head(_run(self.layers, x, stream))


class Decoder(nn.Module):
    """Latents (B, T, H, W, C) to a correction of the pixels (B, 4T, 8H, 8W, 3)."""

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.layers = nn.ModuleList(
            [
                nn.Linear(config.latent_channels, coarse),
                *(ResBlock(coarse) for _ in range(config.num_res_blocks)),
                Upsample(coarse, middle, (2, 1, 1)),
                *(ResBlock(middle) for _ in range(config.num_res_blocks)),
                Upsample(middle, fine, (2, 2, 2)),
                *(ResBlock(fine) for _ in range(config.num_res_blocks)),
                RMSNorm(fine),
            ]
        )
        self.head = Upsample(fine, 3, (1, 4, 4))
        nn.init.zeros_(self.head.linear.weight)
        nn.init.zeros_(self.head.linear.bias)

    def forward(self, z: Tensor, stream: Stream | None = None) -> Tensor:
        return self.head(_run(self.layers, z, stream))


class ResBlock(nn.Module):
    """A 3×3 convolution within each frame, then a causal one over three frames; norms see one position at a time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_space = RMSNorm(width)
        self.space = nn.Conv2d(width, width, 3, padding=1)
        self.norm_time = RMSNorm(width)
        self.time = CausalConv3d(width, width, (3, 1, 1))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        frames = F.silu(self.norm_space(x)).flatten(0, 1)  # (B·T, H, W, C)
        y = self.space(frames.movedim(-1, 1)).movedim(1, -1).unflatten(0, x.shape[:2])
        return x + self.time(F.silu(self.norm_time(y)), stream)


class Glide(nn.Module):
    """Frames (B, r·T, ...) in groups of `ratio`, without the jumps between the groups.

    A group's own mean step, taken back from its first frame, tells where the group before should have ended; what is
    missing there is added to frame j (1 to r) as a share 1 - j/r. So a group of equal frames becomes an even way from
    the group before, and groups that go on from each other stay, as the first group does.
    """

    def __init__(self, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, frames: Tensor, stream: Stream | None = None) -> Tensor:
        groups = frames.unflatten(1, (-1, self.ratio))
        first, last = groups[:, :, :1], groups[:, :, -1:]
        begun = first - (last - first) / (self.ratio - 1)
        ended = begun[:, :1] if stream is None else stream.get(self, begun[:, :1])
        if stream is not None:
            stream[self] = last[:, -1:].clone()
        missing = torch.cat([ended, last[:, :-1]], dim=1) - begun
        share = 1 - torch.arange(1, self.ratio + 1, device=frames.device, dtype=frames.dtype) / self.ratio
        return (groups + share.view(-1, 1, 1, 1) * missing).flatten(1, 2)


def _run(layers: nn.ModuleList, x: Tensor, stream: Stream | None) -> Tensor:
    for layer in layers:
        x = layer(x, stream) if isinstance(layer, ResBlock) else layer(x)
    return x


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None, None]
