"""Open-Sora v1.2's VAE: a 2-D VAE of single frames, and a temporal one that leaves a quarter as many of its latents.

Parameter names are those of the published checkpoint (`spatial_vae.module.*`, `temporal_vae.*`, `shift`, `scale`). A
clip is worked on in chunks of 17 frames, which become 5 latents: the first stands for one frame, the others for four.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.config import OpenSoraVAEConfig, SpatialVAEConfig, TemporalVAEConfig
from arlon_cli.errors import ArlonError, InputError

CHUNK = OpenSoraVAEConfig.chunk


class TemporalVAE(nn.Module):
    """Frames (B, C, T, h, w), scaled latents of the 2-D VAE, to latents (B, C, ⌈T/4⌉, h, w), one chunk at a time."""

    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.temporal_ratio = 2 ** sum(config.temporal_downsample)
        self.encoder = Encoder(config)
        self.quant_conv = CausalConv(2 * config.latent_embed_dim, 2 * config.embed_dim, 1)
        self.post_quant_conv = CausalConv(config.embed_dim, config.latent_embed_dim, 1)
        self.decoder = Decoder(config)

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of one chunk; a T that the ratio does not divide gets zeros in front."""
        missing = -frames.shape[2] % self.temporal_ratio
        moments = self.quant_conv(self.encoder(F.pad(frames, (0, 0, 0, 0, missing, 0))))
        mean, logvar = moments.chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def reconstruct(self, z: Tensor, num_frames: int) -> Tensor:
        """`num_frames` frames of one chunk of latents."""
        frames = self.decoder(self.post_quant_conv(z))
        return frames[:, :, -num_frames % self.temporal_ratio :]


class ChunkedTemporalVAE(nn.Module):
    """The temporal VAE as Open-Sora's pipeline uses it: chunks of 17 frames, latents shifted and scaled per channel.

    The buffers `shift` and `scale` (1, C, 1, 1, 1) and the part `temporal_vae` are named as in the checkpoint.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        self.temporal_vae = TemporalVAE(config)
        shape = (1, config.embed_dim, 1, 1, 1)
        self.register_buffer("shift", torch.tensor((-0.10, 0.34, 0.27, 0.98)).view(shape))
        self.register_buffer("scale", torch.tensor((3.85, 2.32, 2.33, 3.06)).view(shape))

    def compress(self, frames: Tensor) -> Tensor:
        """Latents of a clip of frames (B, C, T, h, w), scaled latents of the 2-D VAE."""
        means = [self.temporal_vae.posterior(chunk)[0] for chunk in frames.split(CHUNK.num_frames, dim=2)]
        return (torch.cat(means, dim=2) - self.shift) / self.scale

    def expand(self, latents: Tensor, num_frames: int) -> Tensor:
        """`num_frames` frames of a clip's latents; what they lack to 17 a chunk is cut from its front."""
        chunks = (latents * self.scale + self.shift).split(CHUNK.num_latents, dim=2)
        counts = (min(CHUNK.num_frames, num_frames - start) for start in range(0, num_frames, CHUNK.num_frames))
        frames = [self.temporal_vae.reconstruct(*pair) for pair in zip(chunks, counts, strict=True)]
        return torch.cat(frames, dim=2)


class OpenSoraVAE(ChunkedTemporalVAE):
    """Pixels (B, 3, T, H, W) in [-1, 1] to latents (B, C, 5·T/17, H/8, W/8) and back.

    A last chunk of fewer than 17 frames becomes one latent for each four, rounded up; one of m < 5 latents becomes
    4m - 3 frames. Chunks do not see each other.
    """

    decoder_context = 0  # latents before a chunk that its frames depend on

    def __init__(self, config: OpenSoraVAEConfig) -> None:
        super().__init__(config.temporal)
        self.spatial_vae = SpatialVAE(config.spatial)

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents of a clip: the posteriors' means. Raises InputError where H or W is no multiple of 8."""
        return self.compress(self.spatial_vae.encode(pixels))

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of a clip's latents; they may pass [-1, 1] a little."""
        return self.spatial_vae.decode(self.expand(latents, CHUNK.frames(latents.shape[2])))

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Latents of consecutive pieces of one video, each of any length; together those of the whole."""
        yield from map(self.encode, regrouped(chunks, CHUNK.num_frames))

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pixels of consecutive pieces of one video's latents, each of any length; together those of the whole."""
        yield from map(self.decode, regrouped(chunks, CHUNK.num_latents))


