"""The latent VQ-VAE (2.1): VideoGPT-like, from the video VAE's latents to coarse codes, and back to a condition F."""

import math
from collections.abc import Iterable, Iterator

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.config import LatentVQVAEConfig
from arlon_cli.errors import InputError
from arlon_cli.models.layers import CausalConv3d, Downsample, RMSNorm, Upsample

_TIME_WINDOW = (
    8  # code frames that attention along time looks back over, so that long videos look like training's clips
)
CONDITION_CONTEXT = 4
"""Code frames before a segment that its condition is decoded with, in rendering as in training"""


class LatentVQVAE(nn.Module):
    """Latents (B, C, T, H, W) to codes (B, T/r, H/p, W/q) for ratio (r, p, q), and codes to F on the latents' grid.

    Both ways are causal: code frame k sees latents up to r·(k + 1) - 1, and a prefix of codes decodes to a prefix of F.
    A T that r does not divide is filled up with the last latent. Nothing here changes `codebook` (K, D).
    """

    codebook: Tensor

    def __init__(self, config: LatentVQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("codebook", nn.init.normal_(torch.empty(config.codebook_size, config.codebook_dim)))

    @property
    def context(self) -> int:
        """How many code frames before one it depends on, both ways."""
        in_block = 2 + _TIME_WINDOW - 1  # a convolution over three frames, then attention along time
        in_latents = 2 * (1 + self.config.num_refine_blocks)  # convolutions over three latents
        return self.config.num_res_blocks * in_block + -(-in_latents // self.config.ratio[0])

    def embed(self, latents: Tensor) -> Tensor:
        """V (B, D, t, h, w), of mean square 1 in each position. Raises InputError where H or W do not fit the ratio."""
        time, height, width = self.config.ratio
        if latents.shape[3] % height or latents.shape[4] % width:
            raise InputError(
                f"The latent VQ-VAE takes latents whose height and width are multiples of {height} and {width}, "
                f"not {latents.shape[3]} and {latents.shape[4]}."
            )
        if missing := -latents.shape[2] % time:
            latents = torch.cat([latents, latents[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)
        return self.encoder(latents.movedim(1, -1)).movedim(-1, 1)

    @torch.no_grad()
    def quantize(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """The codebook's nearest entry to each position of V (B, D, t, h, w): entries like V, and codes (B, t, h, w).

        Distances are those of single precision whatever the precision of V. No gradient passes.
        """
        with torch.autocast(embedded.device.type, enabled=False):
            codebook, vectors = self.codebook.float(), embedded.float().movedim(1, -1)
            codes = (codebook.square().sum(1) - 2 * vectors @ codebook.T).argmin(-1)
        return self.look_up(codes).to(embedded.dtype), codes

    def look_up(self, codes: Tensor) -> Tensor:
        """Codebook entries (B, D, ...) of codes (B, ...): of frames (t, h, w), or of single ones (h, w)."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def reconstruct(self, embedded: Tensor) -> Tensor:
        """F (B, C, r·t, p·h, q·w) of V, quantised or not (B, D, t, h, w)."""
        return self.decoder(embedded.movedim(1, -1)).movedim(-1, 1)

    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, t, h, w) of latents (B, C, T, H, W), t = T/r rounded up. Raises InputError as `embed` does."""
        return self.quantize(self.embed(latents))[1]

    def decode(self, codes: Tensor) -> Tensor:
        """F (B, C, r·t, p·h, q·w) of codes (B, t, h, w)."""
        return self.reconstruct(self.look_up(codes))

    def decode_between(self, codes: Tensor, start: int, end: int) -> Tensor:
        """F (B, C, end - start, p·h, q·w) of the latents [start, end), of codes (B, t, h, w) that reach to their end.

        Decoded with `CONDITION_CONTEXT` code frames before it, whatever comes before these.
        """
        ratio = self.config.ratio[0]
        first = max(0, start // ratio - CONDITION_CONTEXT)
        condition = self.decode(codes[:, first : -(-end // ratio)])
        return condition[:, :, start - first * ratio : end - first * ratio]

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Codes of consecutive chunks of one video's latents, each of any length; together those of the whole.

        Works in windows with `context` code frames before what is new: the same sums, but for their rounding.
        """
        ratio = self.config.ratio[0]
        window: Tensor | None = None
        encoded = 0  # code frames of the window that were yielded
        for latents in chunks:
            window = latents if window is None else torch.cat([window, latents], dim=2)
            whole = window.shape[2] // ratio
            if whole - encoded >= self.context:
                yield self.encode(window[:, :, : whole * ratio])[:, encoded:]
                window, encoded = window[:, :, (whole - self.context) * ratio :], self.context
        if window is not None and window.shape[2] > encoded * ratio:
            yield self.encode(window)[:, encoded:]

    @torch.no_grad()
    def decode_stream(self, codes: Tensor) -> Iterator[Tensor]:
        """F of codes (B, t, h, w) in chunks; together, but for rounding, that of the whole."""
        for start in range(0, codes.shape[1], self.context):
            first = max(0, start - self.context)
            condition = self.decode(codes[:, first : start + self.context])
            yield condition[:, :, (start - first) * self.config.ratio[0] :]


class Encoder(nn.Module):
    """Latents (B, T, H, W, C) to V (B, t, h, w, D)."""

    def __init__(self, config: LatentVQVAEConfig) -> None:
        super().__init__()
        width, fine = config.width, config.fine_width
        first, *others = _factors(config.ratio)
        self.stem = CausalConv3d(config.latent_channels, fine, (3, 3, 3))
        self.down = nn.Sequential(
            nn.Sequential(Activation(fine), Downsample(fine, width, first)),
            *(nn.Sequential(Activation(width), Downsample(width, width, factor)) for factor in others),
        )
        self.blocks = nn.Sequential(*(ResBlock(width, config.num_heads) for _ in range(config.num_res_blocks)))
        self.head = nn.Sequential(
            Activation(width),
            nn.Linear(width, config.codebook_dim),
            nn.RMSNorm(config.codebook_dim, eps=1e-6, elementwise_affine=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.down(self.stem(x))))


class Decoder(nn.Module):
    """V (B, t, h, w, D) to F (B, T, H, W, C): the encoder in reverse, with `num_refine_blocks` on the latents' grid."""

    def __init__(self, config: LatentVQVAEConfig) -> None:
        super().__init__()
        width, fine = config.width, config.fine_width
        self.stem = nn.Linear(config.codebook_dim, width)
        self.blocks = nn.Sequential(*(ResBlock(width, config.num_heads) for _ in range(config.num_res_blocks)))
        *first, last = reversed(_factors(config.ratio))
        self.up = nn.Sequential(
            *(nn.Sequential(Activation(width), Upsample(width, width, factor)) for factor in first),
            nn.Sequential(Activation(width), Upsample(width, fine, last)),
        )
        self.refine = nn.Sequential(*(ConvBlock(fine) for _ in range(config.num_refine_blocks)))
        self.head = nn.Sequential(Activation(fine), CausalConv3d(fine, config.latent_channels, (3, 3, 3)))

    def forward(self, v: Tensor) -> Tensor:
        return self.head(self.refine(self.up(self.blocks(self.stem(v)))))


class Activation(nn.Sequential):
    """SiLU of the RMS norm of each position by itself."""

    def __init__(self, width: int) -> None:
        super().__init__(RMSNorm(width), nn.SiLU())


class ConvBlock(nn.Module):
    """x + convolutions(x), the inner ones at half the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            Activation(width),
            CausalConv3d(width, width // 2, (3, 3, 3)),
            Activation(width // 2),
            nn.Linear(width // 2, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolutions(x)


class ResBlock(ConvBlock):
    """A `ConvBlock`, then x + the sum of attention along each axis."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width)
        self.norm = RMSNorm(width)
        self.along_time = AxialAttention(width, num_heads, axis=1)
        self.along_height = AxialAttention(width, num_heads, axis=2)
        self.along_width = AxialAttention(width, num_heads, axis=3)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        y = self.norm(x)
        return x + self.along_time(y) + self.along_height(y) + self.along_width(y)


class AxialAttention(nn.Module):
    """Attention along one axis of (B, T, H, W, C) with rotary positions: both ways in space, back only in time."""

    def __init__(self, width: int, num_heads: int, axis: int) -> None:
        super().__init__()
        self.num_heads, self.axis = num_heads, axis
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(self.axis, -2)  # (B, ., ., L, C)
        lines = rearrange(self.qkv(x), "b i j l (n m d) -> n (b i j) m l d", n=3, m=self.num_heads)
        q, k, v = rotate(lines[0]), rotate(lines[1]), lines[2]
        mask = _look_back(x.shape[-2], x.device) if self.axis == 1 else None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = rearrange(y, "(b i j) m l d -> b i j l (m d)", b=x.shape[0], i=x.shape[1])
        return self.out(y).movedim(-2, self.axis)


def rotate(x: Tensor) -> Tensor:
    """Rotary positions along the last axis but one of (..., L, d): pairs of halves turn by position · 100^(-2i/d)."""
    length, half = x.shape[-2], x.shape[-1] // 2
    speeds = torch.exp(torch.arange(half, device=x.device, dtype=torch.float32) * (-math.log(100.0) / half))
    angles = torch.arange(length, device=x.device, dtype=torch.float32)[:, None] * speeds
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def _look_back(length: int, device: torch.device) -> Tensor:
    """Which keys (columns) each query sees: itself and the frames before it, `_TIME_WINDOW` in all."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position
    return (distance >= 0) & (distance < _TIME_WINDOW)


def _factors(ratio: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Steps of 1 or 2 per axis whose product is `ratio`: (2, 4, 4) -> [(2, 2, 2), (1, 2, 2)]."""
    halvings = [size.bit_length() - 1 for size in ratio]
    time, height, width = halvings
    return [(1 + (i < time), 1 + (i < height), 1 + (i < width)) for i in range(max(halvings))]