class SpatialVAE(nn.Module):
    """diffusers' `AutoencoderKL`, frame by frame, a few at once. Raises ArlonError where diffusers is not installed."""

    def __init__(self, config: SpatialVAEConfig) -> None:
        super().__init__()
        try:
            from diffusers import AutoencoderKL
        except ImportError as error:
            raise ArlonError(
                "The VAE of Open-Sora needs diffusers; install it with `pip install 'arlon[opensora]'`."
            ) from error
        self.config = config
        self.ratio = 2 ** (len(config.widths) - 1)
        self.module = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(config.widths),
            up_block_types=("UpDecoderBlock2D",) * len(config.widths),
            block_out_channels=config.widths,
            layers_per_block=config.num_res_blocks,
            latent_channels=config.latent_channels,
            norm_num_groups=config.num_groups,
        )

    def encode(self, pixels: Tensor) -> Tensor:
        """Scaled latents (B, C, T, H/8, W/8), means, of pixels (B, 3, T, H, W)."""
        height, width = pixels.shape[3:]
        if height % self.ratio or width % self.ratio:
            raise InputError(f"The VAE takes multiples of {self.ratio} pixels, not {width}x{height}.")
        frames = rearrange(pixels, "b c t h w -> (b t) c h w").split(self.config.micro_batch)
        latents = torch.cat([self.module.encode(some).latent_dist.mode() for some in frames])
        return rearrange(latents, "(b t) c h w -> b c t h w", b=len(pixels)) * self.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, T, 8H, 8W) of scaled latents (B, C, T, H, W)."""
        frames = rearrange(latents / self.config.scaling_factor, "b c t h w -> (b t) c h w")
        pixels = torch.cat([self.module.decode(some).sample for some in frames.split(self.config.micro_batch)])
        return rearrange(pixels, "(b t) c h w -> b c t h w", b=len(latents))


def regrouped(pieces: Iterable[Tensor], length: int) -> Iterator[Tensor]:
    """The same frames (B, C, T, H, W) in pieces of `length` frames, as early as can be; the last may be shorter."""
    waiting: Tensor | None = None
    for piece in pieces:
        waiting = piece if waiting is None else torch.cat([waiting, piece], dim=2)
        while waiting.shape[2] >= length:
            yield waiting[:, :, :length]
            waiting = waiting[:, :, length:]
    if waiting is not None and waiting.shape[2]:
        yield waiting


class Encoder(nn.Module):
    """Stages of residual blocks; a convolution that halves time follows each stage that `temporal_downsample` marks."""

    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        widths = [config.filters * m for m in config.channel_multipliers]
        self.conv_in = CausalConv(config.in_out_channels, config.filters, 3, bias=False)
        self.block_res_blocks = nn.ModuleList(
            res_blocks(i, o, config) for i, o in zip([config.filters, *widths[:-1]], widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv(width, width, 3, time_stride=2) if halved else nn.Identity()
            for width, halved in zip(widths[:-1], config.temporal_downsample, strict=True)
        )
        self.res_blocks = res_blocks(widths[-1], widths[-1], config)
        self.norm1 = nn.GroupNorm(config.num_groups, widths[-1])
        self.conv2 = CausalConv(widths[-1], 2 * config.latent_embed_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for i, stage in enumerate(self.block_res_blocks):
            x = stage(x)
            if i < len(self.conv_blocks):
                x = self.conv_blocks[i](x)
        return self.conv2(F.silu(self.norm1(self.res_blocks(x))))


class Decoder(nn.Module):
    """The encoder's mirror: time is doubled by a convolution to twice the channels, which then become frames."""

    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        widths = [config.filters * m for m in config.channel_multipliers]
        self.conv1 = CausalConv(config.latent_embed_dim, widths[-1], 3)
        self.res_blocks = res_blocks(widths[-1], widths[-1], config)
        self.block_res_blocks = nn.ModuleList(
            res_blocks(i, o, config) for i, o in zip([*widths[1:], widths[-1]], widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv(width, 2 * width, 3) if doubled else nn.Identity()
            for width, doubled in zip(widths[1:], config.temporal_downsample, strict=True)
        )
        self.norm1 = nn.GroupNorm(config.num_groups, widths[0])
        self.conv_out = CausalConv(widths[0], config.in_out_channels, 3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(z))
        for i in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[i](x)
            if i > 0 and isinstance(self.conv_blocks[i - 1], CausalConv):
                x = rearrange(self.conv_blocks[i - 1](x), "b (c r) t h w -> b c (t r) h w", r=2)
        return self.conv_out(F.silu(self.norm1(x)))


class ResBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(num_groups, in_channels)
        self.conv1 = CausalConv(in_channels, out_channels, 3, bias=False)
        self.norm2 = nn.GroupNorm(num_groups, out_channels)
        self.conv2 = CausalConv(out_channels, out_channels, 3, bias=False)
        if in_channels != out_channels:
            self.conv3 = CausalConv(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.conv3(x) if hasattr(self, "conv3") else x)


class CausalConv(nn.Module):
    """A cubic convolution that sees zeros in front of the first frame; with a time stride, fewer of them."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, time_stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.time_padding = kernel_size - 1 + 1 - time_stride
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            kernel_size,
            stride=(time_stride, 1, 1),
            padding=(0, kernel_size // 2, kernel_size // 2),
            bias=bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 0, 0, 0, self.time_padding, 0)))


def res_blocks(in_channels: int, out_channels: int, config: TemporalVAEConfig) -> nn.Sequential:
    """`num_res_blocks` residual blocks, of which the first changes the width."""
    widths = [in_channels] + [out_channels] * config.num_res_blocks
    return nn.Sequential(*(ResBlock(i, o, config.num_groups) for i, o in pairwise(widths)))
